"""The linear part: XᵀX kept click by click, and the regression of each item on all others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.breaks import KEPT
from models.errors import StrataError
from models.items import ItemStore, item_hash
from models.linear import EVERY, CoClicks
from models.neighbours import Neighbours


def shop(n: int = 12) -> ItemStore:
    items = ItemStore(4)
    for i in range(n):
        items.row(f"i{i}")
    return items


def hashes(rows: list[int]) -> np.ndarray:
    return np.array([item_hash(f"i{row}") for row in rows], np.uint64)


def clicked(counts: CoClicks, users: list[list[int]]) -> None:
    """Each user's clicks, one after another."""
    for rows in users:
        met: list[int] = []
        for row in dict.fromkeys(rows):
            counts.learn(row, hashes(met))
            met.append(row)


def by_item(counts: CoClicks, n: int) -> np.ndarray:
    """XᵀX by item row."""
    gram = np.zeros((n, n))
    taken = np.flatnonzero(counts.gram.diagonal() > 0)
    gram[np.ix_(counts.rows[taken], counts.rows[taken])] = counts.gram[np.ix_(taken, taken)]
    return gram


def by_definition(users: list[list[int]], n: int) -> np.ndarray:
    x = np.zeros((len(users), n))
    for user, rows in enumerate(users):
        x[user, rows] = 1
    return x.T @ x


USERS = st.lists(st.lists(st.integers(0, 11), max_size=8), max_size=12)


@given(USERS)
def test_the_counts_are_those_of_who_has_clicked_what(users: list[list[int]]) -> None:
    one_by_one, whole = CoClicks(shop()), CoClicks(shop())
    clicked(one_by_one, users)
    for rows in users:
        whole.learn_user(hashes(list(dict.fromkeys(rows))))
    expected = by_definition(users, 12)
    np.testing.assert_array_equal(by_item(one_by_one, 12), expected)
    np.testing.assert_array_equal(by_item(whole, 12), expected)
    assert one_by_one.clicks == whole.clicks == sum(len(set(rows)) for rows in users)


@given(USERS, st.integers(0, 8))
def test_after_a_break_a_user_counts_as_another_one(users: list[list[int]], place: int) -> None:
    """Whenever it is heard of or found, and counted from all that he has clicked, too."""
    users = [list(dict.fromkeys(rows)) for rows in users]
    heard, late, whole, found = CoClicks(shop()), CoClicks(shop()), CoClicks(shop()), CoClicks(shop())
    clicked(heard, [rows[:place] for rows in users])
    assert not heard.due
    for counts in (heard, late, whole):
        counts.forget([1_000])
    assert heard.due
    clicked(heard, [rows[place:] for rows in users])
    for rows in users:
        moments = np.array([999 if i < place else 1_000 for i in range(len(rows))], np.int64)
        for counts in (late, found):
            for i, row in enumerate(rows):
                counts.learn(row, hashes(rows[:i]), int(moments[i]), moments[:i])
        whole.learn_user(hashes(rows), moments)
    found.forget([1_000])
    before, after = (
        (by_definition(part, 12) for part in zip(*((r[:place], r[place:]) for r in users), strict=True))
        if (users)
        else (np.zeros((12, 12)), np.zeros((12, 12)))
    )
    for counts in (heard, late, whole, found):
        np.testing.assert_allclose(by_item(counts, 12), KEPT * before + after, rtol=1e-5, atol=1e-6)
        assert counts.clicks == pytest.approx(KEPT * before.trace() + after.trace())


def test_after_a_break_it_can_be_solved_however_much_users_who_stay_have_clicked() -> None:
    counts, users = CoClicks(shop(200)), drawn(200, 400)
    clicked(counts, users * 50)
    counts.forget([1_000])
    clicked(counts, users)
    assert len(counts.solve(1.0).rows) == 200


def drawn(n: int, users: int, seed: int = 3) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    return [draw.choice(n, size=draw.integers(2, min(n, 7)), replace=False).tolist() for _ in range(users)]


