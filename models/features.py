"""A candidate as a row of features: what the scorers say of it, in forms that a linear ranker can weigh.

Per scorer three features (design §7)::

    ratio = value / max        log = log(1 + 1000 · value / max) / 3        rank = 1 / (1 + rank / 5)

``log`` is the design's log(value / max + .001) / 3 but for a constant, which no ranking sees: so that a scorer that
is silent adds nothing, and the parts of a reason are what each scorer *adds*. Text of an item that has few clicks
enters once more, weighted with exp(−clicks / 5): a gate through which new items come in. Popularity
goes without its rank. Of what a user has chosen himself it also matters how many of his clicks ago: who has just bought
milk does not buy it again.

What was tried beside these and left out, since it added nothing beyond its error (HR@10 after 30 % of
MovieLens-100k, of its copy with mostly new users, and of 60,000 clicks of Online Retail): co with the popularity
exponent .3 (−.001, .000, .000), ranks of popularity (−.000, .000, −.000), the age of an item (.000, .000, .000), and
directed counts of what follows the last three clicks (+.0007, −.0015, +.0004), which the newest clicks' co replaces.
The layers' counts at half-lives of 300 and 3,000 clicks beside 10,000, where the layers weigh at all: +.0003 ± .0007
and +.0008 ± .0006 (MovieLens-100k and the first 100,000 clicks of Online Retail, each with mostly new users).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.feature_loops import rank, spread
from models.popularity import HALF_LIVES

SCORERS: Final = ("co", "co.short", "text", "text.like", "layer", "sequence", "linear", "own")
"""Scorers of a user and an item: co, co of the newest clicks (each counts .6 of the next newer), text by the user's
vector, text by single clicks (:mod:`models.likeness`), layers, the deep part (:mod:`models.sequence`), the linear one
(:mod:`models.linear`), and how often the user has chosen the item himself (:mod:`models.own`)."""

FORMS: Final = ("ratio", "log", "rank")

FEATURES: Final = (
    *(f"{scorer}.{form}" for scorer in SCORERS for form in FORMS),
    "text.new",
    "own.rested",
    *(f"popularity.{half:.0f}.{form}" for half in HALF_LIVES for form in FORMS[:2]),
    "item.log_count",
    "item.new",
)

PARTS: Final = ("co", "text", "layer", "sequence", "linear", "own", "popularity", "new")
"""What a reason tells apart; every feature belongs to one."""


OFF: Final = frozenset({"layer"})
"""Parts that weigh nothing unless asked for: the gate of ``ops/bench/QUALITY.md`` has their figures. On none of its six
data sets do layers gain more HR@10 than the best of so many slices would by chance; on the rest of Online Retail, which
no gate had seen, 184,560 clicks on items new to their users, −.0001 ± .0002 (by a script, with earlier weights)."""


def part_of(feature: str) -> str:
    """The part of a reason that a feature counts towards."""
    if feature == "item.new":
        return "new"
    return {"item": "popularity"}.get(name := feature.split(".")[0], name)


_TEXT, _TEXT_NEW = FEATURES.index("text.ratio"), FEATURES.index("text.new")
_OWN_RESTED: Final = FEATURES.index("own.rested")
_POPULARITY = FEATURES.index(f"popularity.{HALF_LIVES[0]:.0f}.ratio")

EVERY: Final = np.arange(len(SCORERS))
"""Positions of all of :data:`SCORERS`."""

TO_PARTS: Final = np.array([[part_of(feature) == part for part in PARTS] for feature in FEATURES], np.float32)
"""float32 [features, parts]: (features · weights) summed by part."""


def _ranks(most: int) -> NDArray[np.float32]:
    """The form of the first rank, the second, …"""
    return (1 / (1 + np.arange(most, dtype=np.float32) / 5)).astype(np.float32)


_RANKS: Final = _ranks(1_024)  # hardly ever are candidates more


class Matters(NamedTuple):
    """Which scorers matter to a ranking.

    Attributes
    ----------
    any_of : frozenset[str]
        Those of which anything does.
    formed : int64 [k]
        Those of which not the ratio alone does, positions in :data:`SCORERS`.
    """

    any_of: frozenset[str]
    formed: NDArray[np.int64]

    @classmethod
    def of(cls, forms: NDArray[np.bool_]) -> Matters:
        """By whether a scorer's ratio, log and rank matter, bool [scorers, 3]."""
        some = np.flatnonzero(forms.any(axis=1)).tolist()
        return cls(frozenset(SCORERS[scorer] for scorer in some), np.flatnonzero(forms[:, 1:].any(axis=1)))


