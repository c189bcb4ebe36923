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
    """The newest clicks that were counted, and when they were made."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, Click]] = deque(maxlen=LATELY)
        self._added = 0
        self._least: deque[tuple[int, int]] = deque()  # (number, moment): rising, each the least of all that follow

    @property
    def oldest(self) -> int:
        """When the oldest that is remembered was clicked, ms since the epoch; 0: there is none."""
        return self._least[0][1] if self._least else 0

    def add(self, moment: int, click: Click) -> None:
        """Remember a click, made at a moment in ms since the epoch."""
        self._kept.append((moment, click))
        while self._least and self._least[-1][1] >= moment:
            self._least.pop()
        self._least.append((self._added, moment))
        self._added += 1
        if self._least[0][0] < self._added - LATELY:
            self._least.popleft()

    def lacking(self, known: Breaks, breaks: Breaks) -> list[tuple[int, float, Click]]:
        """(moment, share, click) of what is to be counted again, oldest first, after all counts have lost their share.

        That is what came after one of ``breaks`` that was not yet ``known`` when it was counted.
        """
        moments = np.fromiter((moment for moment, _ in self._kept), np.int64, len(self._kept))
        lacks = breaks.left(moments) - breaks.left_after(known.times) * known.left(moments)
        found = zip(self._kept, lacks.tolist(), strict=True)
        return [(moment, share, click) for (moment, click), share in found if share > _TINY]
