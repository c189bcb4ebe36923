"""Arms: who is in which, and what serves them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from small_shop import NOW, Shop

from models.arms import FULL, GROUPS, Arms, group_of
from models.errors import ConfigurationError
from models.ranker import RankingConfig

USERS = [f"user-{i}" for i in range(20_000)]


def test_the_shares_are_kept_and_an_arm_is_for_ever() -> None:
    arms = Arms({"co": 0.2, "popularity.3000": 0.1})
    counts = Counter(map(arms.of, USERS))
    assert counts["co"] / len(USERS) == pytest.approx(0.2, abs=0.01)
    assert counts["popularity.3000"] / len(USERS) == pytest.approx(0.1, abs=0.01)
    assert counts[FULL] / len(USERS) == pytest.approx(0.7, abs=0.01)
    assert [Arms({"co": 0.2, "popularity.3000": 0.1}).of(user) for user in USERS[:50]] == list(map(arms.of, USERS[:50]))
    pinned = [arms.of(user) for user in ("user-0", "user-1", "user-11")]
    assert pinned == ["co", FULL, "popularity.3000"]  # in every version, or a running experiment is mixed up


def test_a_hold_out_that_grows_keeps_its_users() -> None:
    small, large = Arms({"co": 0.1}), Arms({"co": 0.3})
    assert all(large.of(user) == "co" for user in USERS if small.of(user) == "co")


def test_a_users_group_is_for_ever_and_tells_nothing_of_his_arm() -> None:
    arms = Arms({"co": 0.3})
    groups = np.array([group_of(user) for user in USERS])
    held = np.array([arms.of(user) == "co" for user in USERS])
    expected = len(USERS) / GROUPS
    assert np.bincount(groups, minlength=GROUPS) == pytest.approx([expected] * GROUPS, abs=4 * expected**0.5)
    assert np.bincount(groups, held, GROUPS) == pytest.approx(
        [0.3 * expected] * GROUPS, abs=4 * (0.3 * expected) ** 0.5
    )
    assert groups[:8].tolist() == [
        2,
        0,
        19,
        0,
        5,
        19,
        16,
        16,
    ]  # in every version: the counts of workers of two versions are added up


def test_what_is_no_expert_or_too_much_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"no such arm: popular; a hold-out is one of .*popularity\.300"):
        Arms({"popular": 0.1})
    with pytest.raises(ConfigurationError, match="more than 1"):
        Arms({"co": 0.6, "text": 0.6})


def test_a_hold_out_is_ranked_by_its_expert_and_says_so_in_its_reasons() -> None:
    shop = Shop(config=RankingConfig(arms={"popularity.3000": 0.5}, diversity=0))
    shop.populate(users=300, clicks=5)
    arms = shop.recommender.arms
    names = [name for name in shop.profiles if shop.profiles[name].rows]
    held = [shop.profiles[name] for name in names if arms.of(name) != FULL]
    full = [shop.profiles[name] for name in names if arms.of(name) == FULL]
    assert held
    assert full
    popularity = shop.view.popularity(np.arange(len(shop.items)))[:, 2]
    for profile, ranked in zip(held, shop.recommender.recommend(held, NOW), strict=True):
        counts = popularity[ranked.rows]
        # a thousandth of the prior puts equals in order
        assert (np.diff(counts) <= 5e-3 * counts.max()).all(), profile.user_id
    parts = np.array([ranked.parts for ranked in shop.recommender.recommend(full, NOW)])
    assert (parts[:, :, 0] > parts[:, :, 3]).any()  # co leads somewhere
