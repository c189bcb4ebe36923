"""Co-occurrence: which items are clicked by the same people, a few clicks apart.

For a click on item *i* and each of the same user's last K clicks *j*, ℓ clicks back::

    C[i, j] = C[j, i] += ℓ^-.5        n_i += 1

and when the stream breaks, all C and n keep a small share of their weight (:mod:`models.breaks`). An item's score for a
user whose last clicks are j_1 (newest), j_2, …::

    co(q) = Σ_m .9^(m-1) · C[j_m, q] / √((n_jm + 1)(n_q + 1))

Design §7 has it alone match the strongest batch peer (EASE refitted every 5,000 events). On MovieLens-100k it does; on
Online Retail EASE is better by a tenth, hence the linear part (:mod:`models.linear`) beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.breaks import Breaks, Lately
from models.errors import InvalidEvent
from models.item_rows import ItemRows
from models.items import ItemStore
from models.linear import WIDTH as LINEAR_WIDTH
from models.linear import Solution
from models.records import NeighbourRow

WINDOW: Final = 20
"""K: how many clicks back two clicks of a user still belong together."""

WIDTH: Final = 200
"""Neighbours kept of an item; a new one takes the place of the lightest."""

_MOST: Final = 1e30  # clicks that a record can tell of: more, and a float32 could not hold what is made of them
_NONE: Final = np.empty(0, np.int64)
_NOTHING: Final = np.empty(0, np.float32)
_LAG: Final = np.arange(1, WINDOW + 1, dtype=np.float32) ** np.float32(-0.5)


class Neighbours(ItemRows):
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
    counts : float32 [capacity]
        Clicks learned.
    effective : float32 [capacity]
        n_i: the same, but what was before a break of the stream keeps a share only.
    damping : float32 [capacity]
        1 / √(n_q + 1): what :meth:`scores` leaves out, so that a sum is damped once an item: see :meth:`co`.
    breaks : Breaks
        Those that the table knows of.
    linear : ItemRows
        What the linear part (:mod:`models.linear`) has solved for: it travels in the same records.
    """

    _TABLES = ("ids", "weights", "counts", "effective", "damping", "sizes")

    def __init__(self, items: ItemStore, width: int = WIDTH) -> None:
        super().__init__(items, width)
        self.counts: NDArray[np.float32] = np.zeros(0, np.float32)
        self.effective: NDArray[np.float32] = np.zeros(0, np.float32)
        self.damping: NDArray[np.float32] = np.zeros(0, np.float32)
        self.breaks = Breaks()
        self.linear = ItemRows(items, LINEAR_WIDTH)
        self._dirty: set[int] = set()
        self._lately: Lately[tuple[int, Sequence[int]]] = Lately()

    def grow(self) -> None:
        """Make room for every row of the catalogue (cheap when there is room)."""
        have = len(self.damping)
        super().grow()
        self.damping[have:] = 1

    def learn(self, row: int, history: Sequence[int], frozen: Collection[int] = (), moment: int | None = None) -> None:
        """Take in a click. What has no row of its own (:attr:`~models.items.ItemStore.nowhere`) teaches nothing.

        Parameters
        ----------
        row
            The clicked item.
        history
            The user's clicks before it, newest first; those beyond :data:`WINDOW` are ignored.
        frozen
            Rows that contain this click already and stay as they are (after a restart).
        moment
            When it was clicked, ms since the epoch: what came before a break of the stream weighs less. Not given: now,
            and it is not told from what was before a break that began earlier.
        """
        self.grow()
        if row == self.items.nowhere:
            return
        share = 1.0
        if moment is not None:
            share = self.breaks.left_of(moment)
            self._lately.add(moment, (row, history[:WINDOW]))
        if row not in frozen:
            self.counts[row] += 1
        self._count(row, history, frozen, share)

    def _count(self, row: int, history: Sequence[int], frozen: Collection[int], share: float) -> None:
        """Add a click with so much weight to the rows that do not contain it."""
        nowhere = self.items.nowhere
        if row not in frozen:
            self.effective[row] += share
            self._damp(row)
            self._dirty.add(row)
        gains: dict[int, float] = {}
        for lag, other in zip(_LAG.tolist(), history, strict=False):
            if other not in (row, nowhere):  # a repeat says nothing about two items
                gains[other] = gains.get(other, 0.0) + lag
        if not gains:
            return
        others = np.fromiter(gains, np.int64, len(gains))
        gain = np.fromiter(gains.values(), np.float32, len(gains)) * np.float32(share)
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
        linear = self.linear
        linear.grow()
        solved = int(linear.sizes[row])
        return NeighbourRow(
            count=float(self.counts[row]),
            effective=float(self.effective[row]),
            breaks=self.breaks.times,
            items=tuple(names[other] for other in self.ids[row, order].tolist()),
            weights=self.weights[row, order].astype("<f4").tobytes(),
            offsets=dict(offsets),
            complete=dict(complete or {}),
            linear_items=tuple(names[other] for other in linear.ids[row, :solved].tolist()),
            linear_weights=linear.weights[row, :solved].astype("<f4").tobytes(),
        )

    def forget(self, breaks: Iterable[int]) -> bool:
        """Learn of breaks, ms since the epoch; returns whether one was new.

        Readers learn of breaks themselves, and each published row says which it has seen: :meth:`dirty` are only the
        rows of clicks that came after it, which weigh as before.
        """
        known = copy(self.breaks)
        left = self.breaks.add(breaks)
        if left == 1:
            return False
        self.weights *= np.float32(left)
        self.effective *= np.float32(left)
        self._damp(slice(None))
        for _, share, (row, history) in self._lately.lacking(known, self.breaks):
            self._count(row, history, (), share)
        return True

    def take(self, solution: Solution) -> None:
        """Take over what the linear part has solved for: every item's row changes, also of those that took no part."""
        linear = self.linear
        linear.grow()
        before = np.flatnonzero(linear.sizes)
        linear.sizes[before], linear.ids[before], linear.weights[before] = 0, 0, 0
        width = solution.ids.shape[1]
        linear.sizes[solution.rows] = width
        linear.ids[solution.rows, :width], linear.weights[solution.rows, :width] = solution.ids, solution.weights
        self._dirty.update(before.tolist(), solution.rows.tolist())

    def put(self, item_id: str, record: NeighbourRow | None) -> int:
        """Take in a published row (None: its item was withdrawn, the row is emptied) and return its number.

        Nothing is taken in of an item that has no row of its own, and ``nowhere`` returned.

        Raises
        ------
        InvalidEvent
            If the record's weights are not one finite number for each of its items, or its counts none from 0 up.
        """
        row = self.items.mention(item_id)
        if row == self.items.nowhere:
            self.grow()
            return row
        if record is None:
            self.fill(row, _NONE, _NOTHING)
            self.linear.fill(row, _NONE, _NOTHING)
            self.counts[row] = self.effective[row] = 0
            self._damp(row)
            return row
        effective = record.count if record.effective is None else record.effective
        if not (0 <= record.count < _MOST and 0 <= effective < _MOST):
            raise InvalidEvent(f"neighbours: {record.count} clicks that count as {effective}: not numbers from 0 up")
        others, weights = self._entries(record.items, record.weights, self.width)
        solved = self._entries(record.linear_items, record.linear_weights, self.linear.width)
        self.forget(record.breaks)
        left = self.breaks.left_after(record.breaks)
        self.fill(row, others, weights * np.float32(left))
        self.linear.fill(row, *solved)
        self.counts[row] = record.count
        self.effective[row] = left * effective
        self._damp(row)
        return row

    def _entries(
        self, names: Sequence[str], packed: bytes, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows and weights of a record's entries, those without a row of their own left out."""
        weights = np.frombuffer(packed, "<f4")[:width]
        others = np.fromiter(map(self.items.mention, names[:width]), np.int64)
        if len(weights) != len(others) or not np.isfinite(weights).all():
            raise InvalidEvent(f"neighbours: {len(weights)} weights for {len(others)} items, or not all are finite")
        if self.items.nowhere < 0:
            return others, weights
        placed = others != self.items.nowhere
        return others[placed], weights[placed]

    def weighed(self, rows: NDArray[np.int64], decay: NDArray[np.float32]) -> NDArray[np.float32]:
        """decay / √(n_j + 1): scores are co without the candidate's own √(n_q + 1), see :attr:`damping`."""
        return decay * self.damping[rows]

    def co(self, rows: NDArray[np.int64], decay: NDArray[np.float32]) -> NDArray[np.float32]:
        """Co-occurrence of every item with users' last clicks, float32 [b, len(items)]: :meth:`scores`, damped."""
        return self.scores(rows, decay) * self.damping[: len(self.items)]

    def _damp(self, rows: int | slice) -> None:
        """``effective`` has changed there."""
        self.damping[rows] = np.reciprocal(np.sqrt(self.effective[rows] + np.float32(1)))
