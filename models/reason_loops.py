"""Compiled loops for :mod:`models.reasons`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, reordering
from models.finding_arrays import LINE, Clicks, Tables
from models.item_rows import Table

_BITS = 4_095


class Vectors(NamedTuple):
    """Items' vectors.

    Attributes
    ----------
    vectors, mean, scale : float32 [items, d], [d], [items]
        An item's centred vector is (vector − mean) · scale.
    """

    vectors: NDArray[np.float32]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]


class Told(NamedTuple):
    """What is told of the parts of a score.

    Attributes
    ----------
    parts
        How many of them count.
    co, text, linear
        Which ones these are.
    share, tiny
        Of all that raises an item, and at the least, from which on a part is told.
    """

    parts: int
    co: int
    text: int
    linear: int
    share: float
    tiny: float


@compiled
def causes_of(
    tables: Tables, clicks: Clicks, items: Vectors, users: NDArray[np.float32], picked: NDArray[np.int64],
    parts: NDArray[np.float32], of: Told, most: int,
) -> NDArray[np.int64]:  # fmt: skip
    """The clicks that raise users' items: see :func:`~models.reasons.because`.

    Parameters
    ----------
    users : float32 [b, d]
        Their vectors.
    picked : int64 [b, t]
    parts : float32 [b, t, parts]
        What each part adds.
    most
        Clicks that are named.

    Returns
    -------
    int64 [b, t, most]
        The rows of the clicks, the strongest first; -1 where there are fewer.
    """
    b, t = picked.shape
    k = clicks.rows.shape[1]
    made = np.full((b, t, most), -1)
    co, linear, gains = np.zeros((3, t, k), np.float32)
    together, by_text = np.empty(t, np.bool_), np.empty(t, np.bool_)
    maybe = np.zeros(_BITS + 1, np.uint8)
    places = np.zeros(max(tables.co.ids.shape[1], tables.linear.ids.shape[1], tables.like.ids.shape[1]) + 1, np.int32)
    for user in range(b):
        rows, decay, targets = clicks.rows[user], clicks.like[user], picked[user]
        some = False
        for target in range(t):
            raised = np.float32(0)
            for part in range(of.parts):
                raised += max(parts[user, target, part], np.float32(0))
            least = max(np.float32(of.share) * raised, np.float32(of.tiny))
            said = max(parts[user, target, of.co], np.float32(0)) + max(parts[user, target, of.linear], np.float32(0))
            together[target] = said >= least
            by_text[target] = not together[target] and parts[user, target, of.text] >= least
            some = some or by_text[target]
        for target in targets:
            maybe[target & _BITS] = 1
        for m in range(k):
            for table in (tables.co, tables.linear):  # so that the rows come in from memory side by side
                for e in range(0, table.sizes[rows[m]] if decay[m] != 0 else 0, LINE):
                    places[0] += table.ids[rows[m], e]
        between(tables.co, rows, clicks.co[user], targets, maybe, places, co)
        between(tables.linear, rows, clicks.linear[user], targets, maybe, places, linear)
        if some:
            between(tables.like, rows, decay, targets, maybe, places, gains)
        for target in targets:
            maybe[target & _BITS] = 0
        for target in range(t):
            own = gains[target]
            if by_text[target]:
                if not own.any():
                    _draw_near(items, users[user], rows, decay, targets[target], own)
            else:
                own[:] = 0
            if together[target]:
                _share(co[target], parts[user, target, of.co], own)
                _share(linear[target], parts[user, target, of.linear], own)
            _name(own, rows, made[user, target])
    return made


@compiled
def between(
    table: Table, rows: NDArray[np.int64], weights: NDArray[np.float32], targets: NDArray[np.int64],
    maybe: NDArray[np.uint8], places: NDArray[np.int32], made: NDArray[np.float32],
) -> None:  # fmt: skip
    """What each click of a user gives to each of some items.

    Parameters
    ----------
    rows, weights : int64, float32 [K]
        The clicks, and how much each counts; 0 past the last.
    targets : int64 [t]
    maybe : uint8 [4096]
        Whether a target ends on these bits: one entry in 400 is looked at.
    places : int32 [≥ entries of a row + 1]
        Working memory.
    made : float32 [t, K]
        Is written over.
    """
    made[:] = 0
    for m in range(len(rows)):
        row, weight, count = rows[m], weights[m], 0
        for e in range(table.sizes[row] if weight != 0 else 0):
            places[count] = e
            count += maybe[np.uint32(table.ids[row, e]) & np.uint32(_BITS)]
        for place in range(count):
            e = places[place]
            for target in range(len(targets)):
                if targets[target] == table.ids[row, e]:
                    made[target, m] += weight * table.weights[row, e]


@compiled
def _share(given: NDArray[np.float32], part: np.float32, gains: NDArray[np.float32]) -> None:
    """Add each click's share of what a part adds to an item; nothing where the part speaks against it."""
    if part > 0:
        share = part / max(given.sum(), np.float32(1e-9))
        for m in range(len(given)):
            gains[m] += given[m] * share


@compiled
def _name(gains: NDArray[np.float32], rows: NDArray[np.int64], named: NDArray[np.int64]) -> None:
    """The clicks that give the most, the strongest first. The same item twice in a history is one cause.

    Parameters
    ----------
    gains : float32 [K]
        Of each click; those that are named are set to 0.
    rows : int64 [K]
    named : int64 [most]
        Stays as it is where fewer give anything.
    """
    count = 0
    for _ in range(len(named)):
        click = gains.argmax()
        if gains[click] <= 0:
            break
        gains[click] = 0
        row, fresh = rows[click], True
        for i in range(count):
            fresh = fresh and named[i] != row
        if fresh:
            named[count] = row
            count += 1


@reordering
def _draw_near(
    items: Vectors, user: NDArray[np.float32], rows: NDArray[np.int64], decay: NDArray[np.float32], target: int,
    gains: NDArray[np.float32],
) -> None:  # fmt: skip
    """How much each click draws its user's vector towards an item.

    (v_j·q − (u·q)(v_j·u)) · decay, for a click j and a target q: see :func:`~models.reasons.because`.

    Parameters
    ----------
    user : float32 [d]
    rows, decay : int64, float32 [K]
    gains : float32 [K]
    """
    d = len(items.mean)
    beyond = np.empty(d, np.float32)  # q − (u·q) u
    near, of_mean = np.float32(0), np.float32(0)
    for i in range(d):
        beyond[i] = (items.vectors[target, i] - items.mean[i]) * items.scale[target]
        near += beyond[i] * user[i]
    for i in range(d):
        beyond[i] -= near * user[i]
        of_mean += beyond[i] * items.mean[i]
    for m in range(len(rows)):
        row, drawn = rows[m], np.float32(0)
        for i in range(d):
            drawn += items.vectors[row, i] * beyond[i]
        gains[m] = (drawn - of_mean) * items.scale[row] * decay[m]
