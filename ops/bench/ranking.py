"""What ranking with learning costs, and the search for near items: ``python -m ops.bench.ranking``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from time import thread_time
from typing import Any, Final, Literal

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.index import ItemIndex
from models.items import ItemStore
from models.kernels import faster_product
from models.layer_settings import LayerSettings
from models.layer_view import LayerView
from models.lessons import Teacher
from models.linear import MOST, CoClicks
from models.neighbours import Neighbours
from models.profile import Profile
from models.ranker import RankingConfig
from models.ranker_learning import LearningConfig
from models.recommender import Recommender
from models.records import ItemVector, LayerInfo, LayerTree, half
from models.sequence import SequenceNet, SequenceScorer
from ops.quality.sources import source

_SEED: Final = 7
_SEARCHED: Final = 100_000
KINDS: Final[tuple[Literal["ivf", "hnsw"], ...]] = ("ivf", "hnsw")
_CLICKS: Final = 20
_RUNS: Final = 9  # at each size, in turn: a shared machine's speed changes within minutes


class Ranked:
    """A recommender over made-up items, and what ranking for made-up users costs there.

    Attributes
    ----------
    looked_up
        Each look-up of what an item reads like, s; one comes once for each item that somebody has clicked, and not with
        every event.
    """

    def __init__(self, items: int, dimension: int = 384, config: RankingConfig = RankingConfig()) -> None:
        self._draw = draw = np.random.default_rng(_SEED)
        self.looked_up: list[float] = []
        directions = draw.normal(size=(64, dimension)).astype(np.float32)
        noise = draw.normal(size=(items, dimension)).astype(np.float32)
        self._store = store = _store(directions[draw.integers(0, 64, items)] + noise)
        neighbours = Neighbours(store)
        near = min(items, 2_000)
        for table in (neighbours, neighbours.linear):  # of every item, though of a million few are in the linear part
            table.grow()
            for start in range(0, items, 50_000):
                rows = np.arange(start, min(items, start + 50_000))
                table.ids[rows] = (rows[:, None] + draw.integers(1, near, (len(rows), table.width))) % items
                table.weights[rows] = draw.random((len(rows), table.width), np.float32)
                table.sizes[rows] = table.width
        neighbours.counts[:items] = draw.integers(1, 200, items)
        deep = SequenceScorer(store)
        deep.put(SequenceNet(dimension), 1)
        while deep.pending:
            deep.follow()
        index = ItemIndex(store, precision=faster_product())  # as an updater has it
        self._recommender = Recommender(store, neighbours, index, _layers(store, draw), config, deep)
        self._teacher = Teacher(self._recommender, LearningConfig(young=0))

    def costs(self, users: int = 64, rounds: int = 6) -> tuple[float, float]:
        """µs of CPU: an event's list, and what a quarter of the events costs to learn from, by event."""
        recommender, teacher, draw, store = self._recommender, self._teacher, self._draw, self._store
        listed, taught = [], []
        for turn in range(rounds):
            profiles = [_user(store, draw) for _ in range(users)]
            for profile, vector in zip(profiles, recommender.user_vectors(profiles), strict=True):
                profile.vector = vector
            questions = [
                question
                for number, profile in enumerate(profiles)
                if (question := teacher.question(profile, int(draw.integers(len(store))), 0, users * turn + number, 1))
            ]
            self.looked_up += _look_up(recommender, profiles)
            start_list = thread_time()
            recommender.recommend(profiles, 0)
            start_lesson = thread_time()
            teacher.lesson(questions, 0)
            listed.append(start_lesson - start_list)
            taught.append(thread_time() - start_lesson)
        # the first rounds find caches that another catalogue has filled, or none, and an index that is not built yet
        return 1e6 * float(np.median(listed[2:])) / users, 1e6 * float(np.median(taught[2:])) / users


def _look_up(recommender: Recommender, profiles: Sequence[Profile]) -> list[float]:
    """What the users' clicks read like: seconds an item, batch by batch."""
    likeness, took = recommender.sources.likeness, []
    rows = np.unique([profile.rows for profile in profiles])
    while len(rows := rows[~likeness.known(rows)]):
        start = thread_time()
        likeness.look_up(rows)
        took.append((thread_time() - start) / int(likeness.known(rows).sum()))
    return took


def _store(vectors: NDArray[np.float32]) -> ItemStore:
    store = ItemStore(vectors.shape[1])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for i, vector in enumerate(vectors):
        store.put(str(i), ItemVector(model="m", text_hash=b"", tokens=b"", vector=half(vector), title=str(i)))
    return store


