"""What the publisher promises on every broker: everything acknowledged, or it says what was not."""

from __future__ import annotations

import random
import time

import pytest
from reading import read

from consumers.client import Record
from consumers.header_names import RawName
from producers.connection import Connection
from producers.errors import PublishFailed
from producers.publisher import Message, Publisher
from producers.topics import LAYERS_BYTES, MESSAGE_BYTES, Topics


def test_messages_arrive_as_they_were(broker: Connection, topics: Topics, publisher: Publisher) -> None:
    headers = (("traceparent", b"00-ab"), ("empty", b""))
    publisher.publish(
        [
            Message(topics.profiles, b"u1", b"value", 1, headers),
            Message(topics.profiles, b"u1", None, 1),
            Message(topics.clicks, None, b"", 0),
        ]
    )
    profiles = [(r.partition, r.offset, r.key, r.value, r.headers) for r in read(broker, topics.profiles)]
    assert profiles == [(1, 0, b"u1", b"value", headers), (1, 1, b"u1", None, ())]
    assert [(r.key, r.value) for r in read(broker, topics.clicks)] == [(None, b"")]


def test_a_header_name_that_is_not_utf8_arrives_and_stops_no_reader(
    broker: Connection, topics: Topics, publisher: Publisher
) -> None:
    odd = RawName(b"\xff\xfename".decode("utf-8", "surrogateescape"))
    publisher.publish(
        Message(topics.clicks, b"k", b"%d" % n, 0, ((odd if n % 3 == 1 else "plain", b"\xff"), ("é", b"")))
        for n in range(10)
    )
    records = read(broker, topics.clicks)
    assert [record.value for record in records] == [b"%d" % n for n in range(10)]
    names = [record.headers[0][0] for record in records]
    assert [name.encode() for name in names[:3]] == [b"plain", b"\xff\xfename", b"plain"]
    publisher.publish([Message(topics.clicks, b"k", b"again", 1, ((names[1], b""),))])
    assert read(broker, topics.clicks)[-1].headers[0][0].encode() == b"\xff\xfename"


def test_messages_of_a_key_keep_their_order_and_their_partition(
    broker: Connection, topics: Topics, publisher: Publisher
) -> None:
    publisher.publish(Message(topics.clicks, b"u%d" % (n % 7), b"%d" % n) for n in range(12_000))
    by_key: dict[bytes | None, list[Record]] = {}
    for record in sorted(read(broker, topics.clicks), key=lambda r: r.offset):
        by_key.setdefault(record.key, []).append(record)
    assert sum(map(len, by_key.values())) == 12_000
    for records in by_key.values():
        assert len({r.partition for r in records}) == 1
        numbers = [int(r.value or b"") for r in records]
        assert numbers == sorted(numbers)


def test_a_message_too_long_is_refused_by_name_before_anything_is_sent(
    broker: Connection, topics: Topics, publisher: Publisher
) -> None:
    long = Message(topics.profiles, b"u2", bytes(MESSAGE_BYTES + 1))
    with pytest.raises(PublishFailed, match="more than the") as failure:
        publisher.publish([Message(topics.profiles, b"u1", b"fine"), long])
    assert [message for message, _ in failure.value.refused] == [long]
    assert not failure.value.retriable
    assert read(broker, topics.profiles) == []
    publisher.publish([Message(topics.profiles, b"u1", b"fine")])  # and the publisher is as good as new
    assert len(read(broker, topics.profiles)) == 1


def test_the_largest_layers_fit(broker: Connection, topics: Topics, publisher: Publisher) -> None:
    value = random.Random(0).randbytes(LAYERS_BYTES - 1_000)  # as good as incompressible
    publisher.publish([Message(topics.layers, b"tree", value)])
    assert [r.value for r in read(broker, topics.layers)] == [value]


@pytest.mark.kafka
def test_a_message_that_the_broker_refuses_is_told_and_the_others_are_published(
    kafka: Connection, topics: Topics
) -> None:
    """One refused batch leaves an idempotent producer failing for ever: it is replaced."""
    topics.ensure(kafka)
    loose = Publisher(kafka, limits={topics.profiles: 4_000_000})  # more than the broker takes
    try:
        long = Message(topics.profiles, b"u", random.Random(0).randbytes(2_000_000), 0)
        messages = [Message(topics.profiles, b"u%d" % n, b"x" * 100, 0) for n in range(20)]
        with pytest.raises(PublishFailed) as failure:
            loose.publish([*messages[:10], long, *messages[10:]])
        assert [message for message, _ in failure.value.refused] == [long]
        loose.publish([Message(topics.profiles, b"after", b"x", 0)])
        assert {r.key for r in read(kafka, topics.profiles)} == {m.key for m in messages} | {b"after"}
    finally:
        loose.close()


def test_a_topic_that_is_not_there_fails_in_time_and_for_the_moment(broker: Connection, topics: Topics) -> None:
    """The client alone waits a minute for it."""
    publisher = Publisher(broker, timeout_s=1)
    began = time.monotonic()
    failures: list[PublishFailed] = []
    try:
        publisher.publish([Message(f"{topics.prefix}nowhere", b"k", b"v")])
    except PublishFailed as failure:
        failures.append(failure)
    if not failures:
        publisher.close()
        pytest.skip("this broker makes a topic of whatever is written to")
    assert failures[0].retriable
    assert time.monotonic() - began < 20
    topics.ensure(broker)
    publisher.publish([Message(topics.profiles, b"k", b"v")])
    assert len(read(broker, topics.profiles)) == 1
    publisher.close()


def test_a_record_is_stamped_with_its_production(broker: Connection, topics: Topics, publisher: Publisher) -> None:
    """A click's own time may lie so far ahead that the broker would refuse it, and all that follows."""
    before = int(time.time() * 1000) - 1_000
    publisher.publish([Message(topics.clicks, b"k", b'{"ts": 99999999999999}')])
    assert before <= read(broker, topics.clicks)[0].timestamp <= time.time() * 1000 + 1_000
