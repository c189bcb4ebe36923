"""The updater role: clicks in, refreshed lists and profiles out.

::

    submit   decode → apply to the profile → owe the user a list → hand his history to the encoder
    poll     what the encoder finished, and who has waited too long for it → user vector → layer, rank → Work
             who is to be forgotten → tombstones; whose list holds what is not on offer any more → his list again
             what the clicks teach the ranker

A list never waits for the encoder beyond its deadline: then it is made from the cached item vectors (``encoded:
false``) and made again when the encoder has room. An offset is committed once a published list contains its click.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from consumers.admission import Admission
from consumers.client import Partition, Record
from consumers.diversion import Diversion
from consumers.erased import Erased
from consumers.feedback import Feedback
from consumers.forgetting import Forgetting
from consumers.impressions import Impressions
from consumers.in_flight import InFlight
from consumers.knowledge import Knowledge
from consumers.lists import ListMaker, Made, Ready
from consumers.metrics import Metrics
from consumers.policy import PolicyWatch
from consumers.reencoder import Reencoder
from consumers.restoring import restore
from consumers.shard import Owed, Shard, UserKey
from consumers.stage import Work
from consumers.striking import Striking
from consumers.tables import OpenTables
from consumers.teaching import Teaching
from consumers.tracing import Carried, Tracing
from consumers.updater_config import UpdaterConfig
from models.encode_queue import Outlet
from models.encoder import Tokenises
from models.events import Click
from models.lessons import Question
from models.profile import Profile
from models.pseudonyms import Pseudonyms
from models.recommender import Recommender
from producers.errors import PublishFailed
from producers.publisher import Message
from producers.topics import Topics

log = logging.getLogger(__name__)

_STRUCK_ANYWAY: Final = 32
"""Lists made again in a step however many others wait: a flood of clicks must not keep a withdrawn item in sight."""


class Updater:
    """A :class:`~consumers.stage.Stage` in a consumer group on ``clicks``.

    Parameters
    ----------
    outlet
        The encoder's queue.
    recommender
        With its tables, which this stage feeds.
    open_tables
        Makes the readers of ``vectors``, of what is learned, of ``erasures``, ``impressions``, and of ``profiles`` for
        a restore.
    pseudonyms
        The names that users are stored by.
    policy
        Which file of rules is followed.
    tracing
        What becomes of the traces that clicks belong to.
    wall
        The time, s since the epoch.
    clock
        Monotonic, s; the one that the loop hands to :meth:`poll`.
    """

    def __init__(
        self,
        encoder: Tokenises,
        outlet: Outlet,
        recommender: Recommender,
        open_tables: OpenTables,
        topics: Topics,
        diversion: Diversion,
        metrics: Metrics,
        config: UpdaterConfig = UpdaterConfig(),
        *,
        pseudonyms: Pseudonyms = Pseudonyms(None),
        policy: Path | None = None,
        tracing: Tracing = Carried(),
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recommender = recommender
        self._items = recommender.items
        self._topics = topics
        self._diversion = diversion
        self._metrics = metrics
        self._config = config
        self._wall = wall
        self._clock = clock
        self._shards: dict[int, Shard] = {}
        self._reencoder = Reencoder(encoder, outlet, recommender.items, config.encoded_clicks)
        self._knowledge = Knowledge(recommender, encoder.name, open_tables, topics, metrics)
        self._policy = PolicyWatch(policy, recommender, metrics, pseudonyms)
        self._striking = Striking(recommender, self._knowledge, open_tables, topics, metrics)
        self._erased = Erased(open_tables, topics.erasures, pseudonyms, config.limits, wall)
        self._forgetting = Forgetting(
            self._erased, topics, self._items, metrics, config.retention_s, config.atomic, wall
        )
        self._admission = Admission(self._erased, pseudonyms, config.limits, metrics)
        self._feedback = Feedback(recommender, metrics, config.profile.negative_events)
        self._impressions = Impressions(
            recommender, self._shards, self._erased, pseudonyms, open_tables, topics, metrics, config.limits, wall
        )
        self._open_tables = open_tables
        self._arrived: dict[UserKey, Ready] = {}
        self._committed: dict[int, int] = {}
        self._teaching = Teaching(recommender, config.learning, topics, metrics)
        self._lists = ListMaker(recommender, topics, encoder.name, config.list_length, tracing)
        self._tracing = tracing
        self._in_hand: list[tuple[Made, Owed | None]] = []  # what the Work in hand is made of, and what it settles
        self._next_publish = 0.0
        self._in_flight = InFlight(config.in_flight_bytes)

    # -- partitions ---------------------------------------------------------------------------------------------

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Read the tables to their ends, then restore the profiles of these partitions."""
        self._knowledge.catch_up(self._config.tables_timeout_s)
        self._erased.catch_up(self._config.tables_timeout_s)
        fresh = restore(
            [number for _, number in partitions],
            self._open_tables,
            self._topics.profiles,
            self._items,
            self._config.hot_profiles,
            self._config.list_length,
            self._metrics,
            timeout_s=self._config.tables_timeout_s,
            clock=self._clock,
        )
        concerned = self._forgetting.restored(fresh, self._shards)
        self._shards.update(fresh)
        self._drop(concerned)
        self._striking.assigned(fresh)
        self._impressions.assigned(fresh)
        return {(self._topics.clicks, n): shard.applied + 1 for n, shard in fresh.items() if shard.applied >= 0}

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Forget these partitions' users and their work."""
        partitions = list(partitions)
        for _, number in partitions:
            if self._shards.pop(number, None) is None:
                continue
            self._committed.pop(number, None)
            self._forgetting.forget_partition(number)
            self._striking.forget_partition(number)
            self._impressions.forget_partition(number)
            self._reencoder.forget_partition(number)
            self._in_flight.forget(number)
            self._arrived = {key: ready for key, ready in self._arrived.items() if key[0] != number}
        self._diversion.forget(partitions)

    # -- clicks -------------------------------------------------------------------------------------------------

    def submit(self, records: Sequence[Record]) -> int:
        """See :class:`~consumers.stage.Stage`. Refuses while too many users wait for a list, or too long clicks."""
        room = self._config.owed_users - sum(len(shard.owed) for shard in self._shards.values())
        taken = records[: max(0, room)]
        now, wall_ms = self._clock(), int(self._wall() * 1000)
        for number, shard in self._shards.items():
            if (below := shard.committable()) is not None:
                self._in_flight.settled(number, below)
        for at, record in enumerate(taken):
            if self._in_flight.full:
                taken = taken[:at]
                break
            shard = self._shards[record.partition]
            try:
                click = self._admission.admit(record, shard, wall_ms)
                if click is None:
                    pass
                elif self._full(shard, click, record.offset):
                    taken = taken[:at]
                    break
                else:
                    self._apply(shard, click, record, now)
            except Exception as error:
                self._diversion.divert(record, error)
            else:
                self._diversion.passed()
            self._in_flight.took(record)
            self._committed.setdefault(shard.partition, record.offset)
            shard.next_offset = record.offset + 1
        self._metrics.clicks.inc(len(taken))
        self._metrics.undescribed.labels("updater").set(self._items.undescribed)
        self._offer()
        return len(taken)

    def _full(self, shard: Shard, click: Click, offset: int) -> bool:
        """Whether a user's profile must be published first: it would forget clicks that no learner has seen yet."""
        profile = shard.profile(click.user_id)
        if profile.fresh < self._config.profile.history or offset <= profile.applied:
            return False
        self._arrived.setdefault((shard.partition, click.user_id), Ready(shard, click.user_id))
        return True

    def _apply(self, shard: Shard, click: Click, record: Record, now: float) -> None:
        user_id = click.user_id
        profile = shard.profile(user_id)
        if self._config.atomic and record.offset <= profile.applied:
            return  # read again; the list that contains it became visible together with the profile
        before, clicks = profile.applied, profile.clicks
        question, judged = self._question(profile, click, record), self._feedback.judge(shard, profile, click)
        if profile.apply(click, record.offset, self._items, self._config.profile):
            self._feedback.count(judged)
            if profile.damped and profile.damped[-1] == profile.clicks > clicks:
                self._metrics.damped.inc()
                question = None
        else:
            question = None
        owed = shard.owed.get(user_id)
        if owed is None:
            owed = shard.owed[user_id] = Owed(record, now, click.ts)
        else:
            owed.records.append(record)
        if question is not None:
            owed.questions.append(question)
        owed.event_ts = max(owed.event_ts, click.ts)
        owed.changed |= profile.applied > before
        key = (shard.partition, user_id)
        if profile.clicks > clicks:
            self._reencoder.want(key)
            if key in self._arrived and self._arrived[key].same:
                del self._arrived[key]  # his history is another one now
        elif profile.encoded >= profile.applied and key not in self._reencoder:
            # nothing that BERT would read: the same list again, or one without what was dismissed
            self._arrived.setdefault(key, Ready(shard, user_id, same=True))

    def _question(self, profile: Profile, click: Click, record: Record) -> Question | None:
        """What the ranker will be asked about a click that is about to be applied."""
        if record.offset <= profile.applied or click.event in self._config.profile.negative_events:
            return None
        row = self._items.find(click.item_id)
        return self._teaching.question(profile, row, record.partition, record.offset, click.ts) if row >= 0 else None

    # -- lists --------------------------------------------------------------------------------------------------

    def _drop(self, concerned: Mapping[UserKey, bool]) -> None:
        """What is in flight for these users is of yesterday; of whom something is left, he gets a list of that."""
        self._reencoder.forget(concerned)
        for key, left in concerned.items():
            self._arrived.pop(key, None)
            if left:
                self._arrived[key] = Ready(self._shards[key[0]], key[1])
                self._reencoder.want(key)

    def _strike(self, now: float) -> None:
        """Whose list holds what is not on offer any more, or what he has been shown too often, gets it again, as far as
        there is room beside the others."""
        self._striking.follow(now, int(self._wall() * 1000), self._shards)
        room = max(_STRUCK_ANYWAY, self._config.batch_users - len(self._arrived))
        for key in (*self._striking.take(room), *self._impressions.take(room)):
            shard = self._shards[key[0]]
            if key[1] not in shard.owed and shard.knows(key[1]):
                self._arrived.setdefault(key, Ready(shard, key[1], same=True, struck=True))

    def _offer(self) -> None:
        for ready in self._reencoder.offer(self._shards):
            self._arrived[ready.key] = ready

    def _overdue(self, now: float) -> None:
        """Whoever has waited for the encoder beyond the deadline is served without it."""
        for number, shard in self._shards.items():
            for user_id, owed in shard.owed.items():
                if now - owed.since < self._config.deadline_s:
                    break  # in order of arrival: the rest is younger
                self._arrived.setdefault((number, user_id), Ready(shard, user_id))

    def _adds_something(self, ready: Ready) -> bool:
        """Whether a user who was served meanwhile needs another list: not for what BERT read of an older history (the
        newest comes back, too), nor for what it could not read. So no source offset has two unencoded lists."""
        return ready.vector is not None and ready.offset >= ready.shard.profile(ready.user_id).applied

    def poll(self, now: float) -> Work | None:
        """See :class:`~consumers.stage.Stage`."""
        self._knowledge.follow(now)
        self._policy.follow(now, int(self._wall() * 1000))
        self._impressions.follow(now)
        self._feedback.survey(now, int(self._wall() * 1000), self._shards)
        self._drop(self._forgetting.follow(now, self._shards))
        for ready in self._reencoder.collect(self._shards):
            if ready.owed or self._adds_something(ready):
                self._arrived[ready.key] = ready
        self._overdue(now)
        self._strike(now)
        self._offer()
        if now < self._next_publish:
            return None
        messages = self._forgetting.take(self._shards)
        self._in_hand.clear()  # an earlier Work was published, or did not take effect
        for made in self._make(list(islice(self._arrived.values(), self._config.batch_users))):
            self._settle(made)
            messages += made.messages
        done = self._done_below()
        below = {number: offset for (_, number), offset in done.items()}
        messages += self._teaching.take(below, int(self._wall() * 1000))
        messages += self._diversion.take(done)
        offsets = {}
        for partition, offset in done.items():
            if offset > self._committed.get(partition[1], -1):
                offsets[partition] = self._committed[partition[1]] = offset
        if not messages and not offsets:
            return None
        self._next_publish = now + self._config.publish_s
        return Work(messages, offsets)

    def _done_below(self) -> dict[Partition, int]:
        """By partition, the offset below which every click is in a published list, or in the Work in hand."""
        below = ((n, shard.committable()) for n, shard in self._shards.items())
        return {(self._topics.clicks, n): offset for n, offset in below if offset is not None}

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
        self._done(one)
        shard, user_id = one.shard, one.user_id
        owed = shard.owed.pop(user_id, None)
        shard.go_back(user_id, shard.published(user_id))
        if owed is None:
            log.error("updater: a list could not be made again", exc_info=error)
        self._divert_all(owed, error)

    def _done(self, one: Ready) -> None:
        """A user leaves the stage; if BERT has not read his newest clicks, he makes room for those who still wait in
        time, and is remembered for later."""
        self._arrived.pop(one.key, None)
        unread = self._reencoder.drop(one.key)
        profile = one.shard.profile(one.user_id)
        if profile.encoded >= profile.applied:
            one.shard.behind.pop(one.user_id, None)
        elif unread:
            one.shard.behind[one.user_id] = None

    def _settle(self, made: Made) -> None:
        self._done(made.ready)
        owed = self._lists.settle(made)
        self._in_hand.append((made, owed))
        if owed is not None:
            self._teaching.add(owed.questions)
        old, new = made.layer_before, made.profile.layer
        if made.record is not None and old and new and old != new:
            self._metrics.layer_changes.labels("fine").inc()
            if old.partition(".")[0] != new.partition(".")[0]:
                self._metrics.layer_changes.labels("coarse").inc()

    def published(self, work: Work) -> None:
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

    def refused(self, work: Work, refused: Sequence[tuple[Message, str]]) -> Work | None:
        """See :class:`~consumers.stage.Stage`. The users concerned are as before, their clicks in the dead letters."""
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
            self._divert_all(owed, PublishFailed(f"the broker refuses what follows from it: {reason}"))
        if reasons:
            return None  # a dead letter: it has nowhere else to go
        self._in_hand = kept
        messages = [
            m
            for m in work.messages
            if m.topic != self._topics.ranker_updates  # it holds what the refused clicks teach, too
            and ((m.partition, m.key) not in gone or m.topic == self._topics.dead_letters or m.value is None)
        ]
        return Work(messages + self._diversion.take(self._done_below()), work.offsets)

    def _divert_all(self, owed: Owed | None, error: Exception) -> None:
        for record in owed.records if owed else ():
            self._diversion.divert(record, error)

    def idle(self) -> bool:
        """See :class:`~consumers.stage.Stage`. Users who were served without the encoder do not hold up a stop."""
        waiting = self._arrived or self._diversion or self._forgetting
        return not waiting and all(not shard.owed for shard in self._shards.values())

    def close(self) -> None:
        """See :class:`~consumers.stage.Stage`."""
        self._knowledge.close()
        self._erased.close()
        self._striking.close()
        self._impressions.close()
