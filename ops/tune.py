"""Where default weights come from: ``python -m ops.tune`` prints such, ``python -m ops.tune DATA…`` those of others.

The first fifth of each data set (which ``strata evaluate`` only warms up with) goes through the live models; for
every click on an item that was new to its user the candidates' features are kept, and the weights that make the
clicked items likeliest (softmax over the candidates, each data set counting the same) are found by gradient descent,
not negative, so that every part of a reason says what it adds. A bucket's weights are pulled towards those of all.
Two fits are averaged: over all candidates, and over those in some scorer's first 60, the ones that can win; the first
served Online Retail better, the second MovieLens, their mean both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.encoder import Encoder
from models.features import FEATURES
from models.histories import BUCKETS
from models.ranker import RankingConfig, Scored
from ops import catalogue
from ops.datasets import dataset
from ops.prequential import System, asked, blocks, ordered
from ops.quality.sources import SHARED

SHARE: Final = 0.2
"""The part of a data set that is looked at, from its first click."""

DATA: Final = ("movielens-100k", "movielens-100k-new", f"{SHARED / 'online-retail'}:100000")
"""What is looked at by default: the first fifth of these comes before all that the quality report reports."""

_SKIP: Final = 0.5  # of the slice: while co knows little yet, it is trusted too little
_MOST: Final = 6_000  # examples of a data set
_PULL: Final = 2e-3  # towards the weights that all buckets share
_STEPS: Final = 400
_NEAR: Final = 1 / (1 + 59 / 5)  # the rank feature of the 60th
_RANKS: Final = [i for i, feature in enumerate(FEATURES) if feature.endswith(".rank")]


@dataclass(slots=True)
class Examples:
    """What one data set teaches.

    Attributes
    ----------
    features : float16 [examples, features, m]
    target : int64 [examples]
        Position of the clicked item.
    valid : bool [examples, m]
    buckets : int64 [examples]
    """

    features: torch.Tensor
    target: torch.Tensor
    valid: torch.Tensor
    buckets: torch.Tensor


def collect(data: str, encoder: Encoder, seed: int = 7, limit: int | None = None) -> Examples:
    """Examples from the first :data:`SHARE` of a data set (or of its first ``limit`` clicks)."""
    source = dataset(data)
    clicks = list(source.clicks(limit))
    clicks = clicks[: int(SHARE * len(clicks))]
    items = catalogue.of(source, encoder, None if limit is None else {click.item_id for click in clicks})
    # what is off has weights, too, for who turns it on
    system = System(items, RankingConfig(mix=0.0, without=frozenset()))
    kept: list[tuple[NDArray[np.float16], int, int]] = []
    done = 0
    every = max(1, len(clicks) // _MOST)
    for block in blocks(ordered(clicks, "shuffle", seed)):
        if done >= _SKIP * len(clicks):
            profiles, targets = asked(system, block)
            chosen = [i for i in range(len(profiles)) if (done + i) % every == 0]
            if chosen:
                now = block[-1][-1].ts
                scored = system.recommender.score([profiles[i] for i in chosen], now)
                kept.extend(_examples(scored, [targets[i] for i in chosen]))
        flat = [click for group in block for click in group]
        system.learn(flat, done)
        done += len(flat)
    return _stack(kept)


def fit(sets: Sequence[Examples], *, near: bool) -> NDArray[np.float32]:
    """Weights, float32 [buckets, features], not negative; ``near``: only who is in some scorer's first 60 competes."""
    shared = torch.full((len(FEATURES),), 0.05, requires_grad=True)
    own = torch.zeros((len(BUCKETS), len(FEATURES)), requires_grad=True)
    optimiser = torch.optim.Adam([shared, own], lr=0.03)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        loss = torch.zeros(())
        for examples in sets:
            pick = torch.randperm(len(examples.target))[:1024]
            weights = (shared + own)[examples.buckets[pick]]
            scores = torch.einsum("ef,efm->em", weights, examples.features[pick].float())
            competes, target = examples.valid[pick], examples.target[pick]
            if near:
                competes = competes & (examples.features[pick][:, _RANKS] >= _NEAR).any(dim=1)
                competes[torch.arange(len(pick)), target] = True
            scores = scores.masked_fill(~competes, -1e9)
            loss = loss + torch.nn.functional.cross_entropy(scores, target) / len(sets)
        (loss + _PULL * (own**2).sum()).backward()
        optimiser.step()
        with torch.no_grad():
            shared.clamp_(min=0)
            own.clamp_(min=-shared.expand_as(own))
    found: NDArray[np.float32] = (shared + own).detach().numpy()
    return found


def _examples(scored: Scored, targets: Sequence[int]) -> Iterator[tuple[NDArray[np.float16], int, int]]:
    found = scored.candidates
    clicked = (found.rows == np.array(targets)[:, None]) & found.valid
    for user, place in zip(*clicked.nonzero(), strict=True):
        count = int(found.valid[user].sum())
        yield scored.features[user, :, :count].astype(np.float16), int(place), int(scored.buckets[user])


def _stack(kept: Sequence[tuple[NDArray[np.float16], int, int]]) -> Examples:
    m = max(made.shape[1] for made, _, _ in kept)
    features = np.zeros((len(kept), len(FEATURES), m), np.float16)
    valid = np.zeros((len(kept), m), np.bool_)
    for i, (made, _, _) in enumerate(kept):
        features[i, :, : made.shape[1]] = made
        valid[i, : made.shape[1]] = True
    return Examples(
        torch.from_numpy(features),
        torch.tensor([place for _, place, _ in kept]),
        torch.from_numpy(valid),
        torch.tensor([bucket for _, _, bucket in kept]),
    )


def main(names: Sequence[str]) -> None:
    """Print weights for :data:`models.ranker.DEFAULT_WEIGHTS`; ``NAME:N`` takes a data set's first N clicks.

    Parameters
    ----------
    names
        Data sets; none: :data:`DATA`.
    """
    torch.manual_seed(7)
    encoder = Encoder.load()
    sets = []
    for name in names or DATA:
        folder, _, limit = name.partition(":")
        sets.append(collect(folder, encoder, limit=int(limit) if limit else None))
        print(f"# {folder}: {len(sets[-1].target)} examples", file=sys.stderr)
    weights = (fit(sets, near=False) + fit(sets, near=True)) / 2
    for feature, column in zip(FEATURES, weights.T, strict=True):
        if column.max() >= 0.05:
            print(f'    "{feature}": ({", ".join(f"{value:.2f}" for value in column)}),')


if __name__ == "__main__":
    main(sys.argv[1:])
