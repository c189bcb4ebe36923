"""The compiled loop that finds candidates, beside the same in plain Python."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest

from models.candidates import PLACES
from models.features import SCORERS
from models.finding import cut, find
from models.finding_arrays import Borrowed, Clicks, Found, Quota, Scratch, Sources, Tables
from models.hash_rows import HashRows
from models.item_rows import Table

EVERY = Quota(text=80, like=60, co=120, linear=40, layer=45, popular=30, new=20)


def table(draw: np.random.Generator, items: int, width: int, least: float = 0.0) -> Table:
    ids = np.stack([draw.choice(items, width, replace=False) for _ in range(items)]).astype(np.int32)
    return Table(
        ids, draw.uniform(least, 1, ids.shape).astype(np.float32), draw.integers(0, width + 1, items, np.int32)
    )


@dataclass
class Case:
    """A question to the loop, everything about it drawn at random but what is given."""

    seed: int = 0
    items: int = 300
    users: int = 5
    window: int = 6
    exact: bool = True
    quota: Quota = EVERY
    fewest: int = 10
    share_offered: float = 0.9
    new: int = 40
    spare: int = 50  # items that the working memory has room for besides
    scratch: Scratch = field(init=False)

    def __post_init__(self) -> None:
        draw, n, b = np.random.default_rng(self.seed), self.items, self.users
        self.tables = Tables(table(draw, n, 60), table(draw, n, 30, -0.5), table(draw, n, 10))
        clicked = draw.integers(0, self.window + 1, b)
        clicked[0] = 0
        there = np.arange(self.window) < clicked[:, None]
        weights = np.where(there, draw.random((4, b, self.window), np.float32) + 0.01, np.float32(0))
        rows = np.where(there, draw.integers(n, size=there.shape), 0)
        self.clicks = Clicks(rows, weights[0], np.ascontiguousarray(weights[1][:, :3]), weights[2], weights[3])
        self.damping = 1 / np.sqrt(draw.integers(1, 51, n, np.int32).astype(np.float32))
        self.seen = [np.sort(draw.choice(n, size, replace=False)) for size in draw.integers(0, 40, b)]
        self.offered = draw.random(n) < self.share_offered
        cosines = draw.uniform(-1, 1, (b, n)).astype(np.float32)
        new = np.sort(draw.choice(n, self.new, replace=False))
        self.cosines = cosines
        near = np.where(draw.random((b, 20)) < 0.8, draw.integers(n, size=(b, 20)), -1)
        own = np.random.default_rng(self.seed + 1_000).integers(-1, n, (b, 9))
        own[:, ::3] = -1
        tops = draw.integers(-1, n, (4, 5))
        layer_weights = draw.random((b, 3), np.float32) * (draw.random((b, 3)) < 0.7)
        self.sources = Sources(
            cosines if self.exact else np.empty((b, 0), np.float32),
            np.empty((b, 0), np.int64) if self.exact else near,
            own,
            tops,
            draw.integers(-1, 3, (b, 3)),
            layer_weights.astype(np.float32),
            draw.integers(n, size=7),
            draw.permutation(n)[:50],
            new,
            np.take(cosines, new, axis=1),
        )
        place = np.full(n, -1, np.int32)
        place[new] = np.arange(len(new))
        self.borrowed = Borrowed(
            place, draw.integers(n, size=(len(new), 4)).astype(np.int32), draw.random((len(new), 4), np.float32)
        )
        self.scratch = Scratch.empty(n + self.spare, 1 + self.window * 60)

    def find(self) -> Found:
        found = Found.empty(self.users, 1_000)
        find(
            self.clicks, self.tables, self.damping, self.sources, self.quota, self.seen_keys(), self.offered,
            self.fewest, self.borrowed, self.scratch, found,
        )  # fmt: skip
        return found

    def seen_keys(self) -> np.ndarray:
        return np.concatenate([rows + user * self.items for user, rows in enumerate(self.seen)])

    # -- the same in plain Python -------------------------------------------------------------------------------------

    def sums(self, user: int, scorer: str) -> np.ndarray:
        """What a scorer says of every item."""
        said = np.zeros(self.items)
        rows, weights = self.clicks.rows[user], getattr(self.clicks, scorer)[user]
        of = getattr(self.tables, "co" if scorer == "recent" else scorer)
        for row, weight in zip(rows, weights, strict=False):
            size = of.sizes[row] if weight else 0
            said[of.ids[row, :size]] += weight * of.weights[row, :size]
        return said

    def damped(self, user: int, scorer: str) -> np.ndarray:
        return self.sums(user, scorer) * self.damping

    def free(self, user: int) -> np.ndarray:
        free = self.offered.copy()
        free[self.seen[user]] = False
        return free

    def largest(self, user: int, values: np.ndarray, most: int, among: np.ndarray | None = None) -> set[int]:
        """Of what may be offered and has a value above 0."""
        allowed = self.free(user) & (values > 0)
        if among is not None:
            allowed &= np.isin(np.arange(self.items), among)
        rows = np.flatnonzero(allowed)
        return {*rows[np.argsort(-values[rows])[:most]].tolist()}

    def wanted(self, user: int) -> set[int]:
        """The candidates but for those by text."""
        quota, sources = self.quota, self.sources
        found = self.largest(user, self.damped(user, "co"), quota.co)
        found |= self.largest(user, self.sums(user, "linear"), quota.linear)
        found |= self.largest(user, self.sums(user, "like"), quota.like)
        found |= self.largest(user, self.damped(user, "co"), quota.new // 2, sources.new)
        found |= self.largest(user, self.cosines[user], quota.new // 2, sources.new)
        named = [*sources.everybody.tolist()]
        for layer, weight in zip(sources.layers[user], sources.weights[user], strict=True):
            named += sources.tops[layer].tolist() if weight > 0 else []
        named += sources.near[user].tolist() + sources.own[user].tolist()
        return found | {row for row in named if row >= 0 and self.free(user)[row]}


def cut_of(found: Found) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return cut(found, len(SCORERS), PLACES)


def found_by(found: Found, user: int) -> list[int]:
    rows: list[int] = found.rows[user, : found.counts[user]].tolist()
    return rows


SMALL = Quota(text=16, like=3, co=7, linear=2, layer=3, popular=3, new=6)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("quota", [EVERY, SMALL, Quota(8, 0, 0, 0, 0, 0, 0)], ids=["default", "small", "text"])
def test_the_candidates_are_the_best_of_every_source(seed: int, quota: Quota) -> None:
    case = Case(seed, exact=False, quota=quota)
    found = case.find()
    for user in range(case.users):
        rows = found_by(found, user)
        assert len({*rows}) == len(rows), "none twice"
        wanted = case.wanted(user)
        assert {*rows} >= wanted
        assert len(rows) == max(len(wanted), case.fewest), "and no other, unless the list would be short"


@pytest.mark.parametrize("exact", [True, False])
def test_half_of_the_new_items_are_those_nearest_by_text(exact: bool) -> None:
    case = Case(3, exact=exact, quota=Quota(0, 0, 0, 0, 0, 0, 16), fewest=0)
    found = case.find()
    for user in range(case.users):
        nearest = case.largest(user, case.cosines[user], 8, case.sources.new)
        assert len(nearest) == 8
        assert nearest <= {*found_by(found, user)}


@pytest.mark.parametrize("seed", range(4))
def test_near_by_text_are_about_as_many_as_wanted_and_the_nearest(seed: int) -> None:
    case = Case(seed, items=2_000, quota=Quota(text=80, like=0, co=0, linear=0, layer=0, popular=0, new=0), fewest=0)
    found, counts = case.find(), []
    for user in range(case.users):
        rows = {*found_by(found, user)} - case.wanted(user)
        counts.append(len(rows))
        bound = min(case.cosines[user, list(rows)])
        nearer = {*np.flatnonzero((case.cosines[user] >= bound) & case.free(user)).tolist()}
        assert nearer <= {*found_by(found, user)}, "whatever is nearer than the last of them is among them"
    assert 40 < np.mean(counts) < 120


def test_where_all_are_equally_near_they_are_twice_as_many_as_wanted_at_most() -> None:
    case = Case(items=2_000, quota=Quota(text=10, like=0, co=0, linear=0, layer=0, popular=0, new=0), fewest=0)
    case.cosines[:] = 0.5
    assert max(case.find().counts) <= 2 * 10 + 7 + 15 + 6  # and what is popular, on top in three layers, or his own


@pytest.mark.parametrize("exact", [True, False])
def test_what_is_said_of_a_candidate_is_the_sum_over_the_clicks(exact: bool) -> None:
    case = Case(3, exact=exact)
    found = case.find()
    for user in range(case.users):
        rows, k = found_by(found, user), found.counts[user]
        close = {"rtol": 1e-4, "atol": 1e-6}
        np.testing.assert_allclose(found.co[user, :k], case.damped(user, "co")[rows], **close)
        np.testing.assert_allclose(found.recent[user, :k], case.damped(user, "recent")[rows], **close)
        np.testing.assert_allclose(found.linear[user, :k], np.maximum(case.sums(user, "linear")[rows], 0), **close)
        np.testing.assert_allclose(found.like[user, :k], case.sums(user, "like")[rows], **close)
        cosines = np.maximum(case.cosines[user, rows], 0) if exact else np.zeros(k)
        np.testing.assert_allclose(found.text[user, :k], cosines)
        co = case.damped(user, "co")  # of what he has met, too
        place, near, weights = case.borrowed
        cotext = [(weights[place[row]] * co[near[place[row]]]).sum() if place[row] >= 0 else 0 for row in rows]
        np.testing.assert_allclose(found.cotext[user, :k], cotext, **close)
    said, cotext = cut_of(found)[2:]
    assert said[SCORERS.index("linear")].any()
    assert cotext.any()


def test_a_short_list_is_filled_with_what_is_popular_then_with_the_newest_while_there_are_any() -> None:
    nothing = Quota(0, 0, 0, 0, 0, 0, 0)
    case = Case(1, exact=False, quota=nothing, fewest=290, share_offered=1)
    found = case.find()
    for user in range(case.users):
        rows, wanted = found_by(found, user), case.wanted(user)
        free = case.free(user)
        spare = [row for row in case.sources.spare.tolist() if free[row] and row not in wanted]
        newest = [row for row in range(299, -1, -1) if free[row] and row not in wanted and row not in spare]
        assert rows[len(wanted) :] == [*spare, *newest][: 290 - len(wanted)]


def test_where_nothing_is_on_offer_nothing_is_found() -> None:
    case = Case(1, share_offered=0, fewest=10)
    found = case.find()
    assert not found.counts.any()
    rows, valid, said, cotext = cut_of(found)
    assert rows.shape == valid.shape == said.shape[1:] == cotext.shape == (case.users, 1)
    assert not any(array.any() for array in (rows, valid, said, cotext))


def test_infinite_values_find_no_more_than_there_is_room_for() -> None:
    """A record of the topic may hold any weights, and the sum of two large ones is infinite."""
    case = Case(6, exact=False, share_offered=1)
    case.tables.co.weights[:] = np.inf
    found = Found.empty(case.users + 1, 60)  # the last line is nobody's
    found.rows[-1] = 0
    find(
        case.clicks, case.tables, case.damping, case.sources, case.quota, case.seen_keys(), case.offered, case.fewest,
        case.borrowed, case.scratch, found,
    )  # fmt: skip
    assert max(found.counts) == 60
    assert not found.rows[-1].any()


def test_nothing_is_left_in_the_working_memory() -> None:
    case = Case(2)
    first = case.find()
    assert not case.scratch.sums.any()
    for before, after in zip(cut_of(first), cut_of(case.find()), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("exact", [True, False])
def test_what_was_found_is_cut_to_the_longest_and_0_beyond_the_others(exact: bool) -> None:
    case = Case(3, exact=exact)
    found = case.find()
    rows, valid, said, cotext = cut_of(found)
    assert rows.shape == (case.users, max(found.counts)) == cotext.shape
    assert len({*found.counts.tolist()}) > 1
    for user, k in enumerate(found.counts):
        assert rows[user].tolist() == found_by(found, user) + [0] * (rows.shape[1] - k)
        assert valid[user].tolist() == [True] * k + [False] * (rows.shape[1] - k)
        by_name = dict(zip(SCORERS, said[:, user], strict=True)) | {"cotext": cotext[user]}
        expected = {"co": "co", "co.short": "recent", "linear": "linear", "text": "text", "text.like": "like",
                    "cotext": "cotext"}  # fmt: skip
        for name, values in by_name.items():
            there = getattr(found, expected[name])[user, :k] if name in expected else np.zeros(k)
            np.testing.assert_array_equal(values[:k], there)
            assert not values[k:].any()
    assert said[[SCORERS.index(name) for name in ("co", "co.short", "linear", "text.like")]].any(axis=(1, 2)).all()


def test_of_nobody_nothing_is_cut() -> None:
    assert [array.shape for array in cut_of(Found.empty(0, 9))] == [(0, 1), (0, 1), (len(SCORERS), 0, 1), (0, 1)]


def test_a_user_is_found_the_same_whoever_else_is_asked_for() -> None:
    case = Case(4)
    together = [found_by(case.find(), user) for user in range(case.users)]
    alone = Case(4)
    for user in range(case.users):
        part = slice(user, user + 1)
        alone.users, alone.seen = 1, [case.seen[user]]
        alone.clicks = Clicks(*(array[part] for array in case.clicks))
        s = case.sources
        alone.sources = s._replace(
            cosines=s.cosines[part], near=s.near[part], layers=s.layers[part], weights=s.weights[part],
            own=s.own[part], new_near=s.new_near[part],
        )  # fmt: skip
        assert found_by(alone.find(), 0) == together[user]


def test_where_a_sample_says_too_much_as_many_are_taken_as_wanted() -> None:
    case = Case(5, users=2, quota=Quota(0, 0, 14, 0, 0, 0, 0), exact=False, fewest=0, share_offered=1)
    case.sources = case.sources._replace(everybody=np.empty(0, np.int64))
    case.sources.weights[:] = 0
    case.sources.near[:] = case.sources.own[:] = -1
    case.seen = [np.empty(0, np.int64)] * 2
    case.damping[:] = 1
    case.clicks.co[1] = case.clicks.like[1] = [1, 0, 0, 0, 0, 0]
    case.tables.co.sizes[:] = 60
    case.tables.co.weights[:] = np.where(np.arange(60) % 8 == 0, 1, np.linspace(0.2, 0.1, 60))
    ids = case.tables.co.ids[case.clicks.rows[1, 0]]
    others = [place for place in range(60) if place % 8]
    assert {*found_by(case.find(), 1)} == {*ids[::8].tolist(), *ids[others[:6]].tolist()}


def test_of_equal_values_as_many_are_taken_as_wanted() -> None:
    case = Case(5, quota=Quota(0, 0, 5, 0, 0, 0, 0), exact=False, fewest=0, share_offered=1)
    case.tables.co.weights[:] = 1
    case.damping[:] = 1
    case.clicks.co[case.clicks.co > 0] = 1  # so what is said is how many clicks say it
    case.sources.weights[:] = 0
    case.sources.near[:] = case.sources.own[:] = -1
    case.sources = case.sources._replace(everybody=np.empty(0, np.int64))
    found = case.find()
    crowded = 0
    for user in range(case.users):
        values = case.damped(user, "co")
        rows, best = found_by(found, user), np.sort(values[case.free(user)])[::-1]
        assert np.sort(values[rows])[::-1].tolist() == best[:5][best[:5] > 0].tolist()
        crowded += best[4] == best[5] > 0
    assert crowded >= 2, "there are more equals than places"


def test_hashes_are_found_as_in_a_dictionary() -> None:
    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 2**64, 5_000, np.uint64)
    hashes[:3] = 0, 1, 1 << 63
    hashes[3:40] = (hashes[3:40] & ~np.uint64(0xFFF)) | np.uint64(0xFFE)  # these all begin at one place, near the end
    rows, known = HashRows(), {}
    assert rows.look_up(hashes[:2]).tolist() == [-1, -1]
    start = 0
    for size in (1, 7, 500, 2_000, 0, 1_492):
        some = hashes[start : start + size]
        rows.extend(some)
        known.update(zip(some.tolist(), itertools.count(start)))
        start += size
        assert len(rows) == start
        assert rows.look_up(hashes).tolist() == [known.get(key, -1) for key in hashes.tolist()]
    rows.extend(hashes[5:6])
    assert rows.look_up(hashes[4:6]).tolist() == [4, 4_000]
