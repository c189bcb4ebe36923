"""Whose history BERT has to read, in which order, and what came back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, cast

from consumers.lists import Ready
from consumers.shard import Shard, UserKey
from models.encode_queue import Outlet
from models.encoder import Tokenises
from models.items import ItemStore
from producers import failpoints

log = logging.getLogger(__name__)

_BEHIND: Final = 16  # that part of the encoder's queue is for who was served without it


class Reencoder:
    """Hands users' histories to the encoder and takes their vectors back.

    Parameters
    ----------
    outlet
        The encoder's queue.
    items
        Holds the tokens of the items.
    encoded_clicks
        Newest clicks whose texts make an input.
    """

    def __init__(self, encoder: Tokenises, outlet: Outlet, items: ItemStore, encoded_clicks: int) -> None:
        self._encoder = encoder
        self._outlet = outlet
        self._items = items
        self._last = encoded_clicks
        self._wanted: dict[UserKey, None] = {}

    def __contains__(self, key: UserKey) -> bool:
        """Whether a history still waits to be handed over."""
        return key in self._wanted

    def want(self, key: UserKey) -> None:
        """A user's history has changed: it is to be read."""
        self._wanted[key] = None

    def drop(self, key: UserKey) -> bool:
        """It need not be read in time any more. False if it is being read, or was: its vector still comes."""
        if key in self._wanted:
            del self._wanted[key]
            return True
        return self._outlet.withdraw(key)

    def forget(self, keys: Iterable[UserKey]) -> None:
        """Nothing of these users comes back, whether it waits or is being read."""
        keys = set(keys)
        for key in keys:
            self._wanted.pop(key, None)
        if keys:
            self._outlet.discard(keys)

    def forget_partition(self, number: int) -> None:
        """The same for all users of a partition."""
        self._wanted = {key: None for key in self._wanted if key[0] != number}
        self._outlet.discard_if(lambda key: cast(UserKey, key)[0] == number)

    def offer(self, shards: Mapping[int, Shard]) -> list[Ready]:
        """Hand over what there is room for: first who is owed a list, then who was served without it.

        Returns those who are owed a list and have nothing that could be read.
        """
        free = self._outlet.capacity - self._outlet.pending
        unread = self._submit(list(islice(self._wanted, max(0, free))), shards)
        if not self._wanted:
            # about a batch: who clicks next must not stand behind a long line of those who were served already
            free = max(1, self._outlet.capacity // _BEHIND) - self._outlet.pending
            behind = ((n, user_id) for n, shard in shards.items() for user_id in shard.behind)
            unread += self._submit(list(islice(behind, max(0, free))), shards, later=True)
        return unread

    def _submit(self, keys: Sequence[UserKey], shards: Mapping[int, Shard], *, later: bool = False) -> list[Ready]:
        if not keys:
            return []
        tokens = self._items.tokens
        profiles = [shards[number].profile(user_id) for number, user_id in keys]
        histories = [
            [tokens[row] for row in profile.rows[: -self._last - 1 : -1] if len(tokens[row])] for profile in profiles
        ]
        inputs = iter(self._encoder.inputs([history for history in histories if history]))
        unread: list[Ready] = []
        for key, profile, history in zip(keys, profiles, histories, strict=True):
            shard = shards[key[0]]
            if not history:  # none of his items is encoded yet: there is nothing to read
                profile.encoded = profile.applied
                if key[1] in shard.owed:
                    unread.append(Ready(shard, key[1]))
            elif not self._outlet.submit(key, next(inputs), profile.applied, later=later):
                break
            self._wanted.pop(key, None)
            shard.behind.pop(key[1], None)
        return unread

    def collect(self, shards: Mapping[int, Shard]) -> list[Ready]:
        """Who has been read since the last call.

        Raises
        ------
        RuntimeError
            If the encoder's thread has died.
        """
        ready: list[Ready] = []
        if drained := self._outlet.drain():
            failpoints.reach("after-encode")
        for encoded in drained:
            key = cast(UserKey, encoded.key)
            shard = shards.get(key[0])
            if shard is None:
                continue
            if encoded.error is not None:
                log.error("updater: a history could not be encoded", exc_info=encoded.error)
            ready.append(Ready(shard, key[1], encoded.vector, cast(int, encoded.tag)))
        return ready
