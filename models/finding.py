"""The compiled loop that finds users' candidates: one user at a time, so that what he touches stays in the cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.finding_arrays import LINE, Borrowed, Clicks, Found, Quota, Scratch, Sources, Tables
from models.item_rows import Table

CO, RECENT, LINEAR, LIKE = range(4)
_WITHHELD, _TAKEN = 1, 2  # bits of an item's state
_TINY = float(np.nextafter(np.float32(0), np.float32(1)))  # the least that can be said of an item
_STRIDE = 8  # a sample is every 8th item: of what is near by text some 80 are wanted, not exactly 80

# Items are numbered without a sign where they index arrays here: no index below 0 is looked for from the end then.


@compiled
def _sum_up(clicks: Clicks, user: int, tables: Tables, scratch: Scratch) -> tuple[int, int, int]:
    """What a user's clicks say of items; how many co, the linear part and what reads like them have touched."""
    touched, sums = scratch.touched, scratch.sums
    said = 0
    while said < clicks.rows.shape[1] and clicks.like[user, said] != 0:
        said += 1
    rows = clicks.rows[user, :said]
    for m in range(said):  # so that the rows come in from memory side by side, not one after the other
        for table in (tables.co, tables.linear, tables.like):
            for e in range(0, table.sizes[rows[m]], LINE):
                touched[0, 0] += table.ids[rows[m], e] + np.int32(table.weights[rows[m], e])
    like = _add(tables.like, rows, clicks.like[user], sums[LIKE], touched[LIKE], 0)
    linear = _add(tables.linear, rows, clicks.linear[user], sums[LINEAR], touched[LINEAR], 0)
    newest = min(said, clicks.recent.shape[1])
    co = _add_twice(tables.co, rows[:newest], clicks.co[user], clicks.recent[user], sums, touched[CO])
    return _add(tables.co, rows[newest:], clicks.co[user, newest:], sums[CO], touched[CO], co), linear, like


@compiled
def _add(
    table: Table, rows: NDArray[np.int64], clicked: NDArray[np.float32], sums: NDArray[np.float32],
    touched: NDArray[np.int32], count: int,
) -> int:  # fmt: skip
    """Add the clicks' entries to the sums; returns how many items are touched by then.

    Whether an item was touched before cannot be predicted, and a wrong guess costs as much as all the rest: so without
    a branch. One whose sum has been 0 in between counts as touched twice.
    """
    for m in range(len(rows)):
        ids, weights, weight = table.ids[rows[m]], table.weights[rows[m]], clicked[m]
        for e in range(table.sizes[rows[m]]):
            item = np.uint32(ids[e])
            before = sums[item]
            touched[count] = item
            count += before == 0
            sums[item] = before + weight * weights[e]
    return count


@compiled
def _add_twice(
    co: Table, rows: NDArray[np.int64], clicked: NDArray[np.float32], recent: NDArray[np.float32],
    sums: NDArray[np.float32], touched: NDArray[np.int32],
) -> int:  # fmt: skip
    """The same for co and for recent at once."""
    by_all, by_newest, count = sums[CO], sums[RECENT], 0
    for m in range(len(rows)):
        ids, weights, weight, lately = co.ids[rows[m]], co.weights[rows[m]], clicked[m], recent[m]
        for e in range(co.sizes[rows[m]]):
            item = np.uint32(ids[e])
            before = by_all[item]
            touched[count] = item
            count += before == 0
            by_all[item] = before + weight * weights[e]
            by_newest[item] += lately * weights[e]
    return count


@compiled
def _take(item: int, rows: NDArray[np.int64], k: int, state: NDArray[np.uint8]) -> int:
    """Make an item a candidate, unless it is one or may not be; returns how many there are by then.

    Nor where there is no room, which there is for all quotas together: nothing else checks what is written here, and
    of values that are infinite (a record may hold anything) more are the largest than were wanted. Without a branch, as
    in :func:`_add`: the place after the last candidate is written on.
    """
    free = (state[item] == 0) & (k < len(rows) - 1)
    rows[k] = item
    state[item] |= _TAKEN * free
    taken: int = k + free
    return taken


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
    """Take the items of the ``most`` largest values, of equals the first; ``items`` is written on."""
    bound = _least(values, most) if len(values) > most else np.float32(0)
    equal, c = most, 0
    for i in range(len(values)):
        equal -= values[i] > bound
    for i in range(len(values)):
        items[c] = items[i]
        c += (values[i] > bound) | ((values[i] == bound) & (equal > 0))
        equal -= values[i] == bound
    for i in range(c):
        k = _take(items[i], rows, k, state)
    return k


