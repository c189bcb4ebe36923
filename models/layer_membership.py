"""In which layers somebody is, and how much."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    n = np.arange(len(own))
    ranked = squared.copy()
    ranked[n, own] = -1
    top = min(TOP, squared.shape[1])
    layers = np.argpartition(ranked, top - 1, axis=1)[:, :top]
    layers = layers[n[:, None], ranked[n[:, None], layers].argsort(axis=1)]
    chosen = squared[n[:, None], layers]
    weights = np.exp((chosen.min(axis=1, keepdims=True) - chosen) / max(spread, 1e-12))
    weights /= weights.sum(axis=1, keepdims=True)
    return Membership(layers, weights.astype(np.float32))
