"""Compiled loops for :class:`~models.sequence.SequenceScorer`: what goes click by click and candidate by candidate."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, reordering


class Norm(NamedTuple):
    """A layer norm.

    Attributes
    ----------
    weight, bias : float32 [d]
    least : float
        ε.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    least: float


class Net(NamedTuple):
    """A net that is trained no more: see :class:`~models.sequence.SequenceScorer`.

    Attributes
    ----------
    start : float32 [d]
        What stands before the newest click, and for who has clicked nothing.
    places : float32 [≥ K + 1, d]
    ask : float32 [d, heads · d]
    draw : float32 [heads · d, d]
    mixed : float32 [d]
        What is added to what was drawn.
    wide, narrow : float32 [d, w], [w, d]
    wide_bias, narrow_bias : float32 [w], [d]
    before, between, after : Norm
        Of clicks in their places, of what the state has become when they were drawn in, and of what it is at last.
    """

    start: NDArray[np.float32]
    places: NDArray[np.float32]
    ask: NDArray[np.float32]
    draw: NDArray[np.float32]
    mixed: NDArray[np.float32]
    wide: NDArray[np.float32]
    wide_bias: NDArray[np.float32]
    narrow: NDArray[np.float32]
    narrow_bias: NDArray[np.float32]
    before: Norm
    between: Norm
    after: Norm


@reordering
def _normalise(x: NDArray[np.float32], row: int, norm: Norm) -> None:
    """A row of x [n, d] ← its layer norm."""
    d = x.shape[1]  # to cut the row out would take as long as all the rest
    mean, spread = np.float32(0), np.float32(0)
    for i in range(d):
        mean += x[row, i]
    mean /= np.float32(d)
    for i in range(d):
        spread += (x[row, i] - mean) ** 2
    scale = np.float32(1 / math.sqrt(spread / d + norm.least))
    for i in range(d):
        x[row, i] = (x[row, i] - mean) * scale * norm.weight[i] + norm.bias[i]


@compiled
def states_of(
    rows: NDArray[np.int64], counts: NDArray[np.int64], known: NDArray[np.float32], net: Net
) -> NDArray[np.float32]:
    """States of users, float32 [b, d].

    Parameters
    ----------
    rows : int64 [b, K]
        Last clicks, newest first.
    counts : int64 [b]
        How many there are; the places after them are left as they are.
    known : float32 [items, d + 1]
        x and b of items.
    """
    b, d = len(rows), len(net.start)
    heads = net.ask.shape[1] // d
    state, first, y = _placed(rows, counts, known, net)
    asked = np.dot(first, net.ask).reshape(b, heads, d)
    _add(state, np.dot(_drawn(asked, y, counts).reshape(b, heads * d), net.draw), net.mixed)
    between = state.copy()
    for user in range(b):
        _normalise(between, user, net.between)
    wide = np.dot(between, net.wide)
    _gelu(wide, net.wide_bias)
    _add(state, np.dot(wide, net.narrow), net.narrow_bias)
    for user in range(b):
        _normalise(state, user, net.after)
    return state


@reordering
def _placed(
    rows: NDArray[np.int64], counts: NDArray[np.int64], known: NDArray[np.float32], net: Net
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Clicks in their places: of the newest x and its layer norm, float32 [b, d], and of all theirs [b, K + 1, d]."""
    b, d, n = len(rows), len(net.start), rows.shape[1] + 1
    newest, first = np.empty((b, d), np.float32), np.empty((b, d), np.float32)
    x = np.empty((b * n, d), np.float32)
    for user in range(b):
        for place in range(counts[user] + 1):
            at, row = user * n + place, rows[user, max(place - 1, 0)]
            for i in range(d):
                x[at, i] = (known[row, i] if place else net.start[i]) + net.places[place, i]
            for i in range(d if place <= 1 else 0):
                newest[user, i] = x[at, i]
            _normalise(x, at, net.before)
            for i in range(d if place <= 1 else 0):
                first[user, i] = x[at, i]
    return newest, first, x.reshape(b, n, d)


@compiled
def _add(x: NDArray[np.float32], some: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """x ← x + some + bias: float32 [b, d], [b, d], [d]."""
    for user in range(len(x)):
        for i in range(x.shape[1]):
            x[user, i] += some[user, i] + bias[i]


@reordering
def _gelu(x: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """x ← GELU(x + bias), by erf: float32 [b, d], [d]."""
    for user in range(len(x)):
        for i in range(x.shape[1]):
            shifted = x[user, i] + bias[i]
            x[user, i] = np.float32(0.5) * shifted * (np.float32(1) + erf(shifted * np.float32(0.70710678)))


@reordering
def erf(x: np.float32) -> np.float32:
    """The error function, to 10⁻⁶: what the C library has takes one number at a time.

    x · P(x²) / Q(x²) for |x| ≤ 4, with the coefficients of Eigen's ``erf`` of single precision.
    """
    x = min(max(x, np.float32(-4)), np.float32(4))
    square = x * x
    above = np.float32(-2.72614225801306e-10)
    above = above * square + np.float32(2.77068142495902e-08)
    above = above * square + np.float32(-2.10102402082508e-06)
    above = above * square + np.float32(-5.69250639462346e-05)
    above = above * square + np.float32(-7.34990630326855e-04)
    above = above * square + np.float32(-2.95459980854025e-03)
    above = above * square + np.float32(-1.60960333262415e-02)
    below = np.float32(-1.45660718464996e-05)
    below = below * square + np.float32(-2.13374055278905e-04)
    below = below * square + np.float32(-1.68282697438203e-03)
    below = below * square + np.float32(-7.37332916720468e-03)
    below = below * square + np.float32(-1.42647390514189e-02)
    made: np.float32 = x * above / below
    return made


@reordering
def _drawn(asked: NDArray[np.float32], y: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float32]:
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
    """u · x + b of users' own items, less the largest of each user's, float32 [b, m]; -inf where not ``valid``.

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
        top = np.float32(-np.inf)
        for column in range(rows.shape[1]):
            if valid[user, column]:
                row = rows[user, column]
                logit = known[row, d]
                for i in range(d):
                    logit += known[row, i] * states[user, i]
                made[user, column] = logit
                top = max(top, logit)
        if np.isfinite(top):
            made[user] -= top
    return made
