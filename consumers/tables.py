"""A compacted topic as a live table: read to its end once, then kept up to date from the loop's thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from consumers.client import Partition, Record
from consumers.kafka_client import TABLE_WAIT_S, KafkaConsumerClient
from consumers.metrics import Metrics
from models.errors import InvalidEvent, StrataError
from producers.connection import Connection
from producers.errors import CatchUpTimeout

log = logging.getLogger(__name__)

Handler = Callable[[Record], None]
Progress = Callable[[int, int], None]
"""Called with offsets read and offsets to read."""

_BATCH: Final = 2_000


class TableReader:
    """Feeds handlers from the partitions of topics, in assign mode: every record, then what comes.

    The handlers hold the table; a null value is a tombstone and reaches them like any record. A handler that raises
    :class:`~models.errors.InvalidEvent`, or stumbles over arrays that do not fit, skips the record: the topic was
    written by something else, which is counted, and logged once a topic (after a change of the model it is so of every
    item). Strata's other errors go on to the caller.

    Parameters
    ----------
    consumer
        In assign mode, for this reader alone.
    handlers
        What to do with a record, by topic.
    """

    def __init__(
        self,
        consumer: KafkaConsumerClient,
        handlers: Mapping[str, Handler],
        metrics: Metrics | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consumer = consumer
        self._handlers = dict(handlers)
        self._metrics = metrics
        self._clock = clock
        self._partitions: set[Partition] = set()
        self._since_ms: int | None = None
        self._ends: dict[Partition, int] = {}
        self._told: set[str] = set()

    @classmethod
    def open(
        cls,
        connection: Connection,
        handlers: Mapping[str, Handler],
        metrics: Metrics | None = None,
        *,
        role: str = "table",
        numbers: Iterable[int] | None = None,
        since_ms: int | None = None,
        fetch_wait_s: float = TABLE_WAIT_S,
    ) -> TableReader:
        """A reader of all the handlers' topics, of all their partitions or of those with these numbers.

        Parameters
        ----------
        since_ms
            Begin at the first record that was produced at this moment or later, ms since the epoch. None: at the
            beginning.
        fetch_wait_s
            Longest wait of a fetch for data.

        Raises
        ------
        TopicMissing, BrokerUnavailable
        """
        reader = cls(KafkaConsumerClient(connection, role=role, fetch_wait_s=fetch_wait_s), handlers, metrics)
        reader._since_ms = since_ms
        wanted = None if numbers is None else set(numbers)
        try:
            reader.add(
                p for topic in handlers for p in reader._consumer.partitions(topic) if wanted is None or p[1] in wanted
            )
        except BaseException:
            reader.close()
            raise
        return reader

    @property
    def partitions(self) -> frozenset[Partition]:
        """What is being read."""
        return frozenset(self._partitions)

    def available(self, topic: str) -> list[Partition]:
        """All partitions that a topic has, read or not."""
        return self._consumer.partitions(topic)

    def add(self, partitions: Iterable[Partition], since_ms: int | None = None) -> None:
        """Read these too, from their beginning or from a moment of their own (as :meth:`open` has it)."""
        new = set(partitions) - self._partitions
        if since_ms is not None:
            self._since_ms = since_ms
        if new:
            self._partitions |= new
            self._reassign()

    def remove(self, partitions: Iterable[Partition]) -> None:
        """Read these no more. What the handlers hold of them is theirs to drop."""
        gone = self._partitions.intersection(partitions)
        if gone:
            self._partitions -= gone
            for partition in gone:
                self._ends.pop(partition, None)
            self._reassign()

    def _reassign(self) -> None:
        self._consumer.assign(self._partitions)
        for event in self._consumer.rebalances():
            if event.kind == "assigned":
                since = {} if self._since_ms is None else self._consumer.since(event.partitions, self._since_ms)
                for partition in event.partitions:
                    self._consumer.start(partition, since.get(partition))

    def poll(self, timeout_s: float = 0.0, max_records: int = _BATCH) -> int:
        """Hand on what has arrived; the number of records. Blocks at most the timeout."""
        if not self._partitions:
            return 0
        records = self._consumer.poll(timeout_s, max_records)
        for record in records:
            try:
                self._handlers[record.topic](record)
            except Exception as error:
                if isinstance(error, StrataError) and not isinstance(error, InvalidEvent):
                    raise
                if record.topic not in self._told:
                    self._told.add(record.topic)
                    log.warning(
                        "%(topic)s-%(partition)d@%(offset)d is not usable: %(error)s (others of this topic are only"
                        " counted)",
                        {"topic": record.topic, "partition": record.partition, "offset": record.offset, "error": error},
                    )
                if self._metrics:
                    self._metrics.table_errors.labels(record.topic).inc()
            if self._metrics:
                self._metrics.table_records.labels(record.topic).inc()
        return len(records)

    def catch_up(self, timeout_s: float = 120.0, progress: Progress | None = None) -> int:
        """Read up to where the logs ended when this began; the number of records.

        The end is the high-water mark that the first fetch of a partition brings (the embedded broker's answer to a
        direct question is wrong).

        Raises
        ------
        CatchUpTimeout
            With what is still missing.
        """
        deadline = self._clock() + timeout_s
        read = 0
        while True:
            waiting, done, total = self._remaining()
            if progress:
                progress(done, total)
            if not waiting:
                return read
            if self._clock() >= deadline:
                raise CatchUpTimeout(
                    f"tables not read to their ends within {timeout_s:.0f} s ({done} of {total} offsets):"
                    f" {', '.join(f'{topic}-{number}' for topic, number in sorted(waiting))}."
                    " Is the broker slow or a partition without a leader?"
                )
            read += self.poll(0.05)

    def caught_up(self) -> bool:
        """Whether everything has been read up to where the logs ended when they were first looked at. Never blocks."""
        return not self._remaining()[0]

    def _remaining(self) -> tuple[set[Partition], int, int]:
        waiting, done, total = set(), 0, 0
        for partition in self._partitions:
            if partition not in self._ends:
                end = self._consumer.highwater(partition)
                if end is None:
                    waiting.add(partition)
                    continue
                self._ends[partition] = end
            end = self._ends[partition]
            position = self._consumer.position(partition) or 0
            total += end
            done += min(position, end)
            if position < end:
                waiting.add(partition)
        return waiting, done, total

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()


class OpenTables(Protocol):
    """:meth:`TableReader.open` with the broker known: a stage names its handlers, its owner the cluster."""

    def __call__(
        self, handlers: Mapping[str, Handler], numbers: Iterable[int] | None = None, *, since_ms: int | None = None
    ) -> TableReader:
        """A reader of the handlers' topics."""
        ...
