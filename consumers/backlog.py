"""Backpressure: what was polled and the stage has no room for yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from consumers.client import Consumer, Partition, Record
from consumers.metrics import Metrics
from consumers.stage import Stage


class Backlog:
    """Records in order. While there are any nothing more is fetched, and polling goes on."""

    def __init__(self, role: str, consumer: Consumer, stage: Stage, metrics: Metrics) -> None:
        self._role = role
        self._consumer = consumer
        self._stage = stage
        self._metrics = metrics
        self._held: deque[Record] = deque()
        self._paused: frozenset[Partition] = frozenset()

    def __len__(self) -> int:
        return len(self._held)

    def put(self, record: Record) -> None:
        """Hold a record until the stage takes it."""
        self._held.append(record)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These went: their records belong to the next owner."""
        gone = frozenset(partitions)
        self._held = deque(record for record in self._held if (record.topic, record.partition) not in gone)

    def submit(self, owned: frozenset[Partition]) -> None:
        """Hand on what the stage takes; pause all partitions for what it does not, resume once it has everything."""
        if self._held:
            for _ in range(self._stage.submit(list(self._held))):
                self._held.popleft()
        if self._held:
            if self._paused != owned:
                self._metrics.pauses.labels(self._role).inc()
                self._consumer.pause(owned)
                self._paused = owned
        elif self._paused:
            self._consumer.resume(self._paused & owned)
            self._paused = frozenset()
