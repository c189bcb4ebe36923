"""What ranking with learning costs, and how good the guard is: ``python -m ops.bench.ranker``.

``python -m ops.bench.ranker speed`` or ``… guard`` prints one of the two; ``… guard DATA…`` takes these data sets,
``NAME:N`` the first N clicks of one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import thread_time
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.encoder import Encoder
from models.events import Click
from models.experts import CUTOFF, EXPERTS, Rankings, hits
from models.histories import BUCKETS
from models.index import ItemIndex
from models.items import ItemStore
from models.layer_settings import LayerSettings
from models.layer_view import LayerView
from models.lessons import Teacher
from models.linear import MOST, CoClicks
from models.neighbours import Neighbours
from models.popularity import HALF_LIVES
from models.profile import Profile
from models.ranker import RankingConfig
from models.ranker_learning import LearningConfig
from models.recommender import Recommender
from models.records import ItemVector, LayerInfo, LayerTree, half
from models.sequence import SequenceNet, SequenceScorer
from ops import catalogue
from ops.bench.updater import SHARED
from ops.datasets import dataset
from ops.measures import standard_error
from ops.prequential import BLOCK, System, asked, blocks, ordered

WARM_UP: Final = 0.3
STALE: Final = (4, 16)
"""Blocks of :data:`~ops.prequential.BLOCK` clicks: weights a second old at 256 and at a thousand clicks a second."""

_SEED: Final = 7
_TRENDING: Final = 30


# -- what it costs ----------------------------------------------------------------------------------------------------


def speed(
    items: int, users: int = 64, rounds: int = 6, dimension: int = 384, config: RankingConfig = RankingConfig()
) -> tuple[float, float]:
    """µs of CPU an event: (the list, what a quarter of the events costs to learn from), made-up items and users."""
    draw = np.random.default_rng(_SEED)
    store = ItemStore(dimension)
    directions = draw.normal(size=(64, dimension)).astype(np.float32)
    for start in range(0, items, 10_000):
        some = min(10_000, items - start)
        vectors = directions[draw.integers(0, 64, some)] + draw.normal(size=(some, dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        for i, vector in enumerate(vectors, start):
            store.put(str(i), ItemVector(model="m", text_hash=b"", tokens=b"", vector=half(vector), title=str(i)))
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
    recommender = Recommender(store, neighbours, ItemIndex(store), _layers(store, draw), config, deep)
    teacher = Teacher(recommender, LearningConfig(young=0))
    listed, taught = [], []
    for turn in range(rounds):
        profiles = [_user(store, draw) for _ in range(users)]
        for profile, vector in zip(profiles, recommender.user_vectors(profiles), strict=True):
            profile.vector = vector
        questions = [
            question
            for number, profile in enumerate(profiles)
            if (question := teacher.question(profile, int(draw.integers(items)), 0, users * turn + number, 0))
        ]
        start_list = thread_time()
        recommender.recommend(profiles, 0)
        start_lesson = thread_time()
        teacher.lesson(questions, 0)
        listed.append(start_lesson - start_list)
        taught.append(thread_time() - start_lesson)
    # the first rounds find cold caches and an index that is not built yet
    return float(np.median(listed[2:])) / users * 1e6, float(np.median(taught[2:])) / users * 1e6


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
    return Profile("u", clicks=80, rows=clicked, times=[0] * 50, events=["view"] * 50, event_hashes=[0] * 50, seen=seen)


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
    """Both catalogues against their targets."""
    lines = [
        "### What it costs",
        "",
        "Made-up users with 50 clicks, 384 dimensions, users in batches of 64, one core: µs of CPU time an event.",
        "",
        "| items | list | learning (a quarter of the clicks) | together | target | reached |",
        "|--:|--:|--:|--:|--:|---|",
    ]
    for items, target in ((4_000, 250), (1_000_000, 1_000)):
        listed, taught = speed(items)
        reached = "yes" if listed + taught <= target else "**no**"
        total = f"{listed + taught:.0f}"
        lines.append(f"| {items:,} | {listed:.0f} | {taught:.0f} | {total} | ≤ {target:,} | {reached} |")
    seconds, microseconds = linear_costs()
    lines += [
        "",
        f"The linear part, in the role `neighbours`: {seconds:.1f} s for a solution of {MOST:,} items; after a restart"
        f" {microseconds:.0f} µs a user who has clicked 50 items.",
    ]
    return "\n".join(lines)


# -- how good the guard is --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Followed:
    """Every expert, followed through a stream.

    Attributes
    ----------
    hits : bool [n, experts + 1]
        Whether each had the clicked item in its top 10; last, whoever served.
    buckets, users, at : [n]
        Bucket of history length; whose click it was; share of the stream that was over, 0 … 1.
    """

    hits: NDArray[np.bool_]
    buckets: NDArray[np.int64]
    users: NDArray[np.int64]
    at: NDArray[np.float64]

    def part(self, start: float, end: float = 1) -> Followed:
        """The clicks between two shares of the stream."""
        kept = (self.at >= start) & (self.at < end)
        return Followed(self.hits[kept], self.buckets[kept], self.users[kept], self.at[kept])

    def rate(self, expert: int) -> float:
        """HR@10."""
        return float(self.hits[:, expert].mean())

    def best(self) -> int:
        """The best expert in hindsight."""
        return int(self.hits[:, :-1].sum(axis=0).argmax())

    def difference(self, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> str:
        """Of two methods' HR@10, with its standard error by user."""
        gap = one.astype(np.float64) - other
        return f"{gap.mean():+.4f} ± {standard_error(gap, self.users):.4f}"


