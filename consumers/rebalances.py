"""What kafka-python tells on its own IO thread about the assignment, kept until the loop's thread asks for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

from kafka import ConsumerRebalanceListener

from consumers.client import Partition, Rebalance


class Rebalances:
    """A queue of rebalances, and what they add up to. Any thread may call.

    Attributes
    ----------
    assigned : frozenset[Partition]
        What is assigned now, as far as the client knows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: deque[Rebalance] = deque()
        self.assigned: frozenset[Partition] = frozenset()

    def note(self, kind: Literal["assigned", "revoked", "lost"], partitions: Iterable[Any]) -> None:
        """Partitions came or went."""
        named = frozenset((topic, number) for topic, number in partitions)
        with self._lock:
            self.assigned = self.assigned | named if kind == "assigned" else self.assigned - named
            self._events.append(Rebalance(kind, named))

    def take(self) -> list[Rebalance]:
        """What happened since the last call, in order."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events

    @property
    def waiting(self) -> bool:
        """Whether something has happened that nobody has taken yet."""
        with self._lock:
            return bool(self._events)

    def listener(self, pause: Callable[[Iterable[Partition]], None]) -> ConsumerRebalanceListener:
        """A listener for the client that fills this queue; ``pause`` stops the fetching of new partitions."""
        return _Listener(self, pause)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs on the client's IO thread: it queues and pauses, nothing else.

    The client calls it only while the loop's thread waits in ``poll``, and asks the group to go on at the next
    ``poll``: what the loop does in between is done while nobody else has the partitions (cooperative assignment).
    """

    def __init__(self, rebalances: Rebalances, pause: Callable[[Iterable[Partition]], None]) -> None:
        self._rebalances = rebalances
        self._pause = pause

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        # Paused before the first fetch: nothing may be read until the loop has restored the partitions' state.
        self._pause(tuple(p) for p in assigned)
        self._rebalances.note("assigned", assigned)

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._rebalances.note("revoked", revoked)

    def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        # not delegated to revoked (the default): what is lost cannot be committed any more
        self._rebalances.note("lost", lost)
