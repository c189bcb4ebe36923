"""How often items were clicked lately, in several groups of users and at several speeds of forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

HALF_LIVES: Final = (300.0, 1_000.0, 3_000.0, 10_000.0, 50_000.0)
"""Clicks after which a click counts half. No single one serves every stream: a stream of releases wants the shortest
(HR@10 .337 against .084 with 10,000), a catalogue of classics the longest (design §7)."""

_Numbers = Sequence[int] | NDArray[np.integer]
_REBASE: Final = 32  # a power of two: rescaling by it changes no bit of a count


class DecayedCounts:
    """Decayed counts of items by group; a group keeps its most counted items and forgets the rest.

    A click at time t (counted in clicks) weighs 2^(t / half-life) on a landmark's scale, so that nothing has to be
    aged: only when numbers grow too large does a column move to a later landmark, by an exact power of two. Sums
    are therefore the same whatever the batches in which clicks arrive.

    A full group drops the quarter of its items with the lowest counts at the longest half-life, the newest among
    equals first; its totals keep what was dropped.

    Parameters
    ----------
    capacities
        Items that each group may hold.
    half_lives
        Clicks, rising.

    Attributes
    ----------
    rows : int64 [sum of capacities]
        Item row of each entry; a group's entries lie together, ``sizes[g]`` of them from ``starts[g]`` on.
    counts : float32 [sum of capacities, half-lives]
        Relative to ``landmarks``. An entry's numbers lie together: a click touches one cache line, not five.
    totals : float64 [half-lives, groups]
        Sums over all clicks of a group, dropped items included; relative to ``landmarks``.
    landmarks : int64 [half-lives]
        In half-lives.
    """

    def __init__(self, capacities: Sequence[int], half_lives: Sequence[float] = HALF_LIVES) -> None:
        self.capacities = list(capacities)
        self.half_lives = np.asarray(half_lives, np.float64)
        *self.starts, entries = accumulate(self.capacities, initial=0)
        self.rows = np.full(entries, -1, np.int64)
        self.counts = np.zeros((entries, len(self.half_lives)), np.float32)
        self.totals = np.zeros((len(self.half_lives), len(self.capacities)))
        self.sizes = [0] * len(self.capacities)
        self.landmarks = np.zeros(len(self.half_lives), np.int64)
        self._entries: dict[int, int] = {}  # group · 2³² + row → entry

    def add(
        self,
        groups: _Numbers,
        rows: _Numbers,
        times: _Numbers,
        weights: Sequence[float] | NDArray[np.floating] | None = None,
    ) -> None:
        """Count clicks: group, item row, time (in clicks, not falling) and weight (1 by default) of each."""
        if not len(groups):
            return
        self._advance(int(times[-1]))
        scaled = self._scaled(times, weights)
        index = np.asarray(groups, np.int64)
        keys = (index << 32 | np.asarray(rows, np.int64)).tolist()
        counted = 0
        if not self._entries.keys() >= set(keys):
            for i, key in enumerate(keys):
                if key in self._entries:
                    continue
                group = key >> 32
                if self.sizes[group] == self.capacities[group]:
                    # entries are about to move and to be judged: count what came before first
                    self._count(keys[counted:i], scaled[:, counted:i])
                    counted = i
                    self._drop(group)
                self._enter(group, key)
        self._count(keys[counted:], scaled[:, counted:])
        for total, amounts in zip(self.totals, scaled, strict=True):
            np.add.at(total, index, amounts)

    def group(self, group: int, time: int) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]:
        """A group at a time: item rows [n], their counts float32 [half-lives, n], totals float64 [half-lives]."""
        part = slice(self.starts[group], self.starts[group] + self.sizes[group])
        aged = np.exp2(self.landmarks - time / self.half_lives)
        counts: NDArray[np.float32] = (self.counts[part].T * aged[:, None]).astype(np.float32)
        return self.rows[part], counts, self.totals[:, group] * aged

    def clear(self, group: int) -> None:
        """Forget all of a group."""
        part = slice(self.starts[group], self.starts[group] + self.sizes[group])
        self._forget(group, self.rows[part])
        self.rows[part] = -1
        self.counts[part] = 0
        self.totals[:, group] = 0
        self.sizes[group] = 0

    def reindex(self) -> None:
        """Find the entries again after the arrays were replaced (a restore)."""
        self._entries = {}
        for group in range(len(self.sizes)):
            self._index(group)

    def _index(self, group: int) -> None:
        start = self.starts[group]
        rows = self.rows[start : start + self.sizes[group]]
        keys = (rows | group << 32).tolist()
        self._entries.update(zip(keys, range(start, start + len(keys)), strict=True))

    def _forget(self, group: int, rows: NDArray[np.int64]) -> None:
        for key in (rows | group << 32).tolist():
            del self._entries[key]

    def _enter(self, group: int, key: int) -> None:
        entry = self.starts[group] + self.sizes[group]
        self._entries[key] = entry
        self.rows[entry] = key & 0xFFFFFFFF
        self.sizes[group] += 1

    def _count(self, keys: list[int], scaled: NDArray[np.float64]) -> None:
        if keys:
            entries = np.fromiter(map(self._entries.__getitem__, keys), np.intp, len(keys))
            n = len(self.half_lives)
            where = (entries * n)[:, None] + np.arange(n)
            np.add.at(self.counts.reshape(-1), where.ravel(), scaled.T.astype(np.float32).ravel())

    def _scaled(self, times: _Numbers, weights: Sequence[float] | NDArray[np.floating] | None) -> NDArray[np.float64]:
        """weight · 2^(t / half-life) over the landmark, [half-lives, clicks].

        Whole powers of two are applied apart from the rest: the bits are the same whatever the landmark is.
        """
        ages = np.asarray(times) / self.half_lives[:, None]
        whole = np.floor(ages)
        parts = np.exp2(ages - whole) if weights is None else np.exp2(ages - whole) * np.asarray(weights)
        scaled: NDArray[np.float64] = np.ldexp(parts, (whole - self.landmarks[:, None]).astype(np.int64))
        return scaled

    def _advance(self, time: int) -> None:
        for h, landmark in enumerate((time / self.half_lives).astype(int) // _REBASE * _REBASE):
            if landmark > self.landmarks[h]:
                by = int(self.landmarks[h] - landmark)
                self.counts[:, h] = np.ldexp(self.counts[:, h], by)
                self.totals[h] = np.ldexp(self.totals[h], by)
                self.landmarks[h] = landmark

    def _drop(self, group: int) -> None:
        start, size = self.starts[group], self.sizes[group]
        part = slice(start, start + size)
        kept = np.sort(np.argsort(-self.counts[part, -1], kind="stable")[: max(1, size * 3 // 4)])
        end = start + len(kept)
        self._forget(group, self.rows[part])
        self.rows[start:end] = self.rows[part][kept]
        self.counts[start:end] = self.counts[part][kept]
        self.rows[end : start + size] = -1
        self.counts[end : start + size] = 0
        self.sizes[group] = len(kept)
        self._index(group)
