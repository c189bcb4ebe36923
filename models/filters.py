"""What a user may not be offered: what he has seen, what is not on offer, what the deployment blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from models.items import ItemStore
from models.profile import Profile


class Filters:
    """Hard filters: an item that one of them catches is in no list.

    Parameters
    ----------
    items
        The catalogue.
    repeat_after_s
        Event kind → seconds after which an item that the user met so may be offered again. A kind that is not named
        never repeats; a dismissal, therefore, neither.
    blocked_categories, blocked_labels
        Categories and safety labels that are never offered.
    """

    def __init__(
        self,
        items: ItemStore,
        repeat_after_s: Mapping[str, float],
        blocked_categories: frozenset[str],
        blocked_labels: frozenset[str],
    ) -> None:
        self.items = items
        self.repeat_after_s = repeat_after_s
        self.blocked_categories = blocked_categories
        self.blocked_labels = blocked_labels
        self._rows: dict[int, int] = {}
        self._allowed: NDArray[np.bool_] = np.ones(0, np.bool_)

    @property
    def known(self) -> int:
        """Items that :meth:`follow` has seen."""
        return len(self._allowed)

    def follow(self) -> None:
        """Follow the catalogue's new and ``changed`` rows; to be called before the index empties ``changed``."""
        items = self.items
        known, n = len(self._rows), len(items)
        if known < n:
            self._rows.update(zip(items.hashes[known:n].tolist(), range(known, n), strict=True))
            self._allowed = np.concatenate([self._allowed, np.ones(n - len(self._allowed), np.bool_)])
        if self.blocked_categories or self.blocked_labels:
            for row in items.changed:
                labels = self.blocked_labels.intersection(items.safety[row])
                self._allowed[row] = items.categories[row] not in self.blocked_categories and not labels

    def offered(self, now_ms: int) -> NDArray[np.bool_]:
        """Which items may be offered to anybody, bool [n]."""
        n = len(self._allowed)
        return self.items.servable(slice(n), now_ms) & self._allowed

    def may_repeat(self, profile: Profile, row: int, now_ms: int) -> bool:
        """Whether an item may be offered to a user as far as what he has seen goes."""
        met = profile.seen.get(int(self.items.hashes[row]))
        if met is None:
            return True
        at, event = met
        return event in self.repeat_after_s and now_ms // 1000 - at >= self.repeat_after_s[event]

    def seen(self, profiles: Sequence[Profile], now_ms: int) -> NDArray[np.int64]:
        """What each user has seen and may not see again, as keys user · n + row, int64.

        ``n`` is the number of items that :meth:`follow` knew; users count from 0.
        """
        n = len(self._allowed)
        now_s = now_ms // 1000
        keys = []
        for user, profile in enumerate(profiles):
            seen: Iterable[int] = profile.seen
            if self.repeat_after_s:
                waits = self.repeat_after_s
                seen = [
                    item
                    for item, (at, event) in profile.seen.items()
                    if event not in waits or now_s - at < waits[event]
                ]
            rows = np.fromiter(map(self._rows.get, seen, repeat(-1)), np.int64)
            keys.append(rows[rows >= 0] + user * n)
        return np.concatenate(keys) if keys else np.empty(0, np.int64)
