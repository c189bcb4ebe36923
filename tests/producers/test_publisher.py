"""What the publisher promises: everything acknowledged, or it says what was not."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from reading import read

from ops.broker import EmbeddedBroker
from producers.connection import Connection
from producers.errors import PublishFailed
from producers.publisher import Message, Publisher
from producers.topics import Topics


class Future:
    def __init__(self, exception: Exception | None, done: bool = True) -> None:
        self.exception = exception
        self.is_done = done


class FakeProducer:
    """Fails those values that the test names, and once poisoned everything."""

    made: ClassVar[list[FakeProducer]] = []

    def __init__(self, behave: Callable[[bytes], Exception | None], **settings: Any) -> None:
        self.behave = behave
        self.settings = settings
        self.sent: list[bytes] = []
        self.poison: Exception | None = None
        self.closed = False
        FakeProducer.made.append(self)

    def send(self, topic: str, value: bytes, key: bytes, headers: Any, partition: Any) -> Future:
        error = self.poison or self.behave(value)
        if error and not getattr(error, "retriable", False):
            self.poison = error
        if not error:
            self.sent.append(value)
        return Future(error)

    def flush(self, timeout: float) -> None:
        pass

    def close(self, timeout: float) -> None:
        self.closed = True


Fake = Callable[[Callable[[bytes], Exception | None]], Publisher]


@pytest.fixture
def made() -> list[FakeProducer]:
    FakeProducer.made = []
    return FakeProducer.made


@pytest.fixture
def fake() -> Iterator[Fake]:
    """Makes a publisher on fake producers. Something must listen at the address, or none would be made."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Connection(bootstrap=f"127.0.0.1:{server.getsockname()[1]}")
        yield lambda behave: Publisher(connection, make=lambda **s: FakeProducer(behave, **s))


def messages(*values: bytes) -> list[Message]:
    return [Message("t", b"k", value) for value in values]


def test_a_poisoned_producer_is_replaced_and_only_the_bad_message_is_refused(
    made: list[FakeProducer], fake: Fake
) -> None:
    publisher = fake(lambda value: MessageSizeTooLargeError() if value == b"bad" else None)
    with pytest.raises(PublishFailed) as failure:
        publisher.publish(messages(b"1", b"bad", b"2", b"3"))
    assert [message.value for message, _ in failure.value.refused] == [b"bad"]
    assert sorted(value for producer in made for value in producer.sent) == [b"1", b"2", b"3"]
    assert all(producer.closed for producer in made[:-1])
    assert made[-1].poison is None
    publisher.publish(messages(b"4"))
    assert made[-1].sent[-1] == b"4"


def test_a_failure_of_the_moment_may_be_tried_again(made: list[FakeProducer], fake: Fake) -> None:
    errors: list[Exception] = [KafkaTimeoutError("no answer")]
    publisher = fake(lambda value: errors.pop() if errors else None)
    with pytest.raises(PublishFailed) as failure:
        publisher.publish(messages(b"1", b"2"))
    assert failure.value.retriable
    assert failure.value.refused == ()
    publisher.publish(messages(b"1", b"2"))


def test_a_missing_acknowledgement_is_a_failure(made: list[FakeProducer], fake: Fake) -> None:
    publisher = fake(lambda value: None)
    made[0].send = lambda *a: Future(None, done=False)  # type: ignore[method-assign]
    with pytest.raises(PublishFailed, match="no acknowledgement") as failure:
        publisher.publish(messages(b"1"))
    assert failure.value.retriable


def test_a_producer_that_cannot_be_replaced_now_is_replaced_later(made: list[FakeProducer], fake: Fake) -> None:
    errors: list[Exception] = [KafkaTimeoutError("no answer")]
    publisher = fake(lambda value: errors.pop() if errors else None)
    with pytest.raises(PublishFailed):
        publisher.publish(messages(b"1"))
    sender = publisher._sender
    make, sender._make = sender._make, lambda **settings: (_ for _ in ()).throw(KafkaTimeoutError("gone"))
    with pytest.raises(PublishFailed, match="no connection to Kafka") as failure:
        publisher.publish(messages(b"1"))
    assert failure.value.retriable
    sender._make = make
    publisher.publish(messages(b"1"))
    assert made[-1].sent == [b"1"]


def test_the_producer_waits_for_all_replicas_and_is_idempotent(made: list[FakeProducer], fake: Fake) -> None:
    fake(lambda value: None)
    assert made[0].settings["acks"] == "all"
    assert made[0].settings["enable_idempotence"] is True
    assert not set(made[0].settings) - set(KafkaProducer.DEFAULT_CONFIG)


@pytest.mark.broker
def test_a_broker_that_hangs_fails_the_publish_for_the_moment_and_the_next_one_arrives(topics: Topics) -> None:
    with EmbeddedBroker() as broker:
        topics.ensure(broker.connection)
        publisher = Publisher(replace(broker.connection, connect_timeout_s=2), timeout_s=2)  # of a machine that is busy
        publisher.publish([Message(topics.clicks, b"u", b"1")])
        (tansu,) = Path(f"/proc/{broker.pid}/task/{broker.pid}/children").read_text().split()
        os.kill(int(tansu), signal.SIGSTOP)
        while any(") T " not in each.read_text() for each in Path(f"/proc/{tansu}/task").glob("*/stat")):
            pass  # a thread that runs on another core may answer until it is stopped
        try:
            with pytest.raises(PublishFailed) as failure:
                publisher.publish([Message(topics.clicks, b"u", b"2")])
            assert failure.value.retriable
        finally:
            os.kill(int(tansu), signal.SIGCONT)
        publisher.publish([Message(topics.clicks, b"u", b"3")])
        assert {b"1", b"3"} <= {r.value for r in read(broker.connection, topics.clicks)}
        publisher.close()
