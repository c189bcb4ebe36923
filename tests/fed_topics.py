"""Tables that a test feeds by hand, in place of a broker: the boundary at which a stage is tested alone."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from consumers.client import Partition, Record
from consumers.tables import Handler, TableReader
from models.errors import InvalidEvent
from models.ranker import RankingConfig
from models.ranker_learning import RankerLearner
from models.ranker_records import weights_of
from models.records import encode
from producers.publisher import Message


class Topic:
    """The logs of the topics of one test: what a stage publishes is appended, and read again after a restart."""

    def __init__(self) -> None:
        self.logs: dict[str, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
        self._readers: list[FedTables] = []

    def append(self, topic: str, key: str | bytes, value: bytes | None, partition: int = 0, at: int = 0) -> Record:
        """Append one message, and hand it to whoever reads the topic; ``at``: when it was produced, ms."""
        log = self.logs[topic][partition]
        key = key.encode() if isinstance(key, str) else key
        record = Record(topic, partition, len(log), at or 1_000 + len(log), key, value)
        log.append(record)
        for reader in self._readers:
            if reader.numbers is None or partition in reader.numbers:
                reader.waiting.append(record)
        return record

    def publish(self, messages: Iterable[Message]) -> None:
        """Append what a stage published."""
        for message in messages:
            self.append(message.topic, message.key or b"", message.value, message.partition or 0)

    def records(self, topic: str) -> list[Record]:
        """All records of a topic."""
        return list(itertools.chain.from_iterable(self.logs[topic].values()))

    def open(
        self, handlers: Mapping[str, Handler], numbers: Iterable[int] | None = None, *, since_ms: int | None = None
    ) -> TableReader:
        """An OpenTables."""
        reader = FedTables(self, handlers, None if numbers is None else set(numbers), since_ms)
        self._readers.append(reader)
        return reader  # type: ignore[return-value]


def broken(*times: int) -> bytes:
    """The weights that the ranker role publishes after the stream broke at these times, ms."""
    ranker = RankerLearner(RankingConfig().prior)
    ranker.breaks.add(times)
    return encode(weights_of(ranker, 0))


class FedTables:
    """What a stage needs of a TableReader."""

    def __init__(
        self, topics: Topic, handlers: Mapping[str, Handler], numbers: set[int] | None, since_ms: int | None = None
    ) -> None:
        self.topics = topics
        self.handlers = handlers
        self.numbers = numbers
        self.waiting = [
            record for topic in handlers for record in topics.records(topic) if record.timestamp >= (since_ms or 0)
        ]
        self.ends = {(topic, number): len(log) for topic in handlers for number, log in topics.logs[topic].items()}
        self.unusable = 0

    def add(self, partitions: Iterable[Partition], since_ms: int | None = None) -> None:
        for topic, number in partitions:
            assert self.numbers is not None
            self.numbers.add(number)
            self.ends[topic, number] = len(self.topics.logs[topic][number])
            self.waiting += [r for r in self.topics.logs[topic][number] if r.timestamp >= (since_ms or 0)]

    def remove(self, partitions: Iterable[Partition]) -> None:
        assert self.numbers is not None
        self.numbers -= {number for _, number in partitions}
        self.waiting = [record for record in self.waiting if record.partition in self.numbers]

    def catch_up(self, timeout_s: float = 0, progress: object = None) -> int:
        return self.poll()

    def caught_up(self) -> bool:
        return not any(record.offset < self.ends.get((record.topic, record.partition), 0) for record in self.waiting)

    def poll(self, timeout_s: float = 0, max_records: int = 0) -> int:
        at = max_records or len(self.waiting)
        records, self.waiting = self.waiting[:at], self.waiting[at:]
        for record in records:
            if record.topic in self.handlers and (self.numbers is None or record.partition in self.numbers):
                try:
                    self.handlers[record.topic](record)
                except InvalidEvent:
                    self.unusable += 1
        return len(records)

    def close(self) -> None:
        pass


class Ends:
    """What the catalogue asks of its consumer: how far it has read, and how far there is to read."""

    def __init__(self) -> None:
        self.positions: dict[Partition, int] = {}
        self.ends: dict[Partition, int] = {}

    def position(self, partition: Partition) -> int | None:
        return self.positions.get(partition)

    def highwater(self, partition: Partition) -> int | None:
        return self.ends.get(partition)


def by_topic(messages: Sequence[Message], topic: str) -> list[Message]:
    """The messages for one topic."""
    return [message for message in messages if message.topic == topic]


def json(value: object) -> bytes:
    """JSON bytes."""
    return msgspec.json.encode(value)


TITLES = [
    "Red running shoes",
    "Trail running shoes",
    "Wool hiking socks",
    "Rain jacket",
    "Tent for two",
    "Sleeping bag",
    "Camping stove",
    "Espresso machine",
    "Coffee beans, dark roast",
    "Milk frother",
    "Tea kettle",
    "Porcelain cup set",
    "Bread knife",
    "Cast iron pan",
    "Chess board",
    "Jigsaw puzzle, 1000 pieces",
    "Card game for families",
    "Wooden train",
    "Building blocks",
    "Plush bear",
    "Garden hose",
    "Rose seeds",
    "Compost bin",
    "Pruning shears",
    "Lawn mower",
    "Watering can",
    "Guitar strings",
    "Violin bow",
    "Piano sheet music",
    "Drum sticks",
    "Metronome",
    "Tuning fork",
    "Novel about the sea",
    "Cookbook of soups",
    "Atlas of the world",
    "Book of poems",
]


class Clock:
    """Monotonic and civil time that moves when a test says so."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        """Seconds since the epoch."""
        return 1_700_000_000.0 + self.now
