"""What the lists of a run are worth: hit rates by slice, coverage, Gini, staleness, and whether a difference is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.histories import BUCKETS
from ops.experts import span
from ops.measures import CUTOFF, MISS, standard_error
from ops.quality.replay import Protocol, Replayed
from ops.quality.stream import Stream, earlier

SLICES: Final = ("all", "new items", "new users", "the rest")
"""New items: clicked at most :data:`FEW_CLICKS` times before, by anybody. New users: at most three clicks before."""

LENGTHS: Final = tuple(span(BUCKETS, bucket) for bucket in range(len(BUCKETS)))
"""Slices by the clicks that the user has made before: the buckets of history length that have weights of their own."""

FEW_CLICKS: Final = 4
FEW_OWN: Final = 3
FIRST: Final = tuple(map(str, range(FEW_OWN + 1)))
"""Slices of new users, by the clicks that they have made before."""

LAGS: Final = (0, 1, 2, 5, 10, 20, 50)
_HOUR_MS: Final = 3_600_000


@dataclass(slots=True, frozen=True)
class Asked:
    """The clicks that were asked for, the same for all peers under one protocol.

    Attributes
    ----------
    users, targets, times : int64 [asked]
    slices : dict[str, bool [asked]]
        By the names of :data:`SLICES`, :data:`LENGTHS` and :data:`FIRST`.
    items
        Size of the catalogue.
    """

    users: NDArray[np.int64]
    targets: NDArray[np.int64]
    times: NDArray[np.int64]
    slices: dict[str, NDArray[np.bool_]]
    items: int

    @classmethod
    def of(cls, stream: Stream, protocol: Protocol, at: NDArray[np.int64]) -> Asked:
        """Those at these places of the ordered stream."""
        ordered, _ = stream.ordered(protocol.ties, protocol.seed)
        new_item = (earlier(ordered.rows) <= FEW_CLICKS)[at]
        own = earlier(ordered.users)[at]
        new_user = own <= FEW_OWN
        bucket = np.searchsorted(BUCKETS, own, side="right") - 1
        slices = {
            "all": np.ones(len(at), np.bool_),
            "new items": new_item,
            "new users": new_user,
            "the rest": ~new_item & ~new_user,
            **{name: bucket == i for i, name in enumerate(LENGTHS)},
            **{name: own == clicks for clicks, name in enumerate(FIRST)},
        }
        return cls(ordered.users[at], ordered.rows[at], ordered.times[at], slices, ordered.items)

    @property
    def chance(self) -> float:
        """HR@10 of lists drawn at random from the whole catalogue."""
        return CUTOFF / self.items

    def __len__(self) -> int:
        return len(self.users)


def ranks(lists: NDArray[np.integer], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each target stands in its list, from 0; :data:`~ops.measures.MISS` where it does not."""
    found = lists == targets[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), MISS)


@dataclass(slots=True, frozen=True)
class Outcome:
    """One peer's lists beside what was clicked."""

    asked: Asked
    replayed: Replayed

    @property
    def hits(self) -> NDArray[np.float64]:
        """1 where the clicked item was listed, float64 [asked]."""
        return (ranks(self.replayed.lists, self.asked.targets) < CUTOFF).astype(np.float64)

    def rate(self, of: str = "all") -> float:
        """HR@10 on a slice; nan where the slice is empty."""
        chosen = self.asked.slices[of]
        return float(self.hits[chosen].mean()) if chosen.any() else float("nan")

    def error(self, of: str = "all", against: Outcome | None = None) -> float:
        """Standard error, by user, of HR@10 on a slice, or of the difference to another's."""
        values = self.hits if against is None else self.hits - against.hits
        chosen = self.asked.slices[of]
        return standard_error(values[chosen], self.asked.users[chosen])

    def ndcg(self) -> float:
        """NDCG@10 with one right item: 1 / log2(rank + 2)."""
        found = ranks(self.replayed.lists, self.asked.targets)
        return float(np.where(found < CUTOFF, 1 / np.log2(found + 2.0), 0).mean())

    def reciprocal_rank(self) -> float:
        """MRR@10."""
        found = ranks(self.replayed.lists, self.asked.targets)
        return float(np.where(found < CUTOFF, 1 / (found + 1.0), 0).mean())

    def shown(self) -> NDArray[np.int64]:
        """How often each item stood in a list, int64 [items]."""
        lists = self.replayed.lists
        return np.bincount(lists[lists >= 0], minlength=self.asked.items)

    def coverage(self) -> float:
        """Share of the catalogue that stood in some list."""
        return float((self.shown() > 0).mean())

    def gini(self) -> float:
        """Of the items' places in lists: 0 all alike, 1 one item has all."""
        shown = np.sort(self.shown()).astype(np.float64)
        n, total = len(shown), shown.sum()
        return float((2 * (np.arange(1, n + 1) * shown).sum() / total - (n + 1)) / n) if total else 0.0

    def microseconds(self) -> float:
        """CPU time of an event: a list for each that was asked for, and the learning of all, µs."""
        made = self.replayed
        return (made.ask_s / max(1, len(made.at)) + made.learn_s / max(1, made.clicks)) * 1e6

    def stale(self, lag: int) -> Outcome:
        """As if a user's list were ``lag`` of his (asked) clicks old, or his first one."""
        users = self.asked.users
        nth = earlier(users)
        return self._exchanged(nth - np.minimum(nth, lag))

    def hourly(self) -> Outcome:
        """As if a user's list were made once an hour of the data's time: all his clicks of an hour see its first."""
        users = self.asked.users
        nth = earlier(users)
        _, hour = np.unique(np.stack([users, self.asked.times // _HOUR_MS]), axis=1, return_inverse=True)
        return self._exchanged(nth - earlier(hour))

    def _exchanged(self, wanted: NDArray[np.int64]) -> Outcome:
        """Each list replaced by the same user's ``wanted``-th."""
        users = self.asked.users
        order = np.lexsort((np.arange(len(users)), users))
        first = np.searchsorted(users[order], users)
        made = self.replayed
        lists = made.lists[order[first + wanted]]
        return Outcome(self.asked, Replayed(made.at, lists, made.ask_s, made.learn_s, made.clicks))
