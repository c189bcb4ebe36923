"""What reads like what: text that is read click by click, as co-occurrence is.

A user's vector is the mean of what he clicked, and what is near to it lies between his clicks. Who has put yoghurt and
bread into his basket takes another yoghurt next, or another bread, and nothing between them. So each click speaks for
what reads like itself, and for little else::

    like(q) = Σ_m .9^(m-1) · max(0, cos(j_m, q))^16        j_m: the m-th newest click

The power leaves so little to what is further away that of an item only the :data:`NEAR` nearest are kept, and a user's
sum is a few hundred additions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.index import ItemIndex
from models.item_rows import ItemRows
from models.items import ItemStore

NEAR: Final = 20
"""Entries kept of an item: its nearest."""

POWER: Final = 16.0
"""Of the cosine."""

_BATCH: Final = 64  # items that are looked up for the catalogue's sake, between two batches of lists
_WAITING: Final = 4_096  # arrivals that wait to be offered to their nearest; the oldest give way
_GROWN: Final = 1.2  # times the items there were: those that are near now are others


class Likeness(ItemRows):
    """W[j, q] = max(0, cos(j, q))^16 of each item's nearest, looked up when somebody first asks about the item.

    What comes new into the catalogue is entered in the rows of what it reads like, as far as anybody has asked for
    those; a row is looked up anew when its item's vector, or that of an item in it, became another, and when the
    catalogue has grown by a fifth.

    Parameters
    ----------
    index
        Where the nearest are found. Follow it before this.

    Attributes
    ----------
    version : int
        Rises whenever a row changes.
    """

    _TABLES = ("ids", "weights", "sizes", "_when", "_listed")

    def __init__(self, items: ItemStore, index: ItemIndex) -> None:
        super().__init__(items, NEAR)
        self.version = 0
        self._index = index
        self._when: NDArray[np.int32] = np.zeros(0, np.int32)  # items there were at the look-up; 0: look it up
        self._listed: NDArray[np.bool_] = np.zeros(0, np.bool_)  # stands in some row, or did
        self._asked = False  # whether any row was ever looked up
        self._arrived: dict[int, None] = {}  # rows, in the order in which they came

    def known(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these items have been looked up."""
        self.grow()
        known: NDArray[np.bool_] = self._when[rows] > 0
        return known

    def cosines(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """With what stands in these items' rows, as they were when it was entered: float32 [rows, NEAR]."""
        cosines: NDArray[np.float32] = self.weights[rows] ** np.float32(1 / POWER)
        return cosines

    def look_up(self, rows: NDArray[np.int64], most: int | None = None) -> None:
        """Find the nearest of those that have not been looked up.

        Parameters
        ----------
        rows : int64 [any]
            Repeats are fine; those first that matter most.
        most
            How many, at most; some tens where not given.
        """
        self.grow()
        n = len(self.items)
        unknown = rows[(self._when[rows] * _GROWN < n) & self.items.encoded[rows]]
        if not len(unknown):
            return
        some = np.fromiter(dict.fromkeys(unknown.tolist()), np.int64)[: most or _BATCH]
        cosines, near = self._index.search(self.items.centred(some), NEAR + 1)  # mostly the nearest is the item itself
        others = (near != some[:, None]) & (cosines > 0)
        for row, kept, found, cosine in zip(some.tolist(), others, near, cosines, strict=True):
            self.fill(row, found[kept][:NEAR], cosine[kept][:NEAR] ** np.float32(POWER))
        self._listed[near[others]] = True
        self._when[some] = n
        self._asked = True
        self.version += 1

    def follow(self, changed: set[int]) -> None:
        """Follow the catalogue.

        Parameters
        ----------
        changed
            Rows whose vector, text or availability changed since the last call.
        """
        self.grow()
        items = self.items
        moved = np.fromiter(items.moved, np.int64, len(items.moved))
        items.moved.clear()
        if not self._asked:
            return  # there is no row that it could be entered in
        if len(moved):
            self._when[moved] = 0
            if len(again := moved[self._listed[moved]]):
                rows = np.flatnonzero(self._when)
                self._when[rows[np.isin(self.ids[rows], again).any(axis=1)]] = 0
                self._listed[again] = False
        rows = np.fromiter(changed, np.int64, len(changed))
        offered = items.encoded[rows] & items.available[rows]
        self._arrived |= dict.fromkeys(np.sort(rows[offered & ~self._listed[rows]]).tolist())
        for row in list(self._arrived)[:-_WAITING]:
            del self._arrived[row]
        if self._arrived:
            self._enter(list(self._arrived)[:_BATCH])

    def _enter(self, arrived: list[int]) -> None:
        """Enter these in the rows of what they read like."""
        self.look_up(np.array(arrived))
        for row in arrived:
            del self._arrived[row]
            size = int(self.sizes[row])
            self._add(self.ids[row, :size], row, self.weights[row, :size])

    def _add(self, owners: NDArray[np.int32], row: int, weights: NDArray[np.float32]) -> None:
        """Enter an item in the rows of the owners (all different) that were looked up and have nothing nearer."""
        entries = self.weights[owners]
        at = entries.argmin(axis=1)  # of places that are empty, with weight 0, the first
        stands = ((self.ids[owners] == row) & (entries > 0)).any(axis=1)
        enters = (self._when[owners] > 0) & ~stands & (entries.min(axis=1) < weights)
        if not enters.any():
            return
        owners, at = owners[enters], at[enters]
        self.ids[owners, at], self.weights[owners, at] = row, weights[enters]
        self.sizes[owners] = np.maximum(self.sizes[owners], at + 1)
        self._listed[row] = True
        self.version += 1
