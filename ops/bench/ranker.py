"""How good the ranker's guard is: ``python -m ops.bench.ranker``.

``python -m ops.bench.ranker DATA…`` takes these data sets, ``NAME:N`` the first N clicks of one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.encoder import Encoder
from models.events import Click
from models.experts import CUTOFF, EXPERTS, Rankings, hits
from models.histories import BUCKETS
from models.popularity import HALF_LIVES
from models.profile import Profile
from models.ranker import RankingConfig
from models.ranker_learning import LearningConfig
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

    def first(self, count: int) -> Followed:
        """So many clicks."""
        return Followed(self.hits[:count], self.buckets[:count], self.users[:count], self.at[:count])

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
    start: float = 0,
    most: int | None = None,
    make: type[System] = System,
    told: float | None = None,
) -> Followed:
    """Ask every expert for every click, before it is learned.

    Parameters
    ----------
    name, limit
        A data set, or its first clicks.
    weights_age
        See :class:`~ops.prequential.System`.
    change
        What becomes of its clicks.
    start, most
        After which share of the stream the first click is asked for, and how many are.
    make
        Whom to ask.
    told
        The share of the stream after which the tables are told that it has broken, whether it has or not.
    """
    source = dataset(name)
    clicks = list(source.clicks(limit))
    clicked = {click.item_id for click in clicks}
    if change is not None:
        clicks = change(clicks)
    items = catalogue.of(source, Encoder.load(), None if limit is None else clicked)
    system = make(items, RankingConfig(mix=0.0), weights_age=weights_age)
    rankings = Rankings(system.recommender.weights)
    found: list[tuple[NDArray[np.bool_], NDArray[np.int64]]] = []
    users: dict[str, int] = {}
    whose: list[int] = []
    at: list[float] = []
    done = 0
    for block in blocks(ordered(clicks, "shuffle", _SEED)):
        if most is not None and len(at) >= most:
            break
        if told is not None and done >= told * len(clicks):
            system.forget([block[0][0].ts])
            told = None
        profiles, targets = asked(system, block) if done >= start * len(clicks) else ([], [])
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
        "## The ranker's guard",
        "",
        "`python -m ops.bench.ranker`",
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="data sets by name or folder, NAME:N for the first N clicks of one")
    print(guard_section(parser.parse_args().data))


if __name__ == "__main__":
    main()
