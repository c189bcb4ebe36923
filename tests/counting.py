"""The smallest role with state: it counts each user's clicks, as the updater keeps profiles. Also a process to kill.

``python counting.py BOOTSTRAP PREFIX GROUP MODE [KILL_AFTER]`` runs it, MODE being exactly-once or at-least-once; after
KILL_AFTER works it kills itself with -9, between the acknowledgements and the commit.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from prometheus_client import CollectorRegistry

from consumers.client import GroupConfig, Partition, Record
from consumers.delivery import AtLeastOnce, Delivery, ExactlyOnce
from consumers.kafka_client import KafkaConsumerClient
from consumers.loop import Loop
from consumers.loop_config import LoopConfig
from consumers.metrics import Metrics
from consumers.stage import Work
from consumers.tables import TableReader
from producers import failpoints
from producers.connection import Connection
from producers.publisher import Message, Publisher
from producers.topics import Topics
from producers.transactions import TransactionalPublisher


def group_config(name: str) -> GroupConfig:
    """A short session: a join on the embedded broker takes half of it, and a killed member is missed after it."""
    return GroupConfig(group=name, session_timeout_s=2, heartbeat_s=0.4)


class Counting:
    """Profiles are ``{"applied": offset, "count": clicks}``; lists carry the offset that they follow from."""

    def __init__(self, connection: Connection, topics: Topics, room: int = 1_000, batch: int = 50) -> None:
        self.topics = topics
        self.room = room
        self.batch = batch
        self.profiles: dict[Partition, dict[bytes, dict[str, int]]] = {}
        self.queue: list[Record] = []
        self.threads: set[int] = set()
        self.skipped = 0
        self.table = TableReader(KafkaConsumerClient(connection, role="restore"), {topics.profiles: self._restore})

    def _restore(self, record: Record) -> None:
        partition = (self.topics.clicks, record.partition)
        if record.key is not None and record.value is not None:
            self.profiles[partition][record.key] = json.loads(record.value)

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        self.threads.add(threading.get_ident())
        stored = [(self.topics.profiles, number) for _, number in partitions]
        for partition in partitions:
            self.profiles[partition] = {}
        self.table.add(stored)
        self.table.catch_up(30)
        self.table.remove(stored)
        return {
            partition: 1 + max(profile["applied"] for profile in profiles.values())
            for partition in partitions
            if (profiles := self.profiles[partition])
        }

    def revoked(self, partitions: Iterable[Partition]) -> None:
        self.threads.add(threading.get_ident())
        gone = set(partitions)
        self.queue = [r for r in self.queue if (r.topic, r.partition) not in gone]
        for partition in gone:
            self.profiles.pop(partition, None)

    def submit(self, records: Sequence[Record]) -> int:
        taken = records[: max(0, self.room - len(self.queue))]
        self.queue += taken
        return len(taken)

    def poll(self, now: float) -> Work | None:
        done, self.queue = self.queue[: self.batch], self.queue[self.batch :]
        if not done:
            return None
        messages, offsets = [], {}
        for r in done:
            offsets[r.topic, r.partition] = r.offset + 1
            assert r.key is not None
            profile = self.profiles[r.topic, r.partition].setdefault(r.key, {"applied": -1, "count": 0})
            if r.offset <= profile["applied"]:
                self.skipped += 1
                continue
            profile.update(applied=r.offset, count=profile["count"] + 1)
            value = json.dumps(profile).encode()
            messages.append(Message(self.topics.profiles, r.key, value, r.partition))
            messages.append(Message(self.topics.recommendations, r.key, value, r.partition))
        return Work(messages, offsets)

    def published(self, work: Work) -> None:
        pass

    def refused(self, work: Work, refused: Sequence[tuple[Message, str]]) -> Work | None:
        return None

    def idle(self) -> bool:
        return not self.queue

    def close(self) -> None:
        self.table.close()


def kill_at(point: str, times: int) -> None:
    """Die like a machine that loses power when this point is reached for the given time."""
    left = times

    def hook(name: str) -> None:
        nonlocal left
        left -= name == point
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.arm(hook)


class Worker:
    """The role on a loop of its own."""

    def __init__(
        self,
        connection: Connection,
        topics: Topics,
        group: str,
        kill_after: int = 0,
        config: LoopConfig | None = None,
        exactly_once: bool = False,
    ) -> None:
        self.publisher: Publisher | TransactionalPublisher
        self.consumer = KafkaConsumerClient(connection, group_config(group))
        self.consumer.subscribe([topics.clicks])
        self.stage = Counting(connection, topics)
        delivery: Delivery
        if exactly_once:
            self.publisher = TransactionalPublisher(connection, timeout_s=5)
            delivery = ExactlyOnce(self.publisher, self.consumer, group)
        else:
            self.publisher = Publisher(connection)
            delivery = AtLeastOnce(self.publisher, self.consumer)
        if kill_after:
            kill_at("before-commit", kill_after)
        self.metrics = Metrics(CollectorRegistry())
        self.loop = Loop("counting", self.consumer, self.stage, delivery, self.metrics, config or LoopConfig())
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.run, name="worker", daemon=True)

    def run(self) -> None:
        try:
            self.loop.run(self.stop)
        except BaseException as error:
            self.error = error
        finally:
            self.publisher.close()

    def start(self) -> Worker:
        self.thread.start()
        return self

    def join(self) -> None:
        self.stop.set()
        self.thread.join(60)
        if self.error:
            raise self.error


def main() -> None:
    bootstrap, prefix, group, mode, *kill = sys.argv[1:]
    topics = Topics(prefix=prefix, partitions=2, item_partitions=2)
    kill_after = int(kill[0]) if kill else 0
    worker = Worker(Connection(bootstrap=bootstrap), topics, group, kill_after, exactly_once=mode == "exactly-once")
    signal.signal(signal.SIGTERM, lambda *_: worker.stop.set())
    worker.run()
    if worker.error:
        raise worker.error


if __name__ == "__main__":
    main()
