"""Maximal marginal relevance: a list that does not say the same thing ten times.

Carbonell & Goldstein (SIGIR 1998): pick, again and again, the candidate with the largest
(1 − λ) · relevance − λ · (largest cosine to what is picked already).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def diversify(scores: NDArray[np.float32], vectors: NDArray[np.float32], n: int, strength: float) -> NDArray[np.int64]:
    """Which of each user's best candidates make the list, in order.

    Parameters
    ----------
    scores : float32 [b, pool]
        Falling; -inf where a user has fewer.
    vectors : float32 [b, pool, d]
        Unit length.
    n
        Length of the list, at most ``pool``.
    strength
        λ. At 0 the order of the scores stands.

    Returns
    -------
    int64 [b, n]
        Positions in the pool.
    """
    b, pool = scores.shape
    if strength <= 0 or pool <= 1:
        return np.broadcast_to(np.arange(n), (b, n)).copy()
    usable = np.isfinite(scores)
    low = np.where(usable, scores, np.inf).min(axis=1, keepdims=True)
    spread = np.maximum(scores[:, :1] - low, 1e-6)
    gain = np.where(usable, (1 - strength) * (scores - low) / spread, -np.inf)
    cosines = strength * np.matmul(vectors, vectors.transpose(0, 2, 1))
    picked = np.empty((b, n), np.int64)
    every = np.arange(b)
    nearest = np.zeros((b, pool), np.float32)
    for place in range(n):
        best = (gain - nearest).argmax(axis=1)
        picked[:, place] = best
        np.maximum(nearest, cosines[every, best], out=nearest)
        gain[every, best] = -np.inf
    return picked
