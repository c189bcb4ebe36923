"""Every expert followed through a stream: what each would have hit, whoever served."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.events import Click
from models.experts import EXPERTS, Rankings, hits
from models.kernels import Precision
from models.profile import Profile
from models.ranker import RankingConfig
from ops.bench.several import Several
from ops.measures import standard_error
from ops.prequential import System, asked, blocks, ordered
from ops.quality.sources import Source, source
from ops.quality.stream import Stream

_SEED: Final = 7
_TOLD: Final = 20_000  # clicks between two lines of progress


@dataclass(frozen=True, slots=True)
class Followed:
    """What was found, of the clicks that were asked for.

    Attributes
    ----------
    hits : bool [n, experts + 1]
        Whether each had the clicked item in its top 10; last, whoever served.
    buckets, users, at, serving : [n]
        Bucket of history length; whose click it was; share of the stream that was over, 0 … 1; the expert that the
        guard had chosen for the bucket by then.
    clicks : int
        In the whole stream.
    breaks : tuple[float, ...]
        Shares of the stream that were over when the guard noticed that it had broken.
    """

    hits: NDArray[np.bool_]
    buckets: NDArray[np.int64]
    users: NDArray[np.int64]
    at: NDArray[np.float64]
    serving: NDArray[np.int64]
    clicks: int = 0
    breaks: tuple[float, ...] = ()

    def part(self, start: float, end: float = 1) -> Followed:
        """The clicks between two shares of the stream."""
        kept = np.flatnonzero((self.at >= start) & (self.at < end))
        return replace(self.taken(kept), breaks=tuple(at for at in self.breaks if start <= at < end))

    def first(self, count: int) -> Followed:
        """So many clicks."""
        return self.taken(slice(count))

    def taken(self, kept: NDArray[np.int64] | slice) -> Followed:
        """The clicks at these places."""
        arrays = {name: getattr(self, name)[kept] for name in ("hits", "buckets", "users", "at", "serving")}
        return replace(self, **arrays)

    def rate(self, expert: int) -> float:
        """HR@10."""
        return float(self.hits[:, expert].mean())

    def best(self) -> int:
        """The best expert in hindsight."""
        return int(self.hits[:, :-1].sum(axis=0).argmax())

    def best_fixed(self) -> int:
        """The best in hindsight of those that never learn."""
        return 1 + int(self.hits[:, 1:-1].sum(axis=0).argmax())

    def served_most(self) -> tuple[int, float]:
        """The expert that the guard had chosen for most of the clicks, and its share of them."""
        counts = np.bincount(self.serving)
        return int(counts.argmax()), float(counts.max() / counts.sum())

    def gap(self, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float]:
        """Of two methods' HR@10, and its standard error by user."""
        gap = one.astype(np.float64) - other
        return float(gap.mean()), standard_error(gap, self.users)

    def difference(self, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> str:
        """The same in words."""
        return told_as(*self.gap(one, other))


def told_as(gap: float, error: float) -> str:
    """``+0.0072 ± 0.0009``."""
    return f"{gap:+.4f} ± {error:.4f}"


def named(name: str) -> Source:
    """A source by name or folder; ``NAME:N`` the first N clicks of one, and the items that occur in them.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    name, _, limit = name.partition(":")
    found = source(name)
    if not limit:
        return found
    count = int(limit)
    if found.new or found.users is not None:
        return replace(found, length=min(count, found.length or count))
    return replace(found, limit=min(count, found.limit or count))


def of_data(about: str | None) -> argparse.ArgumentParser:
    """The command line of a benchmark of data sets, described by its module's docstring; they are its ``data``."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="data sets by name or folder, NAME:N for the first N clicks of one")
    return parser


def clicks_of(stream: Stream) -> list[Click]:
    """A stream's clicks, by time."""
    columns = stream.users.tolist(), stream.rows.tolist(), stream.times.tolist()
    ids = stream.item_ids
    return [Click(user_id=str(user), item_id=ids[row], ts=ts) for user, row, ts in zip(*columns, strict=True)]


def follow(
    data: Source,
    *,
    weights_age: int = 0,
    change: Callable[[list[Click]], list[Click]] | None = None,
    start: float = 0,
    most: int | None = None,
    make: type[System] = System,
    told: float | None = None,
    precision: Precision | None = None,
    label: str = "",
) -> Followed:
    """Ask every expert for every click, before it is learned.

    Parameters
    ----------
    data
        Its clicks are taken one by one, those of one moment in an order by seed.
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
    precision
        Of the items' vectors, as :meth:`~ops.quality.sources.Source.store` has it.
    label
        What to call this in the lines of progress.
    """
    clicks = clicks_of(data.stream())
    if change is not None:
        clicks = change(clicks)
    system = make(data.store(precision), RankingConfig(mix=0.0), weights_age=weights_age)
    rankings = Rankings(system.recommender.weights)
    found: list[tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]] = []
    users: dict[str, int] = {}
    whose: list[int] = []
    at: list[float] = []
    breaks: list[float] = []
    done, began = 0, perf_counter()
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
        known = system.ranker.breaks.times
        system.learn(flat, done)
        before, done = done, done + len(flat)
        if system.ranker.breaks.times != known:
            breaks.append(done / len(clicks))
        if before // _TOLD != done // _TOLD or done == len(clicks):
            progress = f"{data.name} {label}: {done:,} of {len(clicks):,} clicks, {perf_counter() - began:,.0f} s"
            print(progress, file=sys.stderr, flush=True)
    outcome, buckets, serving = (np.concatenate(column) for column in zip(*found, strict=True))
    return Followed(outcome, buckets, np.array(whose), np.array(at), serving, len(clicks), tuple(breaks))


def _ask(
    system: System, rankings: Rankings, profiles: Sequence[Profile], targets: Sequence[int], now: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Who hit, the buckets, and the guard's choice for each."""
    outcome = np.zeros((len(targets), len(EXPERTS) + 1), np.bool_)
    buckets = np.zeros(len(targets), np.int64)
    for places in _turns(system, profiles):
        scored = system.recommender.score([profiles[place] for place in places.tolist()], now)
        found = scored.candidates
        match = (found.rows == np.array(targets)[places, None]) & found.valid
        known = np.flatnonzero(match.any(axis=1))
        buckets[places] = scored.buckets
        if len(known):
            valid, where = found.valid[known], match[known].argmax(axis=1)
            experts = rankings.scores(system.recommender.learned, scored.features[known], scored.buckets[known])
            every = np.concatenate([experts, scored.scores[known][:, None]], axis=1)
            outcome[places[known]] = hits(every, valid, where)
    return outcome, buckets, system.ranker.choice.serving[buckets]


def _turns(system: System, profiles: Sequence[Profile]) -> Iterator[NDArray[np.int64]]:
    if isinstance(system, Several):
        yield from system.turns([profile.user_id for profile in profiles])
    else:
        yield np.arange(len(profiles))
