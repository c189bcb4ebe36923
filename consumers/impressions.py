"""What pages have shown to the users of a worker: the topic ``impressions``, read from the side.

Best effort, and so never in the group's offsets: an assignment reads back as far as a show may still count for
something, then what comes, a slice between the work. What cannot be read is counted and left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Final

from consumers.client import Record
from consumers.erased import Erased, Until
from consumers.metrics import Metrics
from consumers.tables import OpenTables, TableReader
from models.events import Limits
from models.impressions import decode_impression
from models.pseudonyms import Pseudonyms
from models.recommender import Recommender
from producers.topics import Topics

_EVERY_S: Final = 0.05
_SLICE: Final = 500
"""Impressions read at a time: some milliseconds."""


class Impressions:
    """Keeps ``recommender.shown``.

    Parameters
    ----------
    erased
        Who asked to be forgotten: what he was shown before that is neither taken nor kept.
    wall
        The time, s since the epoch.
    """

    def __init__(
        self,
        recommender: Recommender,
        erased: Erased,
        pseudonyms: Pseudonyms,
        open_tables: OpenTables,
        topics: Topics,
        metrics: Metrics,
        limits: Limits,
        wall: Callable[[], float],
    ) -> None:
        self._recommender = recommender
        self._shown = recommender.shown
        self._erased = erased
        self._pseudonyms = pseudonyms
        self._open_tables = open_tables
        self._topic = topics.impressions
        self._metrics = metrics
        self._limits = limits
        self._wall = wall
        self._reader: TableReader | None = None
        self._since_ms: dict[int, int] = {}  # of an owned partition: what was produced before its assignment
        self._counted: dict[int, int] = {}  # offsets that this process has counted, those of partitions that went too
        self._next = 0.0
        erased.listen(self._forget)

    def assigned(self, numbers: Iterable[int]) -> None:
        """Read these partitions, too, from as long ago as a show may count."""
        now_ms = int(self._wall() * 1000)
        new = [number for number in numbers if number not in self._since_ms]
        if not new:
            return
        self._since_ms |= dict.fromkeys(new, now_ms)
        since_ms = now_ms - self._shown.keep_s * 1000
        if self._reader is None:
            self._reader = self._open_tables({self._topic: self._take}, new, since_ms=since_ms)
        else:
            self._reader.add([(self._topic, number) for number in new], since_ms)

    def forget_partition(self, number: int) -> None:
        """It is another worker's now."""
        if self._since_ms.pop(number, None) is not None and self._reader is not None:
            self._reader.remove([(self._topic, number)])
            self._shown.forget_partition(number)

    def follow(self, now: float) -> None:
        """Read what is new, if the last look is some time ago. ``now`` is monotonic, s."""
        if self._reader is not None and now >= self._next:
            self._next = now + _EVERY_S
            self._reader.poll(max_records=_SLICE)
            self._shown.forget_before(int(self._wall()) - self._shown.keep_s)

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.close()

    def _take(self, record: Record) -> None:
        number = record.partition
        since_ms = self._since_ms.get(number)
        if since_ms is None:
            return
        live = record.timestamp >= since_ms and record.offset >= self._counted.get(number, 0)
        if live:
            self._counted[number] = record.offset + 1
        impression = decode_impression(record.value, record.headers, self._limits)
        user_id, wall_ms = self._pseudonyms(impression.user_id), int(self._wall() * 1000)
        ts = min(impression.ts, wall_ms)
        # one that is stamped ahead happened, at the latest, when it was produced
        if min(ts, record.timestamp if record.timestamp > 0 else ts) <= self._erased.until(user_id):
            return
        if ts <= wall_ms - self._shown.keep_s * 1000:
            return
        hashes = [self._recommender.items.hash_of(item_id) for item_id in impression.items]
        new = self._shown.put(number, user_id, hashes, ts // 1000, _hash(impression.event_id))
        if new and live:
            self._metrics.impressions.labels(self._recommender.arms.of(user_id)).inc(len(hashes))

    def _forget(self, erasure: Until) -> None:
        self._shown.forget(erasure.user_id, erasure.until // 1000)


def _hash(event_id: str | None) -> int:
    if event_id is None:
        return 0
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "little") or 1
