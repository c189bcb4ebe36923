"""In which layers somebody is, and how much."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, reordering

TOP: Final = 3
"""Fine layers that a user is in."""


class Membership(NamedTuple):
    """Which layers users are in.

    Attributes
    ----------
    layers : intp [b, 3]
        Fine layers by leaf number, the user's own first; -1 is the root.
    weights : float32 [b, 3]
        Sum to one.
    """

    layers: NDArray[np.intp]
    weights: NDArray[np.float32]


def nobody(n: int) -> Membership:
    """Users of whom nothing is known: in the root alone."""
    layers, weights = np.full((n, TOP), -1, np.intp), np.zeros((n, TOP), np.float32)
    weights[:, 0] = 1
    return Membership(layers, weights)


def soft(squared: NDArray[np.float64], own: NDArray[np.intp], spread: float) -> Membership:
    """Membership from squared distances.

    First the layer that learning puts the vector in, then the nearest others, wherever they hang in the tree; of those
    equally near the first. Weights fall with the squared distance in units of the mean one, exp(−d² / spread). On both
    sides, counting and reading, one layer alone is worth less (``python -m ops.bench.layers``).

    Parameters
    ----------
    squared
        To every fine centre, [n, leaves].
    own
        Leaf of each, [n].
    spread
        Mean squared distance to the own fine centre.
    """
    b, top = len(squared), min(TOP, squared.shape[1])
    layers, weights = np.empty((b, top), np.intp), np.empty((b, top), np.float32)
    _soft(np.ascontiguousarray(squared, np.float64), own, spread, layers, weights)
    return Membership(layers, weights)


@compiled
def _soft(
    squared: NDArray[np.float64], own: NDArray[np.intp], spread: float, layers: NDArray[np.intp],
    weights: NDArray[np.float32],
) -> None:  # fmt: skip
    """:func:`soft`: fill in ``layers`` and ``weights``."""
    for user in range(len(squared)):
        _weigh(squared[user], own[user], spread, layers[user], weights[user])


def within(
    vectors: NDArray[np.float32], basis: NDArray[np.float32], coarse: NDArray[np.float32], fine: NDArray[np.float32],
    spread: float,
) -> Membership:  # fmt: skip
    """:func:`soft` of users by their vectors.

    Parameters
    ----------
    vectors : float32 [b, d]
        One of zeros, or that is not finite, is in the root alone.
    basis : float32 [r, d]
    coarse, fine : float32 [coarse, r], [leaves, r]
        Centres; as many fine ones, one after the other, hang under each coarse one.
    spread
        As for :func:`soft`.
    """
    membership = nobody(len(vectors))
    _within(vectors, basis, coarse, fine, spread, membership.layers, membership.weights)
    return membership


@compiled
def _within(
    vectors: NDArray[np.float32], basis: NDArray[np.float32], coarse: NDArray[np.float32], fine: NDArray[np.float32],
    spread: float, layers: NDArray[np.intp], weights: NDArray[np.float32],
) -> None:  # fmt: skip
    """:func:`within`: fill in ``layers`` and ``weights`` of those of whom something is known."""
    width, top, z = len(fine) // len(coarse), min(TOP, len(fine)), np.dot(vectors, basis.T)
    for user in range(len(vectors)):
        known, finite = False, True
        for value in vectors[user]:
            known |= value != 0
            finite &= np.isfinite(value)
        if known and finite:
            branch = _apart(z[user], coarse).argmin()
            apart = _apart(z[user], fine)
            own = np.intp(branch * width) + apart[branch * width : (branch + 1) * width].argmin()
            _weigh(apart, own, spread, layers[user, :top], weights[user, :top])


@reordering
def _apart(z: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared distances, float64 [k]."""
    made = np.empty(len(centres))
    for k in range(len(centres)):
        squared = 0.0
        for i in range(len(z)):
            squared += (np.float64(z[i]) - np.float64(centres[k, i])) ** 2
        made[k] = squared
    return made


@compiled
def _weigh(
    apart: NDArray[np.float64], own: np.intp, spread: float, layers: NDArray[np.intp], weights: NDArray[np.float32]
) -> None:
    """Fill in the layers of somebody, and how much he is in each, by the squared distances."""
    top, count = len(layers), 1
    layers[0] = own
    for leaf in range(len(apart)):
        if leaf == own:
            continue
        if count < top:
            count += 1
        elif top == 1 or not apart[leaf] < apart[layers[top - 1]]:
            continue
        at = count - 1
        while at > 1 and apart[leaf] < apart[layers[at - 1]]:
            layers[at] = layers[at - 1]
            at -= 1
        layers[at] = leaf
    least, total = apart[layers].min(), 0.0
    for i in range(top):
        total += math.exp((least - apart[layers[i]]) / max(spread, 1e-12))
    for i in range(top):
        weights[i] = math.exp((least - apart[layers[i]]) / max(spread, 1e-12)) / total
