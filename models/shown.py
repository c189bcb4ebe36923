"""What users were shown lately: a bounded log of each, in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SHOWS: Final = 1_000
"""Shows remembered of a user; beyond it the oldest is forgotten."""

_SHOW: Final = np.dtype([("item", "<u8"), ("at", "<u4")])
_EVENTS: Final = 16
"""Impressions of a user whose ids are remembered, so that one that comes twice counts once."""

Met = Mapping[int, tuple[int, str]]
"""A profile's ``seen``: item hash → when the user last did something with it, s since the epoch, and what."""


@dataclass(slots=True)
class _Log:
    partition: int
    shows: NDArray[np.void]
    events: tuple[int, ...] = ()


class Shown:
    """Which items each user was shown, and when; items by their hashes, times in s since the epoch.

    Best effort by intent: it is bounded, the user who was silent longest is forgotten first, and after a restart it
    holds what is read again of the topic.

    Parameters
    ----------
    users, shows
        Remembered at most, of all users together. A show takes 12 bytes, a user some 400 more.

    Attributes
    ----------
    keep_s : int
        How long a show counts for anything, s; older ones are dropped.
    """

    def __init__(self, keep_s: int = 3_600, users: int = 100_000, shows: int = 2_000_000) -> None:
        self.keep_s = keep_s
        self._most_users = users
        self._most_shows = shows
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def put(self, partition: int, user_id: str, items: Sequence[int], at: int, event: int = 0) -> bool:
        """A user was shown these items; False if it is known already.

        Parameters
        ----------
        event
            Hash of the impression's id, 0 without one.
        """
        log = self._logs.pop(user_id, None) or _Log(partition, np.empty(0, _SHOW))
        self._logs[user_id] = log
        if event and event in log.events:
            return False
        if event:
            log.events = (*log.events[1 - _EVENTS :], event)
        new = np.empty(len(items), _SHOW)
        new["item"], new["at"] = items, at
        kept = log.shows[log.shows["at"] > at - self.keep_s]
        self._set(log, np.concatenate([kept, new])[-SHOWS:])
        while len(self._logs) > self._most_users or self._held > self._most_shows:
            self._drop(next(iter(self._logs)))
        return True

    def times(self, user_id: str, item: int) -> NDArray[np.int64]:
        """When a user was shown an item, in the order in which it became known."""
        log = self._logs.get(user_id)
        if log is None:
            return np.empty(0, np.int64)
        times: NDArray[np.int64] = log.shows["at"][log.shows["item"] == np.uint64(item)].astype(np.int64)
        return times

    def forget(self, user_id: str, until: int) -> None:
        """Nothing that a user was shown up to this moment counts any more, s since the epoch."""
        if (log := self._logs.get(user_id)) is not None:
            self._set(log, log.shows[log.shows["at"] > until])
            if not len(log.shows):
                self._drop(user_id)

    def forget_partition(self, number: int) -> None:
        """Its users are another worker's now."""
        for user_id in [user_id for user_id, log in self._logs.items() if log.partition == number]:
            self._drop(user_id)

    def forget_before(self, moment: int) -> None:
        """Drop whoever was shown nothing since this moment, s since the epoch, from those silent longest on."""
        while self._logs:
            user_id, log = next(iter(self._logs.items()))
            if len(log.shows) and int(log.shows["at"][-1]) > moment:
                return
            self._drop(user_id)

    def _set(self, log: _Log, shows: NDArray[np.void]) -> None:
        self._held += len(shows) - len(log.shows)
        log.shows = shows

    def _drop(self, user_id: str) -> None:
        self._held -= len(self._logs.pop(user_id).shows)
