"""The rule about what was shown too often: when an item steps back, for whom, and when it is there again."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_shop import NOW, Shop

from models.policy import Policy
from models.policy_file import parse
from models.ranker import RankingConfig

RULE = "[fatigue]\nafter = 3\nfor = 600"
S = NOW // 1000
USER = "u1"


@pytest.fixture(scope="module")
def stocked() -> Shop:
    shop = Shop(config=RankingConfig(repeat_after_s={"view": 0}))
    shop.populate()
    return shop


@pytest.fixture
def shop(stocked: Shop) -> Shop:
    stocked.recommender.apply(Policy())
    stocked.recommender.counts.clear()
    stocked.recommender.shown.forget_partition(0)
    return stocked


def show(shop: Shop, *items: str, times: int = 3, at: int = S - 60, user: str = USER) -> None:
    for _ in range(times):
        shop.recommender.shown.put(0, user, [shop.items.hash_of(item) for item in items], at)


def listed(shop: Shop, policy: str = RULE, now: int = NOW, n: int = 10, user: str = USER) -> list[str]:
    shop.recommender.apply(parse(policy))
    (made,) = shop.recommender.recommend([shop.profiles[user]], now, n)
    return [shop.items.ids[row] for row in made.rows]


def test_what_was_shown_too_often_steps_back_and_the_rest_moves_up(shop: Shop) -> None:
    before = listed(shop)
    show(shop, before[0], before[2])
    show(shop, before[1], times=2)
    after = listed(shop)
    assert after[0] == before[1]
    assert not {before[0], before[2]}.intersection(after)
    assert len(after) == 10
    assert shop.recommender.counts["fatigue"] == 2


def test_without_the_rule_nothing_is_withheld_and_for_others_neither(shop: Shop) -> None:
    before, others = listed(shop), listed(shop, user="u2")
    show(shop, *before, *others)
    assert listed(shop, "") == before
    assert listed(shop, user="u2") == others


def test_it_comes_back_once_the_shows_are_long_enough_ago(shop: Shop) -> None:
    item = listed(shop)[0]
    for at in (S - 500, S - 60, S - 30):
        show(shop, item, times=1, at=at)
    assert item not in listed(shop, now=NOW + 99_000)
    assert listed(shop, now=NOW + 101_000)[0] == item, "two are left within ten minutes"


def test_shows_before_the_last_click_do_not_count(shop: Shop) -> None:
    user = "u7"
    first = listed(shop, user=user)[0]
    show(shop, first, at=S - 60, user=user)
    shop.click(user, first, event="view", ts=NOW - 30_000)
    assert first in listed(shop, n=40, user=user), "he has clicked it, and may be offered it again"
    show(shop, first, times=2, at=S - 10, user=user)
    assert first in listed(shop, n=40, user=user)
    reached = shop.recommender.fatigue.reached
    assert not reached(shop.profiles[user], [shop.items.hash_of(first)], S)
    show(shop, first, times=1, at=S - 5, user=user)
    assert first not in listed(shop, n=40, user=user)
    assert reached(shop.profiles[user], [shop.items.hash_of(first)], S)


def test_a_list_is_never_short_because_of_it_and_what_was_shown_longest_ago_comes_first(shop: Shop) -> None:
    every = listed(shop, "", n=200)
    order = sorted(every)
    for n, item in enumerate(order):
        show(shop, item, at=S - 500 + n)
    made = listed(shop)
    assert set(made) == set(order[:10])
    assert len(listed(shop, n=200)) == len(every)


def test_a_pin_gives_way_to_it(shop: Shop) -> None:
    item = listed(shop)[5]
    pin = f"\n[[pins]]\nname = 'p'\nitem = '{item}'\nplace = 1"
    assert listed(shop, RULE + pin)[0] == item
    show(shop, item)
    assert item not in listed(shop, RULE + pin)


def test_a_click_on_what_was_withheld_still_teaches_the_ranker(shop: Shop) -> None:
    item = listed(shop)[0]
    show(shop, item)
    assert item not in listed(shop)
    scored = shop.recommender.score([shop.profiles[USER]], NOW)
    assert shop.items.find(item) in scored.candidates.rows[scored.candidates.valid]


def test_what_one_user_is_tired_of_is_withheld_from_nobody_else(shop: Shop) -> None:
    item = listed(shop)[0]
    show(shop, item)
    listed(shop)  # applies the rule
    users = [shop.profiles[USER], *(profile for name, profile in shop.profiles.items() if name != USER)]
    together = shop.recommender.recommend(users, NOW)
    assert [made.rows for made in together] == [shop.recommender.recommend([user], NOW)[0].rows for user in users]
    assert item not in shop.ids(together[0].rows)


def test_the_one_show_too_many_is_told_once(shop: Shop) -> None:
    names = listed(shop)[:2]
    fatigue, profile = shop.recommender.fatigue, shop.profiles[USER]
    items = [shop.items.hash_of(item) for item in names]
    told = []
    for _ in range(5):
        show(shop, names[0], times=1)
        told.append((fatigue.often(USER, items, S), fatigue.reached(profile, items, S)))
    assert told == [([], []), ([], []), (items[:1], items[:1]), (items[:1], []), (items[:1], [])]
    shop.recommender.apply(Policy())
    assert (fatigue.often(USER, items, S), fatigue.reached(profile, items, S)) == ([], [])


def test_shows_are_kept_as_long_as_the_rule_looks(shop: Shop) -> None:
    kept = []
    for policy in ("", RULE, "[fatigue]\nafter = 2\nfor = 86400", ""):
        shop.recommender.apply(parse(policy))
        kept.append(shop.recommender.shown.keep_s)
    assert kept == [3_600, 3_600, 86_400, 3_600]


@given(st.lists(st.tuples(st.integers(0, 119), st.integers(0, 700)), max_size=200), st.integers(1, 4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_shown_what_is_tired_is_what_the_rule_says(
    shop: Shop, shows: list[tuple[int, int]], after: int
) -> None:
    shop.recommender.shown.forget_partition(0)
    for row, ago in sorted(shows, key=lambda show: -show[1]):
        shop.recommender.shown.put(0, USER, [int(shop.items.hashes[row])], S - ago)
    made = listed(shop, f"[fatigue]\nafter = {after}\nfor = 600")
    counts = {row: sum(r == row and ago < 600 for r, ago in shows) for row, _ in shows}
    tired = {shop.items.ids[row] for row, count in counts.items() if count >= after}
    assert len(made) == 10
    if len(tired) < 60:
        assert not tired.intersection(made)