def test_a_solution_is_the_closed_form_of_ease() -> None:
    users, n, l2 = drawn(12, 300), 12, 20.0
    counts = CoClicks(shop())
    clicked(counts, users)
    solved = counts.solve(l2, width=4)
    inverse = np.linalg.inv(by_definition(users, n) + l2 * np.eye(n))
    expected = -inverse / inverse.diagonal()
    np.fill_diagonal(expected, 0)
    assert solved.rows.tolist() == counts.rows[:n].tolist()
    for row, ids, weights in zip(solved.rows.tolist(), solved.ids, solved.weights, strict=True):
        largest = np.argsort(-np.abs(expected[row]))[:4]
        assert ids.tolist() == largest.tolist()
        np.testing.assert_allclose(weights, expected[row, largest], rtol=1e-3)


def test_what_two_clicks_both_say_is_counted_once() -> None:
    """Who clicks 0 clicks 1 and 2: co counts 1 and 2 alike for each other, the regression leaves that to 0."""
    users = [[0, 1], [0, 2], [0, 1, 2], [0, 1, 2]] * 30 + [[row] for row in range(3, 9)] * 20
    counts = CoClicks(shop())
    clicked(counts, users)
    solved = counts.solve(5.0, width=11)
    weights = {int(row): dict(zip(ids.tolist(), w.tolist(), strict=True)) for row, ids, w in zip(
        solved.rows, solved.ids, solved.weights, strict=True,
    )}  # fmt: skip
    assert weights[0][1] > 0.3
    assert weights[2][1] < weights[0][1] / 3
    gram = by_item(counts, 12)
    assert gram[2, 1] > gram[0, 1] / 2, "who counts pairs alone sees both together"


def test_a_thousand_items_find_room() -> None:
    counts = CoClicks(shop(1_000))
    clicked(counts, [[i, (i + 1) % 1_000] for i in range(1_000)])
    assert by_item(counts, 1_000).trace() == 2_000
    assert counts.gram[~np.eye(len(counts.gram), dtype=bool)].sum() == 2_000


def test_an_item_that_more_have_clicked_takes_the_place_of_the_least_clicked() -> None:
    items = shop()
    counts = CoClicks(items, most=3)
    clicked(counts, [[0, 1], [0, 1], [0, 2], [2]])  # 0: 3 users, 1: 2, 2: 2
    clicked(counts, [[5, 0]] * 2)
    assert 5 not in counts.rows, "two are not one and a half times two"
    clicked(counts, [[5, 0]] * 3)
    assert sorted(counts.rows.tolist()) == [0, 2, 5]
    gram = by_item(counts, 12)
    assert gram[0, 5] == gram[5, 0] == gram[5, 5] == 3, "of the clicks from then on"
    assert not gram[1].any()
    assert not gram[:, 1].any()
    clicked(counts, [[1]])
    assert 1 in counts.rows, "three users have clicked it by now, two the least clicked of the others"


def test_a_place_stays_with_what_most_users_click() -> None:
    """A newcomer's diagonal counts from 0: it must not be what is thrown out next."""
    draw = np.random.default_rng(7)
    counts, clicks = CoClicks(shop(600), most=100), np.zeros(600, np.int64)
    share = 1 / np.arange(1, 601) ** 0.8
    users = [draw.choice(600, 10, replace=False, p=share / share.sum()) for _ in range(2_000)]
    came = []
    for number, rows in enumerate(users):
        before = counts.rows.tolist()
        clicked(counts, [rows.tolist()])
        clicks[rows] += 1
        came += [number] * (len(set(counts.rows.tolist()) - set(before)) if len(before) == 100 else 0)
    popular = np.argsort(-clicks)[:100]
    assert np.isin(popular, counts.rows).sum() >= 85
    assert sum(number >= 1_000 for number in came) <= 5, "and seldom changes hands once it is known who is popular"


def test_who_clicked_a_newcomer_before_it_had_a_place_stands_in_none_of_its_pairs() -> None:
    counts, none = CoClicks(shop(), most=3), np.empty(0, np.int64)
    for row in (0, 1, 2) * 4:
        counts.learn(row, hashes([]), 100, none)
    for user in range(5):
        counts.learn(5, hashes([]), 200 + user, none)
    assert 5 not in counts.rows
    counts.learn(5, hashes([]), 210, none)
    assert sorted(counts.rows.tolist()) == [1, 2, 5]
    for user in range(5):
        counts.learn(1, hashes([5]), 400 + user, np.array([200 + user]))
    gram = by_item(counts, 12)
    assert gram[1, 5] == gram[5, 1] == 0
    assert gram[5, 5] == 1, "of the click by which it came in"
    counts.learn(5, hashes([1]), 500, np.array([450]))
    counts.learn(1, hashes([5]), 510, np.array([505]))
    gram = by_item(counts, 12)
    assert gram[1, 5] == gram[5, 1] == 2
    assert np.linalg.eigvalsh(gram).min() > -1e-6


