"""Breaks of the stream, and what is left of what was learned before one.

When what serves suddenly hits far less than it did (:class:`~models.experts.ExpertChoice`), the world has changed:
other items, other people, other prices. What was learned of the old one is mostly wrong then, and there is so much of
it that the new one would need as many clicks again to be seen. So at a break counts keep a small share of their weight.
They keep their order: a list hardly changes at that moment, but a click weighs many times as much as those before.

A break is found some hundred clicks after it. What came since is of the new world and the first that is known of it, so
a break has the time at which it began, and who counts remembers the newest clicks (:class:`Lately`) to give those that
came after it their whole weight back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

KEPT: Final = 0.05
"""Share of its weight that a count keeps at a break. With more of it a false alarm costs less, and a break more: both
costs stand in ``ops/bench/RESULTS.md``."""

LATELY: Final = 16_384
"""Newest clicks that are remembered: a break is found within some hundred that are looked at, of a sample."""

_REMEMBERED: Final = 8  # breaks: what is older than so many weighs nothing
_TINY: Final = 1e-9  # of a share: rounding

Click = TypeVar("Click")


class Breaks:
    """When the stream broke, by the time of its clicks.

    Attributes
    ----------
    times : tuple[int, ...]
        ms since the epoch, rising: the last eight.
    """

    def __init__(self) -> None:
        self.times: tuple[int, ...] = ()

    @property
    def last(self) -> int:
        """The last one, ms since the epoch; 0: it never broke."""
        return self.times[-1] if self.times else 0

    def add(self, times: Iterable[int]) -> float:
        """Learn of breaks; returns the share that is left of what was counted so far, 1 if all were known."""
        oldest = self.times[0] if len(self.times) == _REMEMBERED else 0  # forgotten is not new
        new = {time for time in times if time > oldest} - set(self.times)
        self.times = tuple(sorted({*self.times, *new})[-_REMEMBERED:])
        return float(KEPT ** len(new))

    def left_after(self, times: Iterable[int]) -> float:
        """The share that is left of what has seen these breaks already."""
        return float(KEPT ** len(set(self.times).difference(times)))

    def left_of(self, moment: int) -> float:
        """The share that is left of what was counted at a moment, ms since the epoch."""
        return 1.0 if moment >= self.last else float(self.left(np.array(moment)))

    def left(self, moments: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same for each of many."""
        shares: NDArray[np.float64] = KEPT ** np.arange(len(self.times), -1, -1, dtype=np.float64)
        return shares[np.searchsorted(np.array(self.times, np.int64), moments, side="right")]


class Lately(Generic[Click]):
    """The newest that was counted, by when it was clicked."""

    def __init__(self) -> None:
        self._moments: deque[int] = deque(maxlen=LATELY)
        self._kept: deque[tuple[float, Click]] = deque(maxlen=LATELY)

    @property
    def oldest(self) -> int:
        """When the oldest that is remembered was clicked, ms since the epoch; 0: there is none."""
        return self._moments[0] if self._moments else 0

    def add(self, moment: int, share: float, click: Click) -> None:
        """Remember what was counted with this share of its weight; ``moment`` in ms since the epoch."""
        self._moments.append(moment)
        self._kept.append((share, click))

    def lacking(self, breaks: Breaks, left: float) -> list[tuple[float, Click]]:
        """What is to be counted again, oldest first, and with what share, after all counts kept ``left``.

        That is what came after a break that only now is known of.
        """
        shares = breaks.left(np.array(self._moments, np.int64)).tolist()
        kept = [(now - left * share, click) for now, (share, click) in zip(shares, self._kept, strict=True)]
        self._kept = deque(((now, click) for now, (_, click) in zip(shares, self._kept, strict=True)), maxlen=LATELY)
        return [(share, click) for share, click in kept if share > _TINY]
