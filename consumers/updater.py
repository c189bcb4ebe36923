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
from typing import cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from consumers.client import Partition, Record
from consumers.diversion import Diversion
from consumers.loop import Work
from consumers.metrics import Metrics
from consumers.shard import Owed, Shard
from consumers.tables import OpenTables
from models.encode_queue import Outlet
from models.encoder import Encoder
from models.errors import DimensionMismatch, InvalidEvent
from models.events import Click, Limits, decode_click
from models.profile import Profile, ProfileLimits
from models.recommender import RankedList, Recommender
from models.records import (
    ItemVector,
    LayerInfo,
    LayerRef,
    LayerTree,
    NeighbourRow,
    Recommendation,
    Source,
    decode,
)
from producers.publisher import Message
from producers.topics import Topics

log = logging.getLogger(__name__)

_Key = tuple[int, str]
"""Partition and user: what the encoder's queue knows a history by."""

ARM = "full"
_TABLES_S = 0.02  # how often the tables are looked at: often enough for a page, rarely enough for the hot path


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
    tables_timeout_s: float = 300.0
    """How long the tables may take to be read at a start, s."""
    profile: ProfileLimits = field(default_factory=ProfileLimits)
    limits: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class _Ready:
    """A user whose list can be made now."""

    shard: Shard
    user_id: str
    vector: NDArray[np.float32] | None = None
    """From the encoder, or None."""
    offset: int = -1
    """Of the last click that ``vector`` contains."""
    same: bool = False
    """Nothing was added to the history: the user's vector stays as it is."""


