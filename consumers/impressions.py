"""What pages have shown to the users of a worker: the topic ``impressions``, read from the side.

Whose list holds an item that he has now been shown too often (:mod:`models.fatigue`) gets another one.

Best effort, and so never in the group's offsets: an assignment reads back as far as a show may still count for
something, then what comes, a slice between the work. What cannot be read is counted and left out.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Final

from consumers.client import Record
from consumers.erased import Erased, Until
from consumers.metrics import Metrics
from consumers.shard import Shard, UserKey
from consumers.tables import OpenTables, TableReader
from models.arms import group_of
from models.events import Limits
from models.impressions import decode_impression
from models.pseudonyms import Pseudonyms
from models.recommender import Recommender
from producers.errors import BrokerError
from producers.topics import Topics

log = logging.getLogger(__name__)

_EVERY_S: Final = 0.05
_AGAIN_S: Final = 30.0
"""Time until reading is tried again after the broker refused it, s."""
_SLICE: Final = 200
"""Impressions read at a time, some milliseconds: 4,000 a second. What comes faster for long falls behind, and is left
out once it is too late to count."""


class Impressions:
    """Keeps ``recommender.shown``.

    Parameters
    ----------
    shards
        The owned partitions, as they are at any time.
    erased
        Who asked to be forgotten: what he was shown before that is neither taken nor kept.
    wall
        The time, s since the epoch.
    """

    def __init__(
        self,
        recommender: Recommender,
        shards: Mapping[int, Shard],
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
        self._shards = shards
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
        self._unread: set[int] = set()  # owned, and not read yet
        self._waiting: dict[UserKey, None] = {}
        self._next = 0.0
        erased.listen(self._forget)

    def assigned(self, numbers: Iterable[int]) -> None:
        """Read these partitions, too, from as long ago as a show may count; at the next :meth:`follow`."""
        new = set(numbers).difference(self._since_ms)
        self._since_ms |= dict.fromkeys(new, int(self._wall() * 1000))
        self._unread |= new

    def forget_partition(self, number: int) -> None:
        """It is another worker's now."""
        if self._since_ms.pop(number, None) is None:
            return
        if number in self._unread:
            self._unread.discard(number)
        elif self._reader is not None:
            self._reader.remove([(self._topic, number)])
        self._drop(number)

    def follow(self, now: float) -> None:
        """Read what is new, if the last look is some time ago. ``now`` is monotonic, s.

        What the broker refuses here is told and tried again later: lists do not depend on it.
        """
        if now < self._next:
            return
        self._next = now + _EVERY_S
        try:
            self._begin()
            if self._reader is not None:
                self._reader.poll(max_records=_SLICE)
        except BrokerError as error:
            log.warning(
                "updater: impressions are not read for %(seconds).0f s: %(error)s",
                {"seconds": _AGAIN_S, "error": error},
            )
            self._next = now + _AGAIN_S
            self.close()
            self._unread = set(self._since_ms)
            for number in self._unread:  # it is read again
                self._drop(number)
        self._shown.forget_before(int(self._wall()) - self._shown.keep_s)

    def _begin(self) -> None:
        if not self._unread:
            return
        since_ms = int(self._wall() * 1000) - self._shown.keep_s * 1000
        if self._reader is None:
            self._reader = self._open_tables({self._topic: self._take}, self._unread, since_ms=since_ms)
        else:
            self._reader.add([(self._topic, number) for number in self._unread], since_ms)
        self._unread = set()

    def _drop(self, number: int) -> None:
        self._shown.forget_partition(number)
        self._waiting = {key: None for key in self._waiting if key[0] != number}

    def take(self, room: int) -> list[UserKey]:
        """So many of the users whose lists are to be made again, those who wait longest first."""
        taken = list(islice(self._waiting, room))
        for key in taken:
            del self._waiting[key]
        self._metrics.lists_fatigued.inc(len(taken))
        return taken

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

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
        if not self._shown.put(number, user_id, hashes, ts // 1000, _hash(impression.event_id)):
            return
        if live:
            self._metrics.impressions.labels(self._recommender.arms.of(user_id), group_of(user_id)).inc(len(hashes))
        if self._recommender.fatigue:
            self._refresh(number, user_id, hashes, wall_ms // 1000)

    def _refresh(self, number: int, user_id: str, hashes: list[int], now: int) -> None:
        shard = self._shards.get(number)
        if shard is None or not shard.knows(user_id):
            return  # of whom nothing is known has everybody's list
        listed = {int(self._recommender.items.hashes[row]) for row in shard.served.rows(user_id).tolist() if row >= 0}
        fatigue, here = self._recommender.fatigue, [item for item in hashes if item in listed]
        # most impressions are not the one too many: for those no profile is looked at
        if (often := fatigue.often(user_id, here, now)) and fatigue.reached(shard.profile(user_id), often, now):
            self._waiting[number, user_id] = None

    def _forget(self, erasure: Until) -> None:
        self._shown.forget(erasure.user_id, erasure.until // 1000)


def _hash(event_id: str | None) -> int:
    if event_id is None:
        return 0
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "little") or 1
