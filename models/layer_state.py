"""The layers' learner as a record and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigurationError, InvalidEvent
from models.layer_drift import DriftAlarm
from models.layer_lives import LayerLives
from models.popularity import DecayedCounts
from models.records import LayerState

if TYPE_CHECKING:
    from models.layers import LayerLearner

FORMAT: Final = 1


def save(learner: LayerLearner) -> LayerState:
    """All that a learner has learned."""
    tree, space, counts = learner.tree, learner.space, learner.counts
    entries = _entries(counts)
    clicks = (*learner.seed_clicks, *learner.waiting_clicks)
    used = {row: i for i, row in enumerate(dict.fromkeys(counts.rows[entries].tolist()))}
    for fresh in clicks:
        for row, _ in fresh:
            used.setdefault(row, len(used))
    where = np.fromiter((used[row] for row in counts.rows[entries].tolist()), "<i4", len(entries))

    def pair(coarse: NDArray[np.float64], fine: NDArray[np.float64]) -> tuple[bytes, bytes]:
        return coarse.astype("<f8").tobytes(), fine.astype("<f8").tobytes()

    return LayerState(
        format=FORMAT,
        model=learner.model,
        settings=repr(learner.settings),
        clicks=learner.clicks,
        blocks=learner.blocks,
        refused=learner.refused,
        items=tuple(learner.items.ids[row] for row in used),
        basis=space.basis.astype("<f4").tobytes(),
        contents=space.contents.astype("<u4").tobytes(),
        scale=float(space.scale),
        kept=space.kept,
        centres=pair(tree.coarse, tree.fine) if tree else (b"", b""),
        sizes=pair(tree.size, tree.size_fine) if tree else (b"", b""),
        inertia=pair(tree.inertia, tree.inertia_fine) if tree else (b"", b""),
        epochs=(tuple(learner.epochs.tolist()), tuple(learner.epochs_fine.tolist())),
        recent=learner.recent.astype("<f4").tobytes(),
        mean=learner.mean.astype("<f8").tobytes(),
        variance=learner.variance,
        spread=learner.spread,
        errors=tuple(learner.alarm.errors),
        boosted=learner.boosted,
        counters=dict(learner.counters),
        seeds=learner.seeds.astype("<f2").tobytes(),
        waiting=learner.waiting.astype("<f4").tobytes(),
        waiting_clicks=tuple(tuple((used[row], at) for row, at in fresh) for fresh in clicks),
        count_sizes=tuple(counts.sizes),
        count_items=where.tobytes(),
        counts=counts.counts[entries].astype("<f4").tobytes(),
        totals=counts.totals.astype("<f8").tobytes(),
        landmarks=tuple(counts.landmarks.tolist()),
        since_ms=tuple(learner.lives.since_ms),
        updates=tuple(learner.lives.updates.tolist()),
        flows=np.array(learner.lives.flows).astype("<f8").tobytes(),
        flow_weight=learner.lives.weight,
    )


def load(learner: LayerLearner, record: LayerState) -> None:
    """Put a record's contents in place of what a learner has learned.

    Raises
    ------
    InvalidEvent
        If the record does not fit together.
    ConfigurationError
        If it was made under other settings or with another model.
    """
    made = (record.format, record.model, record.settings)
    if made != (FORMAT, learner.model, repr(learner.settings)):
        raise ConfigurationError(
            f"the layers' state has format {record.format} and was made with model {record.model!r} under "
            f"{record.settings}; the learner has format {FORMAT}, {learner.model!r} and {learner.settings!r}: start "
            "with those, or drop the state and learn anew"
        )
    try:
        _load(learner, record)
    except (ValueError, IndexError) as error:
        raise InvalidEvent(f"LayerState: {error}") from None


def _load(learner: LayerLearner, record: LayerState) -> None:
    s, d = learner.settings, learner.items.dimension
    rows = np.array([learner.items.row(item_id) for item_id in record.items], np.int64)
    counts = learner.new_counts()
    counts.sizes = list(record.count_sizes)
    if any(not 0 <= size <= most for size, most in zip(counts.sizes, counts.capacities, strict=True)):
        raise ValueError("a group holds more items than it can")
    entries = _entries(counts)
    counts.rows[entries] = rows[np.frombuffer(record.count_items, "<i4")]
    counts.counts[entries] = np.frombuffer(record.counts, "<f4").reshape(len(entries), len(s.half_lives))
    counts.totals = np.frombuffer(record.totals, "<f8").reshape(len(s.half_lives), learner.groups).copy()
    counts.landmarks = np.array(record.landmarks, np.int64)
    counts.reindex()
    lives = _lives(learner, record)
    basis = np.frombuffer(record.basis, "<f4").reshape(-1, d).copy()
    r = len(basis)
    tree = learner.new_tree(r) if r else None
    if tree:
        tree.coarse, tree.fine = (np.frombuffer(b, "<f8").reshape(-1, r).copy() for b in record.centres)
        tree.size, tree.size_fine = (np.frombuffer(b, "<f8").copy() for b in record.sizes)
        tree.inertia, tree.inertia_fine = (np.frombuffer(b, "<f8").copy() for b in record.inertia)
        tree.place_rivers()
        tree.boost(s.drift_factor if record.boosted else 1.0)
    learner.counts, learner.tree, learner.lives = counts, tree, lives
    learner.clicks, learner.blocks, learner.refused = record.clicks, record.blocks, record.refused
    learner.counters = dict(record.counters)
    learner.space.basis = basis
    learner.space.contents = np.frombuffer(record.contents, "<u4").copy()
    learner.space.scale, learner.space.kept = record.scale, record.kept
    learner.epochs, learner.epochs_fine = (np.array(epochs, np.int64) for epochs in record.epochs)
    learner.recent = np.frombuffer(record.recent, "<f4").reshape(-1, r).copy() if r else np.empty((0, 0), np.float32)
    learner.mean = np.frombuffer(record.mean, "<f8").copy()
    learner.variance, learner.spread, learner.boosted = record.variance, record.spread, record.boosted
    learner.alarm = DriftAlarm(s.drift_delta, record.errors)
    learner.seeds = np.frombuffer(record.seeds, "<f2").reshape(-1, d).copy()
    learner.waiting = np.frombuffer(record.waiting, "<f4").reshape(-1, d).copy()
    clicks = [tuple((int(rows[i]), at) for i, at in fresh) for fresh in record.waiting_clicks]
    split = len(clicks) - len(learner.waiting)
    learner.seed_clicks, learner.waiting_clicks = clicks[:split], clicks[split:]


def _lives(learner: LayerLearner, record: LayerState) -> LayerLives:
    """The layers' lives; of a state from before they were kept nothing is known."""
    lives = LayerLives(learner.ids)
    if not record.flows:
        lives.since_ms = [0] * learner.groups
        return lives
    if not len(record.since_ms) == len(record.updates) == learner.groups:
        raise ValueError("not one life a layer")
    lives.since_ms = list(record.since_ms)
    lives.updates = np.array(record.updates, np.int64)
    lives.flows = np.frombuffer(record.flows, "<f8").reshape(3, learner.groups).tolist()
    lives.weight = record.flow_weight
    return lives


def _entries(counts: DecayedCounts) -> NDArray[np.int64]:
    """Where the counted items stand, group by group."""
    parts = zip(counts.starts, counts.sizes, strict=True)
    return np.concatenate([np.arange(start, start + size) for start, size in parts])