@compiled
def _take_said(
    column: int, count: int, most: int, damping: NDArray[np.float32], scratch: Scratch, rows: NDArray[np.int64], k: int
) -> int:
    """Take what a scorer says most of among the ``count`` items that it touches."""
    bound = np.float32(_TINY)
    if count > 4 * most:
        # a sample says roughly where the bound is: what lies well below is left out
        sampled = _said(column, count, _STRIDE, bound, damping, scratch)
        wanted = 2 * most // _STRIDE + 1
        if sampled > wanted:
            bound = _least(scratch.values[:sampled], wanted)
    c = _said(column, count, 1, bound, damping, scratch)
    if c < most and bound > _TINY:
        c = _said(column, count, 1, np.float32(_TINY), damping, scratch)
    return _take_largest(scratch.values[:c], scratch.items[:c], most, rows, k, scratch.state)


@compiled
def _said(column: int, count: int, step: int, bound: np.float32, damping: NDArray[np.float32], scratch: Scratch) -> int:
    """Lay out what a scorer says of each ``step``-th item that it touches, where that is ``bound`` or more."""
    state, touched, sums = scratch.state, scratch.touched[column], scratch.sums[column]
    values, items, c = scratch.values, scratch.items, 0
    for i in range(0, count, step):
        item = np.uint32(touched[i])
        value = sums[item] * damping[item] if column == CO else sums[item]
        values[c], items[c] = value, item
        c += (value >= bound) & (state[item] & _WITHHELD == 0)
    return c


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
    for i in range(n):
        items[c] = i
        c += cosines[i] >= bound
    end = k + 2 * wanted
    for i in range(c):
        if k < end:
            k = _take(items[i], rows, k, state)
    return k


@compiled
def _take_new(
    user: int, damping: NDArray[np.float32], sources: Sources, most: int, scratch: Scratch, rows: NDArray[np.int64],
    k: int,
) -> int:  # fmt: skip
    """Take new items: half those that co says most of, half those that read most like his clicks."""
    state, co, exact = scratch.state, scratch.sums[CO], sources.cosines.shape[1] > 0
    values, items = scratch.values, scratch.items
    for by_text in (False, True):
        c = 0
        for i in range(len(sources.new)):
            item = np.uint32(sources.new[i])
            near = sources.cosines[user, item] if exact else sources.new_near[user, i]
            value = near if by_text else co[item] * damping[item]
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
def _say(user: int, k: int, damping: NDArray[np.float32], borrowed: Borrowed, scratch: Scratch, found: Found) -> None:
    """What is said of a user's candidates."""
    sums = scratch.sums
    for i in range(k):
        item = np.uint32(found.rows[user, i])
        found.co[user, i] = sums[CO, item] * damping[item]
        found.recent[user, i] = sums[RECENT, item] * damping[item]
        found.linear[user, i] = max(sums[LINEAR, item], np.float32(0))
        found.like[user, i] = sums[LIKE, item]
    for i in range(k):
        place, total = borrowed.place[found.rows[user, i]] if len(borrowed.place) else -1, np.float32(0)
        if place >= 0:
            for e in range(borrowed.near.shape[1]):
                near = np.uint32(borrowed.near[place, e])
                total += borrowed.weights[place, e] * (sums[CO, near] * damping[near])
        found.cotext[user, i] = total


