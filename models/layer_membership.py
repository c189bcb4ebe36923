"""In which layers somebody is, and how much."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled

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

    First the layer that learning puts the vector in, then the nearest others, wherever they hang in the tree; weights
    fall with the squared distance in units of the mean one, exp(−d² / spread). On both sides, counting and reading,
    one layer alone is worth less (``python -m ops.bench.layers``).

    Parameters
    ----------
    squared
        To every fine centre, [n, leaves].
    own
        Leaf of each, [n].
    spread
        Mean squared distance to the own fine centre.
    """
    return Membership(*_soft(np.ascontiguousarray(squared, np.float64), own, spread))


@compiled
def _soft(
    squared: NDArray[np.float64], own: NDArray[np.intp], spread: float
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:  # fmt: skip
    """:func:`soft`; of layers equally near the first."""
    b, leaves = squared.shape
    top = min(TOP, leaves)
    layers, weights = np.empty((b, top), np.intp), np.empty((b, top), np.float32)
    for user in range(b):
        apart, nearest, count = squared[user], layers[user], 1
        nearest[0] = own[user]
        for leaf in range(leaves):
            if leaf == own[user]:
                continue
            if count < top:
                count += 1
            elif top == 1 or not apart[leaf] < apart[nearest[top - 1]]:
                continue
            at = count - 1
            while at > 1 and apart[leaf] < apart[nearest[at - 1]]:
                nearest[at] = nearest[at - 1]
                at -= 1
            nearest[at] = leaf
        least, total = apart[nearest].min(), 0.0
        for i in range(top):
            total += math.exp((least - apart[nearest[i]]) / max(spread, 1e-12))
        for i in range(top):
            weights[user, i] = math.exp((least - apart[nearest[i]]) / max(spread, 1e-12)) / total
    return layers, weights
