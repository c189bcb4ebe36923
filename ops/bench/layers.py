"""What the interest layers cost and how well they fit, on real histories.

``python -m ops.bench.layers``: users of MovieLens-100k and of Online Retail (where it is present, else of the grocery
panel), their vectors the decayed mean (.9 a click) of centred item vectors. Clicks of a user in the same instant are
one profile update, as they are where the updater reads them in one batch. Times are CPU time of the one thread, so
that a busy machine disturbs them less; River's own time stands beside ours, from the same run.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river import cluster
from threadpoolctl import threadpool_limits

from models.centres import batch_kmeans, distances, route
from models.encoder import Encoder
from models.items import ItemStore
from models.layer_tree import LayerTree
from models.layer_view import LayerView
from models.layers import LayerLearner
from models.space import InteractionSpace, carry
from ops.catalogue import of
from ops.datasets import dataset
from producers.dataset import Dataset

RETAIL: Final = Path("../shared/data/online-retail")
_SEED: Final = 11
_DECAY: Final = 0.9
_LOOK: Final = 1_000  # updates between two looks at who moved
_WINDOW: Final = 10_000  # updates whose fit is compared with batch k-means
_STOCK_BLOCKS: Final = 40  # stock River is slow
_TOGETHER: Final = 50  # clicks of one update at most: what a profile keeps


@dataclass
class Stream:
    """A data set as profile updates."""

    name: str
    store: ItemStore
    users: list[str] = field(default_factory=list)
    clicked: list[list[int]] = field(default_factory=list)
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self.users)


def stream(data: Dataset, encoder: Encoder, name: str) -> Stream:
    """Histories in time, ties in an order by seed."""
    draw = random.Random(_SEED)
    clicks = [(click.ts, click.user_id, click.item_id) for click in data.clicks()]
    order = {user: draw.random() for user in sorted({user for _, user, _ in clicks})}
    clicks = [click for _, _, _, click in sorted((c[0], order[c[1]], draw.random(), c) for c in clicks)]
    store = of(data, encoder, {item for _, _, item in clicks})
    store.recentre()
    centred = store.centred(slice(0, len(store)))
    updates = Stream(name, store)
    sums: dict[str, NDArray[np.float32]] = {}
    vectors = []
    before = None
    for ts, user, item in clicks:
        row = store.find(item)
        sums[user] = _DECAY * sums[user] + centred[row] if user in sums else centred[row]
        if (ts, user) == before and len(updates.clicked[-1]) < _TOGETHER:
            updates.clicked[-1].append(row)
            vectors[-1] = sums[user]
        else:
            updates.users.append(user)
            updates.clicked.append([row])
            vectors.append(sums[user])
        before = (ts, user)
    updates.vectors = np.array(vectors, np.float32)
    updates.vectors /= np.maximum(np.linalg.norm(updates.vectors, axis=1, keepdims=True), 1e-12)
    return updates


@dataclass
class Fit:
    """How one stream's layers fit, medians over the looks after the second seeding."""

    coarse: float
    """Inertia over that of batch k-means (8 centres, fitted in hindsight on the same vectors)."""
    fine: float
    """The same against a flat batch k-means with 64 centres."""
    moved: tuple[float, float]
    """Share of the users who change their coarse, fine layer in 1,000 updates without one of their own."""
    learner: LayerLearner


