"""The linear part beside the neighbours: counts of who has clicked what, and a solution of them from time to time.

Counts are taken from profiles, which say whether a click was its user's first on an item, and all that he has clicked.
Since the topic ``profiles`` holds every user's last record, they need no snapshot: after a restart they are made anew
from it, some users a step, since a million takes minutes. Until then what is published stays. A solution takes seconds
of a core, so it is worked out on a thread of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Thread
from typing import Final

import numpy as np
from numpy.typing import NDArray

from consumers.client import Record
from consumers.metrics import Metrics
from consumers.tables import OpenTables, TableReader
from models.items import ItemStore
from models.linear import L2, MOST, CoClicks, Solution
from models.records import SEEN, ProfileRecord, decode

log = logging.getLogger(__name__)

_SLICE: Final = 500  # records counted anew in a step: a tenth of a second
_REST: Final = 9.0  # times as long as a solution took, before the next one: a tenth of a core


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """How the linear part is solved for."""

    items: int = MOST
    """Items that take part, those clicked most; 0: there is no linear part."""
    l2: float = L2
    """λ, in users."""
    every_s: float = 30.0
    """Time between the begins of two solutions, s, at least: each is published, row by row."""
    negative_events: tuple[str, ...] = ("dismiss",)
    """Event kinds that say no: what a user met so is none of his clicks."""


class Together:
    """Counts, and their newest solution.

    Parameters
    ----------
    items
        Those of the neighbours.
    clock
        Monotonic, s; the one that :meth:`poll` is handed.
    """

    def __init__(
        self,
        items: ItemStore,
        metrics: Metrics,
        config: LinearConfig = LinearConfig(),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._items = items
        self._metrics = metrics
        self._config = config
        self._clock = clock
        self.counts = CoClicks(items, config.items) if config.items else None
        self._again: TableReader | None = None  # reads what is on the topic, until it is where the role is
        self._known: set[int] = set()  # users whose clicks are counted, while it reads
        self._read: dict[int, int] = {}  # partition of ``profiles`` → first offset that is not counted
        self._reached: dict[int, int] = {}  # the same that the role has not read, while it reads
        self._thread: Thread | None = None
        self._solved: Solution | None = None
        self._next = 0.0

    def restore(self, open_tables: OpenTables, profiles: str) -> None:
        """Begin to count all that is on the topic, :meth:`poll` by poll."""
        if self.counts is not None:
            self._again = open_tables({profiles: self._count})

    def learn(self, record: Record, profile: ProfileRecord) -> None:
        """Count a record's new clicks, unless they are counted with all that is on the topic."""
        if self._again is not None:
            self._reached[record.partition] = record.offset + 1
        elif self.counts is not None and record.offset >= self._read.get(record.partition, 0):
            self._add(profile)

    def forget(self, breaks: Iterable[int]) -> None:
        """Learn of breaks of the stream, ms since the epoch."""
        if self.counts is not None:
            self.counts.forget(breaks)

    def _count(self, record: Record) -> None:
        """A user's first record counts whole, what follows by what is new in it."""
        self._read[record.partition] = record.offset + 1
        if record.value is None or self.counts is None:
            return
        profile, user = decode(record.value, ProfileRecord), hash(record.key)
        if user in self._known:
            self._add(profile)
        else:
            self._known.add(user)
            seen = self._seen(profile)
            self.counts.learn_user(seen["item"], _moments(seen))

    def _restored(self) -> bool:
        """Count some more of what is on the topic; whether nothing is left of it."""
        reader = self._again
        if reader is None:
            return True
        reader.poll(max_records=_SLICE)
        behind = any(self._read.get(partition, 0) < offset for partition, offset in self._reached.items())
        if behind or not reader.caught_up():
            return False
        log.info("neighbours: the clicks of %(users)d users are counted for the linear part", {
            "users": len(self._known),
        })  # fmt: skip
        reader.close()
        self._again = None
        self._known.clear()
        return True

    def _add(self, profile: ProfileRecord) -> None:
        """The new clicks, each with all that came before it."""
        fresh = range(min(profile.fresh, len(profile.history)) - 1, -1, -1)  # counted from the end
        if self.counts is None or not fresh:
            return
        again = dict(zip(profile.again, profile.again_at, strict=False))  # of an older record nothing is known
        rows = {back: self._items.mention(profile.history[-1 - back].item_id) for back in fresh}
        keys = {back: self._items.hashes[row] for back, row in rows.items()}
        seen = self._seen(profile)
        # as it was before these clicks: what is among them is newer there
        seen = seen[~np.isin(seen["item"], list(keys.values()))]
        eldest = {keys[back]: back for back in reversed(fresh)}
        met = {key: 1000 * again[back] for key, back in eldest.items() if back in again}
        others = np.append(seen["item"], np.fromiter(met, np.uint64, len(met)))
        moments = np.append(_moments(seen), np.fromiter(met.values(), np.int64, len(met)))
        for back, row in rows.items():
            if back in profile.damped or (back in profile.again and back not in again):
                continue
            moment = profile.history[-1 - back].ts // 1000 * 1000  # to the second, as what was seen
            own = others == keys[back]
            before = int(moments[own][0]) if own.any() else None
            others, moments = others[~own], moments[~own]
            self.counts.learn(row, others, moment, moments, before)
            others, moments = np.append(others, keys[back]), np.append(moments, moment)

    def _seen(self, profile: ProfileRecord) -> NDArray[np.void]:
        """Of :data:`~models.records.SEEN`: all that a user has clicked and is still remembered.

        Of one some of whose last clicks came too fast, only those of the others that are still in his history.
        """
        seen = np.frombuffer(profile.seen, SEEN)
        no = [kind for kind, event in enumerate(profile.events) if event in self._config.negative_events]
        clicked: NDArray[np.void] = seen[~np.isin(seen["event"], no)] if no else seen
        if profile.damped:  # which of his clicks taught nothing is known of the last ones alone
            of = enumerate(reversed(profile.history))
            taught = [self._items.hash_of(entry.item_id) for back, entry in of if back not in profile.damped]
            clicked = clicked[np.isin(clicked["item"], np.array(taught, np.uint64))]
        return clicked

    def poll(self, now: float) -> Solution | None:
        """A solution that is done, once; begins the next one if it is time. Never waits."""
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread = None
            solved, self._solved = self._solved, None
            return solved
        if self.counts is None or not self._restored():
            return None
        if self.counts.due and now >= self._next:
            self._next = now + self._config.every_s
            self._thread = Thread(target=self._solve, args=(self.counts.snapshot(),), name="linear", daemon=True)
            self._thread.start()
        return None

    @property
    def solving(self) -> bool:
        """Whether a solution is being worked out, or waits to be taken."""
        return self._thread is not None

    def _solve(self, counts: CoClicks) -> None:
        began = self._clock()
        try:
            self._solved = counts.solve(self._config.l2)
        except Exception as error:  # what is published stays; the next one has other counts
            self._metrics.linear_failures.inc()
            log.warning(
                "neighbours: the linear part could not be solved for, the last solution stays (λ is STRATA_LINEAR_L2):"
                " %(error)s",
                {"error": error},
            )
        else:
            self._metrics.linear_solutions.inc()
            self._metrics.linear_items.set(len(self._solved.rows))
            self._metrics.linear_clicks.set(counts.clicks)
        took = self._clock() - began
        self._metrics.linear_seconds.set(took)
        self._next = max(self._next, began + (1 + _REST) * took)

    def close(self) -> None:
        """Wait for the thread: it touches metrics."""
        if self._again is not None:
            self._again.close()
        if self._thread is not None:
            self._thread.join()


def _moments(seen: NDArray[np.void]) -> NDArray[np.int64]:
    """When each was seen, ms since the epoch."""
    return seen["at"] * np.int64(1000)