def _layers(store: ItemStore, draw: np.random.Generator) -> LayerView:
    """Layers as large as their role publishes them, over items drawn at random."""
    view, s = LayerView(store), LayerSettings()
    width, leaves, r = s.width, s.width * s.width_fine, s.reduced
    basis, coarse, fine = (
        draw.normal(size=shape).astype("<f4").tobytes() for shape in ((r, store.dimension), (width, r), (leaves, r))
    )
    view.put_tree(
        LayerTree(
            version=1, model="m", dimensions=(r, store.dimension), basis=basis, coarse=coarse, fine=fine,
            epochs=(0,) * leaves, created_ms=0,
        )
    )  # fmt: skip
    ids = [
        "root",
        *map(str, range(width)),
        *(f"{leaf // s.width_fine}.{leaf % s.width_fine}" for leaf in range(leaves)),
    ]
    for layer in ids:
        most = s.published[0 if layer == "root" else 1 + layer.count(".")]
        rows = draw.choice(len(store), min(most, len(store)), replace=False)
        counts = draw.exponential(size=(len(rows), len(s.half_lives))).astype("<f4")
        view.put_layer(
            LayerInfo(
                id=layer, label=layer, size=1.0, epoch=0, items=tuple(store.ids[row] for row in rows.tolist()),
                counts=counts.tobytes(), totals=tuple(counts.sum(axis=0).tolist()), half_lives=s.half_lives,
            )
        )  # fmt: skip
    return view


def _user(store: ItemStore, draw: np.random.Generator) -> Profile:
    clicked = draw.integers(0, len(store), 50).tolist()
    seen = {int(store.hashes[row]): (0, "view") for row in clicked}
    return Profile(
        "u", clicks=80, rows=clicked, times=[0] * 50, events=["view"] * 50, event_hashes=[0] * 50, seen=seen,
        often=dict.fromkeys(list(seen)[::2], 2),
    )  # fmt: skip


def linear_costs(items: int = MOST, users: int = 4_000, each: int = 50) -> tuple[float, float]:
    """CPU time of the linear part: one solution, s, and one user counted after a restart, µs."""
    draw, store = np.random.default_rng(_SEED), ItemStore(0)
    for item in range(items):
        store.describe(str(item))
    counts = CoClicks(store, items)
    clicked = [store.hashes[draw.choice(items, each, replace=False)] for _ in range(users)]
    start = thread_time()
    for one in clicked:
        counts.learn_user(one)
    counted = thread_time()
    counts.solve()
    return thread_time() - counted, (counted - start) / users * 1e6


def speed_section() -> str:
    """Both catalogues against their targets, and the smaller one where items come again: medians, least and most."""
    targets = {4_000: 250, 1_000_000: 1_000}
    ranked = {items: Ranked(items) for items in targets}
    again = Ranked(4_000, config=RankingConfig(repeat_after_s={"view": 0}))
    runs: dict[int, list[tuple[float, float]]] = {items: [] for items in targets}
    repeating = []
    for _ in range(_RUNS):
        for items, took in runs.items():
            took.append(ranked[items].costs())
        repeating.append(sum(again.costs()) / sum(ranked[4_000].costs()))
    lines = [
        "### What it costs",
        "",
        "Made-up users with 50 clicks, 384 dimensions, users in batches of 64, one core: µs of CPU time an event,"
        f" medians of {_RUNS} runs of each size in turn, in brackets the quickest and the slowest."
        f" The product of users and items is in {faster_product()}, the faster one here."
        " A look-up of what an item reads like comes once for each item that somebody has clicked.",
        "",
        "| items | list | learning (a quarter of the clicks) | together | target | reached | a look-up |",
        "|--:|--:|--:|--:|--:|---|--:|",
    ]
    for items, target in targets.items():
        measured = np.array(runs[items])
        listed, taught = np.median(measured, axis=0)
        look_up = 1e6 * np.median(ranked[items].looked_up)
        together = measured.sum(axis=1)
        middle = float(np.median(together))
        total = f"{middle:.0f} ({together.min():.0f} – {together.max():.0f})"
        reached = "yes" if middle <= target else "**no**"
        row = (f"{items:,}", f"{listed:.0f}", f"{taught:.0f}", total, f"≤ {target:,}", reached, f"{look_up:.0f}")
        lines.append(f"| {' | '.join(row)} |")
    seconds, microseconds = linear_costs()
    lines += [
        "",
        "Where items may be offered again at once, and users have clicked half of theirs before, 4,000 items cost"
        f" {np.median(repeating):.2f} times as much ({min(repeating):.2f} – {max(repeating):.2f}), in turn.",
        "",
        f"The linear part, in the role `neighbours`: {seconds:.1f} s for a solution of {MOST:,} items; after a restart"
        f" {microseconds:.0f} µs a user who has clicked 50 items.",
    ]
    return "\n".join(lines)


