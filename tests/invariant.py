"""What must hold after every fault, checked against a single-threaded oracle that replays the same clicks."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from bookshop import Bookshop

from consumers.client import Record
from models.errors import InvalidEvent
from models.events import decode_click
from models.items import ItemStore
from models.profile import Profile, ProfileLimits
from models.records import SEEN, ProfileRecord, Recommendation, decode

LATEST = 2**62
"""Later than any time that a click can have, ms."""

Where = tuple[int, int]
"""Partition and offset."""


@dataclass
class Outcome:
    """What was found.

    Attributes
    ----------
    clicks, lists, letters
        How many there are; of the dead letters each click's is counted once.
    uncommitted
        Partitions whose committed offset is not their end: (committed, end).
    missing
        Clicks below the committed offset with neither list nor dead letter.
    disordered
        Lists that came after a newer one of the same user.
    repeated_lists, repeated_letters
        Those that came again, beyond the first.
    differences
        Users whose stored profile is not the oracle's.
    """

    clicks: int
    lists: int
    letters: int
    uncommitted: dict[int, tuple[int, int]]
    missing: list[Where]
    disordered: list[str]
    repeated_lists: int
    repeated_letters: int
    differences: list[str]


def check(shop: Bookshop, *, once: bool, clamped_since: int = LATEST) -> Outcome:
    """The master invariant.

    * Every click below the committed offset is in a list of its user, or in exactly one dead letter and in no profile.
    * The final profiles are those that the oracle makes of the same clicks.
    * ``once``: a reader of committed records sees each source offset of a user once (once more where BERT had no time
      at first), in order, and each dead letter once.

    Parameters
    ----------
    clamped_since
        When the test began, ms since the epoch, if some clicks are from the future: they count as of their reading, so
        times from here on are not compared.
    """
    found = compare(shop, clamped_since=clamped_since)
    assert not found.uncommitted, f"something was never committed: {found.uncommitted}"
    if once:
        assert not found.disordered, f"a list from before a newer one: {found.disordered}"
        assert not found.repeated_lists, "source offsets that were seen twice"
        assert not found.repeated_letters, "dead letters that came twice"
    assert not found.missing, f"below the committed offset, and in no list or dead letter: {found.missing}"
    assert not found.differences, f"not as the oracle has them: {found.differences}"
    return found


def compare(shop: Bookshop, bystanders: str | None = None, clamped_since: int = LATEST) -> Outcome:
    """What the topics hold against what the oracle makes of the clicks.

    Parameters
    ----------
    bystanders
        Users whose ids begin with this have profiles of before, and never click.
    clamped_since
        See :func:`check`.
    """
    clicks = shop.records(shop.topics.clicks)
    committed, ends = shop.committed(), shop.ends()
    lists = shop.records(shop.topics.recommendations)
    letters = Counter(map(_origin, shop.records(shop.topics.dead_letters)))
    assert set(letters) <= {(r.partition, r.offset) for r in clicks}

    newest: dict[tuple[int, str], int] = defaultdict(lambda: -1)
    seen: Counter[tuple[int, str, int, bool]] = Counter()
    disordered = []
    for record in lists:
        made = msgspec.json.decode(record.value or b"", type=Recommendation)
        user = (record.partition, made.user_id)
        assert made.source.partition == record.partition
        if made.source.offset < newest[user]:
            disordered.append(f"{user} at {made.source.offset}")
        newest[user] = max(newest[user], made.source.offset)
        seen[(*user, made.source.offset, made.encoded)] += 1

    expected, invalid = replay(clicks, shop, set(letters), clamped_since)
    missing = []
    for record in clicks:
        where = (record.partition, record.offset)
        if record.offset >= committed[record.partition] or where in letters:
            continue
        if where in invalid:
            missing.append(where)
        else:
            user = (record.partition, decode_click(record.value, record.headers).user_id)
            if newest[user] < record.offset:
                missing.append(where)

    stored = {
        (r.partition, user): _plain(decode(r.value, ProfileRecord), clamped_since)
        for r in shop.records(shop.topics.profiles)
        if not (user := (r.key or b"").decode()).startswith(bystanders or "\0")
    }
    return Outcome(
        clicks=len(clicks),
        lists=len(lists),
        letters=len(letters),
        uncommitted={n: (committed[n], end) for n, end in ends.items() if committed[n] != end},
        missing=missing,
        disordered=disordered,
        repeated_lists=sum(n - 1 for n in seen.values()),
        repeated_letters=letters.total() - len(letters),
        differences=[str(u) for u in stored.keys() | expected.keys() if stored.get(u) != expected.get(u)],
    )


def replay(
    clicks: list[Record], shop: Bookshop, diverted: set[Where], clamped_since: int = LATEST
) -> tuple[dict[tuple[int, str], dict[str, Any]], set[Where]]:
    """The profiles that one thread makes of the clicks, one after the other; and the offsets that are no clicks."""
    items, limits = ItemStore(4), ProfileLimits()
    profiles: dict[tuple[int, str], Profile] = {}
    invalid: set[Where] = set()
    for record in sorted(clicks, key=lambda r: (r.partition, r.offset)):
        where = (record.partition, record.offset)
        try:
            click = decode_click(record.value, record.headers)
        except InvalidEvent:
            invalid.add(where)
            continue
        if where not in diverted:
            user = (record.partition, click.user_id)
            click = msgspec.structs.replace(click, ts=min(click.ts, clamped_since))
            profiles.setdefault(user, Profile(click.user_id)).apply(click, record.offset, items, limits)
    plain = {
        user: _plain(decode(profile.record(items, 0), ProfileRecord), clamped_since)
        for user, profile in profiles.items()
        if profile.applied >= 0
    }
    return plain, invalid


def _plain(record: ProfileRecord, latest: int) -> dict[str, Any]:
    """A profile without what depends on the moment at which it was written (its vector, its layer, its time)."""
    seen = np.frombuffer(record.seen, SEEN)
    return {
        "applied": record.applied,
        "clicks": record.clicks,
        "history": tuple(msgspec.structs.replace(entry, ts=min(entry.ts, latest)) for entry in record.history),
        "seen": {int(key): (min(int(at), latest // 1000), record.events[kind]) for key, at, kind in seen.tolist()},
    }


def _origin(record: Record) -> Where:
    headers = dict(record.headers)
    return (
        int.from_bytes(headers["kafka_dlt-original-partition"] or b"", "big"),
        int.from_bytes(headers["kafka_dlt-original-offset"] or b"", "big"),
    )
