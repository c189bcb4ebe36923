"""How finished work becomes durable: the order of publish, acknowledgement and commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from consumers.client import Consumer, Partition
from consumers.stage import Work
from producers import failpoints
from producers.errors import TransactionAborted
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

    def committed_at_start(self, partition: Partition) -> int | None:
        """The group's offset when the partition was last started, None where there was none."""
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
        self._owned: frozenset[Partition] = frozenset()
        self._committed: dict[Partition, int] = {}

    def own(self, partitions: Iterable[Partition]) -> None:
        """See :class:`Delivery`. Takes the set's transactional id."""
        self._owned = frozenset(partitions)
        self._committed = {p: offset for p, offset in self._committed.items() if p in self._owned}
        self._publisher.take(transactional_id(self._group, self._owned))

    def deliver(self, work: Work) -> None:
        """See :class:`Delivery`. Begin, send, offsets, commit: the steps are numbered in the publisher."""
        if not work.messages and not work.offsets:
            return
        # Offsets go along even if none has advanced: with them the group refuses whoever it has replaced.
        offsets = work.offsets or self._unchanged()
        try:
            self._publisher.publish(work.messages, offsets, self._consumer.membership())
        except TransactionAborted:
            self._committed.clear()  # it may have been committed after all: the restart reads what there is
            raise
        self._committed.update(offsets)

    def _unchanged(self) -> Mapping[Partition, int]:
        """An owned partition's offset as it is already committed; nothing before the group's very first commit."""
        for partition in sorted(self._owned):
            offset = self._committed.get(partition, self._consumer.committed_at_start(partition))
            if offset is not None:
                return {partition: offset}
        return {}


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
