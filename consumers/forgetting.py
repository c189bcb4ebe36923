"""What a worker deletes of its users: all of those who asked for it, and those who have not come for long.

A user's list gets its tombstone first, his profile (which holds what he had seen) once that is acknowledged: a worker
that dies between the two leaves a profile that says what is still to be done. An erased user of whom nothing is known
gets a tombstone on ``profiles`` all the same: a receipt waits for one from every partition.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Final

from consumers.erased import Erased, Until
from consumers.metrics import Metrics
from consumers.shard import Shard, UserKey
from models.items import ItemStore
from producers.publisher import Message
from producers.topics import Topics

log = logging.getLogger(__name__)

_AGAIN_MS: Final = 7 * 86_400_000
"""How long after its order an erasure's proof is written again at every assignment: the worker before may have died
without."""
_SLICE: Final = 500
"""Profiles looked at in one step of the sweep: some milliseconds."""
_SWEEP_S: Final = 1.0
"""Time between two steps, s: a million profiles take half an hour."""


class Forgetting:
    """Applies erasures and retention to the users of the owned partitions.

    Parameters
    ----------
    erased
        The erasures.
    retention_s
        How long after his last click a user is kept, s; None: for ever.
    atomic
        A profile and its list become visible together.
    wall
        The time, s since the epoch.
    """

    def __init__(
        self,
        erased: Erased,
        topics: Topics,
        items: ItemStore,
        metrics: Metrics,
        retention_s: float | None,
        atomic: bool,
        wall: Callable[[], float],
    ) -> None:
        self._erased = erased
        self._topics = topics
        self._items = items
        self._metrics = metrics
        self._retention_s = retention_s
        self._atomic = atomic
        self._wall = wall
        self._lists: list[UserKey] = []  # whose list's tombstone is to be written
        self._profiles: list[UserKey] = []  # whose profile's is to be written
        self._sweep: dict[int, list[str]] = {}
        self._next_step = 0.0

    def __bool__(self) -> bool:
        """Whether tombstones wait to be published."""
        return bool(self._lists or self._profiles)

    def restored(self, fresh: Mapping[int, Shard], shards: Mapping[int, Shard]) -> dict[UserKey, bool]:
        """Apply every erasure to partitions that have just been restored; the users concerned as in :meth:`follow`.

        To the partitions that were owned before apply those that were read meanwhile.
        """
        since = int(self._wall() * 1000) - _AGAIN_MS
        lately = [erasure for erasure in self._erased.all() if erasure.ordered_ms > since]
        long_ago = [erasure for erasure in self._erased.all() if erasure.ordered_ms <= since]
        concerned = self._apply(self._erased.new(), shards, proof=True)
        concerned |= self._apply(long_ago, fresh, proof=False) | self._apply(lately, fresh, proof=True)
        if not self._atomic:
            for erasure in lately:
                for number, shard in fresh.items():
                    if shard.knows(erasure.user_id):  # his profile is as it should be, his list may be of before
                        concerned.setdefault((number, erasure.user_id), True)
        return concerned

    def follow(self, now: float, shards: Mapping[int, Shard]) -> dict[UserKey, bool]:
        """Apply the erasures that came since the last call, and look for users who have not come for long.

        Returns the users of whom something was deleted: what is in flight for them is of yesterday. True: a part of
        their clicks came after the erasure, and stays.
        """
        concerned = self._apply(self._erased.follow(now), shards, proof=True)
        if self._retention_s is not None and now >= self._next_step:
            self._next_step = now + _SWEEP_S
            concerned |= self._expire(self._retention_s, shards)
        return concerned

    def take(self, shards: Mapping[int, Shard]) -> list[Message]:
        """The tombstones that are due now. Each call says that what the one before returned is acknowledged."""
        profiles, lists = self._topics.profiles, self._topics.recommendations
        taken = [Message(lists, user_id.encode(), None, number) for number, user_id in self._lists]
        taken += [
            Message(profiles, user_id.encode(), None, number)
            for number, user_id in self._profiles
            if shards[number].published(user_id) is None  # else he has started fresh, and that stands for it
        ]
        self._profiles, self._lists = self._lists, []
        return taken

    def forget_partition(self, number: int) -> None:
        """It is another worker's now, who applies all this again."""
        for name in ("_lists", "_profiles"):
            setattr(self, name, [key for key in getattr(self, name) if key[0] != number])
        self._sweep.pop(number, None)

    def _apply(self, erasures: Iterable[Until], shards: Mapping[int, Shard], *, proof: bool) -> dict[UserKey, bool]:
        """``proof``: whether tombstones are written where nothing is known of a user, too: receipts wait for them."""
        concerned: dict[UserKey, bool] = {}
        for erasure in erasures:
            for number, shard in shards.items():
                if shard.knows(erasure.user_id):
                    if shard.profile(erasure.user_id).erased >= erasure.until:
                        continue  # he started fresh after it
                    self._metrics.forgotten.labels("erased").inc()
                    left = concerned[number, erasure.user_id] = shard.erase(erasure.user_id, erasure.until)
                    if not left:  # else what is left takes the place of what was there
                        self._lists.append((number, erasure.user_id))
                elif proof and erasure.own:
                    self._profiles.append((number, erasure.user_id))
        return concerned

    def _expire(self, retention_s: float, shards: Mapping[int, Shard]) -> dict[UserKey, bool]:
        """One step of the sweep through all profiles of all partitions, again and again."""
        oldest = int((self._wall() - retention_s) * 1000)
        for number, shard in shards.items():
            if number not in self._sweep:
                self._sweep[number] = shard.users()
        expired: dict[UserKey, bool] = {}
        left = _SLICE
        for number in list(self._sweep):
            users = self._sweep[number]
            for user_id in islice(users, left):
                if shards[number].idle_since(user_id, oldest):
                    shards[number].forget(user_id)
                    self._lists.append((number, user_id))
                    expired[number, user_id] = False
            looked = min(left, len(users))
            del users[:looked]
            left -= looked
            if not users:
                del self._sweep[number]  # and from the beginning
            if left <= 0:
                break
        self._metrics.forgotten.labels("expired").inc(len(expired))
        return expired
