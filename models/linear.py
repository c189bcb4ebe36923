"""The linear part: each item from all others at once, so that what two clicks both say is counted once.

Co-occurrence adds up what each click of a user says of an item. Where one item explains another (what sells with
everything, the rest of a set) that counts the same thing again and again; a regression of each item on all others does
not. Its closed form is EASE (Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019): with X the matrix
of who has clicked what, 1 however often,

    P = (XᵀX + λI)⁻¹        W[j, q] = −P[j, q] / P[q, q]        W[q, q] = 0

and an item's score for a user whose last clicks are j_1 (newest), j_2, … is Σ_m .95^(m-1) · W[j_m, q], not below 0.

XᵀX moves with every click, W is solved for from time to time. Of a row only the :data:`WIDTH` largest entries are kept:
small ones are mostly the noise of pairs that hardly anybody has clicked. The inverse costs the cube of the number of
items, so those clicked most take part. One that comes in later is counted from then on, with those who click it from
then on: who had clicked it before does not stand in its diagonal, and so in none of its pairs.

When the stream breaks (:mod:`models.breaks`), XᵀX keeps a small share of its weight, and from then on a user counts as
another one than he was before: that way it stays a sum of xxᵀ, which can be inverted.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from itertools import repeat
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.breaks import Breaks, Lately
from models.errors import StrataError
from models.items import ItemStore

WIDTH: Final = 50
"""Entries kept of a row of W."""

MOST: Final = 4_000
"""Items that take part: their matrix has 64 MB, and its inverse takes a core some seconds."""

L2: Final = 100.0
"""λ, in users: pairs that fewer have clicked weigh little."""

EVERY: Final = 5_000
"""First clicks of a user on an item between two solutions, at most."""

_BEGIN: Final = 500  # such clicks before the first solution
_GROWN: Final = 1.5  # times the clicks of the last solution: a small stream is solved more often
_FIRST: Final = 256  # items that there is room for at first
_BESIDE: Final = 100  # newest others that are remembered with a click, for a break: a bot may have clicked thousands
_RAISED: Final = 64.0  # times λ, at most
_LEAD: Final = 1.5  # times the clicks of the item whose place a newcomer takes


@dataclass(slots=True, frozen=True)
class Solution:
    """W, its rows as :class:`~models.item_rows.ItemRows` holds them.

    Attributes
    ----------
    rows : int64 [k]
        The items that took part.
    ids : int32 [k, w]
        Item rows, largest entry first; 0 with weight 0 in places that are empty.
    weights : float32 [k, w]
    """

    rows: NDArray[np.int64]
    ids: NDArray[np.int32]
    weights: NDArray[np.float32]

    @classmethod
    def empty(cls) -> Solution:
        """Of no item."""
        return cls(np.empty(0, np.int64), np.empty((0, 0), np.int32), np.empty((0, 0), np.float32))


class _Click(NamedTuple):
    row: int
    others: NDArray[np.uint64]
    moments: NDArray[np.int64]
    before: int | None


class CoClicks:
    """XᵀX of the items clicked most, kept up click by click.

    Parameters
    ----------
    items
        The catalogue.
    most
        Items that take part. When all places are taken, an item that one and a half times as many users have clicked as
        the least clicked of them takes its place, and is counted with others from then on.

    Attributes
    ----------
    breaks : Breaks
        Those that the counts know of.
    clicks : float
        Learned, repeats not counted; what was before a break of the stream keeps a share only.
    gram : float32 [room, room]
        XᵀX by place; its diagonal says how many users have clicked an item.
    rows : int64 [room]
        The item at each place.
    """

    def __init__(self, items: ItemStore, most: int = MOST) -> None:
        self.items = items
        self.most = most
        self.breaks = Breaks()
        self.clicks = 0.0
        self.gram: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self.rows: NDArray[np.int64] = np.zeros(0, np.int64)
        self._due = float(_BEGIN)
        self._places: dict[int, int] = {}  # item hash → place
        self._known: dict[int, int] = {}  # item hash → row
        self._users: dict[int, float] = {}  # item hash → how many users have clicked it, of those that have no place
        self._users_at: NDArray[np.float64] = np.zeros(0)  # the same by place, with those of before it had one
        self._since: NDArray[np.int64] = np.zeros(0, np.int64)  # by place, from which moment on clicks are counted
        self._newest = 0  # moment of a click that was counted
        self._lately: Lately[_Click] = Lately()

    @property
    def due(self) -> bool:
        """Whether enough has come since the last solution."""
        return self.clicks >= self._due

    def learn(
        self,
        row: int,
        others: NDArray[np.uint64],
        moment: int | None = None,
        moments: NDArray[np.int64] | None = None,
        before: int | None = None,
    ) -> None:
        """A user has clicked an item for the first time, or again.

        Parameters
        ----------
        row
            The item.
        others : uint64 [any]
            Hashes (:func:`~models.items.item_hash`) of all else that he has clicked, the newest last.
        moment, moments : int64 [any]
            When he clicked it, and when the others, ms since the epoch: those with a break of the stream between count
            as another user's. Not given: all of it now, and not told from what was before a break that began earlier.
        before
            When he last clicked it before, ms since the epoch: that counts once, unless the stream broke in between.
            Not given: never.
        """
        if row == self.items.nowhere:
            return
        share = 1.0
        if moment is not None and moments is not None:
            share = self.breaks.left_of(moment)
            with_it = self.breaks.left(moments) == share
            others, moments = others[with_it], moments[with_it]
            newest = moments[-_BESIDE:] >= self._lately.oldest  # as far back as a break can be found to have begun
            self._lately.add(moment, _Click(row, others[-_BESIDE:][newest], moments[-_BESIDE:][newest], before))
            self._newest = max(self._newest, moment)
            if before is not None and self.breaks.left_of(before) == share:
                return
        self._add(row, others, share, moments)

    def _add(self, row: int, others: NDArray[np.uint64], share: float, moments: NDArray[np.int64] | None = None) -> int:
        """Count a click with so much weight, and say at what place: -1 if its item has none."""
        self.clicks += share
        place = self._place(int(self.items.hashes[row]), row, share)
        if place >= 0:
            self.gram[place, place] += np.float32(share)
            self._join(place, others, share, moments)
        return place

    def _join(self, place: int, others: NDArray[np.uint64], share: float, moments: NDArray[np.int64] | None) -> None:
        with_it = self._of(others, moments)
        self.gram[place, with_it] += np.float32(share)
        self.gram[with_it, place] += np.float32(share)

    def learn_user(self, clicked: NDArray[np.uint64], at: NDArray[np.int64] | None = None) -> None:
        """All that a user has clicked, the same as clicks one after another with the breaks between them.

        Parameters
        ----------
        clicked : uint64 [k]
            Hashes, each once.
        at : int64 [k], optional
            When, ms since the epoch; not given: all of it since the last break.
        """
        left = np.ones(len(clicked)) if at is None else self.breaks.left(at)
        if at is not None:
            self._newest = max(self._newest, int(at.max(initial=0)))
        for share in np.unique(left):
            self._learn_together(clicked[left == share], share)

    def forget(self, breaks: Iterable[int]) -> None:
        """Learn of breaks, ms since the epoch; after a new one it is time to solve."""
        known = copy(self.breaks)
        left = self.breaks.add(breaks)
        if left == 1:
            return
        self.clicks *= left
        self.gram *= np.float32(left)
        self._users_at *= left
        self._users = {item: left * users for item, users in self._users.items()}
        for moment, lacks, click in self._lately.lacking(known, self.breaks):
            self._found_after(click, moment, lacks, known)
        self._due = self.clicks

    def _found_after(self, click: _Click, moment: int, lacks: float, known: Breaks) -> None:
        """Count a click by what it lacks, and no more with what its user clicked on the other side of a new break."""
        whole = self.breaks.left_of(moment)
        since = self.breaks.left(click.moments) == whole
        if click.before is not None and known.left_of(click.before) == known.left_of(moment):
            if self.breaks.left_of(click.before) != whole:  # it was a repeat, and is the first since
                self._add(click.row, click.others[since], whole, click.moments[since])
            return
        joined = known.left(click.moments) == known.left_of(moment)
        place = self._add(click.row, click.others[since], lacks, click.moments[since])
        if place >= 0:
            across = joined & ~since
            self._join(place, click.others[across], lacks - whole, click.moments[across])

    def _learn_together(self, clicked: NDArray[np.uint64], share: float) -> None:
        known, n = len(self._known), len(self.items)
        self._known.update(zip(self.items.hashes[known:n].tolist(), range(known, n), strict=True))
        places = []
        for item in clicked.tolist():
            row = self._known.get(item, self.items.nowhere)
            if row != self.items.nowhere:
                self.clicks += share
                places.append(self._place(item, row, share))
        with_it = np.array([place for place in dict.fromkeys(places) if place >= 0], np.int64)
        self.gram[np.ix_(with_it, with_it)] += np.float32(share)

    def solve(self, l2: float = L2, width: int = WIDTH) -> Solution:
        """W as of now.

        λ is doubled, up to 64 times of it, until XᵀX + λI is positive definite: clicks that come out of order, or are
        no longer remembered, may keep XᵀX from being quite a sum of xxᵀ.

        Raises
        ------
        StrataError
            If it is not even then in float32: λ is too small.
        """
        taken = np.flatnonzero(self.gram.diagonal() > 0)
        k = len(taken)
        if k < 2:
            return Solution.empty()
        matrix = torch.from_numpy(self.gram[np.ix_(taken, taken)])
        matrix.diagonal().add_(l2)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        most = _RAISED * l2
        while failed and 2 * l2 <= most:
            matrix.diagonal().add_(l2)
            l2 *= 2
            factor, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            raise StrataError(f"linear: XᵀX + {l2:g} I is not positive definite in float32: raise λ")
        solved = torch.cholesky_inverse(factor, out=matrix)
        del factor
        solved /= -solved.diagonal().clone()
        solved.fill_diagonal_(0)
        largest = solved.abs().topk(min(width, k - 1), dim=1).indices
        weights: NDArray[np.float32] = solved.gather(1, largest).numpy()
        rows = self.rows[taken]
        return Solution(rows, rows[largest.numpy()].astype(np.int32), weights)

    def snapshot(self) -> CoClicks:
        """A copy to solve while clicks go on; the next one is :attr:`due` when enough has come."""
        self._due = min(max(_BEGIN, int(_GROWN * self.clicks)), self.clicks + EVERY)
        made = CoClicks(self.items, self.most)
        made.clicks, made.gram, made.rows = self.clicks, self.gram.copy(), self.rows.copy()
        return made

    def _of(self, items: NDArray[np.uint64], moments: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Places of the items that have one, and had it when they were clicked."""
        places = np.fromiter(map(self._places.get, items.tolist(), repeat(-1)), np.int64, len(items))
        counted = places >= 0
        if moments is not None:
            counted &= moments >= self._since[places]
        return places[counted]

    def _place(self, item: int, row: int, share: float = 1.0) -> int:
        """The item's place, given now if it may have one; -1 if not."""
        place = self._places.get(item)
        if place is not None:
            self._users_at[place] += share
            return place
        place, users, since = len(self._places), share, 0
        if place >= self.most:
            users = self._users[item] = self._users.get(item, 0.0) + share
            place, since = int(self._users_at.argmin()), self._newest
            if users < _LEAD * self._users_at[place]:
                return -1
            gone = int(self.items.hashes[self.rows[place]])
            self._users[gone] = float(self._users_at[place])
            del self._places[gone], self._users[item]
            self.gram[place], self.gram[:, place] = 0, 0
        elif place == len(self.rows):
            self._make_room()
        self._places[item], self.rows[place] = place, row
        self._users_at[place], self._since[place] = users, since
        return place

    def _make_room(self) -> None:
        have = len(self.rows)
        room = min(self.most, max(_FIRST, 2 * have))
        gram, self.gram = self.gram, np.zeros((room, room), np.float32)
        self.gram[:have, :have] = gram
        for name in ("rows", "_users_at", "_since"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros(room - have, old.dtype)]))
