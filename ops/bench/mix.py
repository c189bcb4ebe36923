"""What BERT on the user's side adds to lists: ``python -m ops.bench.mix``.

``python -m ops.bench.mix DATA…`` takes these data sets, by name or folder, ``NAME:N`` the first N clicks of one.

A user's vector is a · BERT(his last clicks) + (1 − a) · the decayed mean of his items' vectors
(:meth:`~models.recommender.Recommender.user_vectors`, a is ``STRATA_MIX``). The stream is learned once, with a = 0, and
some of its clicks are asked for with each a: so the weights are those that a = 0 has learned.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.encoder import Encoder
from models.experts import CUTOFF
from models.features import SCORERS
from models.ranker import RankingConfig
from ops import catalogue
from ops.bench.following import clicks_of, named, of_data, told_as
from ops.measures import standard_error
from ops.prequential import System, asked, blocks, ordered
from ops.quality.sources import Source, sources

MIXES: Final = (0.0, 0.3, 0.5, 0.7)
"""Values of a; the others are compared with the first."""

WARM_UP: Final = 0.3
ASKED: Final = 6_000
"""Clicks of a data set that are asked for, about: BERT reads a user some fifty times a second here."""

FEW: Final = 3
"""Clicks of a user who has few."""

_SEED: Final = 7
_TEXT: Final = SCORERS.index("text")


@dataclass(frozen=True, slots=True)
class Mixed:
    """Hits with each of :data:`MIXES`.

    Attributes
    ----------
    served, text : bool [n, mixes]
        Whether the list that is served, and the cosine with the user's vector alone, have the clicked item in their
        top 10.
    users, clicks : int64 [n]
        Whose click it was, and how many he had made.
    """

    served: NDArray[np.bool_]
    text: NDArray[np.bool_]
    users: NDArray[np.int64]
    clicks: NDArray[np.int64]

    def rows(self, name: str) -> Iterator[str]:
        """A line for each a."""
        few = (self.clicks > 0) & (self.clicks <= FEW)
        every, served, text = self.clicks >= 0, self.served[:, 0].mean(), self.text[:, 0].mean()
        for number, mix in enumerate(MIXES[1:], 1):
            yield (
                f"| {name} | {mix} | {len(self.users):,} | {served:.4f} | {self._gain(self.served, number, every)} "
                f"| {self._gain(self.served, number, few)} | {text:.4f} | {self._gain(self.text, number, every)} |"
            )

    def gap(self, number: int) -> tuple[float, float]:
        """Of HR@10 of what is served with :data:`MIXES`' number so and so to a = 0, and its standard error."""
        gap = self.served[:, number].astype(np.float64) - self.served[:, 0]
        return float(gap.mean()), standard_error(gap, self.users)

    def _gain(self, hits: NDArray[np.bool_], number: int, of: NDArray[np.bool_]) -> str:
        if not of.any():
            return "–"
        gap = hits[of, number].astype(np.float64) - hits[of, 0]
        return told_as(float(gap.mean()), standard_error(gap, self.users[of]))


def mixed(data: Source, encoder: Encoder, most: int = ASKED) -> Mixed:
    """Learn a stream, and ask for about ``most`` of its clicks with each a."""
    clicks = clicks_of(data.stream())
    system = System(data.store(), RankingConfig(mix=0.0))
    every = max(1, round((1 - WARM_UP) * len(clicks) / most))
    served, text, users, made = [], [], [], []
    done, seen, number, began = 0, 0, dict[str, int](), perf_counter()
    for block in blocks(ordered(clicks, "shuffle", _SEED)):
        profiles, targets = asked(system, block) if done >= WARM_UP * len(clicks) else ([], [])
        some = [place for place in range(len(profiles)) if (seen + place) % every == 0]
        seen += len(profiles)
        if some:
            mine, wanted = [profiles[place] for place in some], np.array([targets[place] for place in some])
            encoded = system.encoded(mine, encoder)
            each = []
            for mix in MIXES:
                for profile, vector in zip(mine, system.recommender.user_vectors(mine, encoded, mix), strict=True):
                    profile.vector = vector if profile.rows else None
                scored = system.recommender.score(mine, block[-1][-1].ts)
                found = scored.candidates
                clicked = (found.rows == wanted[:, None]) & found.valid
                each.append([_hits(of, clicked, found.valid) for of in (scored.scores, found.said[_TEXT])])
            served.append(np.stack([of for of, _ in each], axis=1))
            text.append(np.stack([of for _, of in each], axis=1))
            users += [number.setdefault(profile.user_id, len(number)) for profile in mine]
            made += [profile.clicks for profile in mine]
        flat = [click for group in block for click in group]
        system.learn(flat, done)
        done += len(flat)
    print(f"{data.name}: {len(users):,} clicks asked for, {perf_counter() - began:,.0f} s", file=sys.stderr, flush=True)
    return Mixed(np.concatenate(served), np.concatenate(text), np.array(users), np.array(made))


def _hits(scores: NDArray[np.float32], clicked: NDArray[np.bool_], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether fewer than :data:`~models.experts.CUTOFF` candidates have a higher score than the clicked one, bool [b].

    What nothing is said of (a score of 0 or less) is no hit.
    """
    own = np.where(clicked, scores, -np.inf).max(axis=1)
    better = ((scores > own[:, None]) & valid).sum(axis=1)
    hit: NDArray[np.bool_] = clicked.any(axis=1) & (own > 0) & (better < CUTOFF)
    return hit


def mix_section(names: Sequence[str] | None = None) -> str:
    """A table of all data sets."""
    encoder = Encoder.load(precision=catalogue.PRECISION)
    lines = [
        "## BERT on the user's side",
        "",
        "`python -m ops.bench.mix`",
        "",
        f"HR@{CUTOFF} of what is served by the scores alone (no diversity), and of the cosine with the user's vector "
        f"alone, of some of the clicks after the first {WARM_UP:.0%}, items new to their user. A user's vector is a of "
        "BERT's reading of his last clicks, the rest the decayed mean of his items' vectors; the differences are to "
        f"a = 0, ± their standard error, by user. With few clicks: 1 to {FEW}. Encoder: {encoder.name}.",
        "",
        "| data | a | asked | served at a = 0 | a − 0 | with few clicks | cosine at a = 0 | a − 0 |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    made = []
    for data in [named(name) for name in names] if names else sources():
        made.append(mixed(data, encoder))
        lines += made[-1].rows(data.name)
    means = ", ".join(f"{mean(made, number)} at a = {mix}" for number, mix in enumerate(MIXES[1:], 1))
    lines += [
        "",
        f"The mean of what is served, of all data sets alike: {means}; ± as if no two were of the same clicks.",
    ]
    return "\n".join(lines)


def mean(made: Sequence[Mixed], number: int) -> str:
    """The mean gain of what is served with one of :data:`MIXES`, each data set counting once."""
    gaps, errors = zip(*(one.gap(number) for one in made), strict=True)
    return told_as(float(np.mean(gaps)), float(np.sqrt(np.square(errors).sum())) / len(made))


def main() -> None:
    """Print the section."""
    print(mix_section(of_data(__doc__).parse_args().data))


if __name__ == "__main__":
    main()
