"""Co-occurrence: which items are clicked by the same people, a few clicks apart.

For a click on item *i* and each of the same user's last K clicks *j*, ℓ clicks back::

    C[i, j] = C[j, i] += ℓ^-.5        n_i += 1

and an item's score for a user whose last clicks are j_1 (newest), j_2, …::

    co(q) = Σ_m .9^(m-1) · C[j_m, q] / √((n_jm + 1)(n_q + 1))

Design §7: alone it matches the strongest batch peer that was tried (EASE refitted every 5,000 events).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidEvent
from models.items import ItemStore
from models.records import NeighbourRow

WINDOW: Final = 20
"""K: how many clicks back two clicks of a user still belong together."""

WIDTH: Final = 200
"""Neighbours kept of an item; a new one takes the place of the lightest."""

_LAG: Final = np.arange(1, WINDOW + 1, dtype=np.float32) ** np.float32(-0.5)


class Neighbours:
    """The co-occurrence table: one row of at most ``width`` neighbours an item, grown with the catalogue.

    The one class serves both sides: the neighbours role learns and asks for :meth:`record`, readers :meth:`put` what
    it published. Rows are those of the :class:`~models.items.ItemStore`.

    Parameters
    ----------
    items
        Gives the rows their item ids in records.
    width
        Neighbours kept an item.

    Attributes
    ----------
    ids : int32 [capacity, width]
        Rows of the neighbours; 0 with weight 0 in places that are empty.
    weights : float32 [capacity, width]
    counts : float32 [capacity]
        n_i: clicks learned.
    sizes : int32 [capacity]
        Places taken in a row of ``ids``.
    version : int
        Changes so far.
    """

    def __init__(self, items: ItemStore, width: int = WIDTH) -> None:
        self.items = items
        self.width = width
        self.version = 0
        self.ids: NDArray[np.int32] = np.zeros((0, width), np.int32)
        self.weights: NDArray[np.float32] = np.zeros((0, width), np.float32)
        self.counts: NDArray[np.float32] = np.zeros(0, np.float32)
        self.sizes: NDArray[np.int32] = np.zeros(0, np.int32)
        self._dirty: set[int] = set()

    def grow(self) -> None:
        """Make room for every row of the catalogue (cheap when there is room)."""
        n, have = len(self.items), len(self.counts)
        if n <= have:
            return
        room = max(1024, 2 * have, n)
        for name in ("ids", "weights", "counts", "sizes"):
            old = getattr(self, name)
            new = np.zeros((room, *old.shape[1:]), old.dtype)
            new[:have] = old
            setattr(self, name, new)

    def learn(self, row: int, history: Sequence[int], frozen: Collection[int] = ()) -> None:
        """Take in a click. What has no row of its own (:attr:`~models.items.ItemStore.nowhere`) teaches nothing.

        Parameters
        ----------
        row
            The clicked item.
        history
            The user's clicks before it, newest first; those beyond :data:`WINDOW` are ignored.
        frozen
            Rows that contain this click already and stay as they are (after a restart).
        """
        self.grow()
        nowhere = self.items.nowhere
        if row == nowhere:
            return
        self.version += 1
        if row not in frozen:
            self.counts[row] += 1
            self._dirty.add(row)
        gains: dict[int, float] = {}
        for lag, other in zip(_LAG.tolist(), history, strict=False):
            if other not in (row, nowhere):  # a repeat says nothing about two items
                gains[other] = gains.get(other, 0.0) + lag
        if not gains:
            return
        others = np.fromiter(gains, np.int64, len(gains))
        gain = np.fromiter(gains.values(), np.float32, len(gains))
        if row not in frozen:
            self._add_to_one(row, others, gain)
        if frozen:
            free = np.array([other not in frozen for other in gains])
            others, gain = others[free], gain[free]
        self._dirty.update(others.tolist())
        self._add(others, row, gain)

    def _add(self, owners: NDArray[np.int64], other: int, gain: NDArray[np.float32]) -> None:
        """``other`` gains in the row of each of the ``owners`` (all different)."""
        sizes = self.sizes[owners]
        place = (self.ids[owners] == other).argmax(axis=1)
        known = (self.ids[owners, place] == other) & (place < sizes)
        self.weights[owners[known], place[known]] += gain[known]
        if known.all():
            return
        new = ~known
        owners, gain, sizes = owners[new], gain[new], sizes[new]
        full = sizes == self.width
        place = sizes.astype(np.int64)
        if full.any():
            place[full] = self.weights[owners[full]].argmin(axis=1)
        self.ids[owners, place] = other
        self.weights[owners, place] = gain
        self.sizes[owners] += ~full

    def _add_to_one(self, owner: int, others: NDArray[np.int64], gain: NDArray[np.float32]) -> None:
        """Each of the ``others`` (all different) gains in the row of ``owner``."""
        size = int(self.sizes[owner])
        ids, weights = self.ids[owner], self.weights[owner]
        same = ids[:size] == others[:, None]
        known = same.any(axis=1)
        if size:
            weights[same[known].argmax(axis=1)] += gain[known]
        others, gain = others[~known], gain[~known]
        free = min(len(others), self.width - size)
        ids[size : size + free] = others[:free]
        weights[size : size + free] = gain[:free]
        self.sizes[owner] = size + free
        late = others[free : self.width]
        if len(late):
            lightest = np.argsort(weights)[: len(late)]
            ids[lightest], weights[lightest] = late, gain[free : self.width]

    def dirty(self) -> list[int]:
        """Rows that changed since the last call."""
        rows = sorted(self._dirty)
        self._dirty.clear()
        return rows

    def record(self, row: int, offsets: Mapping[int, int], complete: Mapping[int, int] | None = None) -> NeighbourRow:
        """An item's row as it is published, heaviest first.

        Parameters
        ----------
        row
            The item.
        offsets
            Partition of ``profiles`` → first offset that is not contained.
        complete
            The same for the table as a whole: see :class:`~models.records.NeighbourRow`.
        """
        self.grow()
        size = int(self.sizes[row])
        order = np.argsort(-self.weights[row, :size], kind="stable")
        names = self.items.ids
        return NeighbourRow(
            count=float(self.counts[row]),
            items=tuple(names[other] for other in self.ids[row, order].tolist()),
            weights=self.weights[row, order].astype("<f4").tobytes(),
            offsets=dict(offsets),
            complete=dict(complete or {}),
        )

    def put(self, item_id: str, record: NeighbourRow | None) -> int:
        """Take in a published row (None: its item was withdrawn, the row is emptied) and return its number.

        Nothing is taken in of an item that has no row of its own, and ``nowhere`` returned.

        Raises
        ------
        InvalidEvent
            If the record's weights are not one finite number for each of its items.
        """
        row = self.items.mention(item_id)
        if row == self.items.nowhere:
            self.grow()
            return row
        self.version += 1
        if record is None:
            self.grow()
            self.counts[row], self.sizes[row] = 0, 0
            self.ids[row], self.weights[row] = 0, 0
            return row
        weights = np.frombuffer(record.weights, "<f4")[: self.width]
        others = np.fromiter(map(self.items.mention, record.items[: self.width]), np.int64)
        if len(weights) != len(others) or not np.isfinite(weights).all():
            raise InvalidEvent(f"neighbours: {len(weights)} weights for {len(others)} items, or not all are finite")
        if self.items.nowhere >= 0:
            placed = others != self.items.nowhere
            others, weights = others[placed], weights[placed]
        self.grow()
        size = len(others)
        self.counts[row], self.sizes[row] = record.count, size
        self.ids[row, :size], self.ids[row, size:] = others, 0
        self.weights[row, :size], self.weights[row, size:] = weights, 0
        return row

    def scores(self, rows: NDArray[np.int64], decay: NDArray[np.float32]) -> NDArray[np.float32]:
        """Σ_m decay_m · C[j_m, q] / √(n_jm + 1) for every item q: co without the candidate's own √(n_q + 1).

        Parameters
        ----------
        rows : [b, K]
            Last clicks, newest first; anything where ``decay`` is 0.
        decay : [b, K]

        Returns
        -------
        float32 [b, len(items)]
        """
        n = len(self.items)
        scores = np.zeros(len(rows) * n, np.float32)
        self.add_scores(rows, decay, scores, n)
        return scores.reshape(len(rows), n)

    def add_scores(
        self, rows: NDArray[np.int64], decay: NDArray[np.float32], sums: NDArray[np.float32], n: int
    ) -> NDArray[np.int64]:
        """Add :meth:`scores` to an array of one's own.

        Parameters
        ----------
        rows, decay : [b, K]
        sums : float32 [b · n]
        n
            Items in the array, not fewer than those that neighbours refer to.

        Returns
        -------
        int64 [b · K · width]
            Where in ``sums`` something was added (a place may occur more than once): what to set back to zero.
        """
        self.grow()
        starts = (np.arange(len(rows), dtype=np.int64) * n)[:, None, None]
        weight = decay / np.sqrt(self.counts[rows] + 1)
        where = (self.ids[rows] + starts).ravel()
        np.add.at(sums, where, (self.weights[rows] * weight[:, :, None]).ravel())
        return where

    def between(
        self, rows: NDArray[np.int64], decay: NDArray[np.float32], targets: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """What each click of a user gives to each of some items: the summands of :meth:`scores`.

        Parameters
        ----------
        rows, decay : [b, K]
        targets : [b, t]

        Returns
        -------
        float32 [b, t, K]
        """
        b, t = targets.shape
        n, window = len(self.items), rows.shape[1]
        # a table item → place among the targets turns b·K·width·t comparisons into b·K·width look-ups
        places = np.zeros(b * n, np.int8)
        starts = np.arange(b, dtype=np.int64) * n
        places[(starts[:, None] + targets).ravel()] = np.tile(np.arange(1, t + 1, dtype=np.int8), b)
        hits = places[self.ids[rows] + starts[:, None, None]].ravel()
        at = np.flatnonzero(hits.view(np.bool_))
        pair, slot = np.divmod(at, self.width)
        weight = (decay / np.sqrt(self.counts[rows] + 1)).ravel()
        gained = self.weights[rows.ravel()[pair], slot] * weight[pair]
        user, click = np.divmod(pair, window)
        found = np.zeros(b * t * window, np.float32)
        # a target stands once in a row; but a place that is empty holds item 0 with weight 0: hence add, not set
        np.add.at(found, (user * t + hits[at] - 1) * window + click, gained)
        return found.reshape(b, t, window)

    def damping(self, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        """1 / √(n_q + 1) of these items: what :meth:`scores` leaves out, so that a sum is damped once an item."""
        self.grow()
        damping = self.counts[: len(self.items)][rows] + 1
        np.sqrt(damping, out=damping)  # a power would take ten times as long
        np.reciprocal(damping, out=damping)
        return damping