class Updater:
    """A :class:`~consumers.loop.Stage` in a consumer group on ``clicks``.

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
        self._tables = open_tables(
            {topics.vectors: self._item, topics.layers: self._layer, topics.neighbours: self._neighbour}
        )
        self._open_tables = open_tables
        self._arrived: dict[_Key, _Ready] = {}
        self._committed: dict[int, int] = {}
        self._published: list[tuple[Owed | None, bool]] = []  # what the Work in hand settles, and whether with BERT
        self._next_tables = self._next_publish = 0.0
        self._other_model = 0

    # -- tables -------------------------------------------------------------------------------------------------

    def _item(self, record: Record) -> None:
        item_id = _text(record.key)
        if record.value is None:
            self._items.withdraw(item_id)
            return
        vector = decode(record.value, ItemVector)
        try:
            if vector.model != self._encoder.name:
                raise DimensionMismatch(f"vectors of {vector.model} do not fit those of {self._encoder.name}")
            self._items.put(item_id, vector)
        except DimensionMismatch as error:
            self._other_model += 1
            if self._other_model == 1:
                log.warning("updater: %s; the catalogue role encodes such items again", error)
            raise InvalidEvent("vector: of another model", "validate") from error

    def _layer(self, record: Record) -> None:
        layers, key = self.recommender.layers, _text(record.key)
        if layers is None or record.value is None:
            return
        if key == "tree":
            tree = decode(record.value, LayerTree)
            if tree.model == self._encoder.name:
                layers.put_tree(tree)
        elif key.startswith("layer/"):
            layers.put_layer(decode(record.value, LayerInfo))

    def _neighbour(self, record: Record) -> None:
        row = None if record.value is None else decode(record.value, NeighbourRow)
        self.recommender.neighbours.put(_text(record.key), row)

    def _follow_tables(self, now: float) -> None:
        if now >= self._next_tables:
            self._next_tables = now + _TABLES_S
            self._tables.poll()

    # -- partitions ---------------------------------------------------------------------------------------------

    def assigned(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Read the tables to their ends, then restore the profiles of these partitions."""
        self._tables.catch_up(self._config.tables_timeout_s)
        self.recommender.follow()
        numbers = sorted(number for _, number in partitions)
        fresh = {n: Shard(n, self._items, self._config.hot_profiles) for n in numbers}

        def restore(record: Record) -> None:
            fresh[record.partition].restore(_text(record.key), record.value)
            self._metrics.profiles_restored.inc()

        if numbers:
            reader = self._open_tables({self._topics.profiles: restore}, numbers)
            try:
                reader.catch_up(self._config.tables_timeout_s)
            finally:
                reader.close()
        self._shards.update(fresh)
        profiles = sum(map(len, fresh.values()))
        log.info("updater: restored %d profiles of %d partition(s)", profiles, len(numbers))
        return {(self._topics.clicks, n): shard.applied + 1 for n, shard in fresh.items() if shard.applied >= 0}

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Forget these partitions' users and their work."""
        for _, number in partitions:
            if self._shards.pop(number, None) is None:
                continue
            self._committed.pop(number, None)
            self._to_encode = {key: None for key in self._to_encode if key[0] != number}
            self._arrived = {key: ready for key, ready in self._arrived.items() if key[0] != number}
            gone = {key for key in self._submitted if key[0] == number}
            self._submitted -= gone
            self._outlet.discard(gone)

    # -- clicks -------------------------------------------------------------------------------------------------

    def submit(self, records: Sequence[Record]) -> int:
        """See :class:`~consumers.loop.Stage`. Refuses while too many users wait for a list."""
        room = self._config.owed_users - sum(len(shard.owed) for shard in self._shards.values())
        taken = records[: max(0, room)]
        now, wall_ms = self._clock(), int(self._wall() * 1000)
        for record in taken:
            shard = self._shards[record.partition]
            try:
                click = decode_click(record.value, record.headers, self._config.limits)
                self._apply(shard, click, record.offset, now, wall_ms)
            except Exception as error:
                self._diversion.divert(record, error)
            else:
                self._diversion.passed()
            self._committed.setdefault(shard.partition, record.offset)
            shard.next_offset = record.offset + 1
        self._metrics.clicks.inc(len(taken))
        self._offer()
        return len(taken)

    def _apply(self, shard: Shard, click: Click, offset: int, now: float, wall_ms: int) -> None:
        if click.ts > wall_ms:  # a clock that runs ahead must not make an item unseen, or a list fresher than now
            if click.ts > wall_ms + self._config.limits.future_ms:
                self._metrics.clamped.inc()
            click = msgspec.structs.replace(click, ts=wall_ms)
        user_id = click.user_id
        profile = shard.profile(user_id)
        before, clicks = profile.applied, profile.clicks
        if profile.apply(click, offset, self._items, self._config.profile):
            self._count_hit(shard, click)
        owed = shard.owed.get(user_id)
        if owed is None:
            owed = shard.owed[user_id] = Owed(offset, now, click.ts)
        owed.event_ts = max(owed.event_ts, click.ts)
        owed.changed |= profile.applied > before
        if profile.clicks > clicks:
            self._to_encode[shard.partition, user_id] = None
        elif profile.encoded >= profile.applied and (shard.partition, user_id) not in self._to_encode:
            # nothing that BERT would read: the same list again, or one without what was dismissed
            self._arrived.setdefault((shard.partition, user_id), _Ready(shard, user_id, same=True))

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
        self._offer_some(list(self._to_encode)[:free])
        if not self._to_encode:
            free = self._outlet.capacity // 4 - self._outlet.pending  # the rest stays free for who clicks next
            behind = [
                (n, user_id) for n, shard in self._shards.items() for user_id in list(shard.behind)[: max(0, free)]
            ]
            self._offer_some(behind[: max(0, free)])

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
                    self._arrived[key] = _Ready(shard, key[1])
            elif not self._outlet.submit(key, next(inputs), profile.applied):
                return
            else:
                self._submitted.add(key)
            self._to_encode.pop(key, None)
            shard.behind.pop(key[1], None)

    def _collect(self) -> None:
        for encoded in self._outlet.drain():
            key = cast(_Key, encoded.key)
            shard = self._shards.get(key[0])
            self._submitted.discard(key)
            if shard is None:
                continue
            if encoded.error is not None:
                log.error("updater: a history could not be encoded", exc_info=encoded.error)
            self._arrived[key] = _Ready(shard, key[1], encoded.vector, cast(int, encoded.tag))

    def _overdue(self, now: float) -> None:
        """Whoever has waited for the encoder beyond the deadline is served without it."""
        for number, shard in self._shards.items():
            for user_id, owed in shard.owed.items():
                if now - owed.since < self._config.deadline_s:
                    break  # in order of arrival: the rest is younger
                self._arrived.setdefault((number, user_id), _Ready(shard, user_id))

    # -- lists --------------------------------------------------------------------------------------------------

    def poll(self, now: float) -> Work | None:
        """See :class:`~consumers.loop.Stage`."""
        self._follow_tables(now)
        self._collect()
        self._overdue(now)
        self._offer()
        if now < self._next_publish:
            return None
        ready = list(self._arrived.values())[: self._config.batch_users]
        messages = self._diversion.take()
        if ready:
            messages += self._lists(ready)
        offsets = {}
        for number, shard in self._shards.items():
            offset = shard.committable()
            if offset is not None and offset > self._committed.get(number, -1):
                offsets[self._topics.clicks, number] = self._committed[number] = offset
        if not messages and not offsets:
            return None
        self._next_publish = now + self._config.publish_s
        return Work(messages, offsets)

    def _lists(self, ready: Sequence[_Ready]) -> list[Message]:
        now_ms = int(self._wall() * 1000)
        profiles = [one.shard.profile(one.user_id) for one in ready]
        self.recommender.follow()
        self._set_vectors(ready, profiles)
        layers = [profile.layer for profile in profiles]
        lists = self.recommender.recommend(profiles, now_ms, self._config.list_length)
        self._count_moves(layers, profiles)
        messages: list[Message] = []
        for one, profile, ranked in zip(ready, profiles, lists, strict=True):
            shard, user_id = one.shard, one.user_id
            del self._arrived[shard.partition, user_id]
            owed = shard.owed.pop(user_id, None)
            encoded = profile.encoded >= profile.applied
            if encoded:
                shard.behind.pop(user_id, None)
            elif (shard.partition, user_id) in self._to_encode:
                del self._to_encode[shard.partition, user_id]
                shard.behind[user_id] = None
            key = user_id.encode()
            messages.append(
                Message(
                    self._topics.recommendations, key, self._list(one, profile, ranked, owed, now_ms), shard.partition
                )
            )
            if owed is None or owed.changed:
                record = profile.record(self._items, now_ms)
                profile.fresh = 0
                shard.stored(user_id, record)
                messages.append(Message(self._topics.profiles, key, record, shard.partition))
            shard.served[user_id] = tuple(ranked.rows)
            self._published.append((owed, encoded))
        return messages

    def _count_moves(self, before: Sequence[str], profiles: Sequence[Profile]) -> None:
        for old, new in zip(before, (profile.layer for profile in profiles), strict=True):
            if old and new and old != new:
                self._metrics.layer_changes.labels("fine").inc()
                if old.partition(".")[0] != new.partition(".")[0]:
                    self._metrics.layer_changes.labels("coarse").inc()

    def _set_vectors(self, ready: Sequence[_Ready], profiles: Sequence[Profile]) -> None:
        encoded = np.zeros((len(ready), self._items.dimension), np.float32)
        for i, (one, profile) in enumerate(zip(ready, profiles, strict=True)):
            if one.vector is not None:
                encoded[i] = one.vector
            profile.encoded = max(profile.encoded, one.offset)
        vectors = self.recommender.user_vectors(profiles, encoded)
        for one, profile, vector in zip(ready, profiles, vectors, strict=True):
            if not one.same:
                profile.vector = vector if vector.any() else None

    def _list(self, one: _Ready, profile: Profile, ranked: RankedList, owed: Owed | None, now_ms: int) -> bytes:
        layers = self.recommender.layers
        return msgspec.json.encode(
            Recommendation(
                user_id=one.user_id,
                generated_at=now_ms,
                event_ts=owed.event_ts if owed else profile.times[-1] if profile.times else now_ms,
                model=self._encoder.name,
                layers_version=layers.version if layers else 0,
                arm=ARM,
                encoded=profile.encoded >= profile.applied,
                source=Source(self._topics.clicks, one.shard.partition, profile.applied),
                layer=LayerRef(ranked.layer, ranked.label) if ranked.layer else None,
                items=self.recommender.ranked_items(ranked, profile),
            )
        )

    def published(self, work: Work) -> None:
        """Count how fresh the lists were when the broker had them."""
        wall_ms, now = self._wall() * 1000, self._clock()
        for owed, encoded in self._published:
            self._metrics.lists.labels(str(encoded).lower()).inc()
            if owed is not None:
                self._metrics.freshness.observe(max(0.0, (wall_ms - owed.event_ts) / 1000))
                self._metrics.processing.observe(now - owed.since)
        self._published.clear()

    def idle(self) -> bool:
        """See :class:`~consumers.loop.Stage`. Users who were served without the encoder do not hold up a stop."""
        return not self._arrived and not self._diversion and all(not shard.owed for shard in self._shards.values())

    def close(self) -> None:
        """See :class:`~consumers.loop.Stage`."""
        self._tables.close()


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
