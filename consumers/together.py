"""The linear part beside the neighbours: counts of who has clicked what, and a solution of them from time to time.

Counts are taken from profiles, which say whether a click was its user's first on an item, and all that he has clicked.
Since the topic ``profiles`` holds every user's last record, they need no snapshot: after a restart they are made anew
from it. A solution takes seconds of a core, so it is worked out on a thread of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Final

import numpy as np
from numpy.typing import NDArray

from consumers.client import Record
from consumers.metrics import Metrics
from consumers.tables import OpenTables
from models.items import ItemStore
from models.linear import L2, MOST, CoClicks, Solution
from models.records import SEEN, ProfileRecord, decode

log = logging.getLogger(__name__)

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
        self._read: dict[int, int] = {}  # partition of ``profiles`` → first offset that is not counted
        self._thread: Thread | None = None
        self._solved: Solution | None = None
        self._next = 0.0

    def restore(self, open_tables: OpenTables, profiles: str) -> None:
        """Count all that is on the topic: each user's first record whole, then what is new in those after it."""
        if self.counts is None:
            return
        known: set[int] = set()

        def count(record: Record) -> None:
            self._read[record.partition] = record.offset + 1
            user = hash(record.key)
            if record.value is None:
                return
            profile = decode(record.value, ProfileRecord)
            if user in known:
                self._add(profile)
            elif self.counts is not None:
                known.add(user)
                self.counts.learn_user(self._clicked(profile))

        reader = open_tables({profiles: count})
        try:
            reader.catch_up()
        finally:
            reader.close()
        log.info("neighbours: %(clicks)d clicks of %(users)d users counted for the linear part", {
            "clicks": self.counts.clicks, "users": len(known),
        })  # fmt: skip

    def learn(self, record: Record, profile: ProfileRecord) -> None:
        """Count a record's new clicks, unless :meth:`restore` has."""
        if self.counts is not None and record.offset >= self._read.get(record.partition, 0):
            self._add(profile)

    def _add(self, profile: ProfileRecord) -> None:
        """The new clicks, each with all that came before it."""
        fresh = range(min(profile.fresh, len(profile.history)) - 1, -1, -1)  # counted from the end
        if self.counts is None or not fresh:
            return
        first = [back for back in fresh if back not in profile.again]
        rows = {back: self._items.mention(profile.history[-1 - back].item_id) for back in first}
        clicked = self._clicked(profile)
        others = clicked[~np.isin(clicked, self._items.hashes[list(rows.values())])]
        for back, row in rows.items():
            if back not in profile.damped:
                self.counts.learn(row, others)
                others = np.append(others, self._items.hashes[row])

    def _clicked(self, profile: ProfileRecord) -> NDArray[np.uint64]:
        """Hashes of all that a user has clicked and is still remembered."""
        seen = np.frombuffer(profile.seen, SEEN)
        no = [kind for kind, event in enumerate(profile.events) if event in self._config.negative_events]
        clicked: NDArray[np.uint64] = seen["item"][~np.isin(seen["event"], no)] if no else seen["item"]
        return clicked

    def poll(self, now: float) -> Solution | None:
        """A solution that is done, once; begins the next one if it is time. Never waits."""
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
            solved, self._solved = self._solved, None
            return solved
        if self._thread is None and self.counts is not None and self.counts.due and now >= self._next:
            self._next = now + self._config.every_s
            counts = self.counts.snapshot()
            self._thread = Thread(target=self._solve, args=(counts,), name="linear", daemon=True)
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
            log.warning("neighbours: the linear part could not be solved for: %(error)s", {"error": error})
        else:
            self._metrics.linear_solutions.inc()
            self._metrics.linear_items.set(len(self._solved.rows))
            self._metrics.linear_clicks.set(counts.clicks)
        took = self._clock() - began
        self._metrics.linear_seconds.set(took)
        self._next = max(self._next, began + (1 + _REST) * took)

    def close(self) -> None:
        """Wait for the thread: it touches metrics."""
        if self._thread is not None:
            self._thread.join()
