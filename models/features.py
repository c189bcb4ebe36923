"""A candidate as a row of features: what the scorers say of it, in forms that a linear ranker can weigh.

Per scorer three features (design §7)::

    ratio = value / max        log = log(1 + 1000 · value / max) / 3        rank = 1 / (1 + rank / 5)

``log`` is the design's log(value / max + .001) / 3 but for a constant, which no ranking sees: so that a scorer that
is silent adds nothing, and the parts of a reason are what each scorer *adds*. Text of an item that has few clicks
enters once more, weighted with exp(−clicks / 5): a gate through which new items come in.

Features fall into those of a user and a candidate (:data:`PERSONAL`) and those of the item alone (:data:`SHARED`),
which are worked out once for all users.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.popularity import HALF_LIVES

SCORERS: Final = ("co", "co.3", "text", "layer")
"""Scorers of a user and an item: co with popularity exponents .5 and .3, text, layers."""

_RANKED: Final = 512

FORMS: Final = ("ratio", "log", "rank")

PERSONAL: Final = (*(f"{scorer}.{form}" for scorer in SCORERS for form in FORMS), "text.new")
SHARED: Final = (
    *(f"popularity.{half:.0f}.{form}" for half in HALF_LIVES for form in FORMS),
    "item.log_count",
    "item.new",
)
FEATURES: Final = PERSONAL + SHARED

PARTS: Final = ("co", "text", "layer", "popularity", "new")
"""What a reason tells apart; every feature belongs to one."""


def part_of(feature: str) -> str:
    """The part of a reason that a feature counts towards."""
    if feature == "item.new":
        return "new"
    return {"item": "popularity"}.get(name := feature.split(".")[0], name)


TO_PARTS: Final = np.array([[part_of(feature) == part for part in PARTS] for feature in FEATURES], np.float32)
"""float32 [features, parts]: (features · weights) summed by part."""


def personal(values: NDArray[np.float32], new: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features of users and their candidates.

    Parameters
    ----------
    values : float32 [scorers, b, m]
        Each scorer's value of each candidate, not negative; 0 in places that are not taken.
    new : float32 [b, m]
        exp(−clicks / 5) of the candidate.

    Returns
    -------
    float32 [b, len(PERSONAL), m]
    """
    scorers, b, m = values.shape
    made = np.empty((b, len(PERSONAL), m), np.float32)
    tops = 1 / np.maximum(values.max(axis=2), 1e-12)
    for s in range(scorers):
        ratio, log, rank = made[:, 3 * s], made[:, 3 * s + 1], made[:, 3 * s + 2]
        np.multiply(values[s], tops[s, :, None], out=ratio)
        log_form(ratio, out=log)
        rank_form(ratio, out=rank)
    np.multiply(made[:, 3 * SCORERS.index("text")], new, out=made[:, -1])
    return made


def shared(popularity: NDArray[np.float32], counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features of the items alone.

    Parameters
    ----------
    popularity : float32 [n, half-lives]
        Decayed counts.
    counts : float32 [n]
        Clicks in all.

    Returns
    -------
    float32 [len(SHARED), n]
    """
    made = np.empty((len(SHARED), len(counts)), np.float32)
    for h in range(popularity.shape[1]):
        ratio, log, rank = made[3 * h : 3 * h + 3]
        column = popularity[:, h]
        np.divide(column, max(float(column.max(initial=0)), 1e-12), out=ratio)
        log_form(ratio, out=log)
        rank_form(ratio[None], out=rank[None])
    made[-2] = np.log1p(counts) / 10
    made[-1] = np.exp(counts / -5)
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
        out[:] = 0
    else:
        low = np.uint32((1 << bits) - 1)
        keys = (ratio.view(np.uint32) & ~low) | np.arange(m, dtype=np.uint32)
        keys.sort(axis=1)
        order = (keys & low).astype(np.int64)
    np.put_along_axis(out, order, np.broadcast_to(places[m - order.shape[1] :], order.shape), axis=1)
    out *= ratio > 0
