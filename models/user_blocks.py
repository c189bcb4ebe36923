"""What single users are never offered, by the policy: categories, labels and items of theirs, as item rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.items import ItemStore
from models.policy import Blocked

_NONE: Final[NDArray[np.int64]] = np.empty(0, np.int64)

_Name = tuple[str, str]  # kind of a block, and the category, label or item that it names


def _names(blocked: Blocked) -> list[_Name]:
    by_kind = {"category": blocked.blocked_categories, "label": blocked.blocked_labels, "item": blocked.blocked_items}
    return [(kind, name) for kind, names in by_kind.items() for name in names]


class UserBlocks:
    """The rows that the policy blocks for single users.

    Rows are kept by what blocks them, not by user: all who are offered no alcohol share one set.

    Parameters
    ----------
    items
        The catalogue.

    Attributes
    ----------
    users : dict[str, Blocked]
        The rules by user.
    revision : int
        Grows whenever somebody's rows may have changed.
    """

    def __init__(self, items: ItemStore) -> None:
        self.users: dict[str, Blocked] = {}
        self.revision = 0
        self._items = items
        self._rows: dict[_Name, set[int]] = {}
        self._of_row: dict[int, set[_Name]] = {}
        self._of_rule: dict[Blocked, NDArray[np.int64]] = {}

    def apply(self, users: Mapping[str, Blocked]) -> None:
        """Take other rules; :meth:`follow` with all rows must come next."""
        self.users = {user: blocked for user, blocked in users.items() if blocked}
        self.revision += 1
        self._rows = {name: set() for blocked in self.users.values() for name in _names(blocked)}
        self._of_row, self._of_rule = {}, {}

    def follow(self, rows: Iterable[int]) -> None:
        """Look again at these rows' categories, labels and ids."""
        items = self._items
        for row in rows if self._rows else ():
            found = {("category", items.categories[row]), ("item", items.ids[row])}
            found |= {("label", label) for label in items.safety[row]}
            now, before = found & self._rows.keys(), self._of_row.get(row, set())
            if now == before:
                continue
            for name in now ^ before:
                self._rows[name].symmetric_difference_update((row,))
            self._of_row[row] = now
            self._of_rule = {}
            self.revision += 1

    def rows(self, user_id: str) -> NDArray[np.int64]:
        """The rows that a user is never offered."""
        blocked = self.users.get(user_id)
        if blocked is None:
            return _NONE
        rows = self._of_rule.get(blocked)
        if rows is None:
            every: set[int] = set().union(*(self._rows[name] for name in _names(blocked)))
            rows = self._of_rule[blocked] = np.fromiter(every, np.int64, len(every))
        return rows
