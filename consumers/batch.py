"""The lists that go out together: made, and then at the broker, or refused by it.

Whoever makes a batch fail leaves it, and so does he whose messages the broker will never take: his clicks become dead
letters, he is as he was before them, and the others' lists go out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from consumers.diversion import Diversion
from consumers.due import Due
from consumers.lists import ListMaker, Made, Ready
from consumers.metrics import Metrics
from consumers.shard import Owed
from consumers.striking import Striking
from consumers.teaching import Teaching
from consumers.tracing import Tracing
from producers.errors import PublishFailed
from producers.publisher import Message
from producers.topics import Topics

log = logging.getLogger(__name__)


class Batch:
    """The lists of the Work in hand.

    Parameters
    ----------
    lists
        Makes them.
    due
        Those whose lists are made leave it.
    teaching
        Gets the questions of the clicks that the lists contain.
    striking
        Is told which items stand in published lists, and whose list did not go out.
    diversion
        Takes the clicks of those who leave a batch.
    tracing
        Is told of what was published.
    wall
        The time, s since the epoch.
    clock
        Monotonic, s.
    """

    def __init__(
        self,
        lists: ListMaker,
        due: Due,
        teaching: Teaching,
        striking: Striking,
        diversion: Diversion,
        tracing: Tracing,
        topics: Topics,
        metrics: Metrics,
        wall: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._lists = lists
        self._due = due
        self._teaching = teaching
        self._striking = striking
        self._diversion = diversion
        self._tracing = tracing
        self._topics = topics
        self._metrics = metrics
        self._wall = wall
        self._clock = clock
        self._in_hand: list[tuple[Made, Owed | None]] = []  # what the Work in hand is made of, and what it settles

    def make(self, ready: Sequence[Ready]) -> list[Message]:
        """The messages of these users; what they were owed is settled by them."""
        self._in_hand.clear()  # an earlier Work was published, or did not take effect
        messages: list[Message] = []
        for made in self._make(ready):
            self._settle(made)
            messages += made.messages
        return messages

    def _make(self, ready: Sequence[Ready]) -> list[Made]:
        """Lists for these users; whoever makes it fail is found by halving and leaves as a dead letter."""
        if not ready:
            return []
        try:
            return self._lists.make(ready, int(self._wall() * 1000))
        except Exception as error:
            if len(ready) > 1:
                half = len(ready) // 2
                return self._make(ready[:half]) + self._make(ready[half:])
            self._give_up(ready[0], error)
            return []

    def _give_up(self, one: Ready, error: Exception) -> None:
        self._due.done(one)
        shard, user_id = one.shard, one.user_id
        owed = shard.owed.pop(user_id, None)
        shard.go_back(user_id, shard.published(user_id))
        self._striking.failed(one.key, self._clock(), struck=one.struck)
        if owed is None:
            log.error("updater: a list could not be made again", exc_info=error)
        self._divert_all(owed, error)

    def _settle(self, made: Made) -> None:
        self._due.done(made.ready)
        owed = self._lists.settle(made)
        self._in_hand.append((made, owed))
        if owed is not None:
            self._teaching.add(owed.questions)
        old, new = made.layer_before, made.profile.layer
        if made.record is not None and old and new and old != new:
            self._metrics.layer_changes.labels("fine").inc()
            if old.partition(".")[0] != new.partition(".")[0]:
                self._metrics.layer_changes.labels("coarse").inc()

    def published(self) -> None:
        """Count how fresh the lists were when the broker had them."""
        wall_ms, now = self._wall() * 1000, self._clock()
        for made, owed in self._in_hand:
            made.ready.shard.served.put(made.ready.user_id, made.rows)
            self._striking.listed(made.rows)
            self._metrics.lists.labels(str(made.encoded).lower()).inc()
            self._metrics.list_items.inc(len(made.rows))
            self._metrics.lists_empty.inc(not made.rows)
            if owed is not None:
                self._metrics.freshness.observe(max(0.0, (wall_ms - owed.event_ts) / 1000))
                self._metrics.processing.observe(now - owed.since)
        self._tracing.published([made.trace for made, _ in self._in_hand if made.trace])
        self._in_hand.clear()

    def refused(self, messages: Sequence[Message], refused: Sequence[tuple[Message, str]]) -> list[Message] | None:
        """What is left of a Work's messages without the users whose messages the broker will never take.

        Their clicks wait as dead letters then. None: a message was refused that is of no list.
        """
        reasons = {(m.topic, m.partition, m.key): reason for m, reason in refused}
        kept: list[tuple[Made, Owed | None]] = []
        gone: set[tuple[int | None, bytes | None]] = set()
        for made, owed in self._in_hand:
            reason = next((r for m in made.messages if (r := reasons.pop((m.topic, m.partition, m.key), None))), None)
            if reason is None:
                kept.append((made, owed))
                continue
            gone |= {(m.partition, m.key) for m in made.messages}
            made.ready.shard.go_back(made.ready.user_id, made.published)
            self._striking.failed(made.ready.key, self._clock(), struck=made.ready.struck)
            self._divert_all(owed, PublishFailed(f"the broker refuses what follows from it: {reason}"))
        if reasons:
            return None  # a dead letter: it has nowhere else to go
        self._in_hand = kept
        return [
            m
            for m in messages
            if m.topic != self._topics.ranker_updates  # it holds what the refused clicks teach, too
            and ((m.partition, m.key) not in gone or m.topic == self._topics.dead_letters or m.value is None)
        ]

    def _divert_all(self, owed: Owed | None, error: Exception) -> None:
        for record in owed.records if owed else ():
            self._diversion.divert(record, error)
