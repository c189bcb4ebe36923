"""What an evaluation counts: where the clicked item stood in the list, by method."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.histories import BUCKETS

CUTOFF: Final = 10
"""Places of a list that count."""

MISS: Final = 1_000_000
"""The rank of an item that is in no list."""


@dataclass(slots=True)
class Measures:
    """The ranks that one method gave to the items that were then clicked.

    Attributes
    ----------
    ranks
        From 0; :data:`MISS` where the item was not listed.
    shown
        Items that stood in a list that was looked at.
    """

    ranks: list[int] = field(default_factory=list)
    shown: set[int] = field(default_factory=set)

    def hits(self) -> NDArray[np.float64]:
        """1 where the item was among the first :data:`CUTOFF`."""
        return (np.array(self.ranks) < CUTOFF).astype(np.float64)

    def hit_rate(self) -> float:
        """HR@10."""
        return float(self.hits().mean()) if self.ranks else 0.0

    def ndcg(self) -> float:
        """NDCG@10: 1 / log2(rank + 2), 0 beyond; there is one right item, so the ideal is 1."""
        ranks = np.array(self.ranks, np.float64)
        return float(np.where(ranks < CUTOFF, 1 / np.log2(ranks + 2), 0).mean()) if self.ranks else 0.0

    def reciprocal_rank(self) -> float:
        """MRR@10: 1 / (rank + 1), 0 beyond."""
        ranks = np.array(self.ranks, np.float64)
        return float(np.where(ranks < CUTOFF, 1 / (ranks + 1), 0).mean()) if self.ranks else 0.0


def standard_error(values: NDArray[np.float64], users: NDArray[np.int64]) -> float:
    """Of a mean over events, which are not independent: those of a user go together (cluster-robust, by user)."""
    if not len(values):
        return 0.0
    sums = np.bincount(users, values - values.mean())
    return float(np.sqrt((sums**2).sum()) / len(values))


@dataclass(slots=True)
class Evaluation:
    """The outcome of one run.

    Attributes
    ----------
    methods
        Name → what it reached.
    users, buckets : list[int]
        For each tested click, whose it was, and the bucket of his history's length.
    """

    data: str
    clicks: int = 0
    warm_up: int = 0
    items: int = 0
    methods: dict[str, Measures] = field(default_factory=lambda: defaultdict(Measures))
    users: list[int] = field(default_factory=list)
    buckets: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def tested(self) -> int:
        """Clicks whose item was looked for in the lists."""
        return len(self.users)

    def error(self, method: str, against: str | None = None) -> float:
        """Standard error of a method's HR@10, or of its difference to another's."""
        hits = self.methods[method].hits()
        if against is not None:
            hits = hits - self.methods[against].hits()
        return standard_error(hits, np.array(self.users, np.int64))

    def by_bucket(self, method: str) -> list[tuple[int, float]]:
        """(tested clicks, HR@10) for each of :data:`~models.histories.BUCKETS`."""
        hits, buckets = self.methods[method].hits(), np.array(self.buckets, np.int64)
        counts = np.bincount(buckets, minlength=len(BUCKETS))
        sums = np.bincount(buckets, hits, len(BUCKETS))
        return [(int(count), float(total / count) if count else 0.0) for count, total in zip(counts, sums, strict=True)]