def follow(
    name: str,
    *,
    limit: int | None = None,
    weights_age: int = 0,
    change: Callable[[list[Click]], list[Click]] | None = None,
) -> Followed:
    """Ask every expert for every click, before it is learned."""
    source = dataset(name)
    clicks = list(source.clicks(limit))
    clicked = {click.item_id for click in clicks}
    if change is not None:
        clicks = change(clicks)
    items = catalogue.of(source, Encoder.load(), None if limit is None else clicked)
    system = System(items, RankingConfig(mix=0.0), weights_age=weights_age)
    rankings = Rankings(system.recommender.weights)
    found: list[tuple[NDArray[np.bool_], NDArray[np.int64]]] = []
    users: dict[str, int] = {}
    whose: list[int] = []
    at: list[float] = []
    done = 0
    for block in blocks(ordered(clicks, "shuffle", _SEED)):
        profiles, targets = asked(system, block)
        if profiles:
            found.append(_ask(system, rankings, profiles, targets, block[-1][-1].ts))
            whose += [users.setdefault(profile.user_id, len(users)) for profile in profiles]
            at += [done / len(clicks)] * len(profiles)
        flat = [click for group in block for click in group]
        system.learn(flat, done)
        done += len(flat)
    outcome, buckets = (np.concatenate(column) for column in zip(*found, strict=True))
    return Followed(outcome, buckets, np.array(whose), np.array(at))


