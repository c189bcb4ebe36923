"""The producer underneath: it sends, looks at every acknowledgement, and is replaced once it has been poisoned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from producers import failpoints
from producers.connection import Connection
from producers.errors import BrokerUnavailable, PublishFailed
from producers.topics import MESSAGE_BYTES

log = logging.getLogger(__name__)

Headers = tuple[tuple[str, bytes], ...]

WINDOW: Final = 5_000
"""Messages in flight at once: kafka-python has no bound on the memory of what is not yet acknowledged."""
_OVERHEAD: Final = 128
"""Bytes that a batch of one message adds to it, rounded up."""


class Message(NamedTuple):
    """A message to be written. A None value is a tombstone: it deletes the key from a compacted topic.

    There is no timestamp: a record carries the time of its production, because a click's own time may lie so far
    ahead that the broker refuses it (and with it everything that follows on the same producer).
    """

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    """None: by hash of the key, as every Kafka client does it."""
    headers: Headers = ()


Failure = tuple[Message, Exception]


class Sender:
    """One of kafka-python's producers at a time.

    An idempotent producer that had one batch refused fails every later one with the same error, so whoever sees such
    an error discards it, and the next use opens a new one. ``flush()`` does not tell of failures, so every future is
    looked at.

    Parameters
    ----------
    connection
        The cluster.
    limits
        Longest message in bytes by topic (key, value and headers); elsewhere :data:`~producers.topics.MESSAGE_BYTES`.
    linger_ms
        How long a partition's batch may wait for company.
    timeout_s
        How long acknowledgements are waited for, the client's own retries included.
    make
        Makes the producer from keyword arguments: the seam for tests.
    settings
        More keyword arguments.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        limits: Mapping[str, int] | None = None,
        compression: str | None = "lz4",
        linger_ms: int = 2,
        timeout_s: float = 30.0,
        make: Callable[..., Any] = KafkaProducer,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._connection = connection
        self._limits = dict(limits or {})
        self._timeout_s = timeout_s
        self._make = make
        self._settings: dict[str, Any] = (
            connection.client("producer")
            | {
                "acks": "all",
                "enable_idempotence": True,
                "compression_type": compression,
                "linger_ms": linger_ms,
                "batch_size": 256 * 1024,
                "max_request_size": max([MESSAGE_BYTES, *self._limits.values()]) + 50_000,
                "delivery_timeout_ms": int(timeout_s * 1000),
                "request_timeout_ms": int(min(timeout_s / 2, 10.0) * 1000),
                "max_block_ms": int(timeout_s * 1000),
                "metrics_enabled": False,
            }
            | dict(settings or {})
        )
        self._producer: Any = None

    def open(self) -> None:
        """Connect, with the connection's patience. Without it the first use connects, and tries once."""
        self._producer = self._connection.open(lambda: self._make(**self._settings))

    @property
    def producer(self) -> Any:
        """The producer, a new one after :meth:`discard`. Tried once: whoever publishes knows how long to go on.

        Raises
        ------
        PublishFailed
            Retriable: nothing answers.
        """
        if self._producer is None:
            try:
                self._producer = replace(self._connection, attempts=1).open(lambda: self._make(**self._settings))
            except BrokerUnavailable as error:
                raise PublishFailed(str(error), retriable=True) from error
        return self._producer

    def discard(self) -> None:
        """Drop the producer with all that it has not sent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(timeout=0)
            except KafkaError as error:
                log.debug("a failed producer did not close: %s", error)

    def close(self, timeout_s: float = 10.0) -> None:
        """Wait for what is in flight, then close the connections."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(timeout=timeout_s)
            except KafkaError as error:
                log.warning("the producer did not close cleanly: %(error)s", {"error": error})

    def too_long(self, messages: Sequence[Message]) -> list[tuple[Message, str]]:
        """Those that no broker with our topics would take, each with the reason: found before anything is sent."""
        return [(message, reason) for message in messages if (reason := self._too_long(message))]

    def _too_long(self, message: Message) -> str | None:
        size = (
            _OVERHEAD
            + len(message.key or b"")
            + len(message.value or b"")
            + sum(len(name) + len(content) + 10 for name, content in message.headers)
        )
        limit = self._limits.get(message.topic, MESSAGE_BYTES)
        return None if size <= limit else f"{size} bytes, more than the {limit} that {message.topic} takes"

    def send(self, messages: Sequence[Message]) -> list[Failure]:
        """Send all and wait; those that were not acknowledged, each with its error."""
        producer = self.producer
        send = producer.send
        futures: list[tuple[Message, Any]] = []
        failed: list[Failure] = []
        for message in messages:
            try:
                future = send(message.topic, message.value, message.key, list(message.headers), message.partition)
            except (KafkaError, ValueError, TypeError, AssertionError) as error:
                failed.append((message, error))
            else:
                futures.append((message, future))
        failpoints.reach("after-send")
        try:
            producer.flush(timeout=self._timeout_s)
        except KafkaError:
            log.warning(
                "the broker has not acknowledged everything after %(seconds).0f s", {"seconds": self._timeout_s}
            )
        for message, future in futures:
            if future.is_done:
                if future.exception is not None:
                    failed.append((message, future.exception))
            else:
                failed.append((message, TimeoutError(f"no acknowledgement within {self._timeout_s:.0f} s")))
        return failed


def retriable(error: BaseException) -> bool:
    """Whether the failure is of the moment, so that the same message may be sent again."""
    return isinstance(error, TimeoutError) or bool(getattr(error, "retriable", False))


def summary(refused: Sequence[tuple[Message, str]]) -> str:
    """A sentence about refused messages, without payload."""
    message, reason = refused[0]
    others = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    return f"message for topic {message.topic} refused: {reason}{others}"
