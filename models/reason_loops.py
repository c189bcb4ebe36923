"""Compiled loops for :mod:`models.reasons`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, reordering
from models.item_rows import Table

_BITS = 4_095


@compiled
def between(
    table: Table, rows: NDArray[np.int64], weights: NDArray[np.float32], targets: NDArray[np.int64]
) -> NDArray[np.float32]:
    """What each click of a user gives to each of some items, float32 [b, t, K].

    Parameters
    ----------
    rows, weights : int64, float32 [b, K]
        The clicks, and how much each counts; 0 past a user's last.
    targets : int64 [b, t]
    """
    b, t = targets.shape
    made = np.zeros((b, t, rows.shape[1]), np.float32)
    maybe = np.zeros(_BITS + 1, np.uint8)  # whether a target ends on these bits: one entry in 400 is looked at
    places = np.zeros(table.ids.shape[1] + 1, np.int32)
    for user in range(b):
        for target in range(t):
            maybe[targets[user, target] & _BITS] = 1
        for m in range(rows.shape[1]):
            row, weight, count = rows[user, m], weights[user, m], 0
            for e in range(table.sizes[row] if weight != 0 else 0):
                places[count] = e
                count += maybe[np.uint32(table.ids[row, e]) & np.uint32(_BITS)]
            for place in range(count):
                e = places[place]
                for target in range(t):
                    if targets[user, target] == table.ids[row, e]:
                        made[user, target, m] += weight * table.weights[row, e]
        for target in range(t):
            maybe[targets[user, target] & _BITS] = 0
    return made


@compiled
def shared(
    co: NDArray[np.float32], linear: NDArray[np.float32], co_part: NDArray[np.float32],
    linear_part: NDArray[np.float32], told: NDArray[np.bool_],
) -> NDArray[np.float32]:  # fmt: skip
    """Each click's share of what co and the linear part add to an item, float32 [b, t, K]; 0 where it is not ``told``.

    Nothing where a part speaks against the item.

    Parameters
    ----------
    co, linear : float32 [b, t, K]
        What each click gives: :func:`between`.
    co_part, linear_part : float32 [b, t]
    told : bool [b, t]
    """
    made = np.zeros(co.shape, np.float32)
    for user in range(co.shape[0]):
        for target in range(co.shape[1]):
            if told[user, target]:
                for gains, part in ((co, co_part[user, target]), (linear, linear_part[user, target])):
                    given = gains[user, target]
                    if part > 0:
                        share = part / max(given.sum(), np.float32(1e-9))
                        for m in range(len(given)):
                            made[user, target, m] += given[m] * share
    return made


@compiled
def strongest(gains: NDArray[np.float32], rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The clicks that give the most, int64 [b, t, most], the strongest first; -1 where fewer give anything.

    The same item twice in a history is one cause.

    Parameters
    ----------
    gains : float32 [b, t, K]
        Of each click; those that are named are set to 0.
    rows : int64 [b, K]
    """
    b, t, _ = gains.shape
    made = np.full((b, t, most), -1)
    for user in range(b):
        for target in range(t):
            named = 0
            for _ in range(most):
                click = gains[user, target].argmax()
                if gains[user, target, click] <= 0:
                    break
                gains[user, target, click] = 0
                row, fresh = rows[user, click], True
                for i in range(named):
                    fresh = fresh and made[user, target, i] != row
                if fresh:
                    made[user, target, named] = row
                    named += 1
    return made


@reordering
def draw_near(
    vectors: NDArray[np.float32], mean: NDArray[np.float32], scale: NDArray[np.float32], users: NDArray[np.float32],
    rows: NDArray[np.int64], decay: NDArray[np.float32], targets: NDArray[np.int64], wanted: NDArray[np.bool_],
    gains: NDArray[np.float32],
) -> None:  # fmt: skip
    """How much each click draws its user's vector towards those targets that are ``wanted``; the others stay.

    (v_j·q − (u·q)(v_j·u)) · decay, for a click j and a target q: see :func:`~models.reasons.because`.

    Parameters
    ----------
    vectors, mean, scale : float32 [items, d], [d], [items]
        An item's centred vector is (vector − mean) · scale.
    users : float32 [b, d]
    rows, decay : int64, float32 [b, K]
    targets, wanted : int64, bool [b, t]
    gains : float32 [b, t, K]
    """
    d = len(mean)
    beyond = np.empty(d, np.float32)  # q − (u·q) u
    for user in range(len(rows)):
        own = users[user]
        for t in range(targets.shape[1]):
            if not wanted[user, t]:
                continue
            target = targets[user, t]
            near, of_mean = np.float32(0), np.float32(0)
            for i in range(d):
                beyond[i] = (vectors[target, i] - mean[i]) * scale[target]
                near += beyond[i] * own[i]
            for i in range(d):
                beyond[i] -= near * own[i]
                of_mean += beyond[i] * mean[i]
            for m in range(rows.shape[1]):
                row, drawn = rows[user, m], np.float32(0)
                for i in range(d):
                    drawn += vectors[row, i] * beyond[i]
                gains[user, t, m] = (drawn - of_mean) * scale[row] * decay[user, m]
