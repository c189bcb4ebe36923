"""Compiled loops of :class:`~models.recommender.Recommender`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled


@compiled
def best(scores: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """Places of the ``n`` largest of each row of [b, m], n ≤ m, falling; of equals the first: int64 [b, n]."""
    made = np.empty((len(scores), n), np.int64)
    for user in range(len(scores)):
        row, order, count = scores[user], made[user], 0
        for i in range(len(row)):
            if count < n:
                count += 1
            elif not row[i] > row[order[n - 1]]:
                continue
            at = count - 1
            while at > 0 and row[i] > row[order[at - 1]]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = i
    return made


@compiled
def parts_of(
    features: NDArray[np.float32], weights: NDArray[np.float32], chosen: NDArray[np.int64], part: NDArray[np.int64],
    parts: int,
) -> NDArray[np.float32]:  # fmt: skip
    """features · weights of the chosen, by part: float32 [b, n, parts].

    Parameters
    ----------
    features : float32 [b, features, m]
    weights : float32 [b, features]
    chosen : int64 [b, n]
        Columns; -1 is the last one.
    part : int64 [features]
        Which part a feature counts towards.
    """
    b, n = chosen.shape
    made = np.zeros((b, n, parts), np.float32)
    for user in range(b):
        for feature in range(len(part)):
            weight, values = weights[user, feature], features[user, feature]
            if weight != 0:
                for i in range(n):
                    made[user, i, part[feature]] += weight * values[chosen[user, i]]
    return made


@compiled
def to_four_places(parts: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Their sums, float64 [b, n], and the parts [b, n, parts], to four places.

    As whole numbers of ten-thousandths they add up exactly.
    """
    b, n, k = parts.shape
    sums, rounded = np.empty((b, n)), np.empty((b, n, k))
    for user in range(b):
        for i in range(n):
            total = 0.0
            for part in range(k):
                whole = np.rint(np.float64(parts[user, i, part]) * 1e4)
                total += whole
                rounded[user, i, part] = whole / 1e4
            sums[user, i] = total / 1e4
    return sums, rounded


@compiled
def summed(vectors: NDArray[np.float32], rows: NDArray[np.int64], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Σ_m weights · vectors of users' own rows, float32 [b, d].

    Parameters
    ----------
    vectors : float32 [items, d]
    rows, weights : int64, float32 [b, K]
    """
    made = np.zeros((len(rows), vectors.shape[1]), np.float32)
    for user in range(len(rows)):
        own = made[user]
        for m in range(rows.shape[1]):
            weight, vector = weights[user, m], vectors[rows[user, m]]
            if weight != 0:
                for i in range(len(own)):
                    own[i] += weight * vector[i]
    return made
