"""Compiled loops for :class:`~models.sequence.SequenceScorer`: what goes click by click and candidate by candidate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, reordering


@reordering
def _normalise(
    x: NDArray[np.float32], row: int, weight: NDArray[np.float32], bias: NDArray[np.float32], least: float
) -> None:
    """A row of x [n, d] ← its layer norm; ``least`` is ε."""
    d = x.shape[1]  # to cut the row out would take as long as all the rest
    mean, spread = np.float32(0), np.float32(0)
    for i in range(d):
        mean += x[row, i]
    mean /= np.float32(d)
    for i in range(d):
        spread += (x[row, i] - mean) ** 2
    scale = np.float32(1 / math.sqrt(spread / d + least))
    for i in range(d):
        x[row, i] = (x[row, i] - mean) * scale * weight[i] + bias[i]


@reordering
def placed(
    rows: NDArray[np.int64], counts: NDArray[np.int64], known: NDArray[np.float32], start: NDArray[np.float32],
    places: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32], least: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:  # fmt: skip
    """Clicks in their places: of the newest x, float32 [b, d], and of all their layer norm, float32 [b, K + 1, d].

    Parameters
    ----------
    rows : int64 [b, K]
        Last clicks, newest first.
    counts : int64 [b]
        How many there are; the places after them are left as they are.
    known : float32 [items, d + 1]
        x and b of items.
    start : float32 [d]
        What stands before the newest, and for who has clicked nothing.
    places : float32 [≥ K + 1, d]
    weight, bias : float32 [d]
        The norm's, and its ε.
    """
    b, d, n = len(rows), len(start), rows.shape[1] + 1
    newest, x = np.empty((b, d), np.float32), np.empty((b * n, d), np.float32)
    for user in range(b):
        for place in range(counts[user] + 1):
            at, row = user * n + place, rows[user, max(place - 1, 0)]
            for i in range(d):
                x[at, i] = (known[row, i] if place else start[i]) + places[place, i]
            for i in range(d if place <= 1 else 0):
                newest[user, i] = x[at, i]
            _normalise(x, at, weight, bias, least)
    return newest, x.reshape(b, n, d)


@reordering
def normed(
    x: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32], least: float
) -> NDArray[np.float32]:
    """Layer norm of [b, d], float32."""
    made = x.copy()
    for user in range(len(x)):
        _normalise(made, user, weight, bias, least)
    return made


@compiled
def gelu(x: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """x ← GELU(x + bias), by erf: float32 [b, d], [d]."""
    for user in range(len(x)):
        for i in range(x.shape[1]):
            shifted = x[user, i] + bias[i]
            x[user, i] = 0.5 * shifted * (1 + math.erf(shifted * math.sqrt(0.5)))


@reordering
def drawn(asked: NDArray[np.float32], y: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """What queries draw out of y, Σ_j softmax_j(asked · y_j) y_j: float32 [b, heads, d].

    Parameters
    ----------
    asked : float32 [b, heads, d]
    y : float32 [b, K + 1, d]
    counts : int64 [b]
        The first ``counts + 1`` of y are there.
    """
    made, weights = np.zeros(asked.shape, np.float32), np.empty(y.shape[1], np.float32)
    for user in range(len(asked)):
        for head in range(asked.shape[1]):
            query, out, k = asked[user, head], made[user, head], counts[user] + 1
            top, total = np.float32(-np.inf), np.float32(0)
            for j in range(k):
                weight = np.float32(0)
                for i in range(len(query)):
                    weight += query[i] * y[user, j, i]
                weights[j] = weight
                top = max(top, weight)
            for j in range(k):
                weights[j] = math.exp(weights[j] - top)
                total += weights[j]
            for j in range(k):
                weight = weights[j] / total
                for i in range(len(query)):
                    out[i] += weight * y[user, j, i]
    return made


@reordering
def logits_of(
    states: NDArray[np.float32], rows: NDArray[np.int64], valid: NDArray[np.bool_], known: NDArray[np.float32]
) -> NDArray[np.float32]:
    """u · x + b of users' own items, float32 [b, m]; -inf where not ``valid``.

    Parameters
    ----------
    states : float32 [b, d]
    rows : int64 [b, m]
    valid : bool [b, m]
    known : float32 [items, d + 1]
    """
    made = np.full(rows.shape, np.float32(-np.inf))
    d = states.shape[1]
    for user in range(len(rows)):
        for column in range(rows.shape[1]):
            if valid[user, column]:
                row = rows[user, column]
                logit = known[row, d]
                for i in range(d):
                    logit += known[row, i] * states[user, i]
                made[user, column] = logit
    return made
