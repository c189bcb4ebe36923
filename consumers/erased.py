"""Who asked to be forgotten, and up to which moment: the topic ``erasures`` as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from consumers.client import Record
from consumers.tables import OpenTables
from models.erasures import decode_erasure, decode_key
from models.events import Limits
from models.pseudonyms import Pseudonyms

_EVERY_S: Final = 0.05


class Until(NamedTuple):
    """An erasure as it concerns a worker."""

    user_id: str
    """As he is stored."""
    until: int
    """All that he did up to this moment goes, ms since the epoch."""
    ordered_ms: int
    """When the order was produced, ms since the epoch."""
    own: bool
    """He is stored by this name for sure; by the other only if he is older than the key of the pseudonyms."""


class Erased:
    """Every erasure that was ever ordered.

    A worker reads them all from the beginning, whichever partitions it owns: an erasure then holds after every
    restart, rebalance and replay.

    Parameters
    ----------
    pseudonyms
        How users are named in what is stored; the topic has their own ids.
    wall
        The time, s since the epoch. No erasure reaches into the future.
    """

    def __init__(
        self,
        open_tables: OpenTables,
        topic: str,
        pseudonyms: Pseudonyms,
        limits: Limits,
        wall: Callable[[], float],
    ) -> None:
        self._pseudonyms = pseudonyms
        self._limits = limits
        self._wall = wall
        self._of: dict[str, Until] = {}
        self._new: dict[str, Until] = {}
        self._next = 0.0
        self._listeners: list[Callable[[Until], None]] = []
        self._tables = open_tables({topic: self._take})

    def listen(self, listener: Callable[[Until], None]) -> None:
        """Be told of every order the moment it is read."""
        self._listeners.append(listener)

    def until(self, user_id: str) -> int:
        """Nothing that this user did up to this moment counts, ms since the epoch; 0: he was never erased."""
        known = self._of.get(user_id)
        return 0 if known is None else known.until

    def all(self) -> list[Until]:
        """Every user's newest erasure."""
        return list(self._of.values())

    def catch_up(self, timeout_s: float) -> None:
        """Read all that there is; blocks.

        Raises
        ------
        CatchUpTimeout
        """
        self._tables.catch_up(timeout_s)

    def follow(self, now: float) -> list[Until]:
        """What was ordered since the last call. ``now`` is monotonic, s."""
        if now >= self._next:
            self._next = now + _EVERY_S
            self._tables.poll()
        return self.new()

    def new(self) -> list[Until]:
        """What was read since the last call."""
        new, self._new = list(self._new.values()), {}
        return new

    def close(self) -> None:
        """Stop reading."""
        self._tables.close()

    def _take(self, record: Record) -> None:
        if record.value is None:
            own = decode_key(record.key, self._limits)
            for user_id in {own, self._pseudonyms(own)}:
                self._of.pop(user_id, None)
                self._new.pop(user_id, None)
            return
        erasure = decode_erasure(record.key, record.value, record.timestamp, self._limits)
        until = min(erasure.until, int(self._wall() * 1000))
        stored = self._pseudonyms(erasure.user_id)
        for user_id in {stored, erasure.user_id}:
            new = Until(user_id, max(until, self.until(user_id)), record.timestamp, user_id == stored)
            self._of[user_id] = self._new[user_id] = new
            for listener in self._listeners:
                listener(new)