def search_section() -> str:
    """The approximate indexes, and inverted lists of whole vectors, beside the exact search."""
    draw, k, real = np.random.default_rng(_SEED), 80, source("completejourney")
    known, stream = real.store(), real.stream()
    vectors = known.centred(slice(len(known)))
    near, far = draw.integers(0, len(known), (2, _SEARCHED))
    store = _store(np.concatenate([vectors, vectors[near] + vectors[far] / 2])[:_SEARCHED])
    store.recentre()
    clicked = [stream.rows[stream.users == user] for user in np.unique(stream.users)]
    moments = [(rows, draw.integers(_CLICKS, len(rows))) for rows in clicked if len(rows) > _CLICKS for _ in range(4)]
    users = np.stack([store.centred(rows[at - _CLICKS : at]).mean(axis=0) for rows, at in moments])[:256]
    users /= np.linalg.norm(users, axis=1, keepdims=True)
    every = store.centred(slice(_SEARCHED))
    wanted = np.argpartition(-(users @ every.T), k, axis=1)[:, :k]
    lines = [
        "### Finding near items",
        "",
        f"{_SEARCHED:,} items, completejourney's and mixtures of two of them; the {k} nearest of {len(users)} users'"
        f" last {_CLICKS} clicks in batches of 64, one thread. Recall: share of the exact ones found.",
        "",
        "| index | µs a user | recall | to build, s | holds, MB |",
        "|---|--:|--:|--:|--:|",
    ]

    def row(name: str, built_s: float, index: Any, search: Callable[[NDArray[np.float32]], NDArray[np.int64]]) -> None:
        took, found = [], []
        for start in range(0, len(users), 64):
            began = thread_time()
            found.append(search(users[start : start + 64]))
            took.append((thread_time() - began) / len(found[-1]))
        size = 0 if index is None else len(faiss.serialize_index(index)) / 1e6
        recall = np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(np.concatenate(found), wanted, strict=True)])
        lines.append(f"| {name} | {np.median(took) * 1e6:.0f} | {recall:.3f} | {built_s:.0f} | {size:.0f} |")

    every_one = ItemIndex(store, exact_below=_SEARCHED)
    row("none: one product", 0, None, lambda v: np.argpartition(-every_one.scores(v), k, axis=1)[:, :k])
    for kind in KINDS:
        began = thread_time()
        made = ItemIndex(store, exact_below=0, kind=kind)
        made.sync()
        row(f"`{kind}`", thread_time() - began, made._index, partial(made.near, k=k))
    for name, kind_of, wider in (
        ("FAISS's IVF of whole vectors", faiss.IndexIVFFlat, 1),
        ("FAISS's IVF by RaBitQ, twice as many scored again", faiss.IndexIVFRaBitQFastScan, 2),
    ):
        began = thread_time()
        peer = kind_of(faiss.IndexFlatIP(384), 384, int(2 * _SEARCHED**0.5), faiss.METRIC_INNER_PRODUCT)
        peer.cp.min_points_per_centroid, peer.cp.niter, peer.nprobe = 1, 6, every_one.probes
        peer.train(every[::6])
        peer.add(every)
        row(name, thread_time() - began, peer, partial(_nearest, peer, every_one, k, wider))
    return "\n".join(lines)


def _nearest(peer: Any, exact: ItemIndex, k: int, wider: int, users: NDArray[np.float32]) -> NDArray[np.int64]:
    """The k nearest that a peer finds; of so many times as many, by exact cosines."""
    found: NDArray[np.int64] = peer.search(users, wider * k)[1]
    best = np.argpartition(-exact.cosines(users, found), k - 1, axis=1)[:, :k]
    return np.take_along_axis(found, best, axis=1)


def main() -> None:
    """Print the section."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        print("## Ranking\n\n`python -m ops.bench.ranking`\n")
        print(speed_section(), end="\n\n")
        print(search_section())


if __name__ == "__main__":
    main()
