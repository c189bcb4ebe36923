"""Maximal marginal relevance: a list that does not say the same thing ten times.

Carbonell & Goldstein (SIGIR 1998): pick, again and again, the candidate with the largest
(1 − λ) · relevance − λ · (largest cosine to what is picked already).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.choosing import best
from models.compiled import compiled

# worse than any candidate, and better than one that is picked already: none comes twice
_UNUSABLE: Final = np.float32(-1e30)


@compiled
def diversified(
    scores: NDArray[np.float32], rows: NDArray[np.int64], vectors: NDArray[np.float32], mean: NDArray[np.float32],
    scale: NDArray[np.float32], pool: int, n: int, strength: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """Users' lists from their candidates.

    Parameters
    ----------
    scores, rows : float32, int64 [b, m]
        Of the candidates; a score of -inf may not be listed.
    vectors, mean, scale : float32 [items, d], [d], [items]
        An item's centred vector is (vector − mean) · scale.
    pool
        Best candidates among which is chosen.
    n
        Length of the list, n ≤ pool ≤ m.
    strength
        λ.

    Returns
    -------
    columns, places : int64 [b, n]
        Columns of the candidates that are listed, best first, and where each would stand by score alone.
    """
    b = len(scores)
    pooled = best(scores, pool)
    mine, among = np.empty((b, pool), np.int64), np.empty((b, pool), np.float32)
    for user in range(b):
        for i in range(pool):
            mine[user, i], among[user, i] = rows[user, pooled[user, i]], scores[user, pooled[user, i]]
    near = cosines(vectors, mean, scale, mine if strength > 0 else mine[:, :0].copy())
    places = diversify(among, near, n, strength)
    columns = np.empty((b, n), np.int64)
    for user in range(b):
        for i in range(n):
            columns[user, i] = pooled[user, places[user, i]]
    return columns, places


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


@compiled
def diversify(
    scores: NDArray[np.float32], near: NDArray[np.float32], n: int, strength: float
) -> NDArray[np.int64]:  # fmt: skip
    """Which of each user's best candidates make the list, in order.

    Parameters
    ----------
    scores : float32 [b, pool]
        Falling; -inf where a user has fewer.
    near : float32 [b, pool, pool]
        Cosines among them; not looked at where ``strength`` is 0.
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
    picked = np.empty((b, n), np.int64)
    gain, worst = np.empty(pool, np.float32), np.empty(pool, np.float32)
    penalty, relevance = np.float32(strength), np.float32(1 - strength)
    for user in range(b):
        if strength <= 0:
            picked[user] = np.arange(n)
            continue
        low = np.float32(np.inf)
        for score in scores[user]:
            low = min(low, score) if np.isfinite(score) else low
        spread = max(scores[user, 0] - low, np.float32(1e-6))
        for i in range(pool):
            score = scores[user, i]
            gain[i] = relevance * (score - low) / spread if np.isfinite(score) else _UNUSABLE
            worst[i] = 0
        for place in range(n):
            top = (gain - worst).argmax()
            picked[user, place] = top
            for i in range(pool):
                worst[i] = max(worst[i], penalty * near[user, top, i])
            gain[top] = -np.inf
    return picked
