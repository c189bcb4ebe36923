"""One user's state and how a click changes it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from models.events import Click
from models.items import ItemStore
from models.pace import Pace
from models.records import OFTEN, SEEN, HistoryEntry, ProfileRecord, encode, from_half, half

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
    pace: Pace = field(default_factory=Pace)
    """How many clicks in a minute may teach neighbours and layers."""


@dataclass(slots=True)
class Profile:
    """One user.

    Attributes
    ----------
    applied
        Offset of the last click applied, -1 before the first.
    encoded
        Offset of the last click that ``vector`` has seen through BERT.
    rows, names, times, events, event_hashes
        The last clicks, oldest first: item row (``nowhere`` for an item that has none), its id, ms since the epoch,
        kind, hash of the event id (0 without one).
    fresh
        How many clicks at the end of the history are newer than the last published record.
    seen
        Item hash → (seconds since the epoch, event kind), in the order in which they were last seen.
    often
        Item hash → how many clicks, of those items in ``seen`` that he has clicked more than once.
    erased
        Nothing of before this moment is in here, ms since the epoch; 0: nothing was ever erased.
    paced, damped
        See :mod:`models.pace`; the clicks that teach nothing, each by its number among all of the user's clicks.
    again
        Which of the ``fresh`` clicks were on an item that he had met before, by number as ``damped``, and when he last
        had, seconds since the epoch.
    vector
        float32 [dimension], unit length, or None before the first known item.
    layer_before
        The layer in the last published record.
    """

    user_id: str
    applied: int = -1
    encoded: int = -1
    clicks: int = 0
    fresh: int = 0
    rows: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    event_hashes: list[int] = field(default_factory=list)
    seen: dict[int, tuple[int, str]] = field(default_factory=dict)
    often: dict[int, int] = field(default_factory=dict)
    vector: NDArray[np.float32] | None = None
    layer: str = ""
    layer_before: str = ""
    erased: int = 0
    paced: int = 0
    damped: list[int] = field(default_factory=list)
    again: dict[int, int] = field(default_factory=dict)

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
        key = items.hash_of(click.item_id)
        met = self.seen.pop(key, None)
        self.seen[key] = (click.ts // 1000, click.event)
        if len(self.seen) > limits.seen:
            oldest = next(iter(self.seen))
            del self.seen[oldest]
            self.often.pop(oldest, None)
        if click.event in limits.negative_events:
            if current:
                self.encoded = offset
            return True
        self.clicks += 1
        if not self.fresh:
            self.again = {}
        if met is not None:
            self.again[self.clicks] = met[0]
            if met[1] not in limits.negative_events:
                self.often[key] = self.often.get(key, 1) + 1
        self.fresh = min(self.fresh + 1, limits.history)
        row = items.mention(click.item_id)
        self.rows.append(row)
        self.names.append(click.item_id if row == items.nowhere else items.ids[row])
        self.times.append(click.ts)
        self.events.append(click.event)
        self.event_hashes.append(mark)
        if len(self.rows) > limits.history:
            del self.rows[0], self.names[0], self.times[0], self.events[0], self.event_hashes[0]
        self.paced, teaches = limits.pace.take(self.paced, click.ts)
        if not teaches:
            oldest = self.clicks - len(self.rows)
            self.damped = [number for number in self.damped if number > oldest]
            self.damped.append(self.clicks)
        return True

    def place(self, items: ItemStore) -> None:
        """Look again for the rows of items that had none: they may have been described in the meantime."""
        if items.nowhere in self.rows:
            self.rows = [items.mention(name) for name in self.names]

    @property
    def last_ms(self) -> int:
        """When the user last did something, ms since the epoch (to the second, if it was a dismissal); 0: never."""
        seen = next(reversed(self.seen.values()), (0, ""))
        return max(self.times[-1] if self.times else 0, seen[0] * 1000)

    def erase(self, until: int, items: ItemStore) -> bool:
        """Forget all of up to this moment, ms since the epoch; False if nothing is left.

        Of what came later the last clicks and what was seen stay. The user's vector and layer are of both, so they go.
        """
        kept = [i for i, ts in enumerate(self.times) if ts > until]
        self.fresh = sum(i >= len(self.times) - self.fresh for i in kept)
        for column in ("rows", "names", "times", "events", "event_hashes"):
            values = getattr(self, column)
            setattr(self, column, [values[i] for i in kept])
        self.seen = {item: seen for item, seen in self.seen.items() if seen[0] * 1000 > until}
        for name, ts, event in zip(self.names, self.times, self.events, strict=True):
            # seen within the very second of the erasure, but after it: the clicks know it to the millisecond
            self.seen.setdefault(items.hash_of(name), (ts // 1000, event))
        counts = Counter(map(items.hash_of, self.names))
        self.often = {item: count for item, count in counts.items() if count > 1}
        self.clicks = len(kept)
        self.encoded, self.vector, self.layer, self.layer_before = -1, None, "", ""
        self.erased, self.paced, self.damped, self.again = until, 0, [], {}
        return bool(self.rows or self.seen)

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
        again = {self.clicks - number: at for number, at in self.again.items() if self.clicks - number < self.fresh}
        return encode(
            ProfileRecord(
                applied=self.applied,
                encoded=self.encoded,
                clicks=self.clicks,
                fresh=self.fresh,
                # a plain tuple is written as the struct is, and made three times as fast
                history=cast(
                    "tuple[HistoryEntry, ...]",
                    tuple(zip(self.names, self.times, self.events, self.event_hashes, strict=True)),
                ),
                seen=seen.tobytes(),
                events=kinds,
                vector=b"" if self.vector is None else half(self.vector),
                layer=self.layer,
                updated_ms=now_ms,
                erased_ms=self.erased,
                paced_ms=self.paced,
                damped=tuple([self.clicks - number for number in self.damped]),
                layer_before=self.layer_before,
                again=tuple(again),
                again_at=tuple(again.values()),
                often=_packed(self.often) if self.often else b"",
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
            rows=[items.mention(entry.item_id) for entry in history],
            names=[entry.item_id for entry in history],
            times=[entry.ts for entry in history],
            events=[entry.event for entry in history],
            event_hashes=[entry.event_hash for entry in history],
            seen={
                key: (at, record.events[kind])
                for key, at, kind in zip(
                    seen["item"].tolist(), seen["at"].tolist(), seen["event"].tolist(), strict=True
                )
            },
            often=dict(np.frombuffer(record.often, OFTEN).tolist()),
            vector=vector if len(vector) == items.dimension else None,
            layer=record.layer,
            layer_before=record.layer,
            erased=record.erased_ms,
            paced=record.paced_ms,
            damped=[record.clicks - back for back in record.damped],
        )


def _packed(often: Mapping[int, int]) -> bytes:
    packed = np.empty(len(often), OFTEN)
    packed["item"] = np.fromiter(often, np.uint64, len(often))
    packed["times"] = np.minimum(np.fromiter(often.values(), np.int64, len(often)), np.iinfo(np.uint16).max)
    return packed.tobytes()


def _event_hash(event_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "little") >> 1 or 1