def weighed(weights: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether anything weighs a scorer's ratio, log and rank, bool [scorers, 3], in weights [..., features]."""
    any_of = np.asarray(weights.reshape(-1, len(FEATURES)).any(axis=0))
    return any_of[: len(SCORERS) * len(FORMS)].reshape(-1, len(FORMS))


def popularity_forms(popularity: NDArray[np.float32], top: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features of items that are the same for every user: ratio and log at each half-life.

    Parameters
    ----------
    popularity : float32 [n, half-lives]
        Decayed counts among everybody.
    top : float32 [half-lives]
        The largest of each, of all items.

    Returns
    -------
    float32 [n, 2 · half-lives]
        As :data:`FEATURES` orders them.
    """
    forms = np.empty((*popularity.shape, 2), np.float32)
    np.divide(popularity, np.maximum(top, np.float32(1e-12)), out=forms[:, :, 0])
    forms[:, :, 1] = log_form(forms[:, :, 0])
    return forms.reshape(len(popularity), -1)


def features_of(
    values: NDArray[np.float32],
    popularity: NDArray[np.float32],
    places: NDArray[np.int32],
    counts: NDArray[np.float32],
    formed: NDArray[np.int64] = EVERY,
    rested: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The features of users' candidates.

    The rank of two candidates whose ratios are within a 4,096th of one another (of more than 2,048 candidates a
    2,048th, and so on) may be the order of their columns instead: the column's number takes the place of the last bits,
    and so one quick sort of integers gives order and value at once.

    Parameters
    ----------
    values : float32 [scorers, b, m]
        Each scorer's value of each candidate, not negative; 0 in places that are not taken.
    popularity : float32 [items, 2 · half-lives]
        :func:`popularity_forms`.
    places : int32 [b, m]
        Of the candidates in ``popularity``.
    counts : float32 [b, m]
        Clicks of the candidates in all.
    formed : int64 [k]
        The scorers whose log and rank are wanted, positions in :data:`SCORERS`; those of the others are 0.
    rested : float32 [b, m], optional
        How long ago each user has last clicked the candidate himself, 0 … 1, and 0 of what he never has; 0 not given.

    Returns
    -------
    float32 [b, features, m]
    """
    _, b, m = values.shape
    made, keys = np.empty((b, len(FEATURES), m), np.float32), np.empty((b, len(formed), m), np.uint32)
    low = np.uint32((1 << (m - 1).bit_length()) - 1)
    spread(values, formed, popularity, places, counts, _POPULARITY, low, made, keys)
    made[:, _OWN_RESTED] = 0 if rested is None else rested
    for scorer in formed.tolist():
        log = made[:, 3 * scorer + 1]
        np.log(log, out=log)  # vectorised, which log1p is not; the third comes with the ranks
    keys.sort(axis=2)
    np.log(made[:, -2], out=made[:, -2])
    np.exp(made[:, -1], out=made[:, -1])
    rank(keys, formed, low, _RANKS if m <= len(_RANKS) else _ranks(m), _TEXT, _TEXT_NEW, made)
    return made


def log_form(ratio: NDArray[np.float32]) -> NDArray[np.float32]:
    """log(1 + 1000 · ratio) / 3."""
    log: NDArray[np.float32] = np.log(ratio * np.float32(1000) + np.float32(1)) * np.float32(1 / 3)
    return log
