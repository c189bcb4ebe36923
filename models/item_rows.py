"""A sparse matrix of items over items that is read row by row, as recommenders from co-clicks do.

A user's clicks j_1, j_2, … with weights d_1, d_2, … score an item q with Σ_m d_m · W[j_m, q].
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.items import ItemStore

_ROOM: Final = 1024


class Table(NamedTuple):
    """The arrays of :class:`ItemRows`, as compiled loops take them."""

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    sizes: NDArray[np.int32]


class ItemRows:
    """W: at most ``width`` entries an item, grown with the catalogue. Rows are those of the item store.

    Attributes
    ----------
    ids : int32 [capacity, width]
        Columns of the entries; 0 with weight 0 in places that are empty.
    weights : float32 [capacity, width]
    sizes : int32 [capacity]
        Places taken in a row of ``ids``.
    """

    _TABLES: tuple[str, ...] = ("ids", "weights", "sizes")

    def __init__(self, items: ItemStore, width: int) -> None:
        self.items = items
        self.width = width
        self.ids: NDArray[np.int32] = np.zeros((0, width), np.int32)
        self.weights: NDArray[np.float32] = np.zeros((0, width), np.float32)
        self.sizes: NDArray[np.int32] = np.zeros(0, np.int32)

    @property
    def table(self) -> Table:
        """With room for every row of the catalogue."""
        self.grow()
        return Table(self.ids, self.weights, self.sizes)

    def grow(self) -> None:
        """Make room for every row of the catalogue (cheap when there is room)."""
        n, have = len(self.items), len(self.sizes)
        if n <= have:
            return
        room = max(_ROOM, 2 * have, n)
        for name in self._TABLES:
            old = getattr(self, name)
            new = np.zeros((room, *old.shape[1:]), old.dtype)
            new[:have] = old
            setattr(self, name, new)

    def fill(self, row: int, others: NDArray[np.int64], weights: NDArray[np.float32]) -> None:
        """Set a row to these entries, at most ``width``."""
        self.grow()
        size = len(others)
        self.sizes[row] = size
        self.ids[row, :size], self.ids[row, size:] = others, 0
        self.weights[row, :size], self.weights[row, size:] = weights, 0

    def weighed(self, rows: NDArray[np.int64], decay: NDArray[np.float32]) -> NDArray[np.float32]:
        """d of the clicks [b, K] by how they decay [b, K]."""
        return decay

    def scores(self, rows: NDArray[np.int64], decay: NDArray[np.float32]) -> NDArray[np.float32]:
        """Σ_m d_m · W[j_m, q] for every item q, float32 [b, len(items)].

        Parameters
        ----------
        rows : [b, K]
            Last clicks, newest first; anything where ``decay`` is 0.
        decay : [b, K]
        """
        self.grow()
        n = len(self.items)
        scores = np.zeros(len(rows) * n, np.float32)
        where = self.ids[rows] + (np.arange(len(rows), dtype=np.int64) * n)[:, None, None]
        np.add.at(scores, where.ravel(), (self.weights[rows] * self.weighed(rows, decay)[:, :, None]).ravel())
        return scores.reshape(len(rows), n)