def test_what_is_no_sum_of_who_clicked_what_is_solved_for_with_a_larger_l2() -> None:
    counts = CoClicks(shop())
    clicked(counts, drawn(12, 300))
    right = counts.solve(10.0)
    counts.gram[0, 1] += 4 * counts.gram[0, 0]
    counts.gram[1, 0] = counts.gram[0, 1]
    assert np.linalg.eigvalsh(counts.gram[:12, :12] + 10 * np.eye(12)).min() < 0
    solved = counts.solve(10.0)
    assert solved.rows.tolist() == right.rows.tolist()
    assert np.isfinite(solved.weights).all()
    with pytest.raises(StrataError, match="raise λ"):
        counts.solve(1e-3)


def test_of_one_who_clicks_everything_little_is_remembered_for_a_break() -> None:
    counts = CoClicks(shop(600))
    rows = list(range(599))
    moments = np.arange(599)
    for at in (599, 600):
        counts.learn(599, hashes(rows), at, moments)
    (_, click), _ = counts._lately._kept
    assert click.others.tolist() == hashes(rows[-100:]).tolist()
    assert click.moments.tolist() == moments[-100:].tolist()


@given(USERS, st.permutations([1_000, 2_000]))
def test_breaks_that_are_found_one_after_the_other_end_as_if_known_all_along(
    users: list[list[int]], order: list[int]
) -> None:
    found, whole = CoClicks(shop()), CoClicks(shop())
    whole.forget(order)
    for rows in (list(dict.fromkeys(rows)) for rows in users):
        moments = 500 + 500 * np.arange(len(rows))
        for i, row in enumerate(rows):
            found.learn(row, hashes(rows[:i]), int(moments[i]), moments[:i])
        whole.learn_user(hashes(rows), moments)
    for moment in order:
        found.forget([moment])
    np.testing.assert_allclose(by_item(found, 12), by_item(whole, 12), rtol=1e-5, atol=1e-6)
    assert found.clicks == pytest.approx(whole.clicks)


def test_after_a_break_a_newcomer_has_as_much_to_forget_as_those_that_have_a_place() -> None:
    counts = CoClicks(shop(), most=2)
    clicked(counts, [[0, 1]] * 40 + [[5]] * 10)
    counts.forget([1_000])  # 2 users, 2 users, half a user
    clicked(counts, [[5]] * 2)
    assert 5 not in counts.rows
    for _ in range(8):  # of before the break, and late
        counts.learn(5, hashes([]), 999, np.empty(0, np.int64))
    assert 5 not in counts.rows
    clicked(counts, [[5]])
    assert 5 in counts.rows


def test_what_has_no_place_is_told_of_a_break_that_is_found_late_too() -> None:
    counts, none = CoClicks(shop(), most=2), np.empty(0, np.int64)
    clicked(counts, [[0, 1]] * 40)
    counts.learn(5, hashes([]), 1_000, none)
    counts.forget([1_000])  # 2 users, 2 users, 1 user
    counts.learn(5, hashes([]), 1_001, none)
    assert 5 not in counts.rows
    counts.learn(5, hashes([]), 1_002, none)
    assert 5 in counts.rows


def test_after_a_break_it_is_solved_at_once_and_then_as_after_a_start() -> None:
    counts = CoClicks(shop())
    clicked(counts, drawn(12, 300))
    counts.snapshot()
    counts.forget([1_000])
    assert counts.due
    counts.snapshot()
    assert not counts.due
    for _ in range(490 - int(counts.clicks)):
        clicked(counts, [[3]])
    assert not counts.due
    clicked(counts, [[3]] * 12)
    assert counts.due


