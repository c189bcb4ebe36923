"""Items that are not on offer any more leave the lists that are already published.

Once a second the items on offer are compared with those of a second ago: whatever the reason (withdrawn, unavailable,
expired, blocked), whoever has one of those that went in his list gets his list again, without the encoder. Lists of
partitions that have just come are read back from ``recommendations``, in slices between the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from consumers.client import Record
from consumers.metrics import Metrics
from consumers.shard import Shard, UserKey
from consumers.tables import OpenTables, TableReader
from models.errors import InvalidEvent
from models.recommender import Recommender
from producers.topics import Topics

LOOK_S: Final = 1.0
"""Time between two looks at what is on offer, s: so much later, at most, the lists are made again."""

AGAIN_S: Final = 30.0
"""Time until a struck list that did not go out is made again, s: what fails may fail each time, and is told each time.
"""

_SLICE: Final = 500
"""Lists read back at a time: some milliseconds."""


class _Item(msgspec.Struct):
    item_id: str


class _Listed(msgspec.Struct):
    """As much of a list as is needed."""

    items: list[_Item]


_listed: Final = msgspec.json.Decoder(_Listed)


class Striking:
    """Finds the users whose lists hold what is not on offer any more.

    Parameters
    ----------
    recommender
        Knows what is on offer. What waits for a vector of this model counts as on offer here: it comes back, and is no
        reason to strike unless it goes meanwhile.
    """

    def __init__(self, recommender: Recommender, open_tables: OpenTables, topics: Topics, metrics: Metrics) -> None:
        self._recommender = recommender
        self._items = recommender.items
        self._open_tables = open_tables
        self._topics = topics
        self._metrics = metrics
        self._loading: list[tuple[TableReader, Mapping[int, Shard]]] = []
        self._offered: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._listed: set[int] = set()
        self._waiting: dict[UserKey, None] = {}
        self._again: dict[UserKey, float] = {}  # whose list is to be looked at, and from when on
        self._next_look = 0.0
        self._users_revision = 0

    def assigned(self, fresh: Mapping[int, Shard]) -> None:
        """Begin to read the lists of these partitions back."""
        if not fresh:
            return

        def take(record: Record) -> None:
            rows = None if record.value is None else self._rows(record.value)
            fresh[record.partition].served.load((record.key or b"").decode(errors="replace"), rows)

        self._loading.append((self._open_tables({self._topics.recommendations: take}, fresh), fresh))

    def _rows(self, value: bytes) -> list[int]:
        try:
            return [self._items.mention(item.item_id) for item in _listed.decode(value).items]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidEvent(f"Recommendation: {error}") from None

    def follow(self, now: float, wall_ms: int, shards: Mapping[int, Shard]) -> None:
        """Read lists back, and see what is not on offer any more. ``now`` is monotonic, s."""
        loaded = self._load()
        if loaded or now >= self._next_look:
            self._recommender.follow()
            filters = self._recommender.filters
            offered = filters.offered(wall_ms) | filters.awaited(wall_ms)
            if now >= self._next_look:
                self._next_look = now + LOOK_S
                if (gone := self._gone(offered)).any():
                    self._strike(gone, shards)
                if self._users_revision != (revision := filters.users.revision):
                    self._users_revision = revision
                    self._strike_users(shards)
                self._strike_again(now, offered, shards)
            for fresh in loaded:
                ours = {n: s for n, s in fresh.items() if shards.get(n) is s}
                self._strike(~offered, ours)  # whatever it was before this process began
                self._strike_users(ours)
        self._metrics.strike_queue.set(len(self._waiting))

    def listed(self, rows: Iterable[int]) -> None:
        """A list with these items has been published."""
        self._listed.update(rows)

    def failed(self, key: UserKey, now: float, *, struck: bool) -> None:
        """A user's list did not go out, and the one that he has stays: it may hold what only this one was without.

        Parameters
        ----------
        now
            Monotonic, s.
        struck
            The list was made for that alone, and would fail again now.
        """
        self._again[key] = now + AGAIN_S if struck else now

    def _gone(self, offered: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Items that were on offer at the last look, or in a list since then, and are not now."""
        before = np.zeros(len(offered), np.bool_)
        before[: len(self._offered)] = self._offered
        before[list(self._listed)] = True
        self._listed.clear()
        self._offered = offered
        return before & ~offered

    def _load(self) -> list[Mapping[int, Shard]]:
        """Read on; the partitions whose lists are all known now."""
        if not self._loading:
            return []
        reader, fresh = self._loading[0]
        reader.poll(max_records=_SLICE)
        if not reader.caught_up():
            return []
        reader.close()
        del self._loading[0]
        for shard in fresh.values():
            shard.served.loaded()
        return [fresh]

    def _strike(self, gone: NDArray[np.bool_], shards: Mapping[int, Shard]) -> None:
        for number, shard in shards.items():
            for user_id in shard.served.holding(gone):
                self._waiting[number, user_id] = None

    def _strike_users(self, shards: Mapping[int, Shard]) -> None:
        """Whose list holds what the policy blocks for him alone."""
        users = self._recommender.filters.users
        for number, shard in shards.items():
            for user_id in users.users:
                if np.isin(shard.served.rows(user_id), users.rows(user_id)).any():
                    self._waiting[number, user_id] = None

    def _strike_again(self, now: float, offered: NDArray[np.bool_], shards: Mapping[int, Shard]) -> None:
        """Whose list holds what it should not, of those whose next list failed."""
        users = self._recommender.filters.users
        for key in [key for key, since in self._again.items() if since <= now]:
            del self._again[key]
            number, user_id = key
            if (shard := shards.get(number)) is None:  # another worker's by now
                continue
            rows = shard.served.rows(user_id)
            if not offered[rows[rows >= 0]].all() or np.isin(rows, users.rows(user_id)).any():
                self._waiting[key] = None

    def take(self, room: int) -> list[UserKey]:
        """So many of the users whose lists are to be made again, those who wait longest first."""
        taken = list(islice(self._waiting, room))
        for key in taken:
            del self._waiting[key]
        self._metrics.lists_struck.inc(len(taken))
        return taken

    def forget_partition(self, number: int) -> None:
        """It is another worker's now."""
        self._waiting = {key: None for key in self._waiting if key[0] != number}
        self._again = {key: since for key, since in self._again.items() if key[0] != number}

    def close(self) -> None:
        """Stop reading."""
        for reader, _ in self._loading:
            reader.close()
        self._loading = []
