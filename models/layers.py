"""The interest layers: groups of users by what they are close to, learned online, each with what it clicks lately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import layer_labels
from models.errors import ConfigurationError
from models.items import ItemStore
from models.layer_drift import DriftAlarm
from models.layer_membership import Membership, soft
from models.layer_tree import LayerTree as Tree
from models.layer_tree import distances
from models.popularity import HALF_LIVES, DecayedCounts
from models.records import LayerInfo, LayerState, LayerTree, decode, encode
from models.space import InteractionSpace, carry, fingerprints

ROOT: Final = "root"
"""Id of the layer that everybody is in."""


class LayerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How layers are learned."""

    width: int = 8
    """Coarse layers."""
    width_fine: int = 8
    """Fine layers in each coarse one."""
    reduced: int = 16
    """Dimensions of the interaction space."""
    seed_at: tuple[int, ...] = (256, 2_000)
    """Vectors after which the centres are placed by batch k-means: a first time, then again from where they are."""
    step: float = 0.002
    """River's ``halflife`` of the coarse centres: the share of the way that one moves towards a vector."""
    step_fine: float = 0.005
    """River's ``halflife`` of the fine centres."""
    block: int = 64
    """Vectors learned at a time."""
    memory: float = 2_000
    """Half-life of a layer's size, vectors."""
    revive_every: int = 8
    """Blocks between two looks for dead centres."""
    dead_share: float = 0.15
    """A centre with less than this share of its family's average is dead."""
    drift_factor: float = 4.0
    """By how much the steps lengthen on drift."""
    drift_vectors: int = 4_000
    """For how many vectors."""
    drift_delta: float = 0.002
    """ADWIN's significance."""
    follow_share: float = 0.01
    """Share of the catalogue that must have changed before the basis is derived again."""
    half_lives: tuple[float, ...] = HALF_LIVES
    """Of the item counts, clicks."""
    capacities: tuple[int, int, int] = (16_384, 2_048, 512)
    """Items counted at most: root, a coarse layer, a fine one."""
    published: tuple[int, int, int] = (5_000, 300, 150)
    """Items in a layer's record at most, and a quarter of it more for each shorter half-life."""
    seed: int = 7
    """Of the batch k-means."""


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
        root, coarse, fine = s.capacities
        self.counts = DecayedCounts([root] + [coarse] * s.width + [fine] * self.leaves, s.half_lives)
        self.epochs = np.zeros(s.width, np.int64)
        self.epochs_fine = np.zeros(self.leaves, np.int64)
        self.recent: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self.mean: NDArray[np.float64] = np.empty(0)
        self.variance = self.spread = 0.0
        self.boosted = 0
        self._alarm = DriftAlarm(s.drift_delta)
        self._seeds: NDArray[np.float16] = np.empty((0, items.dimension), np.float16)
        self._seed_clicks: list[tuple[tuple[int, int], ...]] = []
        self._waiting: list[NDArray[np.float32]] = []
        self._waiting_clicks: list[tuple[tuple[int, int], ...]] = []
        self._dirty: set[int] = set()
        self._tree_dirty = False
        self._mean_version = -1
        self._labels: dict[int, tuple[int, str, tuple[str, ...]]] = {}

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
        for vector, fresh, known in zip(vectors, clicked, usable.tolist(), strict=True):
            if known:
                at = start + len(rows) + 1
                self._waiting.append(vector)
                self._waiting_clicks.append(tuple((row, at + i) for i, row in enumerate(fresh)))
            rows.extend(fresh)
        if rows:
            self.clicks = start + len(rows)
            self.counts.add([0] * len(rows), rows, range(start + 1, self.clicks + 1))
            self._dirty.add(0)
        block = self.settings.block
        while len(self._waiting) >= block:
            self._learn_block(np.array(self._waiting[:block], np.float32), self._waiting_clicks[:block])
            del self._waiting[:block], self._waiting_clicks[:block]

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
            self._seeds = np.concatenate([self._seeds, vectors.astype(np.float16)])[-max(s.seed_at[-1], s.block) :]
        if self.tree is None:
            self._seed_clicks.extend(clicked)
            if len(self._seeds) >= s.seed_at[0] and self.items.encoded.sum() >= 2 * s.reduced:
                self._seed()
            return
        z = self.space.project(vectors)
        leaves, squared = self.tree.learn(z)
        self._count(soft(squared, leaves, self.spread), clicked)
        self.recent = np.concatenate([self.recent, z])[-16 * s.block :]
        self._measure(self.tree, z, float(squared[np.arange(len(z)), leaves].mean()))
        if stage < len(s.seed_at) and len(self._seeds) >= s.seed_at[stage]:
            self.tree.seed_from(self.space.project(self._seeds.astype(np.float32)), keep=True)
            self._seeded()
        elif self.blocks % s.revive_every == 0:
            self._revive(self.tree)
        self._tree_dirty = True

    def _seed(self) -> None:
        s = self.settings
        self._mean_version = self.items.mean_version
        self.space.derive(self.items)
        z = self.space.project(self._seeds.astype(np.float32))
        self.tree = Tree(
            z.shape[1],
            width=s.width,
            width_fine=s.width_fine,
            step=s.step,
            step_fine=s.step_fine,
            memory=s.memory,
            seed=s.seed,
        )
        self.tree.seed_from(z)
        branch, leaves = self.tree.route(z)
        self.tree.size = np.bincount(branch, minlength=s.width).astype(np.float64)
        self.tree.size_fine = np.bincount(leaves, minlength=self.leaves).astype(np.float64)
        self.recent = z[-16 * s.block :]
        self.mean = z.mean(axis=0, dtype=np.float64)
        self.variance = float(((z - self.mean) ** 2).sum(axis=1).mean())
        squared = distances(z, self.tree.fine) ** 2
        self.spread = float(squared[np.arange(len(z)), leaves].mean())
        self._count(soft(squared, leaves, self.spread), self._seed_clicks[-len(z) :])
        self._seed_clicks = []
        self._tree_dirty = True
        self._seeded()

    def _seeded(self) -> None:
        stage = self.counters["seedings"] = self.counters["seedings"] + 1
        if stage == len(self.settings.seed_at):
            self._seeds = self._seeds[:0]

    def _count(self, membership: Membership, clicked: Sequence[tuple[tuple[int, int], ...]]) -> None:
        """Count clicks for the layers that their users are in, and for the coarse ones above."""
        first, width_fine = 1 + self.settings.width, self.settings.width_fine
        groups: list[int] = []
        rows: list[int] = []
        times: list[int] = []
        weights: list[float] = []
        for leaves, parts, fresh in zip(membership.layers.tolist(), membership.weights.tolist(), clicked, strict=True):
            shares: dict[int, float] = {}
            for leaf, part in zip(leaves, parts, strict=True):
                shares[first + leaf] = part
                above = 1 + leaf // width_fine
                shares[above] = shares.get(above, 0.0) + part
            for row, at in fresh:
                groups += shares
                weights += shares.values()
                rows += [row] * len(shares)
                times += [at] * len(shares)
        self.counts.add(groups, rows, times, weights)
        self._dirty.update(groups)

    def _measure(self, tree: Tree, z: NDArray[np.float32], error: float) -> None:
        """Follow mean, variance and error; on drift take longer steps for a while."""
        s = self.settings
        share = 1 - 0.5 ** (len(z) / s.memory)
        self.mean += share * (z.mean(axis=0) - self.mean)
        self.variance += share * (float(((z - self.mean) ** 2).sum(axis=1).mean()) - self.variance)
        self.spread += share * (error - self.spread)
        if self._alarm.update(min(error / max(self.variance, 1e-12), 4.0)):
            self.counters["drifts"] += 1
            self.boosted = -(-s.drift_vectors // s.block) + 1
        if self.boosted:
            self.boosted -= 1
            tree.boost(s.drift_factor if self.boosted else 1.0)

    def _revive(self, tree: Tree) -> None:
        began, began_fine = tree.revive(self.recent, self.settings.dead_share)
        for i in began:
            self.epochs[i] += 1
            self.counts.clear(1 + i)
        for leaf in began_fine:
            self.epochs_fine[leaf] += 1
            self.counts.clear(1 + self.settings.width + leaf)
        self.counters["revived"] += len(began) + len(began_fine)
        self._dirty.update(1 + i for i in began)
        self._dirty.update(1 + self.settings.width + leaf for leaf in began_fine)

    def snapshot(self, now_ms: int, dirty_only: bool = True) -> tuple[LayerTree | None, list[LayerInfo]]:
        """What readers need: the tree (None when nothing moved) and the layers (those with news)."""
        groups = sorted(self._dirty) if dirty_only else range(self.groups if self.tree else 1)
        infos = [self._info(group) for group in groups]
        tree = self._tree_record(self.tree, now_ms) if self.tree and (self._tree_dirty or not dirty_only) else None
        self._dirty.clear()
        self._tree_dirty = False
        return tree, infos

    def _tree_record(self, tree: Tree, now_ms: int) -> LayerTree:
        r, d = self.space.basis.shape
        return LayerTree(
            version=self.blocks,
            model=self.model,
            dimensions=(r, d),
            basis=self.space.basis.astype("<f4").tobytes(),
            coarse=tree.coarse.astype("<f4").tobytes(),
            fine=tree.fine.astype("<f4").tobytes(),
            epochs=tuple(self.epochs_fine.tolist()),
            created_ms=now_ms,
            spread=self.spread,
        )

    def _info(self, group: int) -> LayerInfo:
        s = self.settings
        level = (group > 0) + (group > s.width)
        rows, counts, totals = self.counts.group(group, self.clicks)
        most = s.published[level]
        if len(rows) > most:
            chosen = [np.argpartition(-counts[-1], most)[:most]]
            chosen += [np.argpartition(-count, most // 4)[: most // 4] for count in counts[:-1]]
            top = np.unique(np.concatenate(chosen))
            rows, counts = rows[top], counts[:, top]
        order = np.argsort(-counts[-1], kind="stable")
        rows, counts = rows[order], counts[:, order]
        ids = self.items.ids
        label, medoids = self._label(group, rows, counts[-1])
        return LayerInfo(
            id=self.ids[group],
            label=label,
            size=self._size(group),
            epoch=int(self.epochs[group - 1] if level == 1 else self.epochs_fine[group - 1 - s.width] if level else 0),
            items=tuple(ids[row] for row in rows.tolist()),
            counts=np.ascontiguousarray(counts.T).astype("<f4").tobytes(),
            totals=tuple(totals.tolist()),
            half_lives=s.half_lives,
            medoids=medoids,
        )

    def _size(self, group: int) -> float:
        if not group or self.tree is None:
            return 1.0
        width = self.settings.width
        of = self.tree.size if group <= width else self.tree.size_fine
        return float(of[group - 1 if group <= width else group - 1 - width] / max(of.sum(), 1e-12))

    def _label(self, group: int, rows: NDArray[np.int64], counts: NDArray[np.float32]) -> tuple[str, tuple[str, ...]]:
        """Label and medoids, named anew after every 16 blocks."""
        known = self._labels.get(group)
        if known and self.blocks - known[0] < 16:
            return known[1], known[2]
        if group == 0 or self.tree is None:
            return "everybody", ()
        width = self.settings.width
        everybody, everybody_counts, _ = self.counts.group(0, self.clicks)
        part = rows[:50]
        base = layer_labels.term_weights(self.items, everybody.tolist(), everybody_counts[-1].tolist())
        own = layer_labels.term_weights(self.items, part.tolist(), counts[:50].tolist())
        centre = self.tree.coarse[group - 1] if group <= width else self.tree.fine[group - 1 - width]
        near = part[layer_labels.medoids(self.space.project(self.items.centred(part)), centre)].tolist()
        names = layer_labels.distinctive(own, base)
        name = layer_labels.label(names, [self.items.titles[row] for row in near])
        found = tuple(self.items.ids[row] for row in near)
        self._labels[group] = (self.blocks, name, found)
        return name, found

    def stats(self) -> dict[str, Any]:
        """Counts and sizes for metrics."""
        tree = self.tree
        return {
            "clicks": self.clicks,
            "blocks": self.blocks,
            "refused": self.refused,
            **self.counters,
            "boosted": bool(self.boosted),
            "error": self.spread / max(self.variance, 1e-12),
            "sizes": {} if tree is None else {self.ids[g]: self._size(g) for g in range(1, self.groups)},
        }

    def state(self) -> bytes:
        """All that was learned, as msgpack of :class:`~models.records.LayerState`."""
        s, tree, counts = self.settings, self.tree, self.counts
        entries = np.concatenate(
            [np.arange(a, a + n) for a, n in zip(counts.starts.tolist(), counts.sizes.tolist(), strict=True)]
        )
        clicks = (*self._seed_clicks, *self._waiting_clicks)
        used = {row: i for i, row in enumerate(dict.fromkeys(counts.rows[entries].tolist()))}
        for fresh in clicks:
            for row, _ in fresh:
                used.setdefault(row, len(used))
        where = np.fromiter((used[row] for row in counts.rows[entries].tolist()), "<i4", len(entries))

        def pair(coarse: NDArray[np.float64], fine: NDArray[np.float64]) -> tuple[bytes, bytes]:
            return coarse.astype("<f8").tobytes(), fine.astype("<f8").tobytes()

        return encode(
            LayerState(
                format=1,
                model=self.model,
                settings=repr(s),
                clicks=self.clicks,
                blocks=self.blocks,
                refused=self.refused,
                items=tuple(self.items.ids[row] for row in used),
                basis=self.space.basis.astype("<f4").tobytes(),
                contents=self.space.contents.astype("<u4").tobytes(),
                scale=float(self.space.scale),
                kept=self.space.kept,
                centres=pair(tree.coarse, tree.fine) if tree else (b"", b""),
                sizes=pair(tree.size, tree.size_fine) if tree else (b"", b""),
                inertia=pair(tree.inertia, tree.inertia_fine) if tree else (b"", b""),
                epochs=(tuple(self.epochs.tolist()), tuple(self.epochs_fine.tolist())),
                recent=self.recent.astype("<f4").tobytes(),
                mean=self.mean.astype("<f8").tobytes(),
                variance=self.variance,
                spread=self.spread,
                errors=tuple(self._alarm.errors),
                boosted=self.boosted,
                counters=dict(self.counters),
                seeds=self._seeds.astype("<f2").tobytes(),
                waiting=np.array(self._waiting, "<f4").tobytes(),
                waiting_clicks=tuple(tuple((used[row], at) for row, at in fresh) for fresh in clicks),
                count_sizes=counts.sizes.astype("<i8").tobytes(),
                count_items=where.tobytes(),
                counts=counts.counts[:, entries].astype("<f4").tobytes(),
                totals=counts.totals.astype("<f8").tobytes(),
                landmarks=tuple(counts.landmarks.tolist()),
            )
        )

    def restore(self, state: bytes) -> None:
        """Continue from a :meth:`state`; what was learned before is replaced.

        Raises
        ------
        InvalidEvent
            If the bytes are no state.
        ConfigurationError
            If it was made under other settings or with another model: start anew, or with those.
        """
        record = decode(state, LayerState)
        s, d = self.settings, self.items.dimension
        if (record.format, record.model, record.settings) != (1, self.model, repr(s)):
            raise ConfigurationError(
                f"the layers' state was made with model {record.model!r} and {record.settings}, the learner has "
                f"{self.model!r} and {s!r}: start with those, or drop the state and learn anew"
            )
        rows = [self.items.row(item_id) for item_id in record.items]
        self.clicks, self.blocks, self.refused = record.clicks, record.blocks, record.refused
        self.counters = dict(record.counters)
        self.space.basis = np.frombuffer(record.basis, "<f4").reshape(-1, d).copy()
        self.space.contents = np.frombuffer(record.contents, "<u4").copy()
        self.space.scale, self.space.kept = record.scale, record.kept
        self.tree = None
        r = len(self.space.basis)
        if r:
            self.tree = Tree(
                r,
                width=s.width,
                width_fine=s.width_fine,
                step=s.step,
                step_fine=s.step_fine,
                memory=s.memory,
                seed=s.seed,
            )
            self.tree.coarse, self.tree.fine = (np.frombuffer(b, "<f8").reshape(-1, r).copy() for b in record.centres)
            self.tree.size, self.tree.size_fine = (np.frombuffer(b, "<f8").copy() for b in record.sizes)
            self.tree.inertia, self.tree.inertia_fine = (np.frombuffer(b, "<f8").copy() for b in record.inertia)
            self.tree.place_rivers()
            self.tree.boost(s.drift_factor if record.boosted else 1.0)
        self.epochs, self.epochs_fine = (np.array(e, np.int64) for e in record.epochs)
        self.recent = np.frombuffer(record.recent, "<f4").reshape(-1, max(r, 1)).copy()
        self.mean = np.frombuffer(record.mean, "<f8").copy()
        self.variance, self.spread, self.boosted = record.variance, record.spread, record.boosted
        self._alarm = DriftAlarm(s.drift_delta, record.errors)
        self._seeds = np.frombuffer(record.seeds, "<f2").reshape(-1, d).copy()
        self._waiting = list(np.frombuffer(record.waiting, "<f4").reshape(-1, d).copy())
        clicks = [tuple((rows[i], at) for i, at in fresh) for fresh in record.waiting_clicks]
        split = len(clicks) - len(self._waiting)
        self._seed_clicks, self._waiting_clicks = clicks[:split], clicks[split:]
        counts = DecayedCounts(self.counts.capacities.tolist(), s.half_lives)
        counts.sizes = np.frombuffer(record.count_sizes, "<i8").copy()
        entries = np.concatenate(
            [np.arange(a, a + n) for a, n in zip(counts.starts.tolist(), counts.sizes.tolist(), strict=True)]
        )
        counts.rows[entries] = np.array(rows, np.int64)[np.frombuffer(record.count_items, "<i4")] if len(entries) else 0
        counts.counts[:, entries] = np.frombuffer(record.counts, "<f4").reshape(len(s.half_lives), -1)
        counts.totals = np.frombuffer(record.totals, "<f8").reshape(len(s.half_lives), -1).copy()
        counts.landmarks = np.array(record.landmarks, np.int64)
        counts.reindex()
        self.counts = counts
        self._labels = {}
        self._mean_version = -1
        self._dirty = set(range(self.groups if self.tree else 1))
        self._tree_dirty = self.tree is not None
