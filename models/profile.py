"""One user's state and how a click changes it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from models.events import Click
from models.items import ItemStore
from models.records import SEEN, HistoryEntry, ProfileRecord, encode, from_half, half

HISTORY: Final = 50
"""Clicks that a profile keeps."""


@dataclass(slots=True, kw_only=True, frozen=True)
class ProfileLimits:
    """What a profile remembers."""

    history: int = HISTORY
    """Last clicks kept, in order."""
    seen: int = 5_000
    """Items remembered as seen; beyond it the oldest is forgotten."""
    negative_events: tuple[str, ...] = ("dismiss",)
    """Event kinds that say no: the item is remembered, never repeated, and teaches nothing."""


@dataclass(slots=True)
class Profile:
    """One user.

    Attributes
    ----------
    applied
        Offset of the last click applied, -1 before the first.
    encoded
        Offset of the last click that ``vector`` has seen through BERT.
    rows, times, events, event_hashes
        The last clicks, oldest first: item row, ms since the epoch, kind, hash of the event id (0 without one).
    fresh
        How many clicks at the end of the history are newer than the last published record.
    seen
        Item hash → (seconds since the epoch, event kind), in the order in which they were last seen.
    vector
        float32 [dimension], unit length, or None before the first known item.
    """

    user_id: str
    applied: int = -1
    encoded: int = -1
    clicks: int = 0
    fresh: int = 0
    rows: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    event_hashes: list[int] = field(default_factory=list)
    seen: dict[int, tuple[int, str]] = field(default_factory=dict)
    vector: NDArray[np.float32] | None = None
    layer: str = ""

    def apply(self, click: Click, offset: int, items: ItemStore, limits: ProfileLimits = ProfileLimits()) -> bool:
        """Take in a click; False if it changes nothing (replayed, or an event id that is known already)."""
        if offset <= self.applied:
            return False
        current = self.encoded >= self.applied
        self.applied = offset
        mark = _event_hash(click.event_id) if click.event_id is not None else 0
        if mark and mark in self.event_hashes:
            if current:
                self.encoded = offset  # the history is as BERT knows it
            return False
        row = items.row(click.item_id)
        key = int(items.hashes[row])
        self.seen.pop(key, None)
        self.seen[key] = (click.ts // 1000, click.event)
        if len(self.seen) > limits.seen:
            del self.seen[next(iter(self.seen))]
        if click.event in limits.negative_events:
            if current:
                self.encoded = offset
            return True
        self.clicks += 1
        self.fresh = min(self.fresh + 1, limits.history)
        self.rows.append(row)
        self.times.append(click.ts)
        self.events.append(click.event)
        self.event_hashes.append(mark)
        if len(self.rows) > limits.history:
            del self.rows[0], self.times[0], self.events[0], self.event_hashes[0]
        return True

    def record(self, items: ItemStore, now_ms: int) -> bytes:
        """The profile as it goes to its topic (msgpack of :class:`~models.records.ProfileRecord`)."""
        seen = np.empty(len(self.seen), SEEN)
        kinds: tuple[str, ...] = ()
        if self.seen:
            seen["item"] = np.fromiter(self.seen, np.uint64, len(self.seen))
            seen["at"], events = zip(*self.seen.values(), strict=True)
            kinds = tuple(dict.fromkeys(events))
            if len(kinds) > 1:  # a hostile user may have thousands
                places = {kind: place for place, kind in enumerate(kinds)}
                seen["event"] = [places[event] for event in events]
            else:
                seen["event"] = 0
        named = map(items.ids.__getitem__, self.rows)
        return encode(
            ProfileRecord(
                applied=self.applied,
                encoded=self.encoded,
                clicks=self.clicks,
                fresh=self.fresh,
                # a plain tuple is written as the struct is, and made three times as fast
                history=cast(
                    "tuple[HistoryEntry, ...]",
                    tuple(zip(named, self.times, self.events, self.event_hashes, strict=True)),
                ),
                seen=seen.tobytes(),
                events=kinds,
                vector=b"" if self.vector is None else half(self.vector),
                layer=self.layer,
                updated_ms=now_ms,
            )
        )

    @classmethod
    def restore(cls, user_id: str, record: ProfileRecord, items: ItemStore) -> Profile:
        """The profile that a record was made from; without its vector, if that is another model's."""
        seen = np.frombuffer(record.seen, SEEN)
        history = record.history
        vector = from_half(record.vector)
        return cls(
            user_id=user_id,
            applied=record.applied,
            encoded=record.encoded,
            clicks=record.clicks,
            rows=[items.row(entry.item_id) for entry in history],
            times=[entry.ts for entry in history],
            events=[entry.event for entry in history],
            event_hashes=[entry.event_hash for entry in history],
            seen={
                key: (at, record.events[kind])
                for key, at, kind in zip(
                    seen["item"].tolist(), seen["at"].tolist(), seen["event"].tolist(), strict=True
                )
            },
            vector=vector if len(vector) == items.dimension else None,
            layer=record.layer,
        )


def _event_hash(event_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "little") >> 1 or 1
