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

Where = tuple[int, int]
"""Partition and offset."""


@dataclass
class Outcome:
    """What was found, for a test that wants to know more than that it holds."""

    clicks: int
    lists: int
    letters: int
    repeated_lists: int
    repeated_letters: int


def check(shop: Bookshop, *, once: bool, complete: bool = True) -> Outcome:
    """The master invariant.

    * Every click below the committed offset is in a list of its user, or in exactly one dead letter and in no profile.
    * The final profiles are those that the oracle makes of the same clicks.
    * ``once``: a reader of committed records sees each source offset of a user once (once more where BERT had no time
      at first), in order, and each dead letter once.

    Parameters
    ----------
    complete
        Everything must be committed. Otherwise only what is committed is looked at, and profiles not.
    """
    clicks = shop.records(shop.topics.clicks)
    committed = shop.committed()
    lists = shop.records(shop.topics.recommendations)
    letters = Counter(map(_origin, shop.records(shop.topics.dead_letters)))
    if complete:
        assert committed == shop.ends(), "something was never committed"

    newest: dict[tuple[int, str], int] = defaultdict(lambda: -1)
    seen: Counter[tuple[int, str, int, bool]] = Counter()
    for record in lists:
        made = msgspec.json.decode(record.value or b"", type=Recommendation)
        user = (record.partition, made.user_id)
        assert made.source.partition == record.partition
        if once:
            assert made.source.offset >= newest[user], f"{user}: a list from before a newer one"
        newest[user] = max(newest[user], made.source.offset)
        seen[(*user, made.source.offset, made.encoded)] += 1
    repeated = {key: n for key, n in seen.items() if n > 1}
    if once:
        assert not repeated, f"source offsets that were seen twice: {repeated}"
        assert set(letters.values()) <= {1}, f"dead letters that came twice: {letters}"

    expected, invalid = replay(clicks, shop, set(letters))
    for record in clicks:
        where = (record.partition, record.offset)
        if record.offset >= committed[record.partition]:
            continue
        if where in invalid:
            assert letters[where] >= 1, f"{where} is below the committed offset, and has no dead letter"
        elif where not in letters:
            user = (record.partition, decode_click(record.value, record.headers).user_id)
            assert newest[user] >= record.offset, f"{where} is below the committed offset, and in no list"
    assert set(letters) <= {(r.partition, r.offset) for r in clicks}

    if complete:
        stored = {
            (r.partition, (r.key or b"").decode()): _plain(decode(r.value, ProfileRecord))
            for r in shop.records(shop.topics.profiles)
        }
        assert stored.keys() == expected.keys()
        for user, profile in expected.items():
            assert stored[user] == profile, f"{user} is not as the oracle has him"
    return Outcome(
        len(clicks), len(lists), len(letters), sum(n - 1 for n in repeated.values()), letters.total() - len(letters)
    )


def replay(
    clicks: list[Record], shop: Bookshop, diverted: set[Where]
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
            profiles.setdefault(user, Profile(click.user_id)).apply(click, record.offset, items, limits)
    plain = {
        user: _plain(decode(profile.record(items, 0), ProfileRecord))
        for user, profile in profiles.items()
        if profile.applied >= 0
    }
    return plain, invalid


def _plain(record: ProfileRecord) -> dict[str, Any]:
    """A profile without what depends on the moment at which it was written (its vector, its layer, its time)."""
    seen = np.frombuffer(record.seen, SEEN)
    return {
        "applied": record.applied,
        "clicks": record.clicks,
        "history": record.history,
        "seen": {int(key): (int(at), record.events[kind]) for key, at, kind in seen.tolist()},
    }


def _origin(record: Record) -> Where:
    headers = dict(record.headers)
    return (
        int.from_bytes(headers["kafka_dlt-original-partition"] or b"", "big"),
        int.from_bytes(headers["kafka_dlt-original-offset"] or b"", "big"),
    )
