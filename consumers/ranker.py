"""The ranker role: adds up what the updaters' clicks teach, and publishes the weights that lists are made with.

It is the one writer of the topic ``ranker``. Its state lies there too, in one record with the offset of
``ranker-updates`` that it contains: after any crash it reads on from exactly there, and ends as if it had never
stopped.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from consumers.client import Partition, Record
from consumers.continuing import STATE, last_checkpoint
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.stage import Work
from consumers.tables import OpenTables
from models.errors import ConfigurationError, InvalidEvent
from models.experts import EXPERTS
from models.histories import BUCKETS
from models.ranker_learning import RankerLearner
from models.ranker_records import LAYOUT, RankerState, RankerUpdate, lesson_of, restore, state_of, weights_of
from models.records import Checkpoint, decode, encode
from producers.publisher import Message
from producers.topics import Topics

log = logging.getLogger(__name__)

WEIGHTS = b"weights"
"""Key of what readers take."""


@dataclass(frozen=True, kw_only=True)
class RankerRoleConfig:
    """What is published, and when."""

    publish_s: float = 1.0
    """Least time between two publications, s."""
    forget: bool = True
    """Whether those who count co-clicks are told of a break, and so forget most of what was before."""


class RankerRole:
    """A :class:`~consumers.stage.Stage` in assign mode on ``ranker-updates``.

    A batch of clicks counts once: without transactions an updater that dies between two acknowledgements sends some of
    its clicks again in other company, and a batch that repeats a single click is left out as a whole. So no click
    teaches twice, and a crash loses at most the company of one batch.

    Parameters
    ----------
    ranker
        What is learned.
    open_tables
        Makes the reader of ``ranker`` for the restart.
    wall
        The time, s since the epoch.
    """

    def __init__(
        self,
        ranker: RankerLearner,
        open_tables: OpenTables,
        topics: Topics,
        diversion: Diversion,
        metrics: Metrics,
        config: RankerRoleConfig = RankerRoleConfig(),
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.ranker = ranker
        self._open_tables = open_tables
        self._topics = topics
        self._diversion = diversion
        self._metrics = metrics
        self._config = config
        self._wall = wall
        self._offsets: dict[int, int] = {}
        self._taught: defaultdict[int, set[int]] = defaultdict(set)
        self._next_publish = 0.0
        self._changed = True

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Continue from the last checkpoint."""
        try:
            checkpoint = last_checkpoint(self._open_tables, self._topics.ranker)
            if checkpoint is not None:
                state = decode(checkpoint.state, RankerState)
                self._offsets = dict(checkpoint.offsets)
                restore(self.ranker, state)
                self._taught.update({partition: set(offsets) for partition, offsets in state.taught.items()})
        except (ConfigurationError, InvalidEvent) as error:
            log.warning(
                "ranker: the last state cannot be continued (%(error)s); learning starts anew", {"error": error}
            )
        log.info("ranker: continuing after %(clicks)d clicks", {"clicks": self.ranker.version})
        return {(self._topics.ranker_updates, number): offset for number, offset in self._offsets.items()}

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Never happens in assign mode."""

    def submit(self, records: Sequence[Record]) -> int:
        """See :class:`~consumers.stage.Stage`."""
        for record in records:
            try:
                if record.value is not None:
                    self._learn(decode(record.value, RankerUpdate))
            except Exception as error:
                self._diversion.divert(record, error)
            else:
                self._diversion.passed()
            self._offsets[record.partition] = record.offset + 1
            self._changed = True
        return len(records)

    def _learn(self, update: RankerUpdate) -> None:
        self._metrics.lessons.inc()
        if update.layout != LAYOUT:  # of an updater that is newer or older than this role
            self._metrics.lessons_left_out.labels("version").inc()
            return
        lesson = lesson_of(update)
        if any(not self._taught[partition].isdisjoint(offsets) for partition, offsets in update.taught.items()):
            self._metrics.lessons_left_out.labels("repeated").inc()
            return
        for partition, offsets in update.taught.items():
            self._taught[partition].update(offsets)
        for partition, below in update.below.items():
            self._taught[partition] = {offset for offset in self._taught[partition] if offset >= below}
        told = self.ranker.breaks.times
        if self.ranker.learn(lesson):
            self._metrics.ranker_breaks.inc()
            log.warning("ranker: the stream broke: those that serve hit far less of the clicks than before")
            if not self._config.forget:
                self.ranker.breaks.times = told
        self._metrics.lesson_clicks.inc(lesson.clicks.sum())

    def poll(self, now: float) -> Work | None:
        """See :class:`~consumers.stage.Stage`."""
        if now < self._next_publish or not (self._changed or self._diversion):
            return None
        self._next_publish = now + self._config.publish_s
        self._changed = False
        taught = {partition: tuple(sorted(offsets)) for partition, offsets in self._taught.items() if offsets}
        topic, state = self._topics.ranker, encode(state_of(self.ranker, taught))
        messages = [
            Message(topic, STATE, encode(Checkpoint(dict(self._offsets), state))),
            Message(topic, WEIGHTS, encode(weights_of(self.ranker, int(self._wall() * 1000)))),
        ]
        self._report()
        return Work(messages + self._diversion.take())

    def _report(self) -> None:
        choice = self.ranker.choice
        rates = choice.rates()
        for bucket, start in enumerate(BUCKETS):
            for expert, name in enumerate(EXPERTS):
                self._metrics.expert_hit_rate.labels(str(start), name).set(float(rates[bucket, expert]))
                self._metrics.expert_serving.labels(str(start), name).set(int(choice.serving[bucket] == expert))

    def published(self, work: Work) -> None:
        """The state carries its offsets itself."""

    def refused(self, work: Work, refused: Sequence[tuple[Message, str]]) -> Work | None:
        """See :class:`~consumers.stage.Stage`. Readers need every one of these messages."""
        return None

    def idle(self) -> bool:
        """See :class:`~consumers.stage.Stage`. What is not published yet is learned again after a restart."""
        return True

    def close(self) -> None:
        """See :class:`~consumers.stage.Stage`."""
