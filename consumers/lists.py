"""From users whose list is due to the messages that carry their lists and profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from consumers.shard import Owed, Shard, UserKey
from consumers.tracing import Carried, Trace, Tracing
from models.profile import Profile
from models.ranked_list import RankedList
from models.recommender import Recommender
from models.records import LayerRef, Recommendation, Source
from producers.publisher import Message
from producers.topics import Topics


@dataclass(slots=True)
class Ready:
    """A user whose list can be made now."""

    shard: Shard
    user_id: str
    vector: NDArray[np.float32] | None = None
    """His history as BERT read it, or None."""
    offset: int = -1
    """Of the last click that ``vector`` contains."""
    same: bool = False
    """Nothing was added to his history: his vector stays as it is."""
    struck: bool = False
    """An item of his list must leave it: the list is made again, and his profile stays as it is."""

    @property
    def key(self) -> UserKey:
        """Partition and user."""
        return self.shard.partition, self.user_id

    @property
    def owed(self) -> Owed | None:
        """What the list settles, None where it only follows up on an unencoded one."""
        return self.shard.owed.get(self.user_id)


class Made(NamedTuple):
    """One user's messages, and what changes once they go out."""

    ready: Ready
    profile: Profile
    messages: tuple[Message, ...]
    record: bytes | None
    """The profile's, None where it has not changed."""
    rows: tuple[int, ...]
    """Items of the list."""
    encoded: bool
    """Whether BERT has read all that is in it."""
    layer_before: str
    """His layer in the record that was published before."""
    published: bytes | None
    """His record as it was published before."""
    trace: Trace | None
    """How it continues the trace of its clicks."""


class ListMaker:
    """Ranks, and writes down what was ranked.

    Parameters
    ----------
    model
        The encoder's name, for the lists.
    length
        Items in a list.
    """

    def __init__(
        self, recommender: Recommender, topics: Topics, model: str, length: int, tracing: Tracing = Carried()
    ) -> None:
        self._recommender = recommender
        self._topics = topics
        self._model = model
        self._length = length
        self._tracing = tracing

    def make(self, ready: Sequence[Ready], now_ms: int) -> list[Made]:
        """The users' lists and profiles as messages.

        Sets their vectors and layers; what is owed to them, and what counts as new in their profiles, stays until
        :meth:`settle`. So a batch that fails half-way can be made again in smaller ones.
        """
        recommender = self._recommender
        profiles = [one.shard.profile(one.user_id) for one in ready]
        recommender.follow()
        self._set_vectors(ready, profiles)
        lists = recommender.recommend(profiles, now_ms, self._length)
        return [
            self._write(one, profile, ranked, now_ms)
            for one, profile, ranked in zip(ready, profiles, lists, strict=True)
        ]

    def settle(self, made: Made) -> Owed | None:
        """The messages go out now: what was owed is paid, what was new is not."""
        shard, user_id = made.ready.shard, made.ready.user_id
        shard.answered(user_id, made.trace.headers if made.trace else None, encoded=made.encoded)
        if made.record is not None:
            made.profile.fresh = 0
            made.profile.layer_before = made.profile.layer
            shard.stored(user_id, made.record)
        return shard.owed.pop(user_id, None)

    def _set_vectors(self, ready: Sequence[Ready], profiles: Sequence[Profile]) -> None:
        encoded = np.zeros((len(ready), self._recommender.items.dimension), np.float32)
        for i, (one, profile) in enumerate(zip(ready, profiles, strict=True)):
            if one.vector is not None:
                encoded[i] = one.vector
            profile.encoded = max(profile.encoded, one.offset)
        vectors = self._recommender.user_vectors(profiles, encoded)
        for one, profile, vector in zip(ready, profiles, vectors, strict=True):
            if not one.same:
                profile.vector = vector if vector.any() else None

    def _write(self, one: Ready, profile: Profile, ranked: RankedList, now_ms: int) -> Made:
        layers, owed, partition = self._recommender.layers, one.owed, one.shard.partition
        # a user of whose items none is encoded has nothing that BERT could read
        encoded = profile.encoded >= profile.applied and (one.same or one.vector is not None)
        made = Recommendation(
            user_id=one.user_id,
            generated_at=now_ms,
            event_ts=owed.event_ts if owed else profile.times[-1] if profile.times else now_ms,
            model=self._model,
            layers_version=layers.version if layers else 0,
            weights_version=self._recommender.weights_version,
            arm=self._recommender.arms.of(one.user_id),
            encoded=encoded,
            source=Source(self._topics.clicks, partition, profile.applied),
            layer=LayerRef(ranked.layer, ranked.label) if ranked.layer else None,
            items=self._recommender.ranked_items(ranked, profile),
        )
        key = one.user_id.encode()
        trace = self._tracing.begin(owed) if owed else None
        if trace is None and encoded and not one.struck and (carried := one.shard.trace(one.user_id)):
            trace = self._tracing.again(carried, made.source)
        headers = trace.headers if trace else ()
        messages = [Message(self._topics.recommendations, key, msgspec.json.encode(made), partition, headers)]
        record = None
        if owed.changed if owed else not one.struck:
            record = profile.record(self._recommender.items, now_ms)
            messages.append(Message(self._topics.profiles, key, record, partition))
        published = one.shard.published(one.user_id)
        rows, before = tuple(ranked.rows), profile.layer_before
        return Made(one, profile, tuple(messages), record, rows, encoded, before, published, trace)
