"""What users were shown lately: a bounded log of each, in memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

SHOWS: Final = 1_000
"""Shows remembered of a user; beyond it the oldest is forgotten."""

_EVENTS: Final = 16
"""Impressions of a user whose ids are remembered, so that one that comes twice counts once."""


@dataclass(slots=True)
class _Log:
    """One user's shows, in the order in which they became known: as bytes, since objects take six times as much."""

    partition: int
    items: array[int] = field(default_factory=lambda: array("Q"))
    at: array[int] = field(default_factory=lambda: array("I"))
    events: tuple[int, ...] = ()

    def drop(self, first: int) -> None:
        del self.items[:first], self.at[:first]


class Shown:
    """Which items each user was shown, and when; items by their hashes, times in s since the epoch.

    Best effort by intent: it is bounded, the user who was silent longest is forgotten first, and after a restart it
    holds what is read again of the topic.

    Parameters
    ----------
    users, shows
        Remembered at most, of all users together. A show takes 12 bytes, a user some 500 more.

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
        log = self._logs.pop(user_id, None) or _Log(partition)
        self._logs[user_id] = log
        if event and event in log.events:
            return False
        if event:
            log.events = (*log.events[1 - _EVENTS :], event)
        before = len(log.at)
        log.items.extend(items)
        log.at.extend([at] * len(items))
        # nearly in order of time, so what is left out here is only dropped a little later
        log.drop(max(bisect_right(log.at, at - self.keep_s), len(log.at) - SHOWS))
        self._held += len(log.at) - before
        while len(self._logs) > self._most_users or self._held > self._most_shows:
            self._drop(next(iter(self._logs)))
        return True

    def since(self, user_id: str, moment: int) -> list[tuple[int, int]]:
        """What a user was shown after this moment, and when: a show each, in the order in which they became known."""
        log = self._logs.get(user_id)
        return [] if log is None else [show for show in zip(log.items, log.at, strict=True) if show[1] > moment]

    def times(self, user_id: str, item: int) -> list[int]:
        """When a user was shown an item."""
        log = self._logs.get(user_id)
        return [] if log is None else [at for known, at in zip(log.items, log.at, strict=True) if known == item]

    def forget(self, user_id: str, until: int) -> None:
        """Nothing that a user was shown up to this moment counts any more, s since the epoch."""
        if (log := self._logs.get(user_id)) is None:
            return
        left = self.since(user_id, until)
        self._held -= len(log.at) - len(left)
        log.items, log.at = array("Q", [item for item, _ in left]), array("I", [at for _, at in left])
        if not left:
            self._drop(user_id)

    def forget_partition(self, number: int) -> None:
        """Its users are another worker's now."""
        for user_id in [user_id for user_id, log in self._logs.items() if log.partition == number]:
            self._drop(user_id)

    def forget_before(self, moment: int) -> None:
        """Drop whoever was shown nothing since this moment, s since the epoch, from those silent longest on."""
        while self._logs:
            user_id, log = next(iter(self._logs.items()))
            if log.at and log.at[-1] > moment:
                return
            self._drop(user_id)

    def _drop(self, user_id: str) -> None:
        self._held -= len(self._logs.pop(user_id).at)
