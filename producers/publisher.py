"""Everything that Strata writes goes through here: send all, wait for every acknowledgement, or say what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from kafka import KafkaProducer

from producers.connection import Connection
from producers.errors import PublishFailed
from producers.sender import WINDOW, Failure, Headers, Message, Sender, retriable, summary

__all__ = ["Headers", "Message", "Publisher"]


class Publisher:
    """A producer that can be believed. The parameters are those of :class:`~producers.sender.Sender`."""

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
        self._bootstrap = connection.bootstrap
        self._sender = Sender(
            connection, limits=limits, compression=compression, linger_ms=linger_ms, timeout_s=timeout_s, make=make
        )
        self._sender.open()

    def publish(self, messages: Iterable[Message]) -> None:
        """Write all messages; return when every one has been acknowledged by all in-sync replicas.

        Blocks, up to the timeout for each 5,000 messages. Messages of one key arrive in the order given.

        Raises
        ------
        PublishFailed
            See there for what has and has not been published.
        """
        messages = list(messages)
        if too_long := self._sender.too_long(messages):
            # nothing has been sent yet, so the producer is still sound
            raise PublishFailed(summary(too_long), refused=too_long)
        remaining = iter(messages)
        while window := list(islice(remaining, WINDOW)):
            if failed := self._sender.send(window):
                self._recover(failed)

    def close(self, timeout_s: float = 10.0) -> None:
        """Wait for what is in flight, then close the connections."""
        self._sender.close(timeout_s)

    def _recover(self, failed: list[Failure]) -> None:
        """Tell a failure of the moment from messages that will never be accepted; never keep a poisoned producer."""
        self._sender.discard()
        if all(retriable(error) for _, error in failed):
            raise PublishFailed(
                f"{len(failed)} message(s) not acknowledged by Kafka at {self._bootstrap}:"
                f" {type(failed[0][1]).__name__}: {failed[0][1]}",
                retriable=True,
            )
        # One bad message fails its whole batch: each goes again alone, so that only the bad ones are left.
        refused: list[tuple[Message, str]] = []
        for message, _ in failed:
            for _, error in self._sender.send([message]):
                self._sender.discard()
                if retriable(error):
                    raise PublishFailed(f"message not acknowledged: {error}", retriable=True)
                refused.append((message, f"{type(error).__name__}: {error}"))
        if refused:
            raise PublishFailed(summary(refused), refused=refused)
