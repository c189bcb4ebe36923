"""The updater role: clicks in, refreshed lists and profiles out.

::

    submit   decode → apply to the profile → owe the user a list → hand his history to the encoder
    poll     what the encoder finished, and who has waited too long for it → user vector → layer, rank → Work

A list never waits for the encoder beyond its deadline: then it is made from the cached item vectors (``encoded:
false``) and made again when the encoder has room. An offset is committed once a published list contains its click.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, cast

import msgspec

from consumers.client import Partition, Record
from consumers.diversion import Diversion
from consumers.knowledge import Knowledge
from consumers.lists import ARM, ListMaker, Made, Ready
from consumers.metrics import Metrics
from consumers.shard import Owed, Shard
from consumers.stage import Work
from consumers.tables import OpenTables
from models.encode_queue import Outlet
from models.encoder import Encoder
from models.events import Click, Limits, decode_click
from models.profile import ProfileLimits
from models.recommender import Recommender
from producers import failpoints
from producers.errors import PublishFailed
from producers.publisher import Message
from producers.topics import Topics

log = logging.getLogger(__name__)

_TELL_S: Final = 2.0
"""How often a long restore says how far it is."""

_Key = tuple[int, str]
"""Partition and user: what the encoder's queue knows a history by."""

_BEHIND: Final = 16  # that part of the encoder's queue is for who was served without it


@dataclass(frozen=True, kw_only=True)
class UpdaterConfig:
    """How the updater works."""

    list_length: int = 10
    """Items in a list."""
    encoded_clicks: int = 8
    """Newest clicks whose texts make the input of BERT."""
    deadline_s: float = 0.5
    """How long a list may wait for the encoder, s; then it goes out from cached item vectors."""
    batch_users: int = 256
    """Lists made and published at a time, at most."""
    publish_s: float = 0.02
    """Least time between two publications, s: a publication costs some milliseconds whatever its size."""
    owed_users: int = 20_000
    """Users who may wait for a list at a time; beyond it, reading pauses."""
    hot_profiles: int = 20_000
    """Profiles kept as objects, of each partition; the others are kept as bytes."""
    atomic: bool = False
    """A profile and its list become visible together, in a transaction: a click that is read again then owes nothing.
    Otherwise its list goes out again, because a crash may have come between the two."""
    tables_timeout_s: float = 300.0
    """How long the tables may take to be read at a start, s."""
    profile: ProfileLimits = field(default_factory=ProfileLimits)
    limits: Limits = field(default_factory=Limits)


