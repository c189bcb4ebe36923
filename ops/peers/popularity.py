"""Decayed popularity: what everybody clicked lately, and what the other peers serve to whom they do not know."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ops.peers.protocol import Clicks, Questions, positive, top, within


class Popularity:
    """Items by clicks, a click counting half after ``half_life`` more clicks.

    Parameters
    ----------
    items
        Size of the catalogue.
    half_life
        In clicks.

    Attributes
    ----------
    counts : float32 [items]
        Decayed clicks.
    """

    def __init__(self, items: int, *, half_life: float = 10_000.0) -> None:
        positive(items=items, half_life=half_life)
        self.half_life = half_life
        self.counts = np.zeros(items, np.float32)

    def scores(self) -> NDArray[np.float32]:
        """Counts, -inf for what was never clicked; float32 [items]."""
        return np.where(self.counts > 0, self.counts, -np.inf).astype(np.float32)

    def recommend(self, questions: Questions, n: int) -> NDArray[np.int64]:
        """The same for everybody, but for what he has seen."""
        return top(np.tile(self.scores(), (len(questions), 1)), questions, n)

    def learn(self, clicks: Clicks) -> None:
        """Count clicks; of a batch the last is not aged."""
        within(clicks, len(self.counts))
        b = len(clicks)
        self.counts *= np.float32(2 ** (-b / self.half_life))
        ages = np.arange(b)[::-1]
        np.add.at(self.counts, clicks.rows, (2 ** (-ages / self.half_life)).astype(np.float32))


class Filled:
    """Scores of a model that has nothing to say of some users or items, filled up with popularity below them."""

    def __init__(self, items: int) -> None:
        self.popular = Popularity(items)

    def learn(self, clicks: Clicks) -> None:
        """Count clicks."""
        self.popular.learn(clicks)

    def fill(self, scores: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Scores [b, items], those that are not ``known`` (of the same shape) replaced by popularity, all below."""
        counts = self.popular.counts
        share = counts / max(float(counts.max(initial=0)), 1e-9)  # 0 … 1
        lowest = np.where(known, scores, np.inf).min(axis=1, keepdims=True)
        lowest = np.where(np.isfinite(lowest), lowest, np.float32(0))
        # a whole unit below, and far enough for float32 to tell what is popular apart there
        below = lowest - (1 + np.abs(lowest) * np.float32(1e-3)) * (2 - share)
        return np.where(known, scores, np.where(counts > 0, below, -np.inf)).astype(np.float32)
