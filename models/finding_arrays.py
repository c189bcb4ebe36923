"""What the compiled search for candidates (:mod:`models.finding`) is given, works on, and gives back."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.item_rows import Table

LINE: Final = 16
"""Entries of a table in a line of the processor's cache."""


class Tables(NamedTuple):
    """What speaks for items, click by click."""

    co: Table
    linear: Table
    like: Table


class Clicks(NamedTuple):
    """Users' last clicks, newest first, and how much each counts with each scorer; 0 past a user's last.

    Attributes
    ----------
    rows : int64 [b, K]
    co, linear, like : float32 [b, K]
    recent : float32 [b, ≤ K]
        Of the newest.
    """

    rows: NDArray[np.int64]
    co: NDArray[np.float32]
    recent: NDArray[np.float32]
    linear: NDArray[np.float32]
    like: NDArray[np.float32]


class Sources(NamedTuple):
    """What candidates come from beside the users' clicks.

    Attributes
    ----------
    cosines : float32 [b, n] or [b, 0]
        Of every item with each user; empty where the nearest are found by an index.
    near : int64 [b, k]
        The nearest, in any order, -1 where there are fewer.
    own : int64 [b, k]
        What the user has chosen himself and may choose again, in any order, -1 where there is less.
    tops : int64 [layers, k]
        Top items of layers, the root's last; -1 where there are fewer.
    layers, weights : int64, float32 [b, 3]
        In which ones a user is (-1: the root), where ``weights`` are above 0.
    everybody : int64 [k]
        Looked at for everybody.
    spare : int64 [k]
        What fills up a short list, best first; then the newest do.
    new : int64 [f]
        New items.
    new_near : float32 [b, f]
        Their cosines, looked at where ``cosines`` are empty.
    """

    cosines: NDArray[np.float32]
    near: NDArray[np.int64]
    own: NDArray[np.int64]
    tops: NDArray[np.int64]
    layers: NDArray[np.int64]
    weights: NDArray[np.float32]
    everybody: NDArray[np.int64]
    spare: NDArray[np.int64]
    new: NDArray[np.int64]
    new_near: NDArray[np.float32]


class Quota(NamedTuple):
    """How many candidates each source gives, about."""

    text: int
    like: int
    co: int
    linear: int
    layer: int
    popular: int
    new: int


class Borrowed(NamedTuple):
    """What new items are near to: see :class:`~models.cotext.NewItems`."""

    place: NDArray[np.int32]
    near: NDArray[np.int32]
    weights: NDArray[np.float32]


class Scratch(NamedTuple):
    """Working memory, kept between calls; all of ``sums`` is 0 then.

    Attributes
    ----------
    state : uint8 [n]
        Whether an item may not be a candidate, or is one.
    sums : float32 [4, n]
        What co, recent, linear, like say of an item.
    touched : int32 [4, slots]
        The items that each (recent: as co) says something of.
    values, items : float32, int32 [max(n, slots) + 1]
    """

    state: NDArray[np.uint8]
    sums: NDArray[np.float32]
    touched: NDArray[np.int32]
    values: NDArray[np.float32]
    items: NDArray[np.int32]

    @classmethod
    def empty(cls, n: int, slots: int) -> Scratch:
        """For so many items, where fewer than ``slots`` entries of a table speak for a user's clicks."""
        listed = max(n, slots) + 1
        return cls(
            np.zeros(n, np.uint8),
            np.zeros((4, n), np.float32),
            np.zeros((4, slots), np.int32),
            np.zeros(listed, np.float32),
            np.zeros(listed, np.int32),
        )


class Found(NamedTuple):
    """Candidates, as many columns as there can be at most (of rows one more); from ``counts`` on is anything.

    Attributes
    ----------
    counts : int64 [b]
    rows : int64 [b, most + 1]
    co, recent, linear, like, cotext : float32 [b, most]
        co and recent damped.
    text : float32 [b, most]
        Only where ``cosines`` are given.
    """

    counts: NDArray[np.int64]
    rows: NDArray[np.int64]
    co: NDArray[np.float32]
    recent: NDArray[np.float32]
    linear: NDArray[np.float32]
    text: NDArray[np.float32]
    like: NDArray[np.float32]
    cotext: NDArray[np.float32]

    @classmethod
    def empty(cls, b: int, most: int) -> Found:
        """For so many users, with room for so many candidates each."""
        return cls(np.empty(b, np.int64), np.empty((b, most + 1), np.int64), *np.empty((6, b, most), np.float32))
