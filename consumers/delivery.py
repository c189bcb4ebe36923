"""How finished work becomes durable: the order of publish, acknowledgement and commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from consumers.client import Consumer, Partition
from consumers.stage import Work
from producers import failpoints
from producers.publisher import Publisher
from producers.transactions import TransactionalPublisher


class Delivery(Protocol):
    """How work becomes durable."""

    def own(self, partitions: Iterable[Partition]) -> None:
        """These are all the partitions that are owned from now on. May block; called before their state is read."""
        ...

    def deliver(self, work: Work) -> None:
        """Publish and commit one Work; blocks until both are done.

        Raises
        ------
        CommitFailed
            Published and acknowledged, but not committed.
        PublishFailed
            Not (wholly) published; nothing committed.
        TransactionAborted
            Neither, or nobody knows: the state has to be read anew.
        """
        ...


class AtLeastOnce:
    """Publish, wait, commit. With profiles that carry their applied offset this is effectively once."""

    def __init__(self, publisher: Publisher, consumer: Consumer) -> None:
        self._publisher = publisher
        self._consumer = consumer

    def own(self, partitions: Iterable[Partition]) -> None:
        """See :class:`Delivery`. Nothing hangs on it here."""

    def deliver(self, work: Work) -> None:
        """See :class:`Delivery`."""
        # 1. publish and 2. wait until every message is acknowledged: a crash here repeats the work, it loses none
        if work.messages:
            self._publisher.publish(work.messages)
            failpoints.reach("after-acknowledgements")
        # 3. commit the input offsets, never before: a crash here repeats the work, and the applied offsets skip it
        if work.offsets:
            failpoints.reach("before-commit")
            self._consumer.commit(work.offsets)
            failpoints.reach("after-commit")


class Member(Protocol):
    """What :class:`ExactlyOnce` asks of the consumer."""

    def membership(self) -> Any:
        """The group's generation that the partitions handed out so far belong to."""
        ...


class ExactlyOnce:
    """Messages and input offsets in one transaction (§ delivery, 4).

    Two things keep out a worker that has been replaced without noticing: the offsets carry the group's generation
    (KIP-447), and the transactional id is that of the set of partitions, so that whoever takes over the same set
    fences its predecessor and ends what that has left open.
    """

    def __init__(self, publisher: TransactionalPublisher, consumer: Member, group: str) -> None:
        self._publisher = publisher
        self._consumer = consumer
        self._group = group

    def own(self, partitions: Iterable[Partition]) -> None:
        """See :class:`Delivery`. Takes the set's transactional id."""
        self._publisher.take(transactional_id(self._group, partitions))

    def deliver(self, work: Work) -> None:
        """See :class:`Delivery`. Begin, send, offsets, commit: the steps are numbered in the publisher."""
        if not work.messages and not work.offsets:
            return
        offsets: Mapping[Partition, int] = work.offsets
        membership = self._consumer.membership() if offsets else None
        self._publisher.publish(work.messages, offsets, membership)


def transactional_id(group: str, partitions: Iterable[Partition]) -> str | None:
    """The same for the same set of partitions, whoever owns them; None for none.

    >>> transactional_id("strata", [("clicks", 2), ("clicks", 0)])
    'strata-clicks-0.2'
    """
    numbers: dict[str, list[int]] = {}
    for topic, number in sorted(partitions):
        numbers.setdefault(topic, []).append(number)
    if not numbers:
        return None
    sets = "-".join(f"{topic}-{'.'.join(map(str, found))}" for topic, found in numbers.items())
    if len(sets) > 150:
        sets = hashlib.sha256(sets.encode()).hexdigest()[:32]
    return f"{group}-{sets}"
