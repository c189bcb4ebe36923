"""What is known of the logs' ends: the rollback guard, and how far reading is behind."""

from __future__ import annotations

from collections.abc import Iterable

from consumers.client import Consumer, Partition, Record, rolled_back
from consumers.metrics import Metrics
from producers.errors import LogRolledBack


class LogWatch:
    """Compares what was read and applied with the ends of the logs. Never blocks."""

    def __init__(self, role: str, consumer: Consumer, metrics: Metrics) -> None:
        self._role = role
        self._consumer = consumer
        self._metrics = metrics
        self._unchecked: dict[Partition, int] = {}
        self._newest: dict[Partition, int] = {}

    def expect(self, partition: Partition, offset: int) -> None:
        """The partition is started: its log must reach this far."""
        self._unchecked[partition] = offset

    def saw(self, record: Record) -> None:
        """A record was read."""
        self._newest[record.topic, record.partition] = record.timestamp

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These went."""
        for partition in partitions:
            self._unchecked.pop(partition, None)
            self._newest.pop(partition, None)
            self._metrics.forget_lag(self._role, partition)

    def guard(self) -> None:
        """No record is to be used before its log is known to reach what is already applied.

        Raises
        ------
        LogRolledBack
            A log ends before that.
        """
        for partition, expected in list(self._unchecked.items()):
            end = self._consumer.highwater(partition)
            if end is None:
                continue
            if expected > end:
                raise LogRolledBack(rolled_back("already applied up to", {partition: expected}, {partition: end}))
            del self._unchecked[partition]

    def report(self, partitions: Iterable[Partition]) -> None:
        """Measure how far behind reading is.

        Raises
        ------
        LogRolledBack
            A log has become shorter than what was read of it.
        """
        for partition in partitions:
            position, end = self._consumer.position(partition), self._consumer.highwater(partition)
            if position is None or end is None:
                continue
            if position > end:
                raise LogRolledBack(rolled_back("the next offset is", {partition: position}, {partition: end}))
            self._metrics.lag(self._role, partition, end - position, self._newest.get(partition))
