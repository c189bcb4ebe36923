"""Where default weights come from: ``python -m ops.tune`` prints such, ``python -m ops.tune DATA…`` those of others.

The first fifth of each data set (which ``strata evaluate`` only warms up with) goes through the live models; for
every click on an item that was new to its user the candidates' features are kept, and the weights that make the
clicked items likeliest (softmax over the candidates, each data set counting the same) are found by gradient descent,
not negative, so that every part of a reason says what it adds. A bucket's weights are pulled towards those of all.
Two fits are averaged: over all candidates, and over those in some scorer's first 60, the ones that can win; the first
served Online Retail better, the second MovieLens, their mean both.

What a user has chosen himself matters only where items may come again. So its weights are found after all others, which
stay as they are, in the data sets where users do click again (:data:`AGAIN`), with every item on offer again at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.encoder import Encoder
from models.events import Click
from models.features import FEATURES, part_of
from models.histories import BUCKETS
from models.items import ItemStore
from models.ranker import RankingConfig, Scored
from ops import catalogue
from ops.datasets import dataset
from ops.prequential import System, asked, blocks, ordered
from ops.quality.sources import SHARED, Source, source

SHARE: Final = 0.2
"""The part of a data set that is looked at, from its first click."""

DATA: Final = ("movielens-100k", "movielens-100k-new", f"{SHARED / 'online-retail'}:100000")
"""What is looked at by default: the first fifth of these comes before all that the quality report reports."""

AGAIN: Final = ("online-retail", "completejourney")
"""Sources of the report whose first fifth tells what a user's own items are worth, by default."""

_SKIP: Final = 0.5  # of the slice: while co knows little yet, it is trusted too little
_MOST: Final = 6_000  # examples of a data set
_PULL: Final = 2e-3  # towards the weights that all buckets share
_STEPS: Final = 400
_SEED: Final = 7
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


def collect(data: str, encoder: Encoder, limit: int | None = None) -> Examples:
    """Examples from the first :data:`SHARE` of a data set (or of its first ``limit`` clicks)."""
    found = dataset(data)
    clicks = list(found.clicks(limit))
    clicks = clicks[: int(SHARE * len(clicks))]
    return _collect(
        catalogue.of(found, encoder, None if limit is None else {click.item_id for click in clicks}), clicks
    )


def collect_again(source: Source) -> Examples:
    """The same of a source of the quality report, where items may be offered again at once."""
    stream = source.stream()
    stream = stream.taken(np.arange(int(SHARE * len(stream))))
    each = zip(stream.users.tolist(), stream.rows.tolist(), stream.times.tolist(), strict=True)
    clicks = [Click(user_id=str(user), item_id=stream.item_ids[row], ts=ts, event="click") for user, row, ts in each]
    return _collect(source.store(), clicks, {"click": 0.0})


def _collect(items: ItemStore, clicks: Sequence[Click], again: Mapping[str, float] = MappingProxyType({})) -> Examples:
    # what is off has weights, too, for who turns it on
    system = System(items, RankingConfig(mix=0.0, without=frozenset(), repeat_after_s=again))
    kept: list[tuple[NDArray[np.float16], int, int]] = []
    done = 0
    every = max(1, len(clicks) // _MOST)
    for block in blocks(ordered(clicks, "shuffle", _SEED)):
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


def fit(sets: Sequence[Examples], *, near: bool, beside: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Weights, float32 [buckets, features], not negative.

    Parameters
    ----------
    near
        Only who is in some scorer's first 60 competes.
    beside : float32 [buckets, features], optional
        Weights that stay as they are: those of the user's own items are found, all of them 0 here. Not given: those of
        all else are found.
    """
    fixed = torch.zeros((len(BUCKETS), len(FEATURES))) if beside is None else torch.from_numpy(beside)
    free = torch.tensor([(part_of(feature) == "own") == (beside is not None) for feature in FEATURES])
    shared = torch.full((len(FEATURES),), 0.05, requires_grad=True)
    own = torch.zeros((len(BUCKETS), len(FEATURES)), requires_grad=True)
    optimiser = torch.optim.Adam([shared, own], lr=0.03)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        loss = torch.zeros(())
        for examples in sets:
            pick = torch.randperm(len(examples.target))[:1024]
            weights = (fixed + free * (shared + own))[examples.buckets[pick]]
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
    found: NDArray[np.float32] = (free * (shared + own)).detach().numpy()
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
        Data sets, all of them also looked at with items on offer again; none: :data:`DATA`, and :data:`AGAIN` so.
    """
    torch.manual_seed(7)
    encoder = Encoder.load(precision=catalogue.PRECISION)
    sets, again = [], []
    for name in names or DATA:
        folder, _, limit = name.partition(":")
        sets.append(collect(folder, encoder, limit=int(limit) if limit else None))
        print(f"# {folder}: {len(sets[-1].target)} examples", file=sys.stderr)
    for name in names or AGAIN:
        folder, _, limit = name.partition(":")
        found = source(folder)
        again.append(collect_again(replace(found, limit=int(limit)) if limit else found))
        print(f"# {folder}, where items may come again: {len(again[-1].target)} examples", file=sys.stderr)
    both = fit(sets, near=False), fit(sets, near=True)
    weights: NDArray[np.float32] = (both[0] + both[1]) / np.float32(2)
    both = fit(again, near=False, beside=weights), fit(again, near=True, beside=weights)
    weights += (both[0] + both[1]) / np.float32(2)
    for feature, column in zip(FEATURES, weights.T, strict=True):
        if column.max() >= 0.05:
            print(f'    "{feature}": ({", ".join(f"{value:.2f}" for value in column)}),')


if __name__ == "__main__":
    main(sys.argv[1:])
