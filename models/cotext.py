"""New items: co-occurrence borrowed from what reads alike (design §7, "cotext").

An item that few have clicked has no co-clicks of its own. What its nearest items in text (:mod:`models.likeness`) have
stands in for them::

    cotext(q) = Σ_j max(0, cos(q, j)) · co(j) / Σ_j max(0, cos(q, j))        j: the nearest of q
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.likeness import Likeness
from models.neighbours import Neighbours

FEW: Final = 5
"""Clicks below which an item is new."""

MOST: Final = 512
"""New items that are looked at, those that came last: a catalogue of a million has mostly items that nobody clicks."""

RECKONED: Final = 16  # times that the tables are followed between two reckonings over all items, once few are new


class NewItems:
    """Which items are new, and what reads like them.

    Attributes
    ----------
    rows : int64 [f]
        The new ones that may be found by co of their nearest, rising.
    near : int32 [f, NEAR]
        Their nearest: see :class:`~models.likeness.Likeness`.
    weights : float32 [f, NEAR]
        Their cosines, summing up to 1; 0 where there are fewer.
    place : int32 [items]
        Row → its place in these arrays; -1 for an item that is not new.
    common : bool
        Most clicks were on items that were new then, Σ_q min(n_q, FEW) ≥ ½ Σ_q n_q: to be new is no drawback yet.
    """

    def __init__(self, neighbours: Neighbours, likeness: Likeness) -> None:
        self._neighbours = neighbours
        self._likeness = likeness
        self._laid_out: tuple[int, int, list[int]] = (0, 0, [])
        self._followed = 0
        self.common = True
        self._lay_out(np.empty(0, np.int64), 0)

    def follow(self, offered: NDArray[np.bool_]) -> None:
        """Follow clicks and catalogue: items on offer, bool [n]. Cheap while the same items are new."""
        n = len(offered)
        if self.common or self._followed % RECKONED == 0:  # at a start the first counts are yet to come
            counts = self._neighbours.counts[:n]
            self.common = bool(2 * np.minimum(counts, FEW).sum() >= counts.sum())
        self._followed += 1
        few = np.flatnonzero((self._neighbours.counts[:n] < FEW) & offered)[-MOST:]
        self._likeness.look_up(few)
        state = n, self._likeness.version, few.tolist()
        if state != self._laid_out:
            self._laid_out = state
            self._lay_out(few[self._likeness.known(few)], n)

    def _lay_out(self, rows: NDArray[np.int64], n: int) -> None:
        self.rows = rows
        self._likeness.grow()
        self.near = self._likeness.ids[rows]
        self.weights = self._likeness.cosines(rows)
        self.weights /= np.maximum(self.weights.sum(axis=1, keepdims=True), 1e-9)
        self.place = np.full(n, -1, np.int32)
        self.place[rows] = np.arange(len(rows))

    def placed(
        self,
        chosen: NDArray[np.int64],
        rows: NDArray[np.int64],
        cotext: NDArray[np.float32],
        scores: NDArray[np.float32],
        places: int,
        within: float,
    ) -> tuple[NDArray[np.int64], int]:
        """Lists with the best new items in their last places, where they hold too few, and how many came in.

        The best by score and by cotext over the user's largest, which alone knows something of an item that nobody
        has clicked. None comes in while to be new is :attr:`common`.

        Parameters
        ----------
        chosen : int64 [b, n]
            Columns of the candidates that are listed, best first.
        rows, cotext, scores : int64, float32, float32 [b, m]
            The candidates; a score of -inf may not be listed.
        places
            How many new items a list may hold for their sake.
        within
            How far below the score that it displaces one may be.
        """
        if self.common:
            return chosen, 0
        return _placed(chosen, self.place, rows, cotext, scores, places, within)


@compiled
def _placed(
    chosen: NDArray[np.int64], place: NDArray[np.int32], rows: NDArray[np.int64], cotext: NDArray[np.float32],
    scores: NDArray[np.float32], places: int, within: float,
) -> tuple[NDArray[np.int64], int]:  # fmt: skip
    """:meth:`NewItems.placed`."""
    made, came, m = chosen.copy(), 0, rows.shape[1]
    value = np.empty(m, np.float32)
    for user in range(len(made)):
        top, missing = max(cotext[user].max(), np.float32(1e-12)), places
        for i in range(m):
            new = place[rows[user, i]] >= 0
            value[i] = scores[user, i] + cotext[user, i] / top if new else np.float32(-np.inf)
        for i in made[user]:
            value[i] = -np.inf
            missing -= place[rows[user, i]] >= 0
        for last in range(1, min(places, made.shape[1]) + 1):
            best, out = value.argmax(), made[user, made.shape[1] - last]
            near = scores[user, best] >= scores[user, out] - within
            if missing >= last and near and np.isfinite(value[best]) and place[rows[user, out]] < 0:
                made[user, made.shape[1] - last] = best
                came += 1
            value[best] = -np.inf
    return made, came
