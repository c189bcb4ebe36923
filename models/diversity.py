"""Maximal marginal relevance: a list that does not say the same thing ten times.

Carbonell & Goldstein (SIGIR 1998): pick, again and again, the candidate with the largest
(1 − λ) · relevance − λ · (largest cosine to what is picked already).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled

_UNUSABLE: Final = -1e30  # worse than any candidate, and better than one that is picked already: none comes twice


@compiled
def cosines(
    vectors: NDArray[np.float32], mean: NDArray[np.float32], scale: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Centred cosines among each user's items, float32 [b, m, m].

    Parameters
    ----------
    vectors, mean, scale : float32 [items, d], [d], [items]
        An item's centred vector is (vector − mean) · scale.
    rows : int64 [b, m]
    """
    b, m = rows.shape
    made, mine = np.empty((b, m, m), np.float32), np.empty((m, len(mean)), np.float32)
    for user in range(b):
        for i in range(m):
            row = rows[user, i]
            for j in range(len(mean)):
                mine[i, j] = (vectors[row, j] - mean[j]) * scale[row]
        np.dot(mine, mine.T, made[user])
    return made


def diversify(
    scores: NDArray[np.float32], near: NDArray[np.float32] | None, n: int, strength: float
) -> NDArray[np.int64]:
    """Which of each user's best candidates make the list, in order.

    Parameters
    ----------
    scores : float32 [b, pool]
        Falling; -inf where a user has fewer.
    near : float32 [b, pool, pool]
        Cosines among them; None only where ``strength`` is 0.
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
    if strength <= 0 or near is None:
        return np.broadcast_to(np.arange(n), (b, n)).copy()
    usable = np.isfinite(scores)
    low = np.where(usable, scores, np.inf).min(axis=1, keepdims=True)
    spread = np.maximum(scores[:, :1] - low, 1e-6)
    with np.errstate(invalid="ignore"):  # a user without any candidate: inf − inf, and nothing is picked
        gain = np.where(usable, (1 - strength) * (scores - low) / spread, _UNUSABLE).astype(np.float32)
    penalties = np.maximum(near, 0) * np.float32(strength)
    picked = np.empty((b, n), np.int64)
    every = np.arange(b)
    worst = np.zeros((b, pool), np.float32)
    for place in range(n):
        best = (gain - worst).argmax(axis=1)
        picked[:, place] = best
        np.maximum(worst, penalties[every, best], out=worst)
        gain[every, best] = -np.inf
    return picked
