"""The items worth ranking for a user: near in vector, co-clicked, on top in his layers, popular.

Design §7: the union of 200 by text, 200 by co and 100 of the layers loses nothing against scoring everything; nor do
80, 120 and 45, the defaults. The linear part brings 40 of its own, what reads like single clicks 60. What comes item by
item is a compiled loop: :mod:`models.finding`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.cotext import NewItems
from models.features import SCORERS
from models.finding import cut, find
from models.finding_arrays import Borrowed, Clicks, Found, Quota, Scratch, Sources, Tables
from models.histories import RECENT, Histories
from models.index import ItemIndex
from models.layer_membership import Membership, nobody
from models.likeness import Likeness
from models.neighbours import Neighbours

if TYPE_CHECKING:
    from models.layer_view import LayerView

_LOOKED_UP: Final = 16  # items of which it is found for a batch of lists what they read like, if the users are fewer
_ALL: Final = 1 << 31  # popular items, more than there are
PLACES: Final = tuple(SCORERS.index(scorer) for scorer in ("co", "co.short", "linear", "text", "text.like"))
"""Which scorers the search for candidates knows."""

_NO_ROWS: Final = np.empty(0, np.int64)


@dataclass(slots=True, frozen=True)
class Candidates:
    """The candidates of ``b`` users, at most ``m`` each.

    Attributes
    ----------
    rows : int64 [b, m]
        Item rows, in the order in which they were found; 0 in places that are not ``valid``.
    valid : bool [b, m]
    said : float32 [scorers, b, m]
        What each of :data:`~models.features.SCORERS` says, not below 0: co (:mod:`models.neighbours`), the same of the
        newest clicks (:attr:`~models.histories.Histories.recent`), the cosine, what single clicks say by text
        (:mod:`models.likeness`), and the linear part (:mod:`models.linear`). The others are for who has them, and 0.
    cotext : float32 [b, m], optional
        Of new items: see :mod:`models.cotext`. None where no places are kept for them.
    """

    rows: NDArray[np.int64]
    valid: NDArray[np.bool_]
    said: NDArray[np.float32]
    cotext: NDArray[np.float32] | None = None


class CandidateSources:
    """Finds candidates in the tables.

    Parameters
    ----------
    neighbours, index, layers
        The tables; ``layers`` may be missing.
    quota
        How many each gives.

    Attributes
    ----------
    wanted : int64
        Rows that are looked at for everybody besides, where they may be offered: what the policy pins, say.
    """

    def __init__(self, neighbours: Neighbours, index: ItemIndex, layers: LayerView | None, quota: Quota) -> None:
        self.neighbours = neighbours
        self.index = index
        self.layers = layers
        self.quota = quota
        self.likeness = Likeness(index.items, index)
        self.new = NewItems(neighbours, self.likeness)
        self.wanted: NDArray[np.int64] = np.empty(0, np.int64)
        self._scratch = Scratch.empty(0, 0)

    def find(
        self,
        histories: Histories,
        vectors: NDArray[np.float32],
        membership: Membership | None,
        seen: NDArray[np.int64],
        offered: NDArray[np.bool_],
        least: int,
        own: NDArray[np.int64] | None = None,
    ) -> Candidates:
        """The candidates of users.

        Parameters
        ----------
        vectors : float32 [b, d]
            Zeros where nothing is known of a user.
        membership
            The users' layers.
        seen : int64
            Keys user · n + row of what may not be offered to its user, user by user.
        offered : bool [n]
            What may be offered at all.
        least
            A user who has fewer is given popular items, then the newest, while there are any.
        own : int64 [b, k], optional
            What each has chosen himself and may be offered again, -1 where there is less.

        Raises
        ------
        ValueError
            If items have come since somebody last said what may be offered.
        """
        b, n = len(vectors), len(offered)
        if n != len(self.index.items):
            raise ValueError(f"{len(self.index.items)} items, of which {n} are known here: follow the catalogue first")
        # everybody's newest click first; after a start not all at once, later there is hardly one a user
        self.likeness.look_up(histories.rows.T[histories.decay.T > 0], max(b, _LOOKED_UP))
        tables, clicks, new = self.tables, self.clicks(histories), self.new
        sources = self._sources(vectors, membership, np.empty((b, 0), np.int64) if own is None else own)
        quota = self.quota
        most = 2 * quota.text + quota.co + quota.linear + quota.like + sources.tops.shape[1] * sources.layers.shape[1]
        found = Found.empty(b, most + quota.new + len(sources.everybody) + least + sources.own.shape[1])
        scratch = self._working(n, 1 + clicks.rows.shape[1] * max(table.ids.shape[1] for table in tables))
        borrowed = Borrowed(new.place, new.near, new.weights)
        find(clicks, tables, self.neighbours.damping, sources, quota, seen, offered, least, borrowed, scratch, found)
        rows, valid, said, cotext = cut(found, len(SCORERS), PLACES)
        if not self.index.exact:
            np.multiply(np.maximum(self.index.cosines(vectors, rows), 0), valid, out=said[PLACES[3]])
        return Candidates(rows, valid, said, cotext if quota.new else None)

    @property
    def tables(self) -> Tables:
        """What speaks for items, click by click."""
        return Tables(self.neighbours.table, self.neighbours.linear.table, self.likeness.table)

    def clicks(self, histories: Histories) -> Clicks:
        """How much each click of users counts with each of :attr:`tables`."""
        weighed, rows = self.neighbours.weighed, histories.rows
        co, recent = weighed(rows, histories.decay), weighed(rows[:, :RECENT], histories.recent)
        return Clicks(rows, co, recent, histories.long, histories.decay)

    def _sources(self, vectors: NDArray[np.float32], membership: Membership | None, own: NDArray[np.int64]) -> Sources:
        """Where candidates come from beside the clicks."""
        b, quota, new = len(vectors), self.quota, self.new.rows
        cosines, near = np.empty((b, 0), np.float32), np.empty((b, 0), np.int64)
        if self.index.exact:
            cosines = self.index.scores(vectors)
            new_near = np.empty((b, 0), np.float32)
        else:
            near = self.index.near(vectors, quota.text)
            new_near = vectors @ self.index.items.centred(new).T
        if self.layers is None or membership is None:
            membership, tops, popular, spare = nobody(b), np.empty((1, 0), np.int64), _NO_ROWS, _NO_ROWS
        else:
            tops = self.layers.tops(membership.layers, max(1, quota.layer // membership.layers.shape[1]))
            popular, spare = self.layers.popular(quota.popular), self.layers.popular(_ALL)
        everybody = np.concatenate([popular, self.wanted])
        return Sources(cosines, near, own, tops, membership.layers, membership.weights, everybody, spare, new, new_near)

    def _working(self, n: int, slots: int) -> Scratch:
        """Working memory for so many items, where fewer than ``slots`` entries of a table speak for a user's clicks."""
        have = self._scratch
        if len(have.state) < n or have.touched.shape[1] < slots:
            self._scratch = Scratch.empty(max(n, len(have.state) * 3 // 2), slots)
        return self._scratch