def fit(updates: Stream) -> Fit:
    """Learn a stream and look on."""
    learner = LayerLearner(updates.store)
    latest: dict[str, int] = {}
    ratios: list[tuple[float, float]] = []
    moves: list[tuple[float, float]] = []
    looks = range(0, len(updates) - _LOOK, _LOOK)
    fitted = set(np.linspace(_WINDOW, looks[-1], 5).astype(int) // _LOOK * _LOOK)
    for at in looks:
        part = slice(at, at + _LOOK)
        if learner.counters["seedings"] == len(learner.settings.seed_at):
            still = [row for user, row in latest.items() if user not in set(updates.users[part])]
            before = _layers(learner, updates.vectors[still])
        else:
            still = []
        learner.learn(updates.vectors[part], updates.clicked[part])
        if still:
            after = _layers(learner, updates.vectors[still])
            moves.append((float((before[0] != after[0]).mean()), float((before[1] != after[1]).mean())))
        latest |= {user: at + i for i, user in enumerate(updates.users[part])}
        if at in fitted and still:
            ratios.append(_against_batch(learner, updates.vectors[at + _LOOK - _WINDOW : at + _LOOK]))
    coarse, fine = np.median(ratios, axis=0)
    moved = np.mean(moves, axis=0)
    return Fit(float(coarse), float(fine), (float(moved[0]), float(moved[1])), learner)


def _layers(learner: LayerLearner, vectors: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return _tree(learner).route(learner.space.project(vectors))


def _tree(learner: LayerLearner) -> LayerTree:
    if learner.tree is None:
        raise RuntimeError("the stream is too short: no layers were seeded")
    return learner.tree


def _against_batch(learner: LayerLearner, vectors: NDArray[np.float32]) -> tuple[float, float]:
    tree = _tree(learner)
    z = learner.space.project(vectors)
    branch, leaf = tree.route(z)
    ratios = []
    for centres, labels in ((tree.coarse, branch), (tree.fine, leaf)):
        ours = ((z - centres[labels]) ** 2).sum()
        best, nearest = batch_kmeans(z, len(centres), _SEED)
        ratios.append(float(ours / ((z - best[nearest]) ** 2).sum()))
    return ratios[0], ratios[1]


@dataclass
class Cost:
    """CPU time."""

    both: float
    """µs an update: projection, nearest centres at both levels, River's two steps."""
    stock: float
    """µs an update of two stock river.cluster.KMeans."""
    counts: float
    """µs an update: counting its clicks for the root, three fine layers and those above."""
    whole: float
    """µs an update: all of learn()."""
    snapshot: float
    """ms: the records after 64 updates."""
    view: float
    """ms: a reader takes them in."""
    state: float
    """ms."""
    state_bytes: int
    clicks: float
    """Clicks an update."""
    differ: int
    """Labels that are not stock River's."""
    compared: int


def cost(updates: Stream, start: int = 8_000, n: int = 16_000) -> Cost:
    """Measure a stretch of a stream; a quantity's quickest fifth of the blocks, since the rest waited for others."""
    learner = LayerLearner(updates.store)
    learner.learn(updates.vectors[:start], updates.clicked[:start])
    tree, frozen = _tree(learner), learner.state()
    end = min(start + n, len(updates))
    blocks = [slice(at, at + 64) for at in range(start, end - 64, 64)]
    z = [learner.space.project(updates.vectors[part]) for part in blocks]
    stock = _stock(tree)
    both: list[float] = []
    stock_times: list[float] = []
    ours: list[int] = []
    theirs: list[int] = []
    for part, rows in zip(blocks, z, strict=True):
        begun = time.thread_time()
        leaves, _ = tree.learn(learner.space.project(updates.vectors[part]))
        both.append(time.thread_time() - begun)
        ours += leaves.tolist()
        if len(stock_times) < _STOCK_BLOCKS:
            begun = time.thread_time()
            theirs += map(stock, rows.tolist())
            stock_times.append(time.thread_time() - begun)
    learner.restore(frozen)
    view = LayerView(updates.store)
    counting = 0.0
    counted = learner.counts.add

    def count(*clicks: Any) -> None:
        nonlocal counting
        begun = time.thread_time()
        counted(*clicks)
        counting += time.thread_time() - begun

    learner.counts.add = count  # type: ignore[assignment]
    whole, counts, snapshots, views = [], [], [], []
    for part in blocks:
        counting = 0.0
        clicked: Sequence[Sequence[int]] = updates.clicked[part]
        begun = time.thread_time()
        learner.learn(updates.vectors[part], clicked)
        whole.append(time.thread_time() - begun)
        counts.append(counting)
        begun = time.thread_time()
        record, layers = learner.snapshot(0)
        snapshots.append(time.thread_time() - begun)
        begun = time.thread_time()
        if record is not None:
            view.put_tree(record)
        for info in layers:
            view.put_layer(info)
        views.append(time.thread_time() - begun)
    begun = time.thread_time()
    state = learner.state()
    state_time = time.thread_time() - begun
    each = 1e6 / 64
    return Cost(
        both=_quick(both) * each,
        stock=_quick(stock_times) * each,
        counts=_quick(counts) * each,
        whole=_quick(whole) * each,
        snapshot=_quick(snapshots) * 1e3,
        view=_quick(views) * 1e3,
        state=state_time * 1e3,
        state_bytes=len(state),
        clicks=sum(map(len, updates.clicked)) / len(updates),
        differ=sum(a != b for a, b in zip(ours, theirs, strict=False)),
        compared=len(theirs),
    )


def _quick(seconds: list[float]) -> float:
    return float(np.percentile(seconds, 20))


def _stock(tree: LayerTree) -> Callable[[list[float]], int]:
    """One step of the same tree made of stock River."""
    coarse = cluster.KMeans(tree.width, tree.step)
    fine = [cluster.KMeans(tree.width_fine, tree.step_fine) for _ in range(tree.width)]
    for i in range(tree.width):
        coarse.centers[i].update(enumerate(tree.coarse[i].tolist()))
        for j in range(tree.width_fine):
            fine[i].centers[j].update(enumerate(tree.fine[i * tree.width_fine + j].tolist()))

    def step(row: list[float]) -> int:
        x = dict(enumerate(row))
        i = coarse.learn_predict_one(x)
        return int(i * tree.width_fine + fine[i].learn_predict_one(x))

    return step


@dataclass
class Space:
    """How exact the interaction space is."""

    distance: float
    """Largest relative error of a distance, all dimensions, against full rows of A."""
    inertia: float
    """k-means on 16 dimensions against k-means on full rows, both measured on full rows."""
    kept: tuple[float, float]
    """Users who keep their coarse, fine layer when a tenth of the catalogue is exchanged."""


def space(updates: Stream, n: int = 2_000) -> Space:
    """Compare with A itself, and exchange a tenth of the catalogue."""
    store = updates.store
    chosen = np.random.default_rng(_SEED).choice(len(updates), min(n, len(updates)), replace=False)
    users = updates.vectors[chosen]
    full_space, reduced = InteractionSpace(store.dimension), InteractionSpace()
    full_space.derive(store)
    reduced.derive(store)
    rows = users.astype(np.float64) @ store.centred(slice(0, len(store))).astype(np.float64).T
    some = rows[:300]
    apart = np.sqrt(((some[:, None] - some[None]) ** 2).sum(axis=2)) if rows.shape[1] < 5_000 else distances(some, some)
    z = full_space.project(users[:300]) / full_space.scale * np.sqrt(len(store))
    off = ~np.eye(len(some), dtype=bool) & (apart > 1e-3 * apart.max())
    error = float(np.abs(distances(z, z)[off] / apart[off] - 1).max())

    def inertia(labels: NDArray[np.intp]) -> float:
        parts = [rows[labels == i] for i in range(8)]
        return float(sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts if len(part)))

    on_rows = inertia(batch_kmeans(rows, 8, _SEED)[1])
    return Space(error, inertia(batch_kmeans(reduced.project(users), 8, _SEED)[1]) / on_rows, _turnover(store, users))


def _turnover(store: ItemStore, users: NDArray[np.float32]) -> tuple[float, float]:
    shuffled = np.random.default_rng(_SEED).permutation(len(store))
    tenth = len(store) // 10
    leaving, coming = shuffled[:tenth], shuffled[tenth : 2 * tenth]
    store.encoded[coming] = False
    before = InteractionSpace()
    before.derive(store)
    store.encoded[coming], store.encoded[leaving] = True, False
    after = InteractionSpace()
    after.derive(store)
    store.encoded[leaving] = True
    tree = LayerTree(len(before.basis))
    tree.seed_from(before.project(users))
    old = tree.route(before.project(users))
    tree.carry(carry(before.basis, after.basis))
    new = route(after.project(users), tree.coarse, tree.fine)
    return float((new[0] == old[0]).mean()), float((new[1] == old[1]).mean())


def report() -> str:
    """The section of RESULTS.md."""
    encoder = Encoder.load()
    second = RETAIL if RETAIL.is_dir() else None
    names = {"movielens-100k": "MovieLens-100k"}
    names |= {str(second): "Online Retail"} if second else {"completejourney": "grocery panel"}
    streams = [stream(dataset(key), encoder, name) for key, name in names.items()]
    with threadpool_limits(1):
        costs = [cost(updates) for updates in streams]
        fits = [fit(updates) for updates in streams]
        spaces = [space(updates) for updates in streams]
    titles = [f"{updates.name} ({len(updates):,} updates, {len(updates.store):,} items)" for updates in streams]

    def line(what: str, goal: str, *values: str) -> str:
        return f"| {what} | {goal} | " + " | ".join(values) + " |"

    return "\n".join(
        [
            "## Interest layers",
            "",
            "`python -m ops.bench.layers`. Times are CPU time on one thread, the quickest fifth of blocks of 64"
            " updates; clicks an update: " + ", ".join(f"{c.clicks:.1f}" for c in costs) + ".",
            "",
            line("", "goal", *titles),
            "|---|---|" + "---|" * len(streams),
            line("both levels' update, µs an update", "≤ 10", *(f"{c.both:.1f}" for c in costs)),
            line("the same by stock River, µs", "", *(f"{c.stock:.0f}" for c in costs)),
            line("labels that are not stock River's", "0", *(f"{c.differ} of {c.compared:,}" for c in costs)),
            line("counting the clicks for all layers, µs an update", "", *(f"{c.counts:.1f}" for c in costs)),
            line("everything in learn(), µs an update", "", *(f"{c.whole:.1f}" for c in costs)),
            line("records after 64 updates, ms to make / to take in", "few", *(
                f"{c.snapshot:.1f} / {c.view:.1f}" for c in costs
            )),
            line("state, MB / ms", "< 2", *(f"{c.state_bytes / 1e6:.2f} / {c.state:.0f}" for c in costs)),
            line("coarse inertia over batch k-means", "≤ 1.03", *(f"{f.coarse:.3f}" for f in fits)),
            line("fine inertia over batch k-means with 64 centres", "≤ 1.18", *(f"{f.fine:.3f}" for f in fits)),
            line("users who change coarse layer without clicking, per 1,000 updates", "≤ 3 %", *(
                f"{f.moved[0]:.1%}" for f in fits
            )),
            line("users who change fine layer", "≤ 6 %", *(f"{f.moved[1]:.1%}" for f in fits)),
            line("drift alarms / layers revived", "", *(
                f"{f.learner.counters['drifts']} / {f.learner.counters['revived']}" for f in fits
            )),
            line("distances in the space against full rows of A, largest relative error", "≤ 1e-5", *(
                f"{s.distance:.0e}" for s in spaces
            )),
            line("k-means inertia with 16 dimensions against full rows", "≤ 1.01", *(
                f"{s.inertia:.4f}" for s in spaces
            )),
            line("coarse / fine labels kept when a tenth of the catalogue is exchanged", "≥ 98 %", *(
                f"{s.kept[0]:.1%} / {s.kept[1]:.1%}" for s in spaces
            )),
        ]
    )  # fmt: skip


def main() -> None:
    """Print the section."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(report())


if __name__ == "__main__":
    main()
