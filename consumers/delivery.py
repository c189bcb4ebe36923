"""How finished work becomes durable: the order of publish, acknowledgement and commit."""

from __future__ import annotations

from typing import Protocol

from consumers.client import Consumer
from consumers.stage import Work
from producers.publisher import Publisher


class Delivery(Protocol):
    """How work becomes durable. An exactly-once delivery takes the same place as :class:`AtLeastOnce`."""

    def deliver(self, work: Work) -> None:
        """Publish and commit one Work; blocks until both are done.

        Raises
        ------
        CommitFailed
            Published and acknowledged, but not committed.
        PublishFailed
            Not (wholly) published; nothing committed.
        """
        ...


class AtLeastOnce:
    """Publish, wait, commit. With profiles that carry their applied offset this is effectively once."""

    def __init__(self, publisher: Publisher, consumer: Consumer) -> None:
        self._publisher = publisher
        self._consumer = consumer

    def deliver(self, work: Work) -> None:
        """See :class:`Delivery`."""
        # 1. publish and 2. wait until every message is acknowledged: a crash here repeats the work, it loses none
        if work.messages:
            self._publisher.publish(work.messages)
        # 3. commit the input offsets, never before: a crash here repeats the work, and the applied offsets skip it
        if work.offsets:
            self._consumer.commit(work.offsets)
