"""A candidate as a row of features: what the scorers say of it, in forms that a linear ranker can weigh.

Per scorer three features (design §7)::

    ratio = value / max        log = log(1 + 1000 · value / max) / 3        rank = 1 / (1 + rank / 5)

``log`` is the design's log(value / max + .001) / 3 but for a constant, which no ranking sees: so that a scorer that
is silent adds nothing, and the parts of a reason are what each scorer *adds*. Text of an item that has few clicks
enters once more, weighted with exp(−clicks / 5): a gate through which new items come in. Popularity
goes without its rank.

What was tried beside these and left out, since it added nothing beyond its error (HR@10 after 30 % of
MovieLens-100k, of its copy with mostly new users, and of 60,000 clicks of Online Retail): co with the popularity
exponent .3 (−.001, .000, .000), ranks of popularity (−.000, .000, −.000), the age of an item (.000, .000, .000), and
directed counts of what follows the last three clicks (+.0007, −.0015, +.0004), which the newest clicks' co replaces.
The layers' counts at half-lives of 300 and 3,000 clicks beside 10,000, where the layers weigh at all: +.0003 ± .0007
and +.0008 ± .0006 (MovieLens-100k and the first 100,000 clicks of Online Retail, each with mostly new users).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.popularity import HALF_LIVES

SCORERS: Final = ("co", "co.short", "text", "text.like", "layer", "sequence", "linear")
"""Scorers of a user and an item: co, co of the newest clicks (each counts .6 of the next newer), text by the user's
vector, text by single clicks (:mod:`models.likeness`), layers, the deep part (:mod:`models.sequence`) and the linear
one (:mod:`models.linear`)."""

FORMS: Final = ("ratio", "log", "rank")

FEATURES: Final = (
    *(f"{scorer}.{form}" for scorer in SCORERS for form in FORMS),
    "text.new",
    *(f"popularity.{half:.0f}.{form}" for half in HALF_LIVES for form in FORMS[:2]),
    "item.log_count",
    "item.new",
)

PARTS: Final = ("co", "text", "layer", "sequence", "linear", "popularity", "new")
"""What a reason tells apart; every feature belongs to one."""


OFF: Final = frozenset({"layer"})
"""Parts that weigh nothing unless asked for: the gate of ``ops/bench/QUALITY.md`` has their figures."""


def part_of(feature: str) -> str:
    """The part of a reason that a feature counts towards."""
    if feature == "item.new":
        return "new"
    return {"item": "popularity"}.get(name := feature.split(".")[0], name)


_TEXT, _TEXT_NEW = FEATURES.index("text.ratio"), FEATURES.index("text.new")
_POPULARITY = FEATURES.index(f"popularity.{HALF_LIVES[0]:.0f}.ratio")
_RANKED: Final = 512  # of many candidates

TO_PARTS: Final = np.array([[part_of(feature) == part for part in PARTS] for feature in FEATURES], np.float32)
"""float32 [features, parts]: (features · weights) summed by part."""


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
    log_form(forms[:, :, 0], out=forms[:, :, 1])
    return forms.reshape(len(popularity), -1)


def features_of(
    values: NDArray[np.float32], popularity: NDArray[np.float32], counts: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The features of users' candidates.

    Parameters
    ----------
    values : float32 [scorers, b, m]
        Each scorer's value of each candidate, not negative; 0 in places that are not taken.
    popularity : float32 [b, m, 2 · half-lives]
        :func:`popularity_forms` of the candidates.
    counts : float32 [b, m]
        Clicks of the candidates in all.

    Returns
    -------
    float32 [b, features, m]
    """
    scorers, b, m = values.shape
    made = np.empty((b, len(FEATURES), m), np.float32)
    tops = 1 / np.maximum(values.max(axis=2), 1e-12)
    for s in range(scorers):
        ratio, log, rank = made[:, 3 * s], made[:, 3 * s + 1], made[:, 3 * s + 2]
        np.multiply(values[s], tops[s, :, None], out=ratio)
        log_form(ratio, out=log)
        rank_form(ratio, out=rank)
    made[:, _POPULARITY : _POPULARITY + popularity.shape[2]] = popularity.transpose(0, 2, 1)
    np.log(1 + counts, out=made[:, -2])
    made[:, -2] *= 0.1
    np.exp(counts * np.float32(-0.2), out=made[:, -1])
    np.multiply(made[:, _TEXT], made[:, -1], out=made[:, _TEXT_NEW])
    return made


def log_form(ratio: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """log(1 + 1000 · ratio) / 3."""
    np.multiply(ratio, 1000, out=out)
    out += 1
    np.log(out, out=out)  # vectorised, which log1p is not
    out *= 1 / 3


def rank_form(ratio: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """1 / (1 + rank / 5) along the last axis of [b, m], the largest has rank 0; 0 where the scorer is silent (ratio 0).

    Two ratios that are within a 4,096th of one another may stand in the order of their columns instead: the column's
    number takes the place of the last bits, and so one quick sort of integers gives order and value at once. Of more
    than 2,048 columns only the first 512 are ranked, the others count as silent (theirs would be under .01).
    """
    m = ratio.shape[1]
    places = (1 / (1 + np.arange(m, dtype=np.float32) / 5)).astype(np.float32)[::-1]
    bits = max(1, (m - 1).bit_length())
    if bits > 11:
        order = np.argpartition(ratio, m - _RANKED, axis=1)[:, m - _RANKED :]
        order = np.take_along_axis(order, np.take_along_axis(ratio, order, axis=1).argsort(axis=1), axis=1)
    else:
        low = np.uint32((1 << bits) - 1)
        keys = (ratio.view(np.uint32) & ~low) | np.arange(m, dtype=np.uint32)
        keys.sort(axis=1)
        order = (keys & low).astype(np.int64)
    ranked = np.zeros(ratio.size, np.float32)
    order += np.arange(0, ratio.size, m)[:, None]
    ranked[order.ravel()] = np.tile(places[m - order.shape[1] :], len(order))
    np.multiply(ranked.reshape(ratio.shape), ratio > 0, out=out)
