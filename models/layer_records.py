"""What readers are told of the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.layer_labels import NAMING, Name
from models.layer_tree import LayerTree as Tree
from models.records import LayerInfo, LayerTree

if TYPE_CHECKING:
    from models.layers import LayerLearner

_TITLES: Final = 3  # of a layer, for people


def tree_record(learner: LayerLearner, tree: Tree, now_ms: int) -> LayerTree:
    """Basis and centres as they stand."""
    r, d = learner.space.basis.shape
    return LayerTree(
        version=learner.blocks,
        model=learner.model,
        dimensions=(r, d),
        basis=learner.space.basis.astype("<f4").tobytes(),
        coarse=tree.coarse.astype("<f4").tobytes(),
        fine=tree.fine.astype("<f4").tobytes(),
        epochs=tuple(learner.epochs_fine.tolist()),
        created_ms=now_ms,
        spread=learner.spread,
    )


def layer_record(learner: LayerLearner, group: int) -> LayerInfo:
    """One layer: group 0 is the root, then come the coarse ones, then the fine ones."""
    s = learner.settings
    level = (group > 0) + (group > s.width)
    rows, counts, totals = learner.counts.group(group, learner.clicks)
    most = s.published[level]
    if len(rows) > most:
        # what leads at any of the half-lives: an item's best count, each half-life measured by its leader
        best = (counts / np.maximum(counts.max(axis=1, keepdims=True), 1e-30)).max(axis=0)
        top = np.sort(np.argpartition(-best, most)[:most])
        rows, counts = rows[top], counts[:, top]
    order = np.argsort(-counts[-1], kind="stable")
    rows, counts = rows[order], counts[:, order]
    ids = learner.items.ids
    name = _name(learner, group, rows, counts[-1])
    lives = learner.lives
    churn = lives.churn(group)
    return LayerInfo(
        id=learner.ids[group],
        label=name.label,
        size=size(learner, group),
        epoch=int(
            learner.epochs[group - 1] if level == 1 else learner.epochs_fine[group - 1 - s.width] if level else 0
        ),
        items=tuple(ids[row] for row in rows.tolist()),
        counts=np.ascontiguousarray(counts.T).astype("<f4").tobytes(),
        totals=tuple(totals.tolist()),
        half_lives=s.half_lives,
        medoids=name.medoids,
        titles=tuple(learner.items.titles[row] for row in rows[:_TITLES].tolist()),
        since_ms=lives.since_ms[group],
        updates=int(lives.updates[group]),
        joined=churn.joined if churn else None,
        left=churn.left if churn else None,
    )


def size(learner: LayerLearner, group: int) -> float:
    """Share of the recent vectors that a group has."""
    if not group or learner.tree is None:
        return 1.0
    width = learner.settings.width
    of = learner.tree.size if group <= width else learner.tree.size_fine
    return float(of[group - 1 if group <= width else group - 1 - width] / max(of.sum(), 1e-12))


def _name(learner: LayerLearner, group: int, rows: NDArray[np.int64], counts: NDArray[np.float32]) -> Name:
    if group == 0 or learner.tree is None:
        return Name("everybody", ())
    known = learner.names.of(group, learner.blocks)
    if known is None:
        width = learner.settings.width
        everybody, all_counts, _ = learner.counts.group(0, learner.clicks)
        part = rows[:NAMING]
        known = learner.names.give(
            group,
            learner.blocks,
            (part, counts[:NAMING]),
            (everybody, all_counts[-1]),
            z=learner.space.project(learner.items.centred(part)),
            centre=learner.tree.coarse[group - 1] if group <= width else learner.tree.fine[group - 1 - width],
        )
    return known
