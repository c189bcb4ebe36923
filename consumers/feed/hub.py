"""Who waits for whose list: from the reader's thread to the pages that are open."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

from consumers.metrics import Metrics

ENDED: Final = object()


class Subscription:
    """One open page. It holds at most ``size`` lists; beyond it the oldest goes, since a newer one replaces it."""

    def __init__(self, topic: str, size: int) -> None:
        self.topic = topic
        self.dropped = 0
        self._waiting: deque[object] = deque(maxlen=size)
        self._some = asyncio.Event()

    def push(self, message: object) -> None:
        """A message for the page; never blocks."""
        self.dropped += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(message)
        self._some.set()

    async def next(self, timeout_s: float) -> object | None:
        """The next message, ENDED at the end; None if there was none for so long."""
        if not self._waiting:
            self._some.clear()
            try:
                await asyncio.wait_for(self._some.wait(), timeout_s)
            except TimeoutError:
                return None
        return self._waiting.popleft()


class Hub:
    """Open pages by what they wait for (a user's stored id, or another word). Lives on the event loop."""

    def __init__(self, most: int, buffer: int, metrics: Metrics) -> None:
        self._most = most
        self._buffer = buffer
        self._metrics = metrics
        self._waiting: dict[str, set[Subscription]] = {}
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether no other page may wait."""
        return self._count >= self._most

    def open(self) -> None:
        """This is the event loop."""
        self._loop = asyncio.get_running_loop()

    def subscribe(self, topic: str) -> Subscription:
        """From now on what is pushed to the topic is kept for this page."""
        subscription = Subscription(topic, self._buffer)
        self._waiting.setdefault(topic, set()).add(subscription)
        self._count += 1
        self._metrics.feed_streams.set(self._count)
        if self._closed:
            subscription.push(ENDED)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """The page has gone."""
        others = self._waiting.get(subscription.topic, set())
        if subscription in others:
            others.discard(subscription)
            self._count -= 1
            self._metrics.feed_streams.set(self._count)
            if not others:
                del self._waiting[subscription.topic]

    def wanted(self, topic: str) -> bool:
        """Whether anybody waits for it. From any thread."""
        return topic in self._waiting

    def push(self, messages: Iterable[tuple[str, object]]) -> None:
        """(topic, message) each, to whoever waits for it. From any thread; never blocks."""
        wanted = [(topic, message) for topic, message in messages if topic in self._waiting]
        if wanted and self._loop is not None and not self._closed:
            self._loop.call_soon_threadsafe(self._deliver, wanted)

    def _deliver(self, messages: list[tuple[str, object]]) -> None:
        for topic, message in messages:
            for subscription in self._waiting.get(topic, ()):
                before = subscription.dropped
                subscription.push(message)
                self._metrics.feed_pushed.inc()
                self._metrics.feed_dropped.inc(subscription.dropped - before)

    def close(self) -> None:
        """Every page is let go. On the event loop."""
        self._closed = True
        for subscriptions in self._waiting.values():
            for subscription in subscriptions:
                subscription.push(ENDED)
