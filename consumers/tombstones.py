"""Proof that a user is forgotten: his tombstones, as a reader of committed records sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from consumers.client import Partition, Record
from consumers.tables import OpenTables, TableReader
from models.records import ProfileRecord, decode
from producers.topics import Topics

_SKEW_MS: Final = 60_000
"""How far the clocks of two producers may differ, ms: so much earlier than the order its tombstones are looked for."""


class _List(msgspec.Struct):
    """As much of a list as is needed."""

    event_ts: int


class TombstoneWatch:
    """Follows ``profiles`` and ``recommendations`` and tells in which partitions a user is forgotten.

    A worker writes a profile's tombstone in every partition that it owns, whether or not the user was there; without it
    it has not happened yet. It comes only after the tombstone of a list that was there.
    """

    def __init__(self, open_tables: OpenTables, topics: Topics) -> None:
        self._open_tables = open_tables
        self._topics = topics
        self._reader: TableReader | None = None
        self._until: dict[bytes, int] = {}
        self._missing: dict[bytes, set[Partition]] = {}

    def expect(self, users: Mapping[str, int], since_ms: int) -> None:
        """Watch for these users, in place of those of before.

        Parameters
        ----------
        users
            By the names that they are stored by: the moment up to which they are erased, ms since the epoch.
        since_ms
            When the first of the orders was given: nothing is read from long before it.
        """
        self.close()
        self._until = {user_id.encode(): until for user_id, until in users.items()}
        self._missing = {}
        if not users:
            return
        handlers = {self._topics.profiles: self._profile, self._topics.recommendations: self._list}
        self._reader = self._open_tables(handlers, since_ms=since_ms - _SKEW_MS)
        everywhere = self._reader.available(self._topics.profiles)
        self._missing = {key: set(everywhere) for key in self._until}

    def poll(self) -> None:
        """Read on."""
        if self._reader is not None:
            self._reader.poll()

    def missing(self, user_id: str) -> frozenset[Partition]:
        """Partitions in which a user who is watched for is not forgotten yet."""
        return frozenset(self._missing[user_id.encode()])

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _profile(self, record: Record) -> None:
        if (key := record.key) is not None and key in self._missing:
            fresh = record.value is None or decode(record.value, ProfileRecord).erased_ms >= self._until[key]
            self._see(key, record, fresh)

    def _list(self, record: Record) -> None:
        if (key := record.key) is not None and key in self._missing:
            fresh = record.value is None or msgspec.json.decode(record.value, type=_List).event_ts > self._until[key]
            self._see(key, record, fresh)

    def _see(self, key: bytes, record: Record, forgotten: bool) -> None:
        where = (record.topic, record.partition)
        if forgotten:
            self._missing[key].discard(where)
        else:  # a worker that did not know yet, or had been replaced without noticing
            self._missing[key].add(where)


def still_there(missing: Iterable[Partition]) -> str:
    """Partitions, as they are told to a person."""
    return ", ".join(f"{topic}-{number}" for topic, number in sorted(missing))
