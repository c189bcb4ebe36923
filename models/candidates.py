"""The items worth ranking for a user: near in vector, co-clicked, on top in his layers, popular.

Design §7: the union of 200 by text, 200 by co and 100 of the layers loses nothing against scoring everything; nor do
80, 120 and 45, the defaults. The linear part brings 40 of its own, what reads like single clicks 60. Users are worked
on together; a pair of user and item is the key ``user · n + row``, so that one flat array holds all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.cotext import NewItems
from models.histories import RECENT, Histories
from models.index import ItemIndex
from models.likeness import Likeness
from models.neighbours import Neighbours

if TYPE_CHECKING:
    from models.layer_membership import Membership
    from models.layer_view import LayerView

_FILLED: Final = 32_000  # items up to which zeroing all sums is quicker than zeroing those that were touched
_LOOKED_UP: Final = 16  # items of which it is found for a batch of lists what they read like, if the users are fewer
_STRIDE: Final = 8  # a threshold is read off every 8th value: some 100 are wanted, not exactly 100


@dataclass(slots=True, frozen=True)
class Candidates:
    """The candidates of ``b`` users, at most ``m`` each.

    Attributes
    ----------
    rows : int64 [b, m]
        Item rows, rising; 0 in places that are not ``valid``.
    valid : bool [b, m]
    co : float32 [b, m]
        co without the candidate's own √(n_q + 1): see :meth:`~models.neighbours.Neighbours.scores`.
    recent : float32 [b, m]
        The same of the newest clicks: see :attr:`~models.histories.Histories.recent`.
    linear : float32 [b, m]
        What the linear part says, not below 0: see :mod:`models.linear`.
    text : float32 [b, m]
        Cosine, not below 0.
    like : float32 [b, m]
        What single clicks say by text: see :mod:`models.likeness`.
    cotext : float32 [b, m], optional
        Of new items: see :mod:`models.cotext`. None where no places are kept for them.
    """

    rows: NDArray[np.int64]
    valid: NDArray[np.bool_]
    co: NDArray[np.float32]
    recent: NDArray[np.float32]
    linear: NDArray[np.float32]
    text: NDArray[np.float32]
    like: NDArray[np.float32]
    cotext: NDArray[np.float32] | None = None


@dataclass(slots=True, frozen=True)
class Quota:
    """How many candidates each source gives, about."""

    text: int
    like: int
    co: int
    linear: int
    layer: int
    popular: int
    new: int


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
        self._sums: NDArray[np.float32] = np.zeros(0, np.float32)
        self._recent: NDArray[np.float32] = np.zeros(0, np.float32)
        self._linear: NDArray[np.float32] = np.zeros(0, np.float32)
        self._like: NDArray[np.float32] = np.zeros(0, np.float32)
        self._marks: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._places: NDArray[np.int32] = np.zeros(0, np.int32)

    def find(
        self,
        histories: Histories,
        vectors: NDArray[np.float32],
        membership: Membership | None,
        seen: NDArray[np.int64],
        offered: NDArray[np.bool_],
        least: int,
    ) -> Candidates:
        """The candidates of users.

        Parameters
        ----------
        vectors : float32 [b, d]
            Zeros where nothing is known of a user.
        membership
            The users' layers.
        seen : int64
            Keys of what may not be offered to its user.
        offered : bool [n]
            What may be offered at all.
        least
            A user who has fewer is given popular items, then the newest, while there are any.
        """
        try:
            return self._find(histories, vectors, membership, seen, offered, least)
        except BaseException:
            self._sums = np.zeros(0, np.float32)  # what was left in the working arrays would go into the next lists
            raise

    def _find(
        self,
        histories: Histories,
        vectors: NDArray[np.float32],
        membership: Membership | None,
        seen: NDArray[np.int64],
        offered: NDArray[np.bool_],
        least: int,
    ) -> Candidates:
        b, n = len(vectors), len(offered)
        self._reserve(b * n)
        sums, marks = self._sums[: b * n], self._marks[: b * n]
        recent, linear, like = self._recent[: b * n], self._linear[: b * n], self._like[: b * n]
        # everybody's newest click first; after a start not all at once, later there is hardly one a user
        self.likeness.look_up(histories.rows.T[histories.decay.T > 0], max(b, _LOOKED_UP))
        touched = self.neighbours.add_scores(histories.rows, histories.decay, sums, n)
        lately = self.neighbours.add_scores(histories.rows[:, :RECENT], histories.recent, recent, n)
        regressed = self.neighbours.linear.add_scores(histories.rows, histories.long, linear, n)
        alike = self.likeness.add_scores(histories.rows, histories.decay, like, n)
        linear[seen] = like[seen] = 0
        known = sums[seen] if self.quota.new else None
        sums[seen] = 0
        near = None
        if n > _FILLED and not self.index.exact:
            found = self._sparse(marks, sums, touched, regressed, alike, vectors, membership, seen, offered, least)
        else:
            found, near = self._dense(marks, sums, vectors, membership, seen, offered, least)
        rows, valid, keys = _side_by_side(found, b, n)
        co = np.where(valid, sums[keys], np.float32(0))
        newest = np.where(valid, recent[keys], np.float32(0))
        said = np.where(valid, np.maximum(linear[keys], 0), np.float32(0))
        text = self.index.cosines(vectors, rows) if near is None else near.ravel()[keys]
        text = np.where(valid, np.maximum(text, 0), np.float32(0))
        reads = np.where(valid, like[keys], np.float32(0))
        cotext = None
        if known is not None:
            sums[seen] = known  # what somebody has met says most about what reads like it
            cotext = self.new.scores(sums, n, rows) * valid
        if n <= _FILLED:
            sums.fill(0)
            recent.fill(0)
            linear.fill(0)
            like.fill(0)
        else:
            sums[touched] = 0
            recent[lately] = 0
            linear[regressed] = 0
            like[alike] = 0
        return Candidates(rows, valid, co, newest, said, text, reads, cotext)

    def _dense(
        self,
        marks: NDArray[np.bool_],
        sums: NDArray[np.float32],
        vectors: NDArray[np.float32],
        membership: Membership | None,
        seen: NDArray[np.int64],
        offered: NDArray[np.bool_],
        least: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
        """Keys of the candidates, rising, and the cosines of all items where the index is exact."""
        b, n = len(vectors), len(offered)
        text = self._mark_text(marks, vectors, seen, offered)
        marks[self._co(np.flatnonzero(sums > 0), sums, b, n)] = True
        for values, most in ((self._linear[: b * n], self.quota.linear), (self._like[: b * n], self.quota.like)):
            marks[_best_keys(np.flatnonzero(values > 0), values, b, n, most)] = True
        if self.layers is not None and membership is not None:
            for keys in self._layer_keys(self.layers, membership, n):
                marks[keys] = True
        grid = marks.reshape(b, n)
        if len(self.wanted):
            grid[:, self.wanted] = True
        if self.quota.new:
            marks[self._new(sums, n, vectors, text)] = True
        marks[seen] = False
        grid &= offered
        found = np.flatnonzero(marks)
        marks[found] = False
        return self._filled(found, seen, b, offered, least), text

    def _sparse(
        self,
        marks: NDArray[np.bool_],
        sums: NDArray[np.float32],
        touched: NDArray[np.int64],
        regressed: NDArray[np.int64],
        alike: NDArray[np.int64],
        vectors: NDArray[np.float32],
        membership: Membership | None,
        seen: NDArray[np.int64],
        offered: NDArray[np.bool_],
        least: int,
    ) -> NDArray[np.int64]:
        """The same where walking through users × items would cost more than all the rest: keys alone are handled."""
        b, n = len(vectors), len(offered)
        near = self.index.near(vectors, self.quota.text)
        keys = [(near + (np.arange(b) * n)[:, None])[near >= 0]]
        keys.append(self._co(self._once(touched[sums[touched] > 0]), sums, b, n))
        for values, where, most in (
            (self._linear[: b * n], regressed, self.quota.linear),
            (self._like[: b * n], alike, self.quota.like),
        ):
            keys.append(_best_keys(self._once(where[values[where] > 0]), values, b, n, most))
        if self.layers is not None and membership is not None:
            keys += self._layer_keys(self.layers, membership, n)
        if len(self.wanted):
            keys.append((self.wanted + (np.arange(b) * n)[:, None]).ravel())
        if self.quota.new:
            keys.append(self._new(sums, n, vectors, None))
        found = np.sort(np.concatenate(keys))
        found = found[np.diff(found, prepend=-1) > 0]  # np.unique would hash them, which takes seven times as long
        marks[seen] = True
        found = found[offered[found % n] & ~marks[found]]
        marks[seen] = False
        return self._filled(found, seen, b, offered, least)

    def _new(
        self, sums: NDArray[np.float32], n: int, vectors: NDArray[np.float32], text: NDArray[np.float32] | None
    ) -> NDArray[np.int64]:
        """Keys of each user's new items: half those that co says most of, half those that read most like his clicks."""
        b, rows, most = len(vectors), self.new.rows, self.quota.new // 2
        starts = (np.arange(b) * n)[:, None]
        co = sums[rows + starts] * self.neighbours.damping(rows)
        near = vectors @ self.index.items.centred(rows).T if text is None else text[:, rows]
        keys = []
        for value in (co, near):
            if len(rows) > most:
                value = np.where(value >= np.partition(value, -most, axis=1)[:, -most, None], value, 0)
            keys.append((rows + starts)[value > 0])
        return np.concatenate(keys)

    def _once(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Keys without repeats, in their order: quicker than sorting them."""
        if len(self._places) < len(self._sums):
            self._places = np.zeros(len(self._sums), np.int32)
        number = np.arange(len(keys), dtype=np.int32)
        self._places[keys] = number
        once: NDArray[np.int64] = keys[self._places[keys] == number]
        return once

    def _reserve(self, cells: int) -> None:
        """Working arrays that are all zero between calls: filling them anew would cost more than the work itself."""
        if len(self._sums) < cells:
            self._sums = np.zeros(cells, np.float32)
            self._recent = np.zeros(cells, np.float32)
            self._linear = np.zeros(cells, np.float32)
            self._like = np.zeros(cells, np.float32)
            self._marks = np.zeros(cells, np.bool_)

    def _mark_text(
        self,
        marks: NDArray[np.bool_],
        vectors: NDArray[np.float32],
        seen: NDArray[np.int64],
        offered: NDArray[np.bool_],
    ) -> NDArray[np.float32] | None:
        """Mark what is near; the cosines of all items where the index is exact."""
        b, n = len(vectors), len(offered)
        if not self.index.exact:
            rows = self.index.near(vectors, self.quota.text)
            marks[(rows + (np.arange(b) * n)[:, None])[rows >= 0]] = True
            return None
        text = self.index.scores(vectors)
        text.ravel()[seen] = 0
        if n > self.quota.text:
            sample = np.sort(text[:, ::_STRIDE], axis=1)
            threshold = np.maximum(sample[:, -1 - min(self.quota.text // _STRIDE, sample.shape[1] - 1)], 1e-6)
            grid = marks.reshape(b, n)
            grid |= text >= threshold[:, None]
        else:
            marks |= text.ravel() > 0
        return text

    def _co(self, keys: NDArray[np.int64], sums: NDArray[np.float32], b: int, n: int) -> NDArray[np.int64]:
        """Of the keys, user by user, that co says something about: the best of each user."""
        counts = _counts(keys, b, n)
        values = sums[keys] * self.neighbours.damping(keys - np.repeat(np.arange(b), counts) * n)
        return keys[_best(values, counts, self.quota.co)]

    def _layer_keys(self, layers: LayerView, membership: Membership, n: int) -> list[NDArray[np.int64]]:
        """Keys of the top items of the users' layers, and of what is popular with everybody."""
        b = len(membership.layers)
        each = max(1, self.quota.layer // membership.layers.shape[1])
        users, places = np.nonzero(membership.weights > 0)
        used, where = np.unique(membership.layers[users, places], return_inverse=True)
        tops = [layers.top(layer, each) for layer in used.tolist()]
        table = np.full((len(tops), each), -1)  # side by side, so that all users are marked at once
        for line, top in zip(table, tops, strict=True):
            line[: len(top)] = top
        rows = table[where]
        popular = layers.popular(self.quota.popular)
        return [
            (rows + users[:, None] * n)[rows >= 0],
            (popular + (np.arange(b) * n)[:, None]).ravel(),
        ]

    def _filled(
        self, found: NDArray[np.int64], seen: NDArray[np.int64], b: int, offered: NDArray[np.bool_], least: int
    ) -> NDArray[np.int64]:
        """A list is never short while anything may be offered: what is popular, then what is newest."""
        n = len(offered)
        counts = np.bincount(found // n, minlength=b)
        more: list[int] = []
        for user in np.flatnonzero(counts < least).tolist():
            start, end = user * n, (user + 1) * n
            taken = {*found[(found >= start) & (found < end)].tolist(), *seen[(seen >= start) & (seen < end)].tolist()}
            missing = least - int(counts[user])
            for row in self._spare(n):
                if missing <= 0:
                    break
                if offered[row] and start + row not in taken:
                    taken.add(start + row)
                    more.append(start + row)
                    missing -= 1
        return np.sort(np.append(found, more)) if more else found

    def _spare(self, n: int) -> Iterator[int]:
        if self.layers is not None:
            yield from self.layers.popular(n).tolist()
        yield from range(n - 1, -1, -1)


def _best_keys(keys: NDArray[np.int64], values: NDArray[np.float32], b: int, n: int, most: int) -> NDArray[np.int64]:
    """Of the keys, user by user, the ``most`` of each user (about) with the largest of ``values`` [b · n]."""
    return keys[_best(values[keys], _counts(keys, b, n), most)]


def _counts(keys: NDArray[np.int64], b: int, n: int) -> NDArray[np.int64]:
    """How many of the keys, user by user, are of each user, int64 [b]."""
    # sorted or not, all keys of an earlier user are smaller: a search finds where each begins, and divides nothing
    counts: NDArray[np.int64] = np.diff(np.searchsorted(keys, np.arange(b + 1) * n))
    return counts


def _best(values: NDArray[np.float32], counts: NDArray[np.int64], wanted: int) -> NDArray[np.bool_]:
    """Which values, side by side with so many a user, are among their user's ``wanted`` largest (about)."""
    thresholds = np.full(len(counts), np.float32(-np.inf))
    end = 0
    for user, count in enumerate(counts.tolist()):
        start, end = end, end + count
        if count > wanted:
            sample = np.sort(values[start:end:_STRIDE])
            thresholds[user] = sample[-1 - min(wanted // _STRIDE, len(sample) - 1)]
    best: NDArray[np.bool_] = values >= np.repeat(thresholds, counts)
    return best


def _side_by_side(
    found: NDArray[np.int64], b: int, n: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Sorted keys as one row for each user: (rows, which places are taken, keys)."""
    users = found // n
    counts = np.bincount(users, minlength=b)
    m = max(1, int(counts.max(initial=0)))
    valid = np.arange(m) < counts[:, None]
    keys = np.zeros((b, m), np.int64)
    keys[valid] = found
    rows = np.where(valid, keys - (np.arange(b) * n)[:, None], 0)
    return rows, valid, keys
