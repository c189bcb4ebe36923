"""Messages and input offsets in one Kafka transaction: both become visible, or neither does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    KafkaError,
    ProducerFencedError,
    RebalanceInProgressError,
    TransactionalIdNotFoundError,
    TransactionCoordinatorFencedError,
    UnknownMemberIdError,
    UnknownProducerIdError,
)

from producers import failpoints
from producers.connection import Connection
from producers.errors import PublishFailed, TransactionAborted
from producers.sender import WINDOW, Failure, Message, Sender, retriable, summary

log = logging.getLogger(__name__)

FENCED: Final = (
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    ProducerFencedError,
    TransactionCoordinatorFencedError,
    TransactionalIdNotFoundError,
    UnknownProducerIdError,
)
"""Another producer has this one's id, or the transaction outlived its time limit."""
MOVED_ON: Final = (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
"""The consumer group has another generation than the one that the offsets belong to (KIP-447)."""

_ABORT_S: Final = 5.0
"""How long an abort is waited for. If it does not come, the next producer with this id aborts what is open."""


class TransactionalPublisher:
    """A transactional producer that can be believed, under an id that may change with what it works for.

    kafka-python's transaction calls wait without a limit: each runs under a watchdog here. After whatever goes wrong
    the transaction is aborted and the producer replaced, since one refused batch poisons it beyond the abort.

    Parameters
    ----------
    connection
        The cluster.
    limits
        See :class:`~producers.sender.Sender`.
    timeout_s
        Time limit of a transaction, s: after it the broker aborts what a dead producer left open (it looks every ten
        seconds), and readers of committed records wait for it that long. Acknowledgements are waited for as long.
    make
        Makes the producer: the seam for tests.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        limits: Mapping[str, int] | None = None,
        timeout_s: float = 10.0,
        make: Callable[..., Any] = KafkaProducer,
    ) -> None:
        self._connection = connection
        self._limits = limits
        self._timeout_s = timeout_s
        self._make = make
        self._id: str | None = None
        self._sender: Sender | None = None
        self._begun_with: Any = None

    def take(self, transactional_id: str | None) -> None:
        """Work under this id from now on. None: no longer at all.

        Ends what an earlier producer of this id has left open, and fences it. Blocks for that; if the broker does not
        answer in time it is made up for by the next :meth:`publish`.
        """
        if transactional_id == self._id:
            return
        if self._sender is not None:
            self._sender.close(_ABORT_S)
        self._id, self._sender, self._begun_with = transactional_id, None, None
        if transactional_id is None:
            return
        self._sender = Sender(
            self._connection,
            limits=self._limits,
            timeout_s=self._timeout_s,
            make=self._make,
            settings={
                "transactional_id": transactional_id,
                "transaction_timeout_ms": int(self._timeout_s * 1000),
            },
        )
        try:
            self._ready()
        except (PublishFailed, TransactionAborted) as error:
            log.warning(
                "transactions under %(transactional_id)s cannot begin yet: %(error)s",
                {"transactional_id": transactional_id, "error": error},
            )

    def publish(
        self, messages: Sequence[Message], offsets: Mapping[tuple[str, int], int], membership: Any = None
    ) -> None:
        """All messages and offsets as one transaction; return when it is committed.

        Parameters
        ----------
        offsets
            Next offset to read, by topic and partition.
        membership
            The consumer group's generation that the offsets belong to (``consumer.group_metadata()``).

        Raises
        ------
        PublishFailed
            Nothing has become visible. Retriable, or with the messages that will never be accepted.
        TransactionAborted
            The work is somebody else's now, or nobody knows whether it was committed.
        """
        if self._sender is None:
            raise TransactionAborted("no partitions are owned, so there is no transaction for their work")
        if too_long := self._sender.too_long(messages):
            raise PublishFailed(summary(too_long), refused=too_long)
        # 1. begin
        producer = self._ready()
        self._call("begin", producer.begin_transaction)
        # 2. send all, and look at every acknowledgement
        remaining = iter(messages)
        while window := list(islice(remaining, WINDOW)):
            if failed := self._sender.send(window):
                self._recover(failed)
        failpoints.reach("after-acknowledgements")
        # 3. the offsets become part of it; a group that has moved on refuses them
        if offsets:
            wanted = {TopicPartition(*p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
            self._call("offsets", lambda: producer.send_offsets_to_transaction(wanted, membership))
        failpoints.reach("before-commit")
        # 4. commit: from the moment that this is sent, only the broker knows the outcome until it answers
        try:
            _within(self._timeout_s, producer.commit_transaction)
        except (KafkaError, TimeoutError) as error:
            self._abandon(producer, abort=False)
            raise TransactionAborted(
                f"the transaction's commit was not confirmed at {self._connection.bootstrap} ({_named(error)})"
            ) from error
        failpoints.reach("after-commit")

    def abort_one(self, message: Message) -> int:
        """Write one message and abort it: its offset. For finding out what the broker then shows of it.

        Raises
        ------
        KafkaError, TimeoutError, StrataError
            Whatever the broker or the client has against it.
        """
        producer = self._ready()
        _within(self._timeout_s, producer.begin_transaction)
        future = producer.send(message.topic, message.value, message.key, [], message.partition)
        offset = int(future.get(timeout=self._timeout_s).offset)
        _within(self._timeout_s, producer.abort_transaction)
        return offset

    def close(self) -> None:
        """Close the connections."""
        if self._sender is not None:
            self._sender.close()

    def _ready(self) -> Any:
        """The producer, initialised: what its predecessor left open is ended."""
        assert self._sender is not None  # noqa: S101 (publish and take see to it)
        producer = self._sender.producer
        if producer is not self._begun_with:
            self._call("initialisation", producer.init_transactions)
            self._begun_with = producer
        return producer

    def _call(self, what: str, call: Callable[[], None]) -> None:
        """A step before the commit: if it fails, nothing has become visible."""
        try:
            _within(self._timeout_s + 1, call)
        except (KafkaError, TimeoutError) as error:
            assert self._sender is not None  # noqa: S101
            self._abandon(self._sender.producer, abort=what == "offsets")
            told = f"transaction {self._id}, {what}: {_named(error)}"
            if retriable(error):
                raise PublishFailed(f"{told} at {self._connection.bootstrap}", retriable=True) from error
            raise TransactionAborted(told) from error

    def _recover(self, failed: list[Failure]) -> None:
        assert self._sender is not None  # noqa: S101
        self._abandon(self._sender.producer, abort=True)
        self._raise_if_fenced(failed)
        if all(retriable(error) for _, error in failed):
            raise PublishFailed(
                f"{len(failed)} message(s) not acknowledged by Kafka at {self._connection.bootstrap}:"
                f" {_named(failed[0][1])}",
                retriable=True,
            )
        refused = self._refused([message for message, _ in failed])
        if not refused:
            raise PublishFailed(
                f"a batch was refused, but none of its messages: {_named(failed[0][1])}", retriable=True
            )
        raise PublishFailed(summary(refused), refused=refused)

    def _refused(self, suspects: Sequence[Message]) -> list[tuple[Message, str]]:
        """One bad message fails its whole batch: each goes again alone, in transactions that are never committed."""
        assert self._sender is not None  # noqa: S101
        refused: list[tuple[Message, str]] = []
        begun = None
        for message in suspects:
            producer = self._ready()
            if producer is not begun:
                self._call("begin", producer.begin_transaction)
                begun = producer
            if failed := self._sender.send([message]):
                self._abandon(producer, abort=True)
                self._raise_if_fenced(failed)
                error = failed[0][1]
                if retriable(error):
                    raise PublishFailed(f"message not acknowledged: {_named(error)}", retriable=True)
                refused.append((message, _named(error)))
        self._abandon(self._ready(), abort=True)
        return refused

    def _raise_if_fenced(self, failed: Sequence[Failure]) -> None:
        for _, error in failed:
            if isinstance(error, FENCED):
                raise TransactionAborted(f"transaction {self._id}: {_named(error)}") from error

    def _abandon(self, producer: Any, *, abort: bool) -> None:
        """Replace the producer; abort first where that frees waiting readers at once."""
        assert self._sender is not None  # noqa: S101
        if abort:
            try:
                _within(_ABORT_S, producer.abort_transaction)
            except (KafkaError, TimeoutError) as error:
                log.debug("the abort failed too: %s", error)
        self._sender.discard()
        self._begun_with = None


def _within(seconds: float, call: Callable[[], None]) -> None:
    """The watchdog: raises TimeoutError when the call has not returned; its thread ends with the producer."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="transaction", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    if errors:
        raise errors[0]


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
