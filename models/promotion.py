"""Boosts, pins and category caps over item rows: what the policy does to the order of a list.

Nothing of this costs anything while the policy has no such rule: whoever ranks asks :attr:`Promotion.boosted`,
:attr:`Promotion.pinning` and :attr:`Promotion.capped` first.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.items import ItemStore
from models.policy import EVERY, Policy, boost_rule, pin_rule

_NO_CAP: Final = np.iinfo(np.int64).max


class Promotion:
    """Follows the catalogue with the policy's boosts, pins and caps.

    Parameters
    ----------
    items
        The catalogue.
    counts
        Rule → how often it changed a list, to be added to.
    """

    def __init__(self, items: ItemStore, counts: MutableMapping[str, int]) -> None:
        self._items = items
        self._counts = counts
        self._policy = Policy()
        self._codes: dict[str, int] = {}
        self.apply(self._policy)

    def apply(self, policy: Policy) -> None:
        """Take other rules; :meth:`follow` with all rows must come next."""
        self._policy = policy
        self._by: dict[tuple[str, str | None], list[int]] = {}
        for number, boost in enumerate(policy.boosts):
            for kind, name in (("category", boost.category), ("tag", boost.tag), ("item", boost.item)):
                if name is not None:
                    self._by.setdefault((kind, name), []).append(number)
        self._matches: NDArray[np.bool_] = np.zeros((len(policy.boosts), 0), np.bool_)
        self._active: tuple[int, ...] = ()
        self._added: NDArray[np.float32] = np.zeros(0, np.float32)
        self._codes = {}
        self._category: NDArray[np.int64] = np.zeros(0, np.int64)
        self._caps: NDArray[np.int64] = np.zeros(0, np.int64)

    @property
    def boosted(self) -> bool:
        """Whether there are boosts."""
        return bool(self._policy.boosts)

    @property
    def pinning(self) -> bool:
        """Whether there are pins."""
        return bool(self._policy.pins)

    @property
    def capped(self) -> bool:
        """Whether there are caps."""
        return bool(self._policy.category_caps)

    def follow(self, rows: Iterable[int]) -> None:
        """Look again at these rows, and at those that the catalogue has given since."""
        items, n = self._items, len(self._items)
        rows = list(rows) if self.boosted or self.capped else []
        if self.boosted:
            if (more := n - self._matches.shape[1]) > 0:
                self._matches = np.pad(self._matches, ((0, 0), (0, more + n // 4)))
            for row in rows:
                self._matches[:, row] = False
                names = [("category", items.categories[row]), ("item", items.ids[row])]
                names += [("tag", tag) for tag in items.tags[row]]
                for name in names:
                    self._matches[self._by.get(name, []), row] = True
            if len(self._added) < n:
                self._added = np.pad(self._added, (0, self._matches.shape[1] - len(self._added)))
            self._added[rows] = self._sum(rows)
        if self.capped:
            if (more := n - len(self._category)) > 0:
                self._category = np.pad(self._category, (0, more + n // 4), constant_values=self._code(""))
            for row in rows:
                self._category[row] = self._code(items.categories[row])

    def _code(self, category: str) -> int:
        code = self._codes.get(category)
        if code is None:
            code = self._codes[category] = len(self._codes)
            caps = self._policy.category_caps
            # an item without a category belongs to none, and so no cap of every category is meant for it
            cap = caps.get(category, caps.get(EVERY, _NO_CAP) if category else _NO_CAP)
            self._caps = np.append(self._caps, cap)
        return code

    def _sum(self, rows: list[int] | slice) -> NDArray[np.float32]:
        active = list(self._active)
        add = np.array([self._policy.boosts[number].add for number in active], np.float32)
        total: NDArray[np.float32] = add @ self._matches[active][:, rows]
        return total

    def wanted(self, now_ms: int) -> NDArray[np.int64]:
        """Rows that must be looked at for everybody: of what is pinned, and what is boosted by its id."""
        policy = self._policy
        named = [pin.item for pin in policy.pins if pin.holds(now_ms)]
        named += [boost.item for boost in policy.boosts if boost.item is not None and boost.holds(now_ms)]
        return np.array(sorted({row for row in map(self._items.find, named) if row >= 0}), np.int64)

    def boosts(self, rows: NDArray[np.int64], now_ms: int) -> NDArray[np.float32]:
        """What the boosts that hold now add to the scores of these rows."""
        active = tuple(number for number, boost in enumerate(self._policy.boosts) if boost.holds(now_ms))
        if active != self._active:
            self._active = active
            self._added = self._sum(slice(None))
        added: NDArray[np.float32] = self._added[rows]
        return added

    def count_boosts(self, listed: NDArray[np.int64]) -> None:
        """Count the rows of published lists that a boost changed."""
        for number in self._active:
            self._counts[boost_rule(self._policy.boosts[number])] += int(self._matches[number, listed].sum())

    def cap(self, rows: NDArray[np.int64], scores: NDArray[np.float32], pinned: NDArray[np.bool_] | None) -> None:
        """Strike all but each user's best so many of a category: their ``scores`` become -inf.

        Parameters
        ----------
        rows : int64 [b, m]
        scores : float32 [b, m]
            -inf where there is no candidate, and for what is pinned.
        pinned : bool [b, m], optional
            These are the first to count.
        """
        b, m = scores.shape
        first = scores if pinned is None else np.where(pinned, np.float32(np.inf), scores)
        order = np.argsort(-first, axis=1)
        codes = np.take_along_axis(self._category[rows], order, axis=1)
        keys = (codes + np.arange(b)[:, None] * len(self._codes)).ravel()
        together = np.argsort(keys, kind="stable")
        grouped = keys[together]
        begins = np.r_[True, grouped[1:] != grouped[:-1]]
        start = np.maximum.accumulate(np.where(begins, np.arange(b * m), 0))
        number = np.empty(b * m, np.int64)
        number[together] = np.arange(b * m) - start
        over = np.empty((b, m), np.bool_)
        np.put_along_axis(over, order, number.reshape(b, m) >= self._caps[codes], axis=1)
        over &= np.isfinite(scores)
        self._counts["category_cap"] += int(over.sum())
        scores[over] = -np.inf

    def pins(
        self, rows: NDArray[np.int64], valid: NDArray[np.bool_], now_ms: int
    ) -> list[tuple[int, str, NDArray[np.bool_]]]:
        """The pins that hold, by place: place from 0, rule, and bool [b, m] where the item stands."""
        held = sorted((pin for pin in self._policy.pins if pin.holds(now_ms)), key=lambda pin: pin.place)
        found = [(pin.place - 1, pin_rule(pin), self._items.find(pin.item)) for pin in held]
        return [(place, rule, (rows == row) & valid) for place, rule, row in found if row >= 0]

    def pin(
        self,
        pins: list[tuple[int, str, NDArray[np.bool_]]],
        chosen: NDArray[np.int64],
        scores: NDArray[np.float32],
        length: int,
    ) -> tuple[NDArray[np.int64], list[list[int]]]:
        """Put what is pinned at its place in each list.

        Parameters
        ----------
        pins
            Of :meth:`pins`.
        chosen : int64 [b, n]
            The others in their order, as columns.
        scores : float32 [b, m]
            -inf for what is pinned, and where there is no candidate.
        length
            Items in a list, as asked for: ``n``, or more where nobody here has so many candidates. A place beyond it is
            in no list; one beyond a short list is its end, whoever else is served along.

        Returns
        -------
        int64 [b, n], list
            Columns, -1 where a list ends; and for each user the columns that are pinned.
        """
        out = np.full(chosen.shape, -1, np.int64)
        taken: list[list[int]] = []
        usable = np.isfinite(np.take_along_axis(scores, chosen, axis=1))
        for user in range(len(chosen)):
            line = chosen[user, usable[user]].tolist()
            mine: list[int] = []
            at = -1
            for place, rule, where in pins:
                columns = np.flatnonzero(where[user])
                if not len(columns) or int(columns[0]) in mine or place >= length:
                    continue
                at = max(at + 1, min(place, len(line)))
                line.insert(at, int(columns[0]))
                if at < length:
                    mine.append(int(columns[0]))
                    self._counts[rule] += 1
            line = line[:length]
            out[user, : len(line)] = line
            taken.append(mine)
        return out, taken
