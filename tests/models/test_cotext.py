"""New items: what stands in for the co-clicks that they have not had, and the places that are kept for them."""

from dataclasses import replace

import numpy as np
import pytest

from models import cotext
from models.cotext import FEW
from models.histories import Histories
from models.likeness import NEAR
from models.ranked_list import RankedList
from models.ranker import RankingConfig
from tests.small_shop import NOW, Shop, record

ANY = 1e6
"""No score is so far below another."""


def shop_with(new_items: int, within: float = ANY) -> Shop:
    """A shop in which every item but one of each group was clicked often enough, and what comes new is told by text."""
    shop = Shop(config=RankingConfig(diversity=0, new_items=new_items, new_within=within))
    shop.populate(users=240)
    shop.items.put("tea-new", record(0, 77))
    shop.items.put("rope-new", record(1, 1077))
    shop.recommender.follow()
    return shop


def listed(shop: Shop, *clicked: str) -> RankedList:
    return shop.recommender.recommend([shop.click("ann", *clicked)], NOW)[0]


def test_a_place_goes_to_the_new_item_that_reads_like_what_the_like_minded_choose() -> None:
    shop = shop_with(1)
    ranked = listed(shop, *(f"rope-{i}" for i in range(6)))
    assert shop.ids(ranked.rows)[-1] == "rope-new"
    assert shop.recommender.counts["new_items"] == 1
    shop.recommender.config = replace(shop.recommender.config, new_items=0)
    without = listed(shop).rows
    assert "rope-new" not in shop.ids(without)
    assert ranked.rows[:-1] == without[:-1]  # the others stay as they are


def test_what_is_listed_already_takes_no_second_place() -> None:
    shop = shop_with(1)
    ranked = listed(shop, "tea-1")
    new = [item for item in shop.ids(ranked.rows) if shop.neighbours.counts[shop.items.row(item)] < FEW]
    assert len(new) == len(set(new)) <= 2
    assert len(set(ranked.rows)) == len(ranked.rows)


def test_no_place_is_kept_while_most_clicks_are_on_new_items() -> None:
    shop = shop_with(1)
    counts = shop.neighbours.counts
    counts[: len(shop.items)] = np.minimum(counts[: len(shop.items)], 2 * FEW)  # half of them when the item was new
    for _ in range(cotext.RECKONED):
        shop.recommender.follow()
    assert "rope-new" not in shop.ids(listed(shop, *(f"rope-{i}" for i in range(6))).rows)
    counts[0] += FEW
    shop.recommender.follow()  # once, as after a start: the first counts to come say it
    assert shop.ids(listed(shop).rows)[-1] == "rope-new"


def test_no_new_item_comes_from_further_below_than_it_may() -> None:
    shop = shop_with(1, within=0)
    assert shop.ids(listed(shop, *(f"rope-{i}" for i in range(12))).rows)[-1] != "rope-new"
    assert not shop.recommender.counts["new_items"]


def test_an_item_is_new_until_it_was_clicked_a_few_times() -> None:
    shop = shop_with(1)
    new, row = shop.recommender.sources.new, shop.items.row("tea-new")
    assert row in new.rows
    for user in range(FEW):
        assert new.place[row] >= 0
        shop.click(f"fan-{user}", "tea-new")
    assert row not in new.rows
    assert new.place[row] < 0


def test_the_nearest_are_others_and_their_weights_sum_up_to_one() -> None:
    shop = shop_with(1)
    new = shop.recommender.sources.new
    at = int(new.place[shop.items.row("tea-new")])
    near, weights = new.near[at], new.weights[at]
    assert new.near.shape == (len(new.rows), NEAR)
    assert weights[near == shop.items.row("tea-new")].sum() == 0
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    group = np.array([shop.items.ids[row].startswith("tea") for row in near])
    assert weights[group].sum() > 0.8


def test_cotext_is_the_weighted_mean_of_the_nearest_items_co() -> None:
    shop = shop_with(1)
    new, row = shop.recommender.sources.new, shop.items.row("tea-new")
    profile = shop.click("somebody", "tea-1", "tea-2")  # what he has met says most about what reads like it
    found = shop.recommender.score([profile], NOW).candidates
    assert found.cotext is not None
    histories, at = Histories.of([profile]), int(new.place[row])
    co = shop.neighbours.co(histories.rows, histories.decay)[0]
    expected = float(new.weights[at] @ co[new.near[at]])
    assert expected > 0
    assert found.cotext[found.rows == row] == pytest.approx(expected, rel=1e-4)
    assert not found.cotext[new.place[found.rows] < 0].any(), "not new"


def test_of_many_new_items_those_that_came_last_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cotext, "MOST", 1)
    assert shop_with(1).recommender.sources.new.rows.tolist() == [len(shop_with(1).items) - 1]


def test_what_is_withdrawn_is_not_offered_as_new() -> None:
    shop = shop_with(1)
    shop.items.withdraw("rope-new")
    shop.recommender.follow()
    assert "rope-new" not in shop.ids(listed(shop, *(f"rope-{i}" for i in range(12))).rows)
    assert shop.items.row("rope-new") not in shop.recommender.sources.new.rows


def test_who_reads_otherwise_now_has_other_items_near() -> None:
    shop = shop_with(1)
    new, row = shop.recommender.sources.new, shop.items.row("tea-new")
    shop.items.put("tea-new", record(2, 2077))  # it was about lamps
    shop.recommender.follow()
    at = int(new.place[row])
    near = np.array([shop.items.ids[other].startswith("lamps") for other in new.near[at]])
    assert new.weights[at][near].sum() > 0.8


def test_while_the_same_items_are_new_nothing_is_laid_out_anew() -> None:
    shop = shop_with(1)
    before = shop.recommender.sources.new.near
    shop.click("ann", "tea-1")
    assert shop.recommender.sources.new.near is before
    shop.items.withdraw("rope-new")
    shop.recommender.follow()
    assert shop.recommender.sources.new.near is not before
