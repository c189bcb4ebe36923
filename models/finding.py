"""The compiled loop that finds users' candidates: one user at a time, so that what he touches stays in the cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.finding_arrays import Borrowed, Clicks, Found, Quota, Scratch, Sources, Tables
from models.item_rows import Table

CO, RECENT, LINEAR, LIKE = range(4)
_WITHHELD, _TAKEN = 1, 2  # bits of an item's state
_LINE = 16  # entries in a line of the processor's cache
_STRIDE = 8  # what is near by text is told by every 8th item: some 80 are wanted, not exactly 80


@compiled
def _sum_up(clicks: Clicks, user: int, tables: Tables, scratch: Scratch) -> tuple[int, int, int]:
    """What a user's clicks say of items.

    Returns how many items are touched by what the clicks read like, by that or the linear part, and in all.
    """
    slot, touched, sums = scratch.slot, scratch.touched, scratch.sums
    said = 0
    while said < clicks.rows.shape[1] and clicks.like[user, said] != 0:
        said += 1
    rows = clicks.rows[user, :said]
    like = _add(tables.like, rows, clicks.like[user], sums[LIKE], slot, touched, 0)
    linear = _add(tables.linear, rows, clicks.linear[user], sums[LINEAR], slot, touched, like)
    newest = min(said, clicks.recent.shape[1])
    count = _add_twice(tables.co, rows[:newest], clicks.co[user], clicks.recent[user], sums, slot, touched, linear)
    return like, linear, _add(tables.co, rows[newest:], clicks.co[user, newest:], sums[CO], slot, touched, count)


@compiled
def _add(
    table: Table, rows: NDArray[np.int64], clicked: NDArray[np.float32], sums: NDArray[np.float32],
    slot: NDArray[np.int32], touched: NDArray[np.int32], count: int,
) -> int:  # fmt: skip
    """Add the clicks' entries to the sums; returns how many items are touched by then.

    Whether an item was touched before cannot be predicted, and a wrong guess costs as much as all the rest: so without
    a branch.
    """
    for m in range(len(rows)):  # so that the rows come in from memory side by side, not one after the other
        for e in range(0, table.sizes[rows[m]], _LINE):
            touched[0] += table.ids[rows[m], e] + np.int32(table.weights[rows[m], e])
    for m in range(len(rows)):
        ids, weights, weight = table.ids[rows[m]], table.weights[rows[m]], clicked[m]
        for e in range(table.sizes[rows[m]]):
            item = ids[e]
            at = slot[item]
            count += at == 0
            at = at if at else count  # noqa: FURB110 (`or` is compiled to a branch)
            slot[item] = at
            touched[at] = item
            sums[at] += weight * weights[e]
    return count


@compiled
def _add_twice(
    co: Table, rows: NDArray[np.int64], clicked: NDArray[np.float32], recent: NDArray[np.float32],
    sums: NDArray[np.float32], slot: NDArray[np.int32], touched: NDArray[np.int32], count: int,
) -> int:  # fmt: skip
    """The same for co and for recent at once."""
    by_all, by_newest = sums[CO], sums[RECENT]
    for m in range(len(rows)):
        ids, weights, weight, lately = co.ids[rows[m]], co.weights[rows[m]], clicked[m], recent[m]
        for e in range(co.sizes[rows[m]]):
            item = ids[e]
            at = slot[item]
            count += at == 0
            at = at if at else count  # noqa: FURB110 (`or` is compiled to a branch)
            slot[item] = at
            touched[at] = item
            by_all[at] += weight * weights[e]
            by_newest[at] += lately * weights[e]
    return count


@compiled
def _take(item: int, rows: NDArray[np.int64], k: int, state: NDArray[np.uint8]) -> int:
    """Make an item a candidate, unless it is one or may not be; returns how many there are by then.

    Nor where there is no room, which there is for all quotas together: nothing else checks what is written here, and
    of values that are infinite (a record may hold anything) more are the largest than were wanted.
    """
    if state[item] == 0 and k < len(rows):
        state[item] = _TAKEN
        rows[k] = item
        k += 1
    return k


@compiled
def _least(values: NDArray[np.float32], most: int) -> np.float32:
    """The least of the ``most`` largest, of positive values that are more.

    Their bits order as they do, and to count those above a bound takes one instruction for each sixteen.
    """
    bits = values.view(np.int32)
    low, high = np.int32(0), np.int32(0x7F800000)  # as many or more are ≥ low, fewer are ≥ high
    while high - low > 1:
        bound, above = np.int32(low + (high - low) // 2), np.int32(0)
        for i in range(len(bits)):
            above += np.int32(bits[i] >= bound)
        if above >= most:
            low = bound
        else:
            high = bound
        if above == most:
            break
    least: np.float32 = np.array([low]).view(np.float32)[0]
    return least


@compiled
def _take_largest(
    values: NDArray[np.float32], items: NDArray[np.int32], most: int, rows: NDArray[np.int64], k: int,
    state: NDArray[np.uint8],
) -> int:  # fmt: skip
    """Take the items of the ``most`` largest values, which it may move; of equals the first."""
    if len(values) > 4 * most:
        # a sample says roughly where the bound is: what lies well below is left out first
        values, items = _narrowed(values, items, most)
    bound = _least(values, most) if len(values) > most else np.float32(0)
    equal = most
    for i in range(len(values)):
        equal -= values[i] > bound
    for i in range(len(values)):
        if values[i] >= bound and (values[i] > bound or equal > 0):
            equal -= values[i] == bound
            k = _take(items[i], rows, k, state)
    return k


@compiled
def _narrowed(
    values: NDArray[np.float32], items: NDArray[np.int32], most: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The larger ones of the values, ``most`` or more, moved to the front."""
    sample = values[::_STRIDE].copy()
    bound, kept = _least(sample, 2 * most // _STRIDE + 1), 0
    for i in range(len(values)):
        kept += values[i] >= bound
    if kept < most:
        return values, items
    kept = 0
    for i in range(len(values)):
        value, item = values[i], items[i]
        values[kept], items[kept] = value, item
        kept += value >= bound
    return values[:kept], items[:kept]


@compiled
def _damping(effective: np.float32) -> np.float32:
    damping: np.float32 = np.float32(1) / np.sqrt(effective + np.float32(1))
    return damping


@compiled
def _take_said(
    column: int, count: int, most: int, effective: NDArray[np.float32], scratch: Scratch,
    rows: NDArray[np.int64], k: int,
) -> int:  # fmt: skip
    """Take what a scorer says most of among the first ``count`` items that the clicks touch."""
    state, touched, sums = scratch.state, scratch.touched, scratch.sums[column]
    values, items = scratch.values, scratch.items
    c = 0
    for i in range(1, count + 1):
        values[c], items[c] = sums[i], touched[i]
        c += (sums[i] > 0) & (state[touched[i]] & _WITHHELD == 0)
    if column == CO:
        for i in range(c):
            values[i] *= _damping(effective[items[i]])
    return _take_largest(values[:c], items[:c], most, rows, k, state)


@compiled
def _take_near(cosines: NDArray[np.float32], wanted: int, scratch: Scratch, rows: NDArray[np.int64], k: int) -> int:
    """Take what is near by text, about as many as the quota says; where more are equally near, twice as many."""
    state, values, items = scratch.state, scratch.values, scratch.items
    n, c = len(cosines), 0
    for i in range(0, n, _STRIDE):
        values[c] = cosines[i]
        c += (cosines[i] > 0) & (state[i] & _WITHHELD == 0)
    most = wanted // _STRIDE + 1
    bound = _least(values[:c], most) if c > most and n > wanted else np.float32(1e-6)
    c = 0
    for start in range(0, n, _LINE):
        some = cosines[start : start + _LINE]
        near = 0
        for i in range(len(some)):  # of most lines none is: they are passed over in an instruction or two
            near += some[i] >= bound
        for i in range(len(some) if near else 0):
            items[c] = start + i
            c += some[i] >= bound
    end = k + 2 * wanted
    for i in range(c):
        if k < end:
            k = _take(items[i], rows, k, state)
    return k


@compiled
def _take_new(
    user: int, effective: NDArray[np.float32], sources: Sources, most: int, scratch: Scratch,
    rows: NDArray[np.int64], k: int,
) -> int:  # fmt: skip
    """Take new items: half those that co says most of, half those that read most like his clicks."""
    slot, state, co = scratch.slot, scratch.state, scratch.sums[CO]
    values, items = scratch.values, scratch.items
    for by_text in (False, True):
        c = 0
        for i in range(len(sources.new)):
            item = sources.new[i]
            value = sources.new_near[user, i] if by_text else co[slot[item]] * _damping(effective[item])
            values[c], items[c] = value, item
            c += (value > 0) & (state[item] & _WITHHELD == 0)
        k = _take_largest(values[:c], items[:c], most, rows, k, state)
    return k


@compiled
def _fill(
    spare: NDArray[np.int64], n: int, fewest: int, rows: NDArray[np.int64], k: int, state: NDArray[np.uint8]
) -> int:  # fmt: skip
    """A list is never short while anything may be offered: what is popular, then what is newest."""
    for item in spare:
        if k >= fewest:
            break
        k = _take(item, rows, k, state)
    for item in range(n - 1, -1, -1):
        if k >= fewest:
            break
        k = _take(item, rows, k, state)
    return k


@compiled
def _say(user: int, k: int, effective: NDArray[np.float32], borrowed: Borrowed, scratch: Scratch, found: Found) -> None:
    """What is said of a user's candidates."""
    slot, sums = scratch.slot, scratch.sums
    for i in range(k):
        item = found.rows[user, i]
        damping, at = _damping(effective[item]), slot[item]
        found.co[user, i] = sums[CO, at] * damping
        found.recent[user, i] = sums[RECENT, at] * damping
        found.linear[user, i] = max(sums[LINEAR, at], np.float32(0))
        found.like[user, i] = sums[LIKE, at]
    for i in range(k if len(borrowed.place) else 0):
        place = borrowed.place[found.rows[user, i]]
        if place >= 0:
            total = np.float32(0)
            for e in range(borrowed.near.shape[1]):
                near = borrowed.near[place, e]
                total += borrowed.weights[place, e] * (sums[CO, slot[near]] * _damping(effective[near]))
            found.cotext[user, i] = total


@compiled
def find(
    clicks: Clicks, tables: Tables, effective: NDArray[np.float32], sources: Sources, quota: Quota,
    seen: NDArray[np.int64], starts: NDArray[np.int64], offered: NDArray[np.bool_], fewest: int, borrowed: Borrowed,
    scratch: Scratch, found: Found,
) -> None:  # fmt: skip
    """Fill ``found``.

    Parameters
    ----------
    effective : float32 [≥ n]
        n_q of the damping 1 / √(n_q + 1).
    seen, starts : int64
        Rows that may not be offered to a user, user by user, and where each begins.
    offered : bool [n]
    fewest
        A user who has fewer candidates is given ``spare`` items, then the newest.
    """
    slot, state, touched, sums = scratch.slot, scratch.state, scratch.touched, scratch.sums
    for item in range(len(offered)):
        state[item] = not offered[item]
    for user in range(len(clicks.rows)):
        like, linear, count = _sum_up(clicks, user, tables, scratch)
        mine = seen[starts[user] : starts[user + 1]]
        for item in mine:
            state[item] = _WITHHELD
        rows, k = found.rows[user], 0
        if sources.cosines.shape[1]:
            k = _take_near(sources.cosines[user], quota.text, scratch, rows, k)
        for item in sources.near[user]:
            if item >= 0:
                k = _take(item, rows, k, state)
        k = _take_said(CO, count, quota.co, effective, scratch, rows, k)
        k = _take_said(LINEAR, linear, quota.linear, effective, scratch, rows, k)
        k = _take_said(LIKE, like, quota.like, effective, scratch, rows, k)
        for i in range(sources.layers.shape[1]):
            if sources.weights[user, i] > 0:
                for item in sources.tops[sources.layers[user, i]]:
                    if item >= 0:
                        k = _take(item, rows, k, state)
        for item in sources.everybody:
            k = _take(item, rows, k, state)
        k = _take_new(user, effective, sources, quota.new // 2, scratch, rows, k)
        k = _fill(sources.spare, len(offered), fewest, rows, k, state)
        found.counts[user] = k
        _say(user, k, effective, borrowed, scratch, found)
        if sources.cosines.shape[1]:
            for i in range(k):
                found.text[user, i] = max(sources.cosines[user, rows[i]], np.float32(0))
        for i in range(k):
            state[rows[i]] = 0
        for item in mine:
            state[item] = not offered[item]
        for i in range(1, count + 1):
            slot[touched[i]] = 0
        for column in range(len(sums)):
            sums[column, : count + 1] = 0
