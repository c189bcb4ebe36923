"""How fast a user may teach: who clicks faster than people do is served as ever, and teaches no more than they.

The generic cell rate algorithm (ITU-T I.371), a token bucket in one number: the moment at which the next click would be
due if all came at the highest rate. A click teaches while that moment lies at most a minute ahead of it. It counts in
the clicks' own times, so that a replay, live or after a crash, damps the same clicks.
"""

from __future__ import annotations

from dataclasses import dataclass

_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Pace:
    """The highest rate of clicks that teach.

    Parameters
    ----------
    per_minute
        Clicks, in the long run and at once; 0: no limit.

    Examples
    --------
    >>> pace, due = Pace(per_minute=2), 0
    >>> taught = []
    >>> for ts in (100_000, 100_001, 100_002, 130_000, 160_000):
    ...     due, teaches = pace.take(due, ts)
    ...     taught.append(teaches)
    >>> taught
    [True, True, False, True, True]
    """

    per_minute: int = 60

    def take(self, due: int, ts: int) -> tuple[int, bool]:
        """A click at ``ts``: the moment at which the next would be due, and whether this one teaches. All in ms."""
        if self.per_minute <= 0:
            return due, True
        interval = _MINUTE_MS // self.per_minute
        due = max(due, ts)
        if due - ts > _MINUTE_MS - interval:
            return due, False
        return due + interval, True
