"""What each user's published list holds: what a click is a hit against, and whom a withdrawn item concerns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_NOTHING: Final = -1  # in the places that a short list does not fill


class ServedLists:
    """The newest list of each user of a partition, as item rows.

    They are read back from ``recommendations`` while work goes on already (:meth:`load`, until :meth:`loaded`); what is
    put meanwhile is newer. A million lists of ten take 40 MB and the names of their users.

    Parameters
    ----------
    length
        Items in a list; one that was published before the setting was lowered takes more, of everybody's memory.
    """

    def __init__(self, length: int) -> None:
        self._rows: NDArray[np.int32] = np.full((64, length), _NOTHING, np.int32)
        self._slots: dict[str, int] = {}
        self._users: list[str | None] = []
        self._free: list[int] = []
        self._newer: set[str] | None = set()

    def __len__(self) -> int:
        return len(self._slots)

    def put(self, user_id: str, rows: Sequence[int]) -> None:
        """A list has been published."""
        if self._newer is not None:
            self._newer.add(user_id)
        self._put(user_id, rows)

    def forget(self, user_id: str) -> None:
        """A user has no list any more."""
        if self._newer is not None:
            self._newer.add(user_id)
        self._forget(user_id)

    def load(self, user_id: str, rows: Sequence[int] | None) -> None:
        """Take in a list that was published before, or (None) its tombstone."""
        if self._newer is None or user_id in self._newer:
            return
        if rows is None:
            self._forget(user_id)
        else:
            self._put(user_id, rows)

    def loaded(self) -> None:
        """All that was published before has been taken in."""
        self._newer = None

    def place(self, user_id: str, row: int) -> int | None:
        """Where an item is in a user's list, from 1; 0 if it is not; None if he has none."""
        slot = self._slots.get(user_id)
        if slot is None:
            return None
        at = (self._rows[slot] == row).nonzero()[0].tolist() if row >= 0 else []
        return at[0] + 1 if at else 0

    def rows(self, user_id: str) -> NDArray[np.int32]:
        """The items of a user's list, -1 in places that it does not fill; none if he has no list."""
        slot = self._slots.get(user_id)
        return self._rows[slot] if slot is not None else self._rows[0, :0]

    def mark(self, listed: NDArray[np.bool_]) -> None:
        """Mark the items that are in any list.

        Parameters
        ----------
        listed : bool [n]
            By item row, for as many as there are.
        """
        rows = self._rows[: len(self._users)]
        listed[rows[rows >= 0]] = True

    def holding(self, gone: NDArray[np.bool_]) -> list[str]:
        """Users in whose lists is one of these items.

        Parameters
        ----------
        gone : bool [n]
            By item row; rows beyond it are none of them.
        """
        n = len(self._users)
        rows = self._rows[:n]
        # the place before the first is the last: there it is False
        padded = np.append(gone, [False] * (max(0, int(rows.max(initial=0)) + 1 - len(gone)) + 1))
        users = self._users
        return [user_id for slot in np.flatnonzero(padded[rows].any(axis=1)) if (user_id := users[slot]) is not None]

    def _put(self, user_id: str, rows: Sequence[int]) -> None:
        slot = self._slots.get(user_id)
        if slot is None:
            slot = self._take_slot()
            self._slots[user_id], self._users[slot] = slot, user_id
        size = len(rows)
        if (more := size - self._rows.shape[1]) > 0:
            self._rows = np.pad(self._rows, ((0, 0), (0, more)), constant_values=_NOTHING)
        self._rows[slot, :size] = rows
        self._rows[slot, size:] = _NOTHING

    def _take_slot(self) -> int:
        if self._free:
            return self._free.pop()
        slot = len(self._users)
        self._users.append(None)
        if slot == len(self._rows):
            grown = np.full((slot + max(64, slot // 2), self._rows.shape[1]), _NOTHING, np.int32)
            grown[:slot] = self._rows
            self._rows = grown
        return slot

    def _forget(self, user_id: str) -> None:
        slot = self._slots.pop(user_id, None)
        if slot is not None:
            self._users[slot] = None
            self._rows[slot] = _NOTHING
            self._free.append(slot)
