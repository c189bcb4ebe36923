"""What each rule of a policy does to lists, and what it counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_shop import GROUPS, NOW, Shop, record

from models.policy import Policy
from models.policy_file import parse
from models.profile import Profile
from models.ranked_list import RankedList
from models.ranker import RankingConfig
from models.records import RankedItem


@pytest.fixture(scope="module")
def stocked() -> Shop:
    shop = Shop(config=RankingConfig(repeat_after_s={"view": 60}))
    shop.populate()
    return shop


@pytest.fixture
def shop(stocked: Shop) -> Shop:
    stocked.recommender.apply(Policy())
    stocked.recommender.counts.clear()
    return stocked


def ranked(shop: Shop, policy: str, user: str = "u1", n: int = 10, now: int = NOW) -> RankedList:
    shop.recommender.apply(parse(policy))
    return shop.recommender.recommend([shop.profiles[user]], now, n)[0]


def ids(shop: Shop, made: RankedList) -> list[str]:
    return [shop.items.ids[row] for row in made.rows]


def published(shop: Shop, made: RankedList, user: str = "u1") -> tuple[RankedItem, ...]:
    return shop.recommender.ranked_items(made, shop.profiles[user])


def categories(shop: Shop, made: RankedList) -> list[str]:
    return [shop.items.categories[row] for row in made.rows]


def test_without_rules_a_list_is_as_it_was(shop: Shop) -> None:
    before = shop.recommender.recommend([shop.profiles["u1"]], NOW)[0]
    ranked(
        shop, "blocked_labels = ['adult']\n[category_caps]\ntea = 1\n[[pins]]\nname = 'p'\nitem = 'rope-1'\nplace = 1"
    )
    assert ranked(shop, "") == before


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        ("blocked_categories = ['{category}']", "blocked_category"),
        ("blocked_items = ['{item}']", "blocked_item"),
        ("[users.u1]\nblocked_items = ['{item}']", "user_blocked"),
        ("[users.u1]\nblocked_categories = ['{category}']", "user_blocked"),
    ],
)
def test_what_is_blocked_is_in_no_list(shop: Shop, policy: str, rule: str) -> None:
    first = ids(shop, ranked(shop, ""))[0]
    category = first.partition("-")[0]
    made = ranked(shop, policy.format(item=first, category=category))
    assert first not in ids(shop, made)
    assert len(made.rows) == 10
    if "categories" in policy:
        assert category not in categories(shop, made)
    assert shop.recommender.counts[rule] == (20 if "categories" in policy else 1)
    if rule == "user_blocked":
        assert first in ids(shop, ranked(shop, policy.format(item=first, category=category).replace("u1", "u2")))


def test_a_blocked_label_holds_for_all_or_for_one() -> None:
    shop = Shop()
    for n in range(5):
        shop.items.put(f"tea-{n}", record(0, n, safety=("wine",)))
    profiles = [shop.click("ann", "tea-7", "tea-8"), shop.click("bob", "tea-7", "tea-8")]
    wine = {f"tea-{n}" for n in range(5)}

    def offered(policy: str) -> list[set[str]]:
        shop.recommender.apply(parse(policy))
        return [wine & set(ids(shop, made)) for made in shop.recommender.recommend(profiles, NOW, 30)]

    assert all(offered(""))
    ann, bob = offered("[users.ann]\nblocked_labels = ['wine']")
    assert not ann
    assert bob
    assert offered("blocked_labels = ['wine']") == [set(), set()]
    assert shop.recommender.counts["blocked_label"] == 5
    shop.items.put("tea-9", record(0, 9, safety=("wine",)))
    shop.recommender.follow()
    assert shop.recommender.counts["blocked_label"] == 6, "an item that comes under the rule later"


def test_repeat_after_takes_the_place_of_the_setting(shop: Shop) -> None:
    profile = shop.click("again", "tea-1", "tea-2", event="view")
    late = NOW + 100_000
    seen = {shop.items.find("tea-1"), shop.items.find("tea-2")}

    def again(policy: str) -> set[int]:
        shop.recommender.apply(parse(policy))
        return seen & set(shop.recommender.recommend([profile], late, 60)[0].rows)

    assert again("") == seen
    assert shop.recommender.counts["repeat_after"] == 2
    assert again("[repeat_after]\nview = 1_000") == set()
    assert shop.recommender.counts["seen"] == 2
    assert again("[repeat_after]") == set()
    assert again("[repeat_after]\nview = 10") == seen


def test_what_is_gone_is_counted_once(shop: Shop) -> None:
    shop = Shop()
    counts, filters = shop.recommender.counts, shop.recommender.filters
    filters.count_expired(NOW)
    shop.items.withdraw("tea-1")
    shop.items.put("tea-2", record(0, 2, available=False))
    shop.items.put("tea-3", record(0, 3, expires_ms=NOW + 10))
    for _ in range(2):
        shop.recommender.follow()
        filters.count_expired(NOW + 20)
        shop.items.changed.update(range(5))
    assert (counts["unavailable"], counts["expired"]) == (2, 1)


def test_a_cap_bounds_a_category_and_lets_the_best_of_it_stay(shop: Shop) -> None:
    before = ranked(shop, "diversity = 0")
    most = max(set(categories(shop, before)), key=categories(shop, before).count)
    assert categories(shop, before).count(most) > 2
    made = ranked(shop, f"diversity = 0\n[category_caps]\n{most} = 2")
    kept = [item for item in ids(shop, made) if item.startswith(most)]
    assert kept == [item for item in ids(shop, before) if item.startswith(most)][:2]
    assert shop.recommender.counts["category_cap"] > 0
    made = ranked(shop, '[category_caps]\n"*" = 2', n=12)
    assert sorted(categories(shop, made)) == sorted(GROUPS * 2)
    assert ranked(shop, '[category_caps]\n"*" = 0').rows == []


def test_the_policys_diversity_takes_the_place_of_the_setting(shop: Shop) -> None:
    by_score = ranked(shop, "diversity = 0")
    assert by_score.scores == sorted(by_score.scores, reverse=True)
    assert shop.recommender.counts["diversity"] == 0
    assert ranked(shop, "diversity = 0.9").rows != by_score.rows
    assert shop.recommender.counts["diversity"] > 0


BOOST = "[[boosts]]\nname = 'b'\nadd = {add}\n{what}\n"


@pytest.mark.parametrize("what", ["category = 'seeds'", "tag = 'seeds'", "item = 'seeds-3'"])
def test_a_boost_raises_and_the_parts_still_add_up(shop: Shop, what: str) -> None:
    made = ranked(shop, BOOST.format(add=50, what=what))
    first = published(shop, made)[0]
    assert first.item_id.startswith("seeds")
    assert first.reason.parts["policy"] == 50
    assert first.reason.text == "Featured"
    for item in published(shop, made):
        assert sum(item.reason.parts.values()) == pytest.approx(item.score, abs=1e-9)
    raised = [item for item in published(shop, made) if item.reason.parts["policy"]]
    assert {item.item_id for item in raised} <= {f"seeds-{n}" for n in range(20)}
    assert shop.recommender.counts["boost:b"] == len(raised)
    assert "policy" not in published(shop, ranked(shop, ""))[0].reason.parts


def test_boosts_of_an_item_add_up_and_may_lower(shop: Shop) -> None:
    two = BOOST.format(add=3, what="category = 'seeds'") + BOOST.format(add=-1, what="tag = 'shop'").replace(
        "'b'", "'c'"
    )
    for item in published(shop, ranked(shop, two, n=60)):
        assert item.reason.parts["policy"] == (2 if item.item_id.startswith("seeds") else -1)
    first = ids(shop, ranked(shop, ""))[0]
    assert first not in ids(shop, ranked(shop, BOOST.format(add=-90, what=f"item = '{first}'")))


def test_a_boost_holds_between_its_times(shop: Shop) -> None:
    timed = BOOST.format(add=50, what="tag = 'seeds'\nfrom = 2023-11-14T22:13:21Z\nuntil = 2023-11-14T22:13:23Z")
    shop.recommender.apply(parse(timed))
    firsts = []
    for ms in (0, 1_000, 2_999, 3_000):
        (made,) = shop.recommender.recommend([shop.profiles["u1"]], NOW + ms)
        firsts.append(ids(shop, made)[0].startswith("seeds"))
    assert firsts == [False, True, True, False]


def test_a_new_item_comes_under_the_boost_and_the_cap_of_its_category(shop: Shop) -> None:
    shop = Shop()
    profile = shop.click("ann", "rope-1", "tea-1")
    shop.recommender.apply(
        parse(BOOST.format(add=50, what="category = 'rope'") + "[category_caps]\nrope = 10\ntea = 4")
    )
    shop.items.put("rope-new", record(1, 999))
    shop.items.put("tea-2", record(1, 998, category="rope"))
    shop.recommender.follow()
    made = shop.recommender.recommend([profile], NOW, 60)[0]
    added = {shop.items.ids[row]: parts[-1] for row, parts in zip(made.rows, made.parts, strict=True)}
    assert {item for item, more in added.items() if more == 50} == {item for item in added if "rope" in item} | {
        "tea-2"
    }
    assert "rope-new" in added
    assert categories(shop, made).count("rope") == 10
    assert categories(shop, made).count("tea") == 4


PIN = "[[pins]]\nname = '{name}'\nitem = '{item}'\nplace = {place}\n"


def test_a_pin_puts_its_item_at_its_place(shop: Shop) -> None:
    pins = PIN.format(name="a", item="paint-1", place=1) + PIN.format(name="b", item="seeds-2", place=4)
    made = ranked(shop, pins)
    assert (ids(shop, made)[0], ids(shop, made)[3], len(made.rows)) == ("paint-1", "seeds-2", 10)
    assert len(set(made.rows)) == 10
    assert [item.reason.text for item in published(shop, made)].count("Featured") == 2
    for item in published(shop, made):
        assert sum(item.reason.parts.values()) == pytest.approx(item.score, abs=1e-9)
    assert (shop.recommender.counts["pin:a"], shop.recommender.counts["pin:b"]) == (1, 1)


def test_a_pin_gives_way_to_what_a_user_may_not_be_offered(shop: Shop) -> None:
    pins = PIN.format(name="a", item="paint-1", place=1) + PIN.format(name="b", item="seeds-2", place=4)
    shop.click("u3", "paint-1")
    assert "paint-1" not in ids(shop, ranked(shop, pins, "u3"))
    assert ids(shop, ranked(shop, pins, "u3"))[3] == "seeds-2"
    for block in ("blocked_items = ['paint-1']", "[users.u1]\nblocked_items = ['paint-1']"):
        assert "paint-1" not in ids(shop, ranked(shop, f"{block}\n{pins}"))
    assert "paint-1" not in ids(shop, ranked(shop, "[category_caps]\ntea = 9\n" + pins.replace("paint-1", "no such")))


def test_a_pin_counts_towards_the_cap_of_its_category(shop: Shop) -> None:
    made = ranked(shop, PIN.format(name="a", item="paint-1", place=2) + '[category_caps]\n"*" = 1')
    assert sorted(categories(shop, made)) == sorted(GROUPS)
    assert ids(shop, made)[1] == "paint-1"


def test_pins_at_one_place_follow_one_another_and_short_lists_close_up(shop: Shop) -> None:
    pins = "".join(PIN.format(name=f"p{n}", item=f"paint-{n}", place=2) for n in (1, 2))
    assert ids(shop, ranked(shop, pins))[1:3] == ["paint-1", "paint-2"]
    late = PIN.format(name="a", item="paint-1", place=9) + '[category_caps]\n"*" = 0'
    assert ids(shop, ranked(shop, late)) == ["paint-1"]


@pytest.mark.parametrize("place", [3, 5, 10, 11])
def test_a_pin_beyond_a_short_list_is_its_end_whoever_is_served_along(shop: Shop, place: int) -> None:
    left = {"boots-0", "seeds-0", "paint-0"}
    few = Profile("few", seen={shop.items.hash_of(item): (0, "click") for item in shop.items.ids if item not in left})
    shop.recommender.apply(parse(PIN.format(name="a", item="seeds-0", place=place)))
    (alone,) = shop.recommender.recommend([few], NOW)
    beside = shop.recommender.recommend([few, shop.profiles["u1"]], NOW)[0]
    assert ids(shop, alone) == ids(shop, beside)
    assert len(alone.rows) == (3 if place <= 10 else 2)
    assert place > 10 or ids(shop, alone)[2] == "seeds-0"


TARGETS = st.sampled_from(
    [f"{kind} = '{name}'" for name in GROUPS for kind in ("category", "tag")] + [f"item = '{g}-2'" for g in GROUPS]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    categories_=st.sets(st.sampled_from(GROUPS), max_size=5),
    items=st.sets(st.sampled_from([f"{g}-{n}" for g in GROUPS for n in range(4)]), max_size=8),
    own=st.sets(st.sampled_from(GROUPS), max_size=3),
    boosts=st.lists(st.tuples(TARGETS, st.floats(-20, 20)), max_size=3),
    pins=st.lists(st.tuples(st.sampled_from([f"{g}-1" for g in GROUPS]), st.integers(1, 12)), max_size=3),
    cap=st.integers(0, 4),
    batch=st.integers(1, 5),
)
def test_whatever_the_rules_what_is_blocked_is_in_no_list_and_parts_add_up(
    shop: Shop,
    categories_: set[str],
    items: set[str],
    own: set[str],
    boosts: list[tuple[str, float]],
    pins: list[tuple[str, int]],
    cap: int,
    batch: int,
) -> None:
    policy = f"blocked_categories = {sorted(categories_)}\nblocked_items = {sorted(items)}\n"
    policy += f"[users.u1]\nblocked_categories = {sorted(own)}\n[category_caps]\n'*' = {cap}\n"
    for n, (what, add) in enumerate(boosts):
        policy += f"[[boosts]]\nname = 'b{n}'\nadd = {add:.3f}\n{what}\n"
    for n, (item, place) in enumerate(pins):
        policy += PIN.format(name=f"p{n}", item=item, place=place)
    shop.recommender.apply(parse(policy))
    users = [f"u{n}" for n in range(batch)]
    profiles = [shop.profiles.get(user, Profile(user)) for user in users]
    pinned = {item for item, _ in pins}
    for profile, made in zip(profiles, shop.recommender.recommend(profiles, NOW), strict=True):
        listed = ids(shop, made)
        assert len(set(listed)) == len(listed) <= 10
        assert not items & set(listed)
        of = [item.partition("-")[0] for item in listed]
        assert not categories_ & set(of)
        assert profile.user_id != "u1" or not own & set(of)
        assert not {shop.items.find(item) for item in listed} & {
            row for row in profile.rows if not shop.recommender.filters.may_repeat(profile, row, NOW)
        }
        free = [item.partition("-")[0] for item in listed if item not in pinned]
        assert all(free.count(group) <= cap for group in GROUPS)
        np.testing.assert_allclose([sum(parts) for parts in made.parts], made.scores, atol=1e-6)
