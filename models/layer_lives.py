"""How long each layer has been what it is, and who comes to it and goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

HALF_LIFE: Final = 10_000
"""Of comings and goings, refreshed users: five times that of sizes, since only a few of 100 change their layer."""

JUST_BEGUN: Final = -1
"""In place of a time: the layer began since the last snapshot, which will say when."""

_STEP: Final = 0.5 ** (-1 / HALF_LIFE)
_HIGHEST: Final = 2.0**64  # a power of two: dividing by it is exact


class Churn(NamedTuple):
    """Of the refreshed users who were in a layer before or are in it now, and had been in any before: shares, 0 … 1."""

    joined: float
    """Came from another layer."""
    left: float
    """Went to another one."""


class LayerLives:
    """The lives of the layers.

    Instead of the past fading, the present grows heavier, and shares do not notice; so a user costs a few additions.

    Parameters
    ----------
    ids
        Of all layers, the coarse ones as ``3``, the fine ones as ``3.5``; their order is that of all arrays.

    Attributes
    ----------
    since_ms : list[int]
        When each layer began or began anew, ms since the epoch; 0: not known.
    updates : int64 [layers]
        Vectors that moved its centre since.
    flows : list[list[float]]
        Weights of the users who stayed, joined, left, by layer.
    weight : float
        Of the next user.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        places = {layer_id: at for at, layer_id in enumerate(ids)}
        self._fine = {i: (at, places[i.partition(".")[0]]) for i, at in places.items() if "." in i}
        self.since_ms = [JUST_BEGUN] * len(ids)
        self.updates: NDArray[np.int64] = np.zeros(len(ids), np.int64)
        self.flows = [[0.0] * len(ids) for _ in range(3)]
        self.weight = 1.0

    def begin(self, layers: Iterable[int]) -> None:
        """These layers begin, or began anew."""
        for layer in layers:
            self.since_ms[layer] = JUST_BEGUN
            self.updates[layer] = 0
            for flow in self.flows:
                flow[layer] = 0.0

    def refreshed(self, before: str, after: str) -> tuple[int, ...]:
        """A user's list was refreshed; the layers that he came to or went from.

        Parameters
        ----------
        before, after
            The fine layer that he was in, and is in. Empty: none, and then he is new, or nothing is known of him.
        """
        old, new = self._fine.get(before), self._fine.get(after)
        if old is None or new is None:
            return ()
        self.weight = weight = self.weight * _STEP
        if weight > _HIGHEST:
            self.weight = weight = weight / _HIGHEST
            self.flows = [[each / _HIGHEST for each in flow] for flow in self.flows]
        stayed, joined, left = self.flows
        changed = []
        for was, now in zip(old, new, strict=True):  # fine, coarse
            if was == now:
                stayed[now] += weight
            else:
                left[was] += weight
                joined[now] += weight
                changed += [was, now]
        return tuple(changed)

    def churn(self, layer: int) -> Churn | None:
        """Who came to a layer and went from it lately; None if nobody was seen who could have."""
        stayed, joined, left = (flow[layer] for flow in self.flows)
        every = stayed + joined + left
        return Churn(joined / every, left / every) if every else None

    def tell(self, now_ms: int) -> None:
        """What has just begun, began now."""
        self.since_ms = [now_ms if since == JUST_BEGUN else since for since in self.since_ms]