@compiled
def _forget(co: int, linear: int, like: int, n: int, scratch: Scratch) -> None:
    """Nothing is said of any item any more."""
    if co + linear + like > n // 2:  # of a small catalogue most is touched
        scratch.sums[:, :n] = 0
        return
    for column, count in ((CO, co), (LINEAR, linear), (LIKE, like)):
        for i in range(count):
            scratch.sums[column, np.uint32(scratch.touched[column, i])] = 0
    for i in range(co):
        scratch.sums[RECENT, np.uint32(scratch.touched[CO, i])] = 0


@compiled
def find(
    clicks: Clicks, tables: Tables, damping: NDArray[np.float32], sources: Sources, quota: Quota,
    seen: NDArray[np.int64], offered: NDArray[np.bool_], fewest: int, borrowed: Borrowed, scratch: Scratch,
    found: Found,
) -> None:  # fmt: skip
    """Fill ``found``.

    Parameters
    ----------
    damping : float32 [≥ n]
        1 / √(n_q + 1).
    seen : int64
        Keys user · n + row of what may not be offered to its user, user by user.
    offered : bool [n]
    fewest
        A user who has fewer candidates is given ``spare`` items, then the newest.
    """
    state, n, end = scratch.state, len(offered), 0
    for item in range(n):
        state[item] = not offered[item]
    for user in range(len(clicks.rows)):
        co, linear, like = _sum_up(clicks, user, tables, scratch)
        start, first = end, user * n
        while end < len(seen) and seen[end] < first + n:
            state[seen[end] - first] = _WITHHELD
            end += 1
        rows, k = found.rows[user], 0
        if sources.cosines.shape[1]:
            k = _take_near(sources.cosines[user], quota.text, scratch, rows, k)
        for item in sources.near[user]:
            if item >= 0:
                k = _take(item, rows, k, state)
        for item in sources.own[user]:
            if item >= 0:
                k = _take(item, rows, k, state)
        k = _take_said(CO, co, quota.co, damping, scratch, rows, k)
        k = _take_said(LINEAR, linear, quota.linear, damping, scratch, rows, k)
        k = _take_said(LIKE, like, quota.like, damping, scratch, rows, k)
        for i in range(sources.layers.shape[1]):
            if sources.weights[user, i] > 0:
                for item in sources.tops[sources.layers[user, i]]:
                    if item >= 0:
                        k = _take(item, rows, k, state)
        for item in sources.everybody:
            k = _take(item, rows, k, state)
        k = _take_new(user, damping, sources, quota.new // 2, scratch, rows, k)
        k = _fill(sources.spare, n, fewest, rows, k, state)
        found.counts[user] = k
        _say(user, k, damping, borrowed, scratch, found)
        for i in range(k):
            near = sources.cosines[user, rows[i]] if sources.cosines.shape[1] else np.float32(0)
            found.text[user, i] = max(near, np.float32(0))
        for i in range(k):
            state[rows[i]] = 0
        for key in seen[start:end]:
            state[key - first] = not offered[key - first]
        _forget(co, linear, like, n, scratch)


@compiled
def cut(
    found: Found, scorers: int, places: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
    """What was found, without the columns that nobody has.

    Parameters
    ----------
    scorers, places
        How many there are, and which of them are co, recent, linear, text and like.

    Returns
    -------
    rows, valid : int64, bool [b, m]
        The candidates, 0 in places that are not ``valid``; m is 1 at the least.
    said : float32 [scorers, b, m]
        0 of the other scorers, and where nothing is valid.
    cotext : float32 [b, m]
    """
    b, m = len(found.counts), max(1, found.counts.max()) if len(found.counts) else 1
    rows, valid = np.zeros((b, m), np.int64), np.zeros((b, m), np.bool_)
    said, cotext = np.zeros((scorers, b, m), np.float32), np.zeros((b, m), np.float32)
    co, recent, linear, text, like = places
    for user in range(b):
        k = found.counts[user]
        rows[user, :k], valid[user, :k] = found.rows[user, :k], True
        said[co, user, :k], said[recent, user, :k] = found.co[user, :k], found.recent[user, :k]
        said[linear, user, :k], said[text, user, :k] = found.linear[user, :k], found.text[user, :k]
        said[like, user, :k], cotext[user, :k] = found.like[user, :k], found.cotext[user, :k]
    return rows, valid, said, cotext
