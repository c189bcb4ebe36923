"""The consumer on kafka-python.

Rebalances are handed out on the loop's thread; a newly assigned partition stays paused until it is started.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from consumers import header_names
from consumers.client import GroupConfig, Partition, Rebalance, Record, rolled_back
from consumers.offsets import ANSWER_S, committed_offset, out_of_range
from consumers.rebalances import Rebalances
from producers.connection import Connection
from producers.errors import (
    BrokerError,
    CommitFailed,
    CommitRefused,
    LogRolledBack,
    TopicMissing,
    TransactionAborted,
)

log = logging.getLogger(__name__)
header_names.accept_any()

TABLE_WAIT_S: Final = 0.1
"""Longest wait of a fetch in assign mode, where nothing else is said."""
_MOVED_ON: Final = (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)


class KafkaConsumerClient:
    """A :class:`Consumer` on kafka-python, either a member of a group or with partitions of its own choice.

    Parameters
    ----------
    connection
        The cluster.
    group
        Group mode, together with :meth:`subscribe`. None = assign mode, with :meth:`assign`; nothing is committed.
    role
        Tells this client apart in logs and quotas.
    isolation
        ``read_committed`` hides what belongs to aborted or open transactions.
    fetch_wait_s
        Longest wait of a fetch for data in assign mode; a group says its own.
    """

    def __init__(
        self,
        connection: Connection,
        group: GroupConfig | None = None,
        *,
        role: str = "consumer",
        isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
        fetch_wait_s: float = TABLE_WAIT_S,
    ) -> None:
        self._connection = connection
        self._bootstrap = connection.bootstrap
        self._group = group
        self._rebalances = Rebalances()
        self._committed: dict[Partition, int] = {}
        settings: dict[str, Any] = connection.client(role) | {
            "enable_auto_commit": False,
            "isolation_level": isolation,
            # Tables may begin again at any time; the input of a group must never jump on its own.
            "auto_offset_reset": "none" if group else "earliest",
            "fetch_max_wait_ms": int((group.fetch_wait_s if group else fetch_wait_s) * 1000),
            # also how long the client sleeps in a poll that finds nothing in flight
            "retry_backoff_ms": 50,
            "max_partition_fetch_bytes": 4 * 1024 * 1024,
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
        }
        if group:
            assignor = CooperativeStickyAssignor if group.assignment == "cooperative-sticky" else RangePartitionAssignor
            settings |= {
                "group_id": group.group,
                "group_instance_id": group.instance,
                "session_timeout_ms": int(group.session_timeout_s * 1000),
                "heartbeat_interval_ms": int(group.heartbeat_s * 1000),
                "max_poll_interval_ms": int(group.max_poll_interval_s * 1000),
                "partition_assignment_strategy": [assignor],
            }
        self._consumer = connection.open(lambda: KafkaConsumer(**settings))

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group for these topics. Partitions arrive through :meth:`rebalances` once :meth:`poll` runs.

        Raises
        ------
        TopicMissing
            If there is none of that name: the group would wait for it in silence.
        """
        if self._group is None:
            raise BrokerError("this consumer belongs to no group: assign partitions to it")
        for topic in topics:
            self.partitions(topic)
        self._consumer.subscribe(list(topics), listener=self._rebalances.listener(self._pause))

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Read exactly these partitions from now on (assign mode). Those that stay keep their position."""
        wanted = set(partitions)
        gone, new = self._rebalances.assigned - wanted, wanted - self._rebalances.assigned
        self._consumer.assign([TopicPartition(*partition) for partition in sorted(wanted)])
        self._pause(new)
        if gone:
            self._rebalances.note("revoked", gone)
        if new:
            self._rebalances.note("assigned", new)

    def partitions(self, topic: str) -> list[Partition]:
        """All partitions of a topic.

        Raises
        ------
        TopicMissing
            If there is none of that name.
        """
        numbers = self._consumer.partitions_for_topic(topic)
        if not numbers:
            raise TopicMissing(f"topic {topic} does not exist at {self._bootstrap}; `strata topics create` makes it")
        return [(topic, number) for number in sorted(numbers)]

    def poll(self, timeout_s: float, max_records: int) -> list[Record]:
        """See :class:`Consumer`.

        Raises
        ------
        LogRolledBack, OffsetsExpired
            If a partition does not hold the offset to read next.
        BrokerError
            If reading is not allowed, a record is corrupt, or another process took this one's place.
        """
        try:
            batches = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        except NoOffsetForPartitionError:
            return []  # newly assigned, nothing committed yet: start() decides where to begin
        except OffsetOutOfRangeError as error:
            raise out_of_range(
                self._consumer, error.args[0] if error.args else {}, self._group.group if self._group else "…"
            ) from error
        except LogTruncationError as error:
            raise LogRolledBack(rolled_back("the position", dict.fromkeys(error.divergent_offsets))) from error
        except FencedInstanceIdError as error:
            raise BrokerError(
                f"another process has joined the group as {self._group.instance if self._group else None}: instance"
                " names (static membership) must differ"
            ) from error
        except KafkaError as error:
            if not error.retriable:
                raise BrokerError(f"reading from Kafka at {self._bootstrap} failed: {error}") from error
            log.warning(
                "reading from Kafka at %(bootstrap)s failed for the moment: %(error)s",
                {"bootstrap": self._bootstrap, "error": error},
            )
            return []
        return [
            Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
            for batch in batches.values()
            for r in batch
        ]

    def rebalances(self) -> list[Rebalance]:
        """See :class:`Consumer`."""
        return self._rebalances.take()

    def start(self, partition: Partition, contained: int | None = None) -> int | None:
        """See :class:`Consumer`. A partition that has been taken away in the meantime is left alone."""
        where = TopicPartition(*partition)
        try:
            offset = contained if self._group is None else self._where_to_begin(where, contained)
            if offset is None:
                self._consumer.seek_to_beginning(where)
            else:
                # Always seek: after a rebalance the client goes on where it had fetched, not where work was committed.
                self._consumer.seek(where, offset)
            self._consumer.resume(where)
        except (ValueError, KeyError, AssertionError):
            log.info(
                "%(topic)s-%(partition)d was taken away before it was started",
                {"topic": partition[0], "partition": partition[1]},
            )
            return contained
        return offset

    def _where_to_begin(self, where: Any, contained: int | None) -> int | None:
        committed = committed_offset(self._consumer, where, self._bootstrap)
        self._committed.pop((where.topic, where.partition), None)
        if committed is not None:
            self._committed[where.topic, where.partition] = committed
            return committed
        if contained is not None:
            log.warning(
                "the group's offset for %(topic)s-%(partition)d is gone, but there is state of it: reading from the"
                " beginning; what has been applied is skipped",
                {"topic": where.topic, "partition": where.partition},
            )
            return None
        latest = self._group is not None and self._group.first_start == "latest"
        return self._log_end((where.topic, where.partition)) if latest else None

    def pause(self, partitions: Iterable[Partition]) -> None:
        """See :class:`Consumer`."""
        self._pause(self._rebalances.assigned.intersection(partitions))

    def resume(self, partitions: Iterable[Partition]) -> None:
        """See :class:`Consumer`."""
        self._consumer.resume(*(TopicPartition(*p) for p in self._rebalances.assigned.intersection(partitions)))

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """See :class:`Consumer`.

        Raises
        ------
        CommitRefused
            The group moved on.
        CommitFailed
            The broker did not answer in time; the commit may be tried again.
        """
        if not offsets:
            return
        wanted = {TopicPartition(*p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
        try:
            self._consumer.commit(wanted, timeout_ms=10_000)
        except _MOVED_ON as error:
            raise CommitRefused(f"the group moved on before the commit ({type(error).__name__})") from error
        except KafkaError as error:
            raise CommitFailed(f"offsets not committed at {self._bootstrap}: {type(error).__name__}") from error

    def position(self, partition: Partition) -> int | None:
        """See :class:`Consumer`."""
        try:
            offset: int | None = self._consumer.position(TopicPartition(*partition), timeout_ms=0)
        except (KafkaError, AssertionError, KeyError):
            return None  # not assigned any more, or not yet placed
        return offset

    def highwater(self, partition: Partition) -> int | None:
        """See :class:`Consumer`."""
        try:
            offset: int | None = self._consumer.highwater(TopicPartition(*partition))
        except (KafkaError, AssertionError, KeyError):
            return None
        return offset

    def since(self, partitions: Iterable[Partition], moment_ms: int) -> dict[Partition, int]:
        """The first offset of each partition that was produced at this moment or later; its end where there is none.

        The embedded broker says the beginning then: a reader must be right with more than it asked for.

        Raises
        ------
        BrokerError
            If the broker does not tell.
        """
        wanted = [TopicPartition(*partition) for partition in partitions]
        try:
            # the ends first: what comes between the two questions must not be missed
            ends = self._consumer.end_offsets(wanted, timeout_ms=int(ANSWER_S * 1000))
            found = self._consumer.offsets_for_times(
                dict.fromkeys(wanted, max(0, moment_ms)), timeout_ms=int(ANSWER_S * 1000)
            )
        except KafkaError as error:
            raise BrokerError(
                f"Kafka at {self._bootstrap} did not tell where a moment lies in its logs: {type(error).__name__}"
            ) from error
        return {(p.topic, p.partition): ends[p] if at is None else at.offset for p, at in found.items()}

    @property
    def joined(self) -> bool:
        """See :class:`Consumer`."""
        return self._group is None or self._consumer.group_metadata().state == "<stable>"

    def committed_at_start(self, partition: Partition) -> int | None:
        """The group's offset when the partition was last started, None where there was none."""
        return self._committed.get(partition)

    def membership(self) -> Any:
        """kafka-python's snapshot of the membership, for ``send_offsets_to_transaction`` (KIP-447).

        It is the newest generation, and the loop may not have heard yet which partitions that took away. Whatever was
        taken away is queued before another member can have it, so with nothing queued the generation covers them all.

        Raises
        ------
        TransactionAborted
            The loop has to hear of a rebalance first.
        """
        membership = self._consumer.group_metadata()
        if self._rebalances.waiting:
            raise TransactionAborted("the group has moved on")
        return membership

    def close(self) -> None:
        """See :class:`Consumer`."""
        self._consumer.close(autocommit=False, timeout_ms=5_000)

    def _pause(self, partitions: Iterable[Partition]) -> None:
        self._consumer.pause(*(TopicPartition(*partition) for partition in partitions))

    def _log_end(self, partition: Partition) -> int:
        """The end of a partition by a fetch: the embedded broker's own answer to that question is wrong."""
        reader = KafkaConsumerClient(self._connection, role="end")
        try:
            reader.assign([partition])
            reader.start(partition)
            deadline = time.monotonic() + ANSWER_S
            while (end := reader.highwater(partition)) is None:
                if time.monotonic() > deadline:
                    raise BrokerError(f"{partition[0]}-{partition[1]} did not tell its end within {ANSWER_S:.0f} s")
                reader.poll(0.1, 1)
            return end
        finally:
            reader.close()
