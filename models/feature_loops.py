"""Compiled loops for :mod:`models.features`: what goes candidate by candidate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled


@compiled
def spread(
    values: NDArray[np.float32], formed: NDArray[np.int64], popularity: NDArray[np.float32], places: NDArray[np.int32],
    counts: NDArray[np.float32], at: int, low: np.uint32, made: NDArray[np.float32], keys: NDArray[np.uint32],
) -> None:  # fmt: skip
    """Fill in the features but for what :func:`numpy.log`, ``exp`` and ``sort`` do to many at a time.

    Parameters
    ----------
    values : float32 [scorers, b, m]
    formed : int64 [k]
        The scorers whose log and rank are wanted; those of the others are 0.
    popularity : float32 [places, k]
    places : int32 [b, m]
    counts : float32 [b, m]
    at
        Where the features of popularity begin.
    low
        All bits that the number of a column needs.
    made : float32 [b, features, m]
        ratio; 1 + 1000 · ratio where log stands; popularity; 1 + n, and −n / 5, in the last two.
    keys : uint32 [b, k, m]
        The ratio's bits, the last ones replaced by the column's number: they order as the ratios do.
    """
    scorers, b, m = values.shape
    high = ~low
    top = np.zeros(1, np.float32)
    top_bits = top.view(np.int32)
    for user in range(b):
        for s in range(scorers):
            of, ratio = values[s, user], made[user, 3 * s]
            said, largest = of.view(np.int32), np.int32(0)
            for i in range(m):  # the bits order as what is not negative does, and many are compared at a time
                largest = max(largest, said[i])
            top_bits[0] = largest
            scale = np.float32(1) / max(top[0], np.float32(1e-12))
            for i in range(m):
                ratio[i] = of[i] * scale
            made[user, 3 * s + 1 : 3 * s + 3] = 0
        for f in range(len(formed)):
            ratio, log, key = made[user, 3 * formed[f]], made[user, 3 * formed[f] + 1], keys[user, f]
            for i in range(m):
                log[i] = ratio[i] * np.float32(1000) + np.float32(1)
            bits = ratio.view(np.uint32)
            for i in range(m):
                key[i] = (bits[i] & high) | np.uint32(i)
        for k in range(popularity.shape[1]):
            popular = made[user, at + k]
            for i in range(m):
                popular[i] = popularity[places[user, i], k]
        for i in range(m):
            made[user, -2, i] = counts[user, i] + np.float32(1)
            made[user, -1, i] = counts[user, i] * np.float32(-0.2)


@compiled
def rank(
    keys: NDArray[np.uint32], formed: NDArray[np.int64], low: np.uint32, forms: NDArray[np.float32], text: int,
    text_new: int, made: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fill in the ranks and text that is new, and take a third of the logs, a tenth of that of clicks.

    Parameters
    ----------
    keys : uint32 [b, k, m]
        Sorted.
    formed, low
        As :func:`spread` had them.
    forms : float32 [≥ m]
        What the first is given, the second, …
    text, text_new
        Where the ratio of text is, and is to be once more, by how new the item is.
    made : float32 [b, features, m]
    """
    b, k, m = keys.shape
    for user in range(b):
        for f in range(k):
            key, at = keys[user, f], 3 * formed[f]
            ratio, log, ranked = made[user, at], made[user, at + 1], made[user, at + 2]
            for i in range(m):
                log[i] *= np.float32(1 / 3)
            ranked[:] = 0
            for i in range(m):
                column = key[m - 1 - i] & low
                if ratio[column] == 0:
                    break
                ranked[column] = forms[i]
        for i in range(m):
            made[user, -2, i] *= np.float32(0.1)
            made[user, text_new, i] = made[user, text, i] * made[user, -1, i]


@compiled
def weighed(
    shares: NDArray[np.float32], layers: NDArray[np.int64], weights: NDArray[np.float32], places: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Σ_k weights · shares of users' layers in their own items, float32 [b, m].

    Parameters
    ----------
    shares : float32 [layers, places]
    layers : int64 [b, k]
    weights : float32 [b, k]
    places : int32 [b, m]
    """
    made = np.zeros(places.shape, np.float32)
    for user in range(len(places)):
        for k in range(layers.shape[1]):
            weight, share = weights[user, k], shares[layers[user, k]]
            if weight != 0:
                for i in range(places.shape[1]):
                    made[user, i] += weight * share[places[user, i]]
    return made
