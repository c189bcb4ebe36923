"""The neighbours role: who clicks this also clicks that, learned from every profile, published row by row.

A row carries what co-occurrence counts of its item, and what the linear part has solved for
(:mod:`consumers.together`). When the ranker role says that the stream broke, both forget (:mod:`models.breaks`).

It learns from ``profiles``, not from ``clicks``: a profile says which of its last clicks are new and what came before
them, so validity, order and repeats are decided once, by the updater, and nothing is kept of a user here.

Of co-occurrence there is no snapshot: the published rows are the state. Each carries the input offsets that it
contains, so after a restart reading begins where the table was last complete, and a click is added only to the rows
that lack it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.client import Partition, Record
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.ranker import WEIGHTS
from consumers.stage import Work
from consumers.tables import OpenTables
from consumers.taught import before, taught
from consumers.together import LinearConfig, Together
from models.linear import Solution
from models.neighbours import Neighbours
from models.ranker_records import RankerWeights
from models.records import NeighbourRow, ProfileRecord, decode, encode
from producers.publisher import Message
from producers.topics import Topics

log = logging.getLogger(__name__)

Offsets = dict[int, int]


@dataclass(frozen=True, kw_only=True)
class NeighboursConfig:
    """How rows are published."""

    publish_s: float = 1.0
    """A row is published at most once in this time, s."""
    publish_rows: int = 500
    """Rows published at a time, at most; those that have waited longest go first. Each costs every updater some 50 µs,
    and a row that is a few seconds old ranks as well as a fresh one."""
    linear: LinearConfig = field(default_factory=LinearConfig)
    """How the linear part is solved for."""


class NeighboursRole:
    """A :class:`~consumers.stage.Stage` in assign mode on all partitions of ``profiles``.

    Parameters
    ----------
    neighbours
        What is learned.
    open_tables
        Makes the reader of ``vectors``, and of ``neighbours`` for the restart.
    """

    def __init__(
        self,
        neighbours: Neighbours,
        open_tables: OpenTables,
        topics: Topics,
        diversion: Diversion,
        metrics: Metrics,
        config: NeighboursConfig = NeighboursConfig(),
    ) -> None:
        self._neighbours = neighbours
        self._items = neighbours.items
        self._open_tables = open_tables
        self._vectors = open_tables({topics.vectors: self._described})
        self._breaks = open_tables({topics.ranker: self._broke})
        self._topics = topics
        self._diversion = diversion
        self._metrics = metrics
        self._config = config
        self._together = Together(self._items, metrics, config.linear)
        self._offsets: Offsets = {}
        self._published: dict[int, Offsets] = {}  # row → what it contained at the restart, until all is newer
        self._replayed: Offsets = {}  # up to here rows differ in what they contain
        self._dirty: dict[int, Offsets] = {}  # row → the offsets before it changed, oldest first
        self._next_publish = 0.0

    def _described(self, record: Record) -> None:
        if record.key and record.value is not None:
            self._items.describe(record.key.decode(errors="replace"))

    def _broke(self, record: Record) -> None:
        """Of old counts most is forgotten at once; rows are published as they change, and say which breaks they saw."""
        if record.key == WEIGHTS and record.value is not None:
            breaks = decode(record.value, RankerWeights).breaks
            if self._neighbours.forget(breaks):
                log.info("neighbours: the stream broke, of what was counted before it little is kept")
                self._changed(dict(self._offsets))
            self._together.forget(breaks)

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Read the published rows back, and say where the table was last complete.

        First, from ``vectors``, which items there are: those always have a row.
        """
        self._vectors.catch_up()
        complete: Offsets = {}
        known: dict[tuple[tuple[int, int], ...], Offsets] = {}  # thousands of rows share a few offsets

        def restore(record: Record) -> None:
            item_id = (record.key or b"").decode(errors="replace")
            row = None if record.value is None else decode(record.value, NeighbourRow)
            number = self._neighbours.put(item_id, row)
            if row is None or number == self._items.nowhere:
                self._published.pop(number, None)
                return
            self._published[number] = known.setdefault(tuple(row.offsets.items()), row.offsets)
            _raise_to(self._replayed, row.offsets)
            _raise_to(complete, row.complete)

        reader = self._open_tables({self._topics.neighbours: restore})
        try:
            reader.catch_up()
        finally:
            reader.close()
        self._breaks.catch_up()
        self._together.restore(self._open_tables, self._topics.profiles)
        self._offsets = dict(complete)
        if not self._config.linear.items:
            self._neighbours.take(Solution.empty())  # what was published while there was a linear part goes
            self._changed(complete)
        log.info("neighbours: %(rows)d rows restored", {"rows": len(self._published)})
        return {(self._topics.profiles, number): offset for number, offset in complete.items()}

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Never happens in assign mode."""

    def submit(self, records: Sequence[Record]) -> int:
        """See :class:`~consumers.stage.Stage`."""
        for record in records:
            before = dict(self._offsets)
            try:
                if record.value is not None:
                    profile = decode(record.value, ProfileRecord)
                    self._learn(record, profile)
                    self._together.learn(record, profile)
            except Exception as error:
                self._diversion.divert(record, error)
            else:
                self._diversion.passed()
            self._offsets[record.partition] = record.offset + 1
            self._changed(before)
        if self._published and all(self._offsets.get(p, 0) >= o for p, o in self._replayed.items()):
            self._published.clear()
        return len(records)

    def _changed(self, before: Offsets) -> None:
        for row in self._neighbours.dirty():
            self._dirty.setdefault(row, before)

    def _learn(self, record: Record, profile: ProfileRecord) -> None:
        if not profile.fresh:
            return
        rows, places = taught(profile, self._items)
        frozen: set[int] = set()
        if self._published:
            frozen = {r for r in rows if self._published.get(r, {}).get(record.partition, 0) > record.offset}
        times = [entry.ts for entry in profile.history[-len(rows) :]]
        for place in places:
            self._neighbours.learn(rows[place], before(rows, place), frozen, times[place])

    def poll(self, now: float) -> Work | None:
        """See :class:`~consumers.stage.Stage`."""
        solution = self._together.poll(now)
        if solution is not None:
            self._neighbours.take(solution)
            self._changed(dict(self._offsets))
        if now < self._next_publish or not (self._dirty or self._diversion):
            return None
        self._next_publish = now + self._config.publish_s
        self._vectors.poll()
        self._breaks.poll()
        self._metrics.undescribed.labels("neighbours").set(self._items.undescribed)
        # complete is said of the table before this publication: if it breaks off half-way, that is still true
        complete = next(iter(self._dirty.values()), self._offsets)
        rows = list(self._dirty)[: self._config.publish_rows]
        ids, topic = self._items.ids, self._topics.neighbours
        messages = [
            Message(topic, ids[row].encode(), encode(self._neighbours.record(row, self._contained(row), complete)))
            for row in rows
        ]
        for row in rows:
            del self._dirty[row]
        self._metrics.neighbour_rows.inc(len(rows))
        return Work(messages + self._diversion.take())

    def _contained(self, row: int) -> Offsets:
        """The input offsets that a row contains: while a restart catches up, a row may be ahead of what was read."""
        ahead = self._published.get(row)
        if ahead is None:
            return self._offsets
        contained = dict(ahead)
        _raise_to(contained, self._offsets)
        return contained

    def published(self, work: Work) -> None:
        """The rows carry their offsets themselves."""

    def refused(self, work: Work, refused: Sequence[tuple[Message, str]]) -> Work | None:
        """See :class:`~consumers.stage.Stage`. Readers need every one of these messages."""
        return None

    def idle(self) -> bool:
        """See :class:`~consumers.stage.Stage`. What is not published yet is learned again after a restart."""
        return True

    def close(self) -> None:
        """See :class:`~consumers.stage.Stage`."""
        self._together.close()
        self._vectors.close()
        self._breaks.close()


def _raise_to(offsets: Offsets, others: Mapping[int, int]) -> None:
    for partition, offset in others.items():
        offsets[partition] = max(offsets.get(partition, 0), offset)
