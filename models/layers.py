"""The interest layers: groups of users by what they are close to, learned online, each with what it clicks lately."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models import layer_state
from models.centres import distances
from models.items import ItemStore
from models.layer_drift import DriftAlarm
from models.layer_labels import LayerNames
from models.layer_lives import LayerLives
from models.layer_membership import Membership, soft
from models.layer_records import layer_record, size, tree_record
from models.layer_settings import LayerSettings
from models.layer_tree import LayerTree as Tree
from models.popularity import DecayedCounts
from models.records import LayerInfo, LayerState, LayerTree, decode, encode
from models.space import InteractionSpace, carry, fingerprints

__all__ = ["ROOT", "LayerLearner", "LayerSettings"]

ROOT: Final = "root"
"""Id of the layer that everybody is in."""


class LayerLearner:
    """Learns the layers from profile updates.

    Vectors are learned in blocks that end at fixed counts of vectors, whatever the batches in which they come; so the
    same stream gives the same layers bit for bit, also across a :meth:`restore`.

    Parameters
    ----------
    items
        The catalogue; its owner calls :meth:`~models.items.ItemStore.recentre`.
    model
        The encoder's name, for readers.
    settings
        See :class:`LayerSettings`.

    Attributes
    ----------
    clicks : int
        Clicks counted: the time of the counts.
    blocks : int
        Blocks learned: the version of the layers.
    tree
        The centres; None before the seeding.
    lives
        Since when each layer is what it is, and who comes and goes.
    """

    def __init__(self, items: ItemStore, model: str = "", settings: LayerSettings | None = None) -> None:
        self.items = items
        self.model = model
        self.settings = s = settings or LayerSettings()
        self.leaves = s.width * s.width_fine
        self.groups = 1 + s.width + self.leaves
        self.ids = [ROOT, *map(str, range(s.width))]
        self.ids += [f"{i}.{j}" for i in range(s.width) for j in range(s.width_fine)]
        self.space = InteractionSpace(s.reduced)
        self.tree: Tree | None = None
        self.clicks = 0
        self.blocks = 0
        self.refused = 0
        self.counters = {"seedings": 0, "drifts": 0, "revived": 0, "bases": 0}
        self.counts = self.new_counts()
        self.epochs = np.zeros(s.width, np.int64)
        self.epochs_fine = np.zeros(self.leaves, np.int64)
        self.lives = LayerLives(self.ids)
        self.recent: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self.mean: NDArray[np.float64] = np.empty(0)
        self.variance = self.spread = 0.0
        self.boosted = 0
        self.alarm = DriftAlarm(s.drift_delta)
        self.seeds: NDArray[np.float16] = np.empty((0, items.dimension), np.float16)
        self.seed_clicks: list[tuple[tuple[int, int], ...]] = []
        self.waiting: NDArray[np.float32] = np.empty((0, items.dimension), np.float32)
        self.waiting_clicks: list[tuple[tuple[int, int], ...]] = []
        self._dirty: set[int] = set()
        self._tree_dirty = False
        self._mean_version = -1
        self.names = LayerNames(items)

    def learn(self, vectors: NDArray[np.float32], clicked: Sequence[Sequence[int]]) -> None:
        """Learn from profile updates.

        Parameters
        ----------
        vectors : float32 [n, d]
            The user's vector after each update, unit length, centred as the items are. A zero vector is a user of
            whom nothing is known; one that is not finite would poison a centre for ever and is counted as refused.
            In both cases the clicks still count for everybody.
        clicked
            Item rows of the clicks that are new in each update; none where a vector was only encoded again.
        """
        finite = np.isfinite(vectors).all(axis=1)
        usable = np.asarray(finite & vectors.any(axis=1))
        self.refused += int((~finite).sum())
        rows: list[int] = []
        start = self.clicks
        for fresh, known in zip(clicked, usable.tolist(), strict=True):
            if known:
                at = start + len(rows) + 1
                self.waiting_clicks.append(tuple(zip(fresh, range(at, at + len(fresh)), strict=True)))
            rows.extend(fresh)
        if rows:
            self.clicks = start + len(rows)
            self.counts.add([0] * len(rows), rows, range(start + 1, self.clicks + 1))
            self._dirty.add(0)
        block = self.settings.block
        waiting = np.concatenate([self.waiting, vectors[usable]])
        for end in range(block, len(waiting) + 1, block):
            self._learn_block(waiting[end - block : end], self.waiting_clicks[:block])
            del self.waiting_clicks[:block]
        self.waiting = waiting[len(waiting) // block * block :]

    def refreshed(self, before: str, after: str) -> None:
        """A user's list was refreshed; see :meth:`~models.layer_lives.LayerLives.refreshed`."""
        if self.tree is not None:
            self._dirty.update(self.lives.refreshed(before, after))

    def follow_catalogue(self) -> bool:
        """Derive the basis again if enough of the catalogue changed, and carry everything over; True if it was.

        Looks only when the store's mean has moved: until then nothing has changed for centred vectors. To be called
        when the store has caught up, or what is still to come would count as gone.
        """
        if self.tree is None or self.items.mean_version == self._mean_version:
            return False
        contents = fingerprints(self.items)
        self._mean_version = self.items.mean_version
        if self.space.changed_share(contents) < self.settings.follow_share:
            return False
        old = self.space.basis
        self.space.derive(self.items, contents)
        transform = carry(old, self.space.basis)
        spread_before = self.recent.var(axis=0).sum()
        self.recent = (self.recent @ transform).astype(np.float32)
        grown = float(self.recent.var(axis=0).sum() / max(spread_before, 1e-12))
        self.mean = self.mean @ transform
        self.variance, self.spread = self.variance * grown, self.spread * grown
        self.tree.carry(transform)
        self.tree.inertia *= grown
        self.tree.inertia_fine *= grown
        self.counters["bases"] += 1
        self._tree_dirty = True
        return True

    def _learn_block(self, vectors: NDArray[np.float32], clicked: Sequence[tuple[tuple[int, int], ...]]) -> None:
        s = self.settings
        self.blocks += 1
        stage = self.counters["seedings"]
        if stage < len(s.seed_at):
            self.seeds = np.concatenate([self.seeds, vectors.astype(np.float16)])[-max(s.seed_at[-1], s.block) :]
        if self.tree is None:
            self.seed_clicks.extend(clicked)
            if len(self.seeds) >= s.seed_at[0] and self.items.encoded.sum() >= 2 * s.reduced:
                self._seed()
            return
        z = self.space.project(vectors)
        leaves, squared = self.tree.learn(z)
        self._count(soft(squared, leaves, self.spread), clicked)
        self._learned(leaves)
        self.recent = np.concatenate([self.recent, z])[-16 * s.block :]
        self._measure(self.tree, z, float(squared[np.arange(len(z)), leaves].mean()))
        if stage < len(s.seed_at) and len(self.seeds) >= s.seed_at[stage]:
            self.tree.seed_from(self.space.project(self.seeds.astype(np.float32)), keep=True)
            self._seeded()
        elif self.blocks % s.revive_every == 0:
            self._revive(self.tree)
        self._tree_dirty = True

    def _seed(self) -> None:
        s = self.settings
        self._mean_version = self.items.mean_version
        self.space.derive(self.items)
        z = self.space.project(self.seeds.astype(np.float32))
        self.tree = self.new_tree(z.shape[1])
        self.tree.seed_from(z)
        branch, leaves = self.tree.route(z)
        self.tree.size = np.bincount(branch, minlength=s.width).astype(np.float64)
        self.tree.size_fine = np.bincount(leaves, minlength=self.leaves).astype(np.float64)
        self.recent = z[-16 * s.block :]
        self.mean = z.mean(axis=0, dtype=np.float64)
        self.variance = float(((z - self.mean) ** 2).sum(axis=1).mean())
        squared = distances(z, self.tree.fine) ** 2
        self.spread = float(squared[np.arange(len(z)), leaves].mean())
        self._count(soft(squared, leaves, self.spread), self.seed_clicks[-len(z) :])
        self.seed_clicks = []
        self.lives.begin(range(1, self.groups))
        self._learned(leaves)
        self._tree_dirty = True
        self._seeded()

    def new_tree(self, dimensions: int) -> Tree:
        """A tree under the settings, its centres not placed yet."""
        s = self.settings
        return Tree(
            dimensions,
            width=s.width,
            width_fine=s.width_fine,
            step=s.step,
            step_fine=s.step_fine,
            memory=s.memory,
            seed=s.seed,
        )

    def new_counts(self) -> DecayedCounts:
        """Counts under the settings; the order of the groups is root, coarse, fine."""
        s = self.settings
        root, coarse, fine = s.capacities
        return DecayedCounts([root] + [coarse] * s.width + [fine] * self.leaves, s.half_lives)

    def _seeded(self) -> None:
        stage = self.counters["seedings"] = self.counters["seedings"] + 1
        if stage == len(self.settings.seed_at):
            self.seeds = self.seeds[:0]

    def _count(self, membership: Membership, clicked: Sequence[tuple[tuple[int, int], ...]]) -> None:
        """Count clicks for the layers that their users are in, and for the coarse ones above."""
        clicks = np.array([click for fresh in clicked for click in fresh], np.int64).reshape(-1, 2)
        if not len(clicks):
            return
        users = np.repeat(np.arange(len(clicked)), [len(fresh) for fresh in clicked])
        layers, weights = membership.layers[users], membership.weights[users]
        groups = np.concatenate([1 + self.settings.width + layers, 1 + layers // self.settings.width_fine], axis=1)
        each = groups.shape[1]
        self.counts.add(
            groups.ravel(),
            np.repeat(clicks[:, 0], each),
            np.repeat(clicks[:, 1], each),
            np.concatenate([weights, weights], axis=1).ravel(),
        )
        self._dirty.update(np.unique(groups).tolist())

    def _learned(self, leaves: NDArray[np.intp]) -> None:
        s = self.settings
        fine = np.bincount(leaves, minlength=self.leaves)
        self.lives.updates += np.concatenate([[len(leaves)], fine.reshape(s.width, -1).sum(axis=1), fine])

    def _measure(self, tree: Tree, z: NDArray[np.float32], error: float) -> None:
        """Follow mean, variance and error; on drift take longer steps for a while."""
        s = self.settings
        share = 1 - 0.5 ** (len(z) / s.memory)
        self.spread += share * (error - self.spread)
        # the yardstick moves ten times more slowly than what is measured, or it would hide a rise
        share = 1 - 0.5 ** (len(z) / s.memory / 10)
        self.mean += share * (z.mean(axis=0) - self.mean)
        self.variance += share * (float(((z - self.mean) ** 2).sum(axis=1).mean()) - self.variance)
        if self.alarm.update(math.log(max(error, 1e-12) / max(self.variance, 1e-12))):
            self.counters["drifts"] += 1
            self.boosted = -(-s.drift_vectors // s.block) + 1
        if self.boosted:
            self.boosted -= 1
            tree.boost(s.drift_factor if self.boosted else 1.0)

    def _revive(self, tree: Tree) -> None:
        began, began_fine = tree.revive(self.recent, self.settings.dead_share)
        for i in began:
            self.epochs[i] += 1
        for leaf in began_fine:
            self.epochs_fine[leaf] += 1
        groups = [1 + i for i in began] + [1 + self.settings.width + leaf for leaf in began_fine]
        for group in groups:
            self.counts.clear(group)
            self.names.forget(group)
        self.lives.begin(groups)
        self.counters["revived"] += len(groups)
        self._dirty.update(groups)

    def snapshot(self, now_ms: int, dirty_only: bool = True) -> tuple[LayerTree | None, list[LayerInfo]]:
        """What readers need: the tree (None when nothing moved) and the layers (those with news)."""
        groups = sorted(self._dirty) if dirty_only else range(self.groups if self.tree else 1)
        self.lives.tell(now_ms)
        infos = [layer_record(self, group) for group in groups]
        tree = tree_record(self, self.tree, now_ms) if self.tree and (self._tree_dirty or not dirty_only) else None
        self._dirty.clear()
        self._tree_dirty = False
        return tree, infos

    def stats(self) -> dict[str, Any]:
        """Counts and sizes for metrics."""
        layers = range(1, self.groups if self.tree else 1)
        return {
            "clicks": self.clicks,
            "blocks": self.blocks,
            "refused": self.refused,
            **self.counters,
            "boosted": bool(self.boosted),
            "error": self.spread / max(self.variance, 1e-12),
            "sizes": {self.ids[g]: size(self, g) for g in layers},
            "churn": {self.ids[g]: churn for g in layers if (churn := self.lives.churn(g))},
            "since_ms": {self.ids[g]: since for g in layers if (since := self.lives.since_ms[g]) > 0},
        }

    def state(self) -> bytes:
        """All that was learned, as msgpack of :class:`~models.records.LayerState`."""
        return encode(layer_state.save(self))

    def restore(self, state: bytes) -> None:
        """Continue from a :meth:`state`; what was learned before is replaced.

        Raises
        ------
        InvalidEvent
            If the bytes are no state.
        ConfigurationError
            If it was made under other settings or with another model: start anew, or with those.
        """
        layer_state.load(self, decode(state, LayerState))
        self.names = LayerNames(self.items)
        self._mean_version = -1
        self._dirty = set(range(self.groups if self.tree else 1))
        self._tree_dirty = self.tree is not None
