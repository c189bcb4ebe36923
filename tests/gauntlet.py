"""The hostile stream through a real worker: what goes in, what must come out, and how much memory that takes.

``python tests/gauntlet.py [MESSAGES]`` runs it on Apache Kafka where KAFKA_HOME names a distribution, on the embedded
broker otherwise; `make hostile` is the same.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
from apache_kafka import ApacheKafka, home
from bookshop import BOOKS, Bookshop, tiny_model, wait_for
from hostile import Sent, Stream
from kafka import KafkaConsumer, TopicPartition
from kafka.record.default_records import DefaultRecordBatchBuilder
from mortal_worker import Worker

from consumers.client import Record
from consumers.letters import read_letter
from consumers.tables import TableReader
from models.records import ProfileRecord, Recommendation, decode
from ops.broker import EmbeddedBroker
from producers.publisher import Message
from producers.topics import Topics

GROWTH_MB = 120
"""What the worker may grow in the second half of the messages."""
PATIENCE = 300

SETTINGS = {
    "list_length": 3,  # lists are not what is tried here, and a broker in memory keeps them all
    # four of ten messages are bad, and may be so in a row: the limits would stop the worker, as they should
    "dead_letter_share": 1.0,
    "dead_letters_in_a_row": 1_000_000_000,
    "undescribed_items": 5_000,  # fewer than the stream clicks, so that the bound is reached
    "threads": 1,
    "max_tokens": 64,
}

NULL = bytes(bytearray(b"null"))
"""Told apart by what it is, not by what it holds: it is written as a header without a value."""

_append = DefaultRecordBatchBuilder.append


def _with_nulls(builder: Any, offset: int, at: int, key: Any, value: Any, headers: list[Any], **more: Any) -> Any:
    """kafka-python writes such headers once they have passed its door."""
    return _append(builder, offset, at, key, value, [(n, None if v is NULL else v) for n, v in headers], **more)


DefaultRecordBatchBuilder.append = _with_nulls

_Where = tuple[str, int, int]
"""Topic, partition, offset."""


class Gauntlet:
    """Sends the stream, follows the dead letters, and remembers who must have which list in the end.

    Parameters
    ----------
    shop
        Its topics must be new, with the books on offer and nothing else: offsets are counted, not asked for.

    Attributes
    ----------
    sent : Counter[str]
        Messages by what they try.
    letters : int
        Dead letters that came and were as they should be.
    """

    def __init__(self, shop: Bookshop, stream: Stream) -> None:
        self.shop = shop
        self.sent: Counter[str] = Counter()
        self.letters = 0
        self._stream = iter(stream)
        self._next: Counter[tuple[str, int]] = Counter(
            (record.topic, record.partition) for record in shop.records(shop.topics.items)
        )
        self._due: dict[_Where, tuple[bytes, str, str]] = {}
        self._clicks: dict[tuple[int, str], tuple[int, int]] = {}  # partition, user → clicks, offset of the last
        self._dead = TableReader.open(shop.connection, {shop.topics.dead_letters: self._letter})
        self._group = KafkaConsumer(**shop.connection.client("test"), group_id=shop.given["group"])

    def send(self, number: int) -> None:
        """Send so many messages more."""
        self.shop.publisher.publish(map(self._message, islice(self._stream, number)))

    def _message(self, sent: Sent) -> Message:
        topics = self.shop.topics
        topic, partitions = (
            (topics.clicks, topics.partitions) if sent.topic == "clicks" else (topics.items, topics.item_partitions)
        )
        partition = hash_of((sent.user or "").encode(), sent.key)[0] % partitions
        offset = self._next[topic, partition]
        self._next[topic, partition] += 1
        self.sent[sent.kind] += 1
        if sent.reason is not None:
            digest = hash_of(sent.key, sent.value, *flat(sent.headers))
            self._due[topic, partition, offset] = (digest, sent.reason, sent.kind)
        elif sent.user is not None:
            clicks, _ = self._clicks.get((partition, sent.user), (0, 0))
            self._clicks[partition, sent.user] = (clicks + 1, offset)
        headers = tuple((name, NULL if content is None else content) for name, content in sent.headers)
        return Message(topic, sent.key, sent.value, partition, headers)

    def _letter(self, record: Record) -> None:
        letter = read_letter(record)
        assert letter is not None
        where = (letter.topic, letter.partition, letter.original_offset)
        assert where in self._due, f"{where} is not bad, or was diverted twice: {letter.reason}"
        digest, expected, kind = self._due.pop(where)
        assert hash_of(letter.key, letter.value, *flat(letter.headers)) == digest, f"{kind}: not byte for byte"
        assert expected in letter.reason, f"{kind}: diverted because of {letter.reason!r}, not {expected!r}"
        self.letters += 1

    def done(self) -> bool:
        """Whether every offset is committed and every dead letter has come."""
        while self._dead.poll():
            pass
        return not self._due and all(
            (self._group.committed(TopicPartition(topic, partition)) or 0) == end
            for (topic, partition), end in self._next.items()
            if topic == self.shop.topics.clicks
        )

    @property
    def missing(self) -> str:
        """What is not done yet."""
        kinds = Counter(kind for *_, kind in self._due.values())
        return f"{len(self._due)} dead letters are missing: {kinds.most_common(5)}" if kinds else "offsets"

    def check(self) -> None:
        """Every click that can be used is in a list of its user and in his profile, once."""
        lists: dict[tuple[int, str], int] = {}
        profiles: dict[tuple[int, str], int] = {}

        def a_list(record: Record) -> None:
            made = msgspec.json.decode(record.value or b"", type=Recommendation)
            user = (record.partition, made.user_id)
            lists[user] = max(lists.get(user, -1), made.source.offset)

        def profile(record: Record) -> None:
            user = (record.partition, (record.key or b"").decode())
            profiles[user] = decode(record.value, ProfileRecord).clicks

        read(self.shop, {self.shop.topics.recommendations: a_list, self.shop.topics.profiles: profile})
        assert profiles == {user: clicks for user, (clicks, _) in self._clicks.items()}
        assert lists.keys() == self._clicks.keys()
        assert not {user for user, (_, last) in self._clicks.items() if lists[user] < last}

    @property
    def users(self) -> int:
        """Users who clicked."""
        return len(self._clicks)

    def close(self) -> None:
        self._dead.close()
        self._group.close()


def flat(headers: Iterable[tuple[str, bytes | None]]) -> Iterable[bytes | None]:
    for name, content in headers:
        yield name.encode()
        yield content


def hash_of(*parts: bytes | None) -> bytes:
    """Of bytes with their boundaries; a null is not an empty part."""
    made = hashlib.blake2b(digest_size=12)
    for part in parts:
        made.update(b"n" if part is None else b"%d:" % len(part))
        made.update(part or b"")
    return made.digest()


def read(shop: Bookshop, handlers: dict[str, Callable[[Record], None]]) -> None:
    reader = TableReader.open(shop.connection, handlers)
    try:
        reader.catch_up(600)
    finally:
        reader.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("messages", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--segments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.getLogger("kafka").setLevel(logging.ERROR)
    broker = ApacheKafka() if home() else EmbeddedBroker()
    with tempfile.TemporaryDirectory() as folder:
        try:
            broker.start()
            print(f"{given.messages:,} messages on {type(broker).__name__}, seed {given.seed}", flush=True)
            model = tiny_model(Path(folder), 32)
            topics = Topics(partitions=2, item_partitions=2)
            delivery = "exactly-once" if home() else "at-least-once"
            shop = Bookshop(broker.connection, topics, model=model, delivery=delivery, **SETTINGS)
            shop.stock()
            run(shop, given.messages, given.segments, given.seed, Path(folder) / "worker.log")
            shop.publisher.close()
        finally:
            broker.stop()


def run(shop: Bookshop, messages: int, segments: int, seed: int, log: Path) -> Gauntlet:
    """All roles in a process of their own, so that its memory is theirs alone."""
    worker = Worker(shop.connection.bootstrap, shop.given, log, ("updater", "catalogue", "neighbours", "layers"))
    gauntlet = Gauntlet(shop, Stream(seed))
    try:
        worker.await_said("running ")
        wait_for(lambda: len(shop.records(shop.topics.vectors)) >= len(BOOKS), "the catalogue")
        resident: list[float] = []
        print(" messages  dead letters   users  messages/s  resident, MB")
        for _ in range(segments):
            began = time.monotonic()
            gauntlet.send(messages // segments)
            deadline = time.monotonic() + PATIENCE
            while not gauntlet.done():
                assert worker.alive, worker.tail()
                assert time.monotonic() < deadline, f"{gauntlet.missing}; {worker.tail()}"
                time.sleep(0.05)
            resident.append(worker.resident_mb())
            rate = messages // segments / (time.monotonic() - began)
            print(
                f"{sum(gauntlet.sent.values()):9,} {gauntlet.letters:13,} {gauntlet.users:7,} {rate:11,.0f}"
                f" {resident[-1]:13.0f}",
                flush=True,
            )
        worker.stop()
        gauntlet.check()
        # the first messages fill caches and what the allocator keeps; from then on, all that may grow is users
        settled = resident[len(resident) // 2 :]
        grown = max(settled) - settled[0]
        assert grown < GROWTH_MB, f"{grown:.0f} MB more in the second half"
        return gauntlet
    finally:
        gauntlet.close()
        if worker.alive:
            worker.kill()


if __name__ == "__main__":
    main()