def test_what_has_no_row_of_its_own_teaches_nothing() -> None:
    items = ItemStore(4, most_undescribed=1)
    items.mention("a")
    nowhere = items.mention("b")
    assert nowhere == items.nowhere
    counts = CoClicks(items)
    counts.learn(nowhere, np.empty(0, np.uint64))
    counts.learn_user(np.array([item_hash("b"), item_hash(""), item_hash("never heard of")], np.uint64))
    assert counts.clicks == 0
    assert not counts.gram.any()


def test_a_small_stream_is_solved_more_often_than_a_large_one() -> None:
    counts, at = CoClicks(shop()), []
    for _ in range(40_000):
        counts.learn(3, np.empty(0, np.uint64))
        if counts.due:
            counts.snapshot()
            at.append(counts.clicks)
    steps = np.diff(at)
    assert at[0] == 500
    assert (steps[:3] < 1_000).all()
    assert (steps[-4:] == EVERY).all()


def test_a_snapshot_stays_as_it_was() -> None:
    counts = CoClicks(shop())
    clicked(counts, drawn(12, 50))
    kept = counts.snapshot()
    before = kept.gram.copy()
    clicked(counts, drawn(12, 50))
    np.testing.assert_array_equal(kept.gram, before)
    assert kept.solve(10.0).rows.tolist() == kept.rows[:12].tolist()


def test_too_small_a_penalty_is_told() -> None:
    counts = CoClicks(shop())
    clicked(counts, [[0, 1]] * 5)
    with pytest.raises(StrataError, match="raise λ"):
        counts.solve(-1.0)


@pytest.mark.parametrize("users", [[], [[4]]])
def test_of_one_item_there_is_nothing_to_say(users: list[list[int]]) -> None:
    items = shop()
    counts, table = CoClicks(items), Neighbours(items)
    clicked(counts, users)
    table.take(counts.solve())
    assert not table.linear.weights.any()


def test_a_solution_replaces_the_one_before_it_whole() -> None:
    items = shop()
    table, first, second = Neighbours(items), CoClicks(items), CoClicks(items)
    clicked(first, drawn(12, 100))
    table.take(first.solve(5.0))
    assert table.dirty() == list(range(12))
    clicked(second, drawn(5, 100))
    table.take(second.solve(5.0))
    assert table.dirty() == list(range(12)), "those that took no part any more are empty, and that is news"
    assert not table.linear.weights[5:].any()
    assert (table.linear.sizes[:5] == 4).all()
    assert not table.linear.sizes[5:].any()


WORLDS = (1_000, 2_000)


def by_worlds(users: list[list[int]]) -> np.ndarray:
    """A user counts as another one after each of :data:`WORLDS`: by definition, his clicks 100 ms apart from 500 on."""
    gram = np.zeros((12, 12))
    for rows in users:
        for world, share in enumerate((KEPT**2, KEPT, 1.0)):
            mine = [row for i, row in enumerate(rows) if np.searchsorted(WORLDS, 500 + 100 * i, "right") == world]
            gram += share * by_definition([list(set(mine))], 12)
    return gram


@given(st.lists(st.lists(st.integers(0, 11), max_size=22), max_size=6), st.permutations(WORLDS))
def test_what_a_user_clicks_again_counts_once_and_after_a_break_once_more(
    users: list[list[int]], order: list[int]
) -> None:
    known, late, between = CoClicks(shop()), CoClicks(shop()), CoClicks(shop())
    known.forget(order)
    every = sorted((500 + 100 * i, user, row) for user, rows in enumerate(users) for i, row in enumerate(rows))
    for counts in (known, late, between):
        met: list[dict[int, int]] = [{} for _ in users]
        for moment, user, row in every:
            if counts is between and moment == 1_500:
                counts.forget([1_000])
            before = met[user].pop(row, None)
            rows, moments = list(met[user]), np.array(list(met[user].values()), np.int64)
            counts.learn(row, hashes(rows), moment, moments, before)
            met[user][row] = moment
    for moment in order:
        late.forget([moment])
    between.forget(WORLDS)
    for counts in (known, late, between):
        np.testing.assert_allclose(by_item(counts, 12), by_worlds(users), rtol=1e-5, atol=1e-6)
        assert counts.clicks == pytest.approx(by_worlds(users).trace())
        assert np.linalg.eigvalsh(by_item(counts, 12)).min() > -1e-5