def _ask(
    system: System, rankings: Rankings, profiles: Sequence[Profile], targets: Sequence[int], now: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    scored = system.recommender.score(profiles, now)
    found = scored.candidates
    match = (found.rows == np.array(targets)[:, None]) & found.valid
    known = np.flatnonzero(match.any(axis=1))
    outcome = np.zeros((len(targets), len(EXPERTS) + 1), np.bool_)
    if len(known):
        valid, places = found.valid[known], match[known].argmax(axis=1)
        experts = rankings.scores(system.recommender.learned, scored.features[known], scored.buckets[known])
        every = np.concatenate([experts, scored.scores[known][:, None]], axis=1)
        outcome[known] = hits(every, valid, places)
    return outcome, scored.buckets


def changed(clicks: list[Click]) -> list[Click]:
    """The middle third of a stream becomes one of trends: 30 items, others every 1,000 clicks."""
    draw = np.random.default_rng(_SEED)
    by_time = sorted(clicks, key=lambda click: click.ts)
    ids = sorted({click.item_id for click in by_time})
    start, end = len(by_time) // 3, 2 * len(by_time) // 3
    trending: Sequence[str] = ()
    for i in range(start, end):
        if (i - start) % 1_000 == 0:
            trending = draw.choice(ids, _TRENDING, replace=False).tolist()
        by_time[i] = msgspec.structs.replace(by_time[i], item_id=trending[int(draw.integers(_TRENDING))])
    return by_time


def guard_rows(name: str, limit: int | None) -> Iterator[str]:
    """The lines of one data set."""
    now = follow(name, limit=limit)
    whole = now.part(WARM_UP)
    served, learned = whole.hits[:, -1], whole.hits[:, 0]
    fixed = 1 + int(whole.hits[:, 1:-1].sum(axis=0).argmax())
    by_bucket = sum(int(whole.hits[whole.buckets == b][:, :-1].sum(axis=0).max(initial=0)) for b in range(len(BUCKETS)))
    best = whole.best()
    yield f"**{name.rstrip('/').split('/')[-1]}**" + (f", first {limit:,} clicks" if limit else "")
    yield ""
    yield f"- served {served.mean():.4f}, of {len(served):,} clicks; the learned ranker alone {learned.mean():.4f}"
    yield (
        f"- best fixed expert in hindsight: {EXPERTS[fixed]} {whole.rate(fixed):.4f}; served − it "
        f"{whole.difference(served, whole.hits[:, fixed])}"
    )
    yield (
        f"- best expert in hindsight: {EXPERTS[best]} {whole.rate(best):.4f}; regret "
        f"{whole.difference(whole.hits[:, best], served)}; the best of each bucket would have hit "
        f"{by_bucket / len(served):.4f}"
    )
    for age in STALE:
        stale = follow(name, limit=limit, weights_age=age).part(WARM_UP)
        yield (
            f"- served with weights {age * BLOCK:,} clicks old − fresh ones: "
            f"{whole.difference(stale.hits[:, -1], served)}"
        )
    yield ""


def changed_rows(name: str, limit: int | None) -> Iterator[str]:
    """Lines about a stream whose middle third is one of trends."""
    outcome = follow(name, limit=limit, change=changed)
    yield f"**{name}**, the middle third clicks on trends: who would have been best, and who was served"
    yield ""
    yield "| third | best expert | its HR@10 | served | served − best | best of history | best popularity |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    for third in range(3):
        part = outcome.part(third / 3, (third + 1) / 3 if third < 2 else 2)
        best = part.best()
        history = max(part.rate(EXPERTS.index(name)) for name in ("history", "co", "co.short"))
        popular = max(part.rate(EXPERTS.index(f"popularity.{half:.0f}")) for half in HALF_LIVES)
        yield (
            f"| {third + 1} | {EXPERTS[best]} | {part.rate(best):.4f} | {part.hits[:, -1].mean():.4f} "
            f"| {part.difference(part.hits[:, -1], part.hits[:, best])} | {history:.4f} | {popular:.4f} |"
        )
    yield ""


def guard_section(names: Sequence[str] | None = None) -> str:
    """Regret on each data set, and after a change of the stream."""
    if not names:
        names = ["movielens-100k", "movielens-100k-new", *([f"{SHARED}:60000"] if SHARED.is_dir() else [])]
    lines = [
        "### The guard",
        "",
        f"HR@{CUTOFF} by the scores alone (no diversity), prequential after the first {WARM_UP:.0%}, items new to "
        f"their user; the ranker learns from all of the first {LearningConfig.young:,} clicks, then from a quarter; "
        "± is the standard error of a paired difference, by user.",
        "",
    ]
    for name in names:
        folder, _, limit = name.partition(":")
        lines += guard_rows(folder, int(limit) if limit else None)
    lines += changed_rows("movielens-100k", 60_000)
    return "\n".join(lines)


def main() -> None:
    """Print the section."""
    wanted = sys.argv[1:2]
    print("## The ranker\n\n`python -m ops.bench.ranker`\n")
    if wanted != ["guard"]:
        print(speed_section(), end="\n\n")
    if wanted != ["speed"]:
        print(guard_section(sys.argv[2:]))


if __name__ == "__main__":
    main()
