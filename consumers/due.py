"""Whose list is due: his clicks wait for it, or what stands in it has to go."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final

from consumers.impressions import Impressions
from consumers.lists import Ready
from consumers.reencoder import Reencoder
from consumers.shard import Shard, UserKey
from consumers.striking import Striking
from consumers.updater_config import UpdaterConfig
from models.profile import Profile

_STRUCK_ANYWAY: Final = 32
"""Lists made again in a step however many others wait: a flood of clicks must not keep a withdrawn item in sight."""


class Due:
    """The users whose lists can be made now, in the order in which they became due.

    Parameters
    ----------
    shards
        The owned partitions, as they are at any time.
    reencoder
        Reads the histories of those who wait for a list.
    striking, impressions
        Know whose published list has to be made again.
    config
        How long a list may wait for the encoder, and how many are made together.
    """

    def __init__(
        self,
        shards: Mapping[int, Shard],
        reencoder: Reencoder,
        striking: Striking,
        impressions: Impressions,
        config: UpdaterConfig,
    ) -> None:
        self._shards = shards
        self._reencoder = reencoder
        self._striking = striking
        self._impressions = impressions
        self._config = config
        self._arrived: dict[UserKey, Ready] = {}

    def __bool__(self) -> bool:
        """Whether any list is due."""
        return bool(self._arrived)

    def first(self) -> list[Ready]:
        """Those whose lists are made together next. They stay due until they are :meth:`done`."""
        return list(islice(self._arrived.values(), self._config.batch_users))

    def add(self, ready: Ready) -> None:
        """A user's list is due, unless it is already."""
        self._arrived.setdefault(ready.key, ready)

    def clicked(self, key: UserKey) -> None:
        """BERT is to read a user's history, which has grown: his list is due once that is done."""
        self._reencoder.want(key)
        if key in self._arrived and self._arrived[key].same:
            del self._arrived[key]  # his history is another one now

    def unchanged(self, shard: Shard, profile: Profile) -> None:
        """A user did nothing that BERT would read: the same list again is due, or one without what was dismissed.

        Not while BERT still has to read what he did before: that list comes in any case.
        """
        key = shard.partition, profile.user_id
        if profile.encoded >= profile.applied and key not in self._reencoder:
            self.add(Ready(shard, profile.user_id, same=True))

    def forgotten(self, concerned: Mapping[UserKey, bool]) -> None:
        """What is in flight for these users is of yesterday; of whom something is left, he gets a list of that."""
        self._reencoder.forget(concerned)
        for key, left in concerned.items():
            self._arrived.pop(key, None)
            if left:
                self._arrived[key] = Ready(self._shards[key[0]], key[1])
                self._reencoder.want(key)

    def forget_partition(self, number: int) -> None:
        """It is another worker's now."""
        self._arrived = {key: ready for key, ready in self._arrived.items() if key[0] != number}

    def offer(self) -> None:
        """Hand the encoder what it has room for; whose history has nothing to read is due at once."""
        for ready in self._reencoder.offer(self._shards):
            self._arrived[ready.key] = ready

    def follow(self, now: float, wall_ms: int) -> None:
        """Take what the encoder finished, and see who has waited too long and whose list must be made again.

        Parameters
        ----------
        now
            Monotonic, s.
        wall_ms
            The time, ms since the epoch.
        """
        for ready in self._reencoder.collect(self._shards):
            if ready.owed or self._adds_something(ready):
                self._arrived[ready.key] = ready
        self._overdue(now)
        self._strike(now, wall_ms)
        self.offer()

    def done(self, one: Ready) -> None:
        """A user leaves the stage; if BERT has not read his newest clicks, he makes room for those who still wait in
        time, and is remembered for later."""
        self._arrived.pop(one.key, None)
        unread = self._reencoder.drop(one.key)
        profile = one.shard.profile(one.user_id)
        if profile.encoded >= profile.applied:
            one.shard.behind.pop(one.user_id, None)
        elif unread:
            one.shard.behind[one.user_id] = None

    def _adds_something(self, ready: Ready) -> bool:
        """Whether a user who was served meanwhile needs another list: not for what BERT read of an older history (the
        newest comes back, too), nor for what it could not read. So no source offset has two unencoded lists."""
        return ready.vector is not None and ready.offset >= ready.shard.profile(ready.user_id).applied

    def _overdue(self, now: float) -> None:
        """Whoever has waited for the encoder beyond the deadline is served without it."""
        for shard in self._shards.values():
            for user_id, owed in shard.owed.items():
                if now - owed.since < self._config.deadline_s:
                    break  # in order of arrival: the rest is younger
                self.add(Ready(shard, user_id))

    def _strike(self, now: float, wall_ms: int) -> None:
        """Whose list holds what is not on offer any more, or what he has been shown too often, gets it again, as far as
        there is room beside the others. Who is owed a list gets that; should it fail, striking hears of it."""
        self._striking.follow(now, wall_ms, self._shards)
        room = max(_STRUCK_ANYWAY, self._config.batch_users - len(self._arrived))
        for key in (*self._striking.take(room), *self._impressions.take(room)):
            shard = self._shards[key[0]]
            if key[1] not in shard.owed and shard.knows(key[1]):
                self.add(Ready(shard, key[1], same=True, struck=True))
