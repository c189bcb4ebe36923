"""Everything that Strata writes goes through here: send all, wait for every acknowledgement, or say what failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from producers.connection import Connection
from producers.errors import BrokerUnavailable, PublishFailed
from producers.topics import MESSAGE_BYTES

log = logging.getLogger(__name__)

Headers = tuple[tuple[str, bytes], ...]

_WINDOW: Final = 5_000
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


class Publisher:
    """A producer that can be believed.

    An idempotent producer that had one batch refused fails every later one with the same error: after an error that
    is not retriable it is replaced. ``flush()`` does not tell of failures, so every future is looked at.

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
    ) -> None:
        self._connection = connection
        self._limits = dict(limits or {})
        self._timeout_s = timeout_s
        self._make = make
        self._settings: dict[str, Any] = connection.client("producer") | {
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
        self._producer: Any = connection.open(lambda: self._make(**self._settings))

    def publish(self, messages: Iterable[Message]) -> None:
        """Write all messages; return when every one has been acknowledged by all in-sync replicas.

        Blocks, up to the timeout for each 5,000 messages. Messages of one key arrive in the order given.

        Raises
        ------
        PublishFailed
            See there for what has and has not been published.
        """
        messages = list(messages)
        too_long = [(message, reason) for message in messages if (reason := self._too_long(message))]
        if too_long:
            # nothing has been sent yet, so the producer is still sound
            raise PublishFailed(_summary(too_long), refused=too_long)
        remaining = iter(messages)
        while window := list(islice(remaining, _WINDOW)):
            failed = self._send(window)
            if failed:
                self._recover(failed)

    def close(self, timeout_s: float = 10.0) -> None:
        """Wait for what is in flight, then close the connections."""
        if self._producer is not None:
            try:
                self._producer.close(timeout=timeout_s)
            except KafkaError as error:
                log.warning("the producer did not close cleanly: %s", error)

    def _sound(self) -> Any:
        """The producer, a new one after :meth:`_discard`. Tried once: whoever publishes knows how long to go on."""
        if self._producer is None:
            try:
                self._producer = replace(self._connection, attempts=1).open(lambda: self._make(**self._settings))
            except BrokerUnavailable as error:
                raise PublishFailed(str(error), retriable=True) from error
        return self._producer

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(timeout=0)
            except KafkaError as error:
                log.debug("a failed producer did not close: %s", error)

    def _too_long(self, message: Message) -> str | None:
        size = (
            _OVERHEAD
            + len(message.key or b"")
            + len(message.value or b"")
            + sum(len(name) + len(content) + 10 for name, content in message.headers)
        )
        limit = self._limits.get(message.topic, MESSAGE_BYTES)
        return None if size <= limit else f"{size} bytes, more than the {limit} that {message.topic} takes"

    def _send(self, messages: Sequence[Message]) -> list[tuple[Message, Exception]]:
        """Those messages that were not acknowledged, each with its error."""
        producer = self._sound()
        send = producer.send
        futures: list[tuple[Message, Any]] = []
        failed: list[tuple[Message, Exception]] = []
        for message in messages:
            try:
                future = send(message.topic, message.value, message.key, list(message.headers), message.partition)
            except (KafkaError, ValueError, TypeError, AssertionError) as error:
                failed.append((message, error))
            else:
                futures.append((message, future))
        try:
            producer.flush(timeout=self._timeout_s)
        except KafkaError:
            log.warning("the broker has not acknowledged everything after %.0f s", self._timeout_s)
        for message, future in futures:
            if future.is_done:
                if future.exception is not None:
                    failed.append((message, future.exception))
            else:
                failed.append((message, TimeoutError(f"no acknowledgement within {self._timeout_s:.0f} s")))
        return failed

    def _recover(self, failed: list[tuple[Message, Exception]]) -> None:
        """Tell a failure of the moment from messages that will never be accepted; never keep a poisoned producer."""
        final = [error for _, error in failed if not _retriable(error)]
        self._discard()
        if not final:
            raise PublishFailed(
                f"{len(failed)} message(s) not acknowledged by Kafka at {self._connection.bootstrap}:"
                f" {type(failed[0][1]).__name__}: {failed[0][1]}",
                retriable=True,
            )
        # One bad message fails its whole batch: each goes again alone, so that only the bad ones are left.
        refused: list[tuple[Message, str]] = []
        for message, _ in failed:
            for _, error in self._send([message]):
                self._discard()
                if _retriable(error):
                    raise PublishFailed(f"message not acknowledged: {error}", retriable=True)
                refused.append((message, f"{type(error).__name__}: {error}"))
        if refused:
            raise PublishFailed(_summary(refused), refused=refused)


def _retriable(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or bool(getattr(error, "retriable", False))


def _summary(refused: Sequence[tuple[Message, str]]) -> str:
    message, reason = refused[0]
    others = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    return f"message for topic {message.topic} refused: {reason}{others}"
