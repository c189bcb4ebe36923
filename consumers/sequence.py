"""The sequence role: trains the deep part from every profile, and publishes its weights every few seconds.

Training takes a set share of one core, whatever comes: clicks wait in the learner's memory, and the oldest of them are
missed by training when there are more than it holds. A snapshot carries the input offsets up to which it has been
trained, so after a restart the clicks that waited are read again. The optimisers' moments and the memory of older
clicks begin anew.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from consumers.client import Partition, Record
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.stage import Work
from consumers.tables import OpenTables
from consumers.taught import before, taught, vectors_into
from models.errors import InvalidEvent
from models.records import ProfileRecord, decode, encode
from models.sequence_learning import SequenceLearner
from models.sequence_records import (
    Assembly,
    SequenceHead,
    SequenceLayout,
    SequencePart,
    cut,
    digest_of,
    read,
    written,
)
from producers.publisher import Message
from producers.topics import Topics

log = logging.getLogger(__name__)

HEAD: Final = b"head"
"""Key of what says how the parts belong together."""
PART: Final = b"part/"
"""Keys of the parts begin so, and end in their numbers."""


@dataclass(frozen=True, kw_only=True)
class SequenceRoleConfig:
    """How the deep part is trained and published."""

    share: float = 0.25
    """Of one core, for training at most."""
    publish_s: float = 10.0
    """Least time between two snapshots, s."""


class Snapshots:
    """A handler of the topic ``sequence``: hands on whole snapshots of one layout.

    Parameters
    ----------
    take
        Called with a head and the bytes that it speaks of.
    """

    def __init__(self, layout: SequenceLayout, take: Callable[[SequenceHead, bytes], None]) -> None:
        self._assembly = Assembly(layout)
        self._take = take

    def __call__(self, record: Record) -> None:
        """Keep a part, or put a head's parts together. A head whose parts are not all there is passed over: the role
        was killed between them, or compaction has been here; the next snapshot comes whole.

        Raises
        ------
        InvalidEvent
            If it is none of this layout.
        """
        key = record.key or b""
        if record.value is None:
            return
        if key.startswith(PART):
            self._assembly.add(decode(record.value, SequencePart))
        elif key == HEAD:
            head = decode(record.value, SequenceHead)
            if head.layout != self._assembly.layout:
                raise InvalidEvent("head: a net for another encoder, or of another version of Strata", "validate")
            data = self._assembly.whole(head)
            if data is not None:
                self._take(head, data)


class SequenceRole:
    """A :class:`~consumers.stage.Stage` in assign mode on all partitions of ``profiles``.

    Parameters
    ----------
    learner
        What is trained; its :class:`~models.items.ItemStore` is fed here from ``vectors``.
    model
        Name of the encoder; vectors of another one are left out.
    open_tables
        Makes the readers of ``vectors``, and of ``sequence`` for the restart.
    wall
        The time, s since the epoch.
    clock
        Monotonic, s; the one that the loop hands to :meth:`poll`.
    processor
        Processor time of this thread, s.
    """

    def __init__(
        self,
        learner: SequenceLearner,
        model: str,
        open_tables: OpenTables,
        topics: Topics,
        diversion: Diversion,
        metrics: Metrics,
        config: SequenceRoleConfig = SequenceRoleConfig(),
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.thread_time,
    ) -> None:
        self.learner = learner
        self._items = learner.items
        self._layout = SequenceLayout.of(model, learner.items.dimension, learner.config)
        self._open_tables = open_tables
        self._tables = open_tables({topics.vectors: vectors_into(learner.items, model)})
        self._topics = topics
        self._diversion = diversion
        self._metrics = metrics
        self._config = config
        self._wall = wall
        self._clock = clock
        self._processor = processor
        self._offsets: dict[int, int] = {}  # read
        self._trained: dict[int, int] = {}  # up to here nothing waits
        self._marks: deque[tuple[int, dict[int, int]]] = deque()  # clicks added → offsets then
        self._missed = 0
        self._rest_until = self._next_publish = 0.0
        self._published = 0  # clicks in the last snapshot
        self._in_hand: tuple[SequenceHead, int] | None = None

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Read the vectors, then go on from the last snapshot."""
        self._tables.catch_up()
        self._items.changed.clear()  # the index's business; there is none here
        self._restore()
        log.info("sequence: continuing after %(clicks)d clicks", {"clicks": self.learner.clicks})
        return {(self._topics.profiles, number): offset for number, offset in self._offsets.items()}

    def _restore(self) -> None:
        found: list[tuple[SequenceHead, bytes]] = []

        def keep(head: SequenceHead, data: bytes) -> None:
            found[:] = [(head, data)]

        reader = self._open_tables({self._topics.sequence: Snapshots(self._layout, keep)})
        try:
            records = reader.catch_up()
        finally:
            reader.close()
        try:
            if not found and records:
                raise InvalidEvent("none is whole and of this encoder and version")
            for head, data in found:
                self.learner.take_over(read(data, self._layout), head.version)
                self._offsets, self._trained = dict(head.offsets), dict(head.offsets)
                self._published = head.version
        except InvalidEvent as error:
            log.warning(
                "sequence: the last snapshot cannot be continued (%(error)s); training starts anew", {"error": error}
            )

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Never happens in assign mode."""

    def submit(self, records: Sequence[Record]) -> int:
        """See :class:`~consumers.stage.Stage`."""
        for record in records:
            try:
                if record.value is not None:
                    self._remember(decode(record.value, ProfileRecord))
            except Exception as error:
                self._diversion.divert(record, error)
            else:
                self._diversion.passed()
            self._offsets[record.partition] = record.offset + 1
        marked = self._marks[-1][0] if self._marks else self.learner.taken
        if self.learner.added - marked >= self.learner.learning.batch:
            self._marks.append((self.learner.added, dict(self._offsets)))
        missed, self._missed = self.learner.missed - self._missed, self.learner.missed
        self._metrics.sequence_missed.inc(missed)
        return len(records)

    def _remember(self, profile: ProfileRecord) -> None:
        """A profile's new clicks, without those that came too fast, each with the clicks before it."""
        if not profile.fresh:
            return
        rows, places = taught(profile, self._items)
        for place in places:
            self.learner.add(rows[place], before(rows, place))

    def poll(self, now: float) -> Work | None:
        """See :class:`~consumers.stage.Stage`. Takes as long as one step of training."""
        if self._tables.poll():
            self._items.changed.clear()
        if now >= self._rest_until and (self._batch_waits or now >= self._next_publish):
            self._train()
        trained = self.learner.clicks > self._published
        if now < self._next_publish or not (trained or self._diversion):
            return None
        self._next_publish = now + self._config.publish_s
        self._metrics.undescribed.labels("sequence").set(self._items.undescribed)
        # the letters first: the offsets of the head are beyond theirs
        return Work(self._diversion.take() + (self._snapshot() if trained else []))

    @property
    def _batch_waits(self) -> bool:
        """Steps on a click or two would be mostly noise; before a snapshot they are better than none."""
        return self.learner.waiting >= self.learner.learning.batch

    def _train(self) -> None:
        """One step, and a rest after it."""
        learner, began = self.learner, self._processor()
        clicks, refused = learner.clicks, learner.refused
        if learner.step():
            spent = self._processor() - began
            self._rest_until = self._clock() + spent * (1 / self._config.share - 1)
            self._metrics.sequence_steps.inc()
            self._metrics.sequence_step_failures.inc(learner.refused - refused)
            self._metrics.sequence_clicks.inc(learner.clicks - clicks)
            self._metrics.sequence_seconds.inc(spent)
            self._metrics.sequence_loss.set(learner.loss)
        self._metrics.sequence_waiting.set(learner.waiting)

    def _snapshot(self) -> list[Message]:
        version, topic = self.learner.clicks, self._topics.sequence
        data = written(self.learner.net)
        parts = cut(data, version)
        head = SequenceHead(
            version=version,
            created_ms=int(self._wall() * 1000),
            parts=len(parts),
            digest=digest_of(data),
            layout=self._layout,
            offsets=self._contained(),
        )
        self._published, self._in_hand = version, (head, len(data))
        return [
            *(Message(topic, PART + str(part.number).encode(), encode(part), 0) for part in parts),
            Message(topic, HEAD, encode(head), 0),
        ]

    def _contained(self) -> dict[int, int]:
        """The input offsets up to which no click waits for its step."""
        while self._marks and self._marks[0][0] <= self.learner.taken:
            self._trained = self._marks.popleft()[1]
        if not self.learner.waiting:
            self._trained = dict(self._offsets)
        return self._trained

    def published(self, work: Work) -> None:
        """See :class:`~consumers.stage.Stage`. The head carries the offsets."""
        if self._in_hand is not None:
            head, size = self._in_hand
            self._in_hand = None
            self._metrics.sequence_version.set(head.version)
            self._metrics.sequence_created.set(head.created_ms / 1000)
            self._metrics.sequence_bytes.set(size)

    def refused(self, work: Work, refused: Sequence[tuple[Message, str]]) -> Work | None:
        """See :class:`~consumers.stage.Stage`. Readers need every one of these messages."""
        return None

    def idle(self) -> bool:
        """See :class:`~consumers.stage.Stage`. What is not published yet is trained again after a restart."""
        return True

    def close(self) -> None:
        """See :class:`~consumers.stage.Stage`."""
        self._tables.close()
