"""The newest list of each user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Update(NamedTuple):
    """A record of the topic ``recommendations``."""

    user_id: str
    produced_ms: int
    """When it was produced, ms since the epoch: what another process has already read is known by it."""
    offset: int
    """Of the click that the list follows from; -1 for a tombstone."""
    value: bytes | None
    """The list as it is on the topic; None: the user is gone."""


class ListStore(Protocol):
    """Lists by user. ``put`` is called on the reader's thread, ``get`` on the event loop."""

    def put(self, updates: Sequence[Update]) -> list[Update]:
        """Take in what is newer than what is there, in order; what was taken.

        A list that follows from an earlier click than the one that is there is not; nor is a record that was
        produced before the newest one of its user: another process has read further already.
        """
        ...

    async def get(self, user_id: str) -> bytes | None:
        """The user's newest list."""
        ...

    def unready(self) -> str | None:
        """Why lists cannot be had, None while they can."""
        ...

    async def close(self) -> None:
        """Close the connections of the event loop."""
        ...


class MemoryStore:
    """Lists in the memory of one process, some 3 KB each.

    A deleted user leaves nothing: this process reads each record once, so nothing older can come.
    """

    def __init__(self) -> None:
        self._lists: dict[str, Update] = {}

    def __len__(self) -> int:
        return len(self._lists)

    def put(self, updates: Sequence[Update]) -> list[Update]:
        """See :class:`ListStore`."""
        taken = []
        for update in updates:
            known = self._lists.get(update.user_id)
            if known is not None and update.produced_ms < known.produced_ms:
                continue
            if update.value is None:
                self._lists.pop(update.user_id, None)
            elif known is None or update.offset >= known.offset:
                self._lists[update.user_id] = update
            else:
                continue
            taken.append(update)
        return taken

    async def get(self, user_id: str) -> bytes | None:
        """See :class:`ListStore`."""
        known = self._lists.get(user_id)
        return None if known is None else known.value

    def unready(self) -> str | None:
        """See :class:`ListStore`."""
        return None

    async def close(self) -> None:
        """See :class:`ListStore`."""