class Updater:
    """A :class:`~consumers.stage.Stage` in a consumer group on ``clicks``.

    Parameters
    ----------
    outlet
        The encoder's queue.
    recommender
        With its tables, which this stage feeds.
    open_tables
        Makes the readers of ``vectors``, ``layers``, ``neighbours``, and of ``profiles`` for a restore.
    wall
        The time, s since the epoch.
    clock
        Monotonic, s; the one that the loop hands to :meth:`poll`.
    """

    def __init__(
        self,
        encoder: Encoder,
        outlet: Outlet,
        recommender: Recommender,
        open_tables: OpenTables,
        topics: Topics,
        diversion: Diversion,
        metrics: Metrics,
        config: UpdaterConfig = UpdaterConfig(),
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encoder = encoder
        self._outlet = outlet
        self.recommender = recommender
        self._items = recommender.items
        self._topics = topics
        self._diversion = diversion
        self._metrics = metrics
        self._config = config
        self._wall = wall
        self._clock = clock
        self._shards: dict[int, Shard] = {}
        self._to_encode: dict[_Key, None] = {}
        self._submitted: set[_Key] = set()
        self._knowledge = Knowledge(recommender, encoder.name, open_tables, topics)
        self._open_tables = open_tables
        self._arrived: dict[_Key, Ready] = {}
        self._committed: dict[int, int] = {}
        self._lists = ListMaker(recommender, topics, encoder.name, config.list_length)
        self._in_hand: list[tuple[Made, Owed | None]] = []  # what the Work in hand is made of, and what it settles
        self._next_publish = 0.0

    # -- partitions ---------------------------------------------------------------------------------------------

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Read the tables to their ends, then restore the profiles of these partitions."""
        self._knowledge.catch_up(self._config.tables_timeout_s)
        numbers = sorted(number for _, number in partitions)
        fresh = {n: Shard(n, self._items, self._config.hot_profiles) for n in numbers}

        def restore(record: Record) -> None:
            fresh[record.partition].restore((record.key or b"").decode(errors="replace"), record.value)
            self._metrics.profiles_restored.inc()

        began, told = self._clock(), self._clock()

        def progress(done: int, total: int) -> None:
            nonlocal told
            if self._clock() - told > _TELL_S:
                told = self._clock()
                log.info("updater: restoring profiles, %d of %d records read", done, total)

        if numbers:
            reader = self._open_tables({self._topics.profiles: restore}, numbers)
            try:
                reader.catch_up(self._config.tables_timeout_s, progress)
            finally:
                reader.close()
        self._shards.update(fresh)
        profiles, seconds = sum(map(len, fresh.values())), max(self._clock() - began, 1e-3)
        log.info(
            "updater: restored %d profiles of %d partition(s) in %.2f s (%.0f/s)",
            profiles, len(numbers), seconds, profiles / seconds,
        )  # fmt: skip
        return {(self._topics.clicks, n): shard.applied + 1 for n, shard in fresh.items() if shard.applied >= 0}

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Forget these partitions' users and their work."""
        partitions = list(partitions)
        for _, number in partitions:
            if self._shards.pop(number, None) is None:
                continue
            self._committed.pop(number, None)
            self._to_encode = {key: None for key in self._to_encode if key[0] != number}
            self._arrived = {key: ready for key, ready in self._arrived.items() if key[0] != number}
            gone = {key for key in self._submitted if key[0] == number}
            self._submitted -= gone
            self._outlet.discard(gone)
        self._diversion.forget(partitions)

    # -- clicks -------------------------------------------------------------------------------------------------

    def submit(self, records: Sequence[Record]) -> int:
        """See :class:`~consumers.stage.Stage`. Refuses while too many users wait for a list."""
        room = self._config.owed_users - sum(len(shard.owed) for shard in self._shards.values())
        taken = records[: max(0, room)]
        now, wall_ms = self._clock(), int(self._wall() * 1000)
        for at, record in enumerate(taken):
            shard = self._shards[record.partition]
            try:
                click = decode_click(record.value, record.headers, self._config.limits)
                if self._full(shard, click, record.offset):
                    taken = taken[:at]
                    break
                self._apply(shard, click, record, now, wall_ms)
            except Exception as error:
                self._diversion.divert(record, error)
            else:
                self._diversion.passed()
            self._committed.setdefault(shard.partition, record.offset)
            shard.next_offset = record.offset + 1
        self._metrics.clicks.inc(len(taken))
        self._offer()
        return len(taken)

    def _full(self, shard: Shard, click: Click, offset: int) -> bool:
        """Whether a user's profile must be published first: it would forget clicks that no learner has seen yet."""
        profile = shard.profile(click.user_id)
        if profile.fresh < self._config.profile.history or offset <= profile.applied:
            return False
        self._arrived.setdefault((shard.partition, click.user_id), Ready(shard, click.user_id))
        return True

    def _apply(self, shard: Shard, click: Click, record: Record, now: float, wall_ms: int) -> None:
        if click.ts > wall_ms:  # a clock that runs ahead must not make an item unseen, or a list fresher than now
            if click.ts > wall_ms + self._config.limits.future_ms:
                self._metrics.clamped.inc()
            click = msgspec.structs.replace(click, ts=wall_ms)
        user_id = click.user_id
        profile = shard.profile(user_id)
        if self._config.atomic and record.offset <= profile.applied:
            return  # read again; the list that contains it became visible together with the profile
        before, clicks = profile.applied, profile.clicks
        if profile.apply(click, record.offset, self._items, self._config.profile):
            self._count_hit(shard, click)
        owed = shard.owed.get(user_id)
        if owed is None:
            owed = shard.owed[user_id] = Owed(record, now, click.ts)
        else:
            owed.records.append(record)
        owed.event_ts = max(owed.event_ts, click.ts)
        owed.changed |= profile.applied > before
        key = (shard.partition, user_id)
        if profile.clicks > clicks:
            self._to_encode[key] = None
            if key in self._arrived and self._arrived[key].same:
                del self._arrived[key]  # his history is another one now
        elif profile.encoded >= profile.applied and key not in self._to_encode:
            # nothing that BERT would read: the same list again, or one without what was dismissed
            self._arrived.setdefault(key, Ready(shard, user_id, same=True))

    def _count_hit(self, shard: Shard, click: Click) -> None:
        served = shard.served.get(click.user_id)
        if served is None or click.event in self._config.profile.negative_events:
            return
        self._metrics.hit_attempts.labels(ARM).inc()
        if self._items.find(click.item_id) in served:
            self._metrics.hits.labels(ARM).inc()

    # -- encoding -----------------------------------------------------------------------------------------------

    def _offer(self) -> None:
        """Hand to the encoder what it has room for: first who is owed a list, then who was served without it."""
        free = self._outlet.capacity - self._outlet.pending
        self._offer_some(list(islice(self._to_encode, max(0, free))))
        if not self._to_encode:
            # about a batch: who clicks next must not stand behind a long line of those who were served already
            free = max(1, self._outlet.capacity // _BEHIND) - self._outlet.pending
            behind = ((n, user_id) for n, shard in self._shards.items() for user_id in shard.behind)
            self._offer_some(list(islice(behind, max(0, free))))

    def _offer_some(self, keys: Sequence[_Key]) -> None:
        if not keys:
            return
        tokens = self._items.tokens
        profiles = [self._shards[number].profile(user_id) for number, user_id in keys]
        last = self._config.encoded_clicks
        histories = [
            [tokens[row] for row in profile.rows[: -last - 1 : -1] if len(tokens[row])] for profile in profiles
        ]
        inputs = iter(self._encoder.inputs([history for history in histories if history]))
        for key, profile, history in zip(keys, profiles, histories, strict=True):
            shard = self._shards[key[0]]
            if not history:  # none of his items is encoded yet: there is nothing to read
                profile.encoded = profile.applied
                if key[1] in shard.owed:
                    self._arrived[key] = Ready(shard, key[1])
            elif not self._outlet.submit(key, next(inputs), profile.applied):
                return
            else:
                self._submitted.add(key)
            self._to_encode.pop(key, None)
            shard.behind.pop(key[1], None)

    def _collect(self) -> None:
        if drained := self._outlet.drain():
            failpoints.reach("after-encode")
        for encoded in drained:
            key = cast(_Key, encoded.key)
            shard = self._shards.get(key[0])
            self._submitted.discard(key)
            if shard is None:
                continue
            if encoded.error is not None:
                log.error("updater: a history could not be encoded", exc_info=encoded.error)
            self._arrived[key] = Ready(shard, key[1], encoded.vector, cast(int, encoded.tag))

    def _overdue(self, now: float) -> None:
        """Whoever has waited for the encoder beyond the deadline is served without it."""
        for number, shard in self._shards.items():
            for user_id, owed in shard.owed.items():
                if now - owed.since < self._config.deadline_s:
                    break  # in order of arrival: the rest is younger
                self._arrived.setdefault((number, user_id), Ready(shard, user_id))

    # -- lists --------------------------------------------------------------------------------------------------

    def poll(self, now: float) -> Work | None:
        """See :class:`~consumers.stage.Stage`."""
        self._knowledge.follow(now)
        self._collect()
        self._overdue(now)
        self._offer()
        if now < self._next_publish:
            return None
        messages: list[Message] = []
        self._in_hand.clear()  # an earlier Work was published, or did not take effect
        for made in self._make(list(islice(self._arrived.values(), self._config.batch_users))):
            self._settle(made)
            messages += made.messages
        done = self._done_below()
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
        """A user leaves the stage; if BERT has not read his newest clicks, he is remembered for later."""
        self._arrived.pop(one.key, None)
        waited = one.key in self._to_encode
        self._to_encode.pop(one.key, None)
        profile = one.shard.profile(one.user_id)
        if profile.encoded >= profile.applied:
            one.shard.behind.pop(one.user_id, None)
        elif waited:
            one.shard.behind[one.user_id] = None

    def _settle(self, made: Made) -> None:
        self._done(made.ready)
        self._in_hand.append((made, self._lists.settle(made)))
        old, new = made.layer_before, made.profile.layer
        if old and new and old != new:
            self._metrics.layer_changes.labels("fine").inc()
            if old.partition(".")[0] != new.partition(".")[0]:
                self._metrics.layer_changes.labels("coarse").inc()

    def published(self, work: Work) -> None:
        """Count how fresh the lists were when the broker had them."""
        wall_ms, now = self._wall() * 1000, self._clock()
        for made, owed in self._in_hand:
            self._metrics.lists.labels(str(made.encoded).lower()).inc()
            if owed is not None:
                self._metrics.freshness.observe(max(0.0, (wall_ms - owed.event_ts) / 1000))
                self._metrics.processing.observe(now - owed.since)
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
            m for m in work.messages if (m.partition, m.key) not in gone or m.topic == self._topics.dead_letters
        ]
        return Work(messages + self._diversion.take(self._done_below()), work.offsets)

    def _divert_all(self, owed: Owed | None, error: Exception) -> None:
        for record in owed.records if owed else ():
            self._diversion.divert(record, error)

    def idle(self) -> bool:
        """See :class:`~consumers.stage.Stage`. Users who were served without the encoder do not hold up a stop."""
        return not self._arrived and not self._diversion and all(not shard.owed for shard in self._shards.values())

    def close(self) -> None:
        """See :class:`~consumers.stage.Stage`."""
        self._knowledge.close()
