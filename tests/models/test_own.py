"""What a user has chosen himself, where it may be offered again."""

from __future__ import annotations

import numpy as np
import pytest
from small_shop import NOW, Shop

from models.features import FEATURES, PARTS, SCORERS, part_of
from models.histories import Histories
from models.own import Own
from models.profile import Profile
from models.ranker import DEFAULT_WEIGHTS, RankingConfig

OWN = SCORERS.index("own")
FAVOURED = DEFAULT_WEIGHTS | {"own.ratio": (5.0,) * 6}


@pytest.fixture
def shop() -> Shop:
    shop = Shop(config=RankingConfig(repeat_after_s={"purchase": 60}, weights=FAVOURED, diversity=0))
    shop.populate()
    return shop


def names(shop: Shop, rows: np.ndarray) -> list[str]:
    return shop.ids(rows[rows >= 0].tolist())


def test_it_is_what_may_come_again_by_how_often_he_clicked_it(shop: Shop) -> None:
    ann = shop.click("ann", "tea-1", "rope-1", "tea-1", "tea-2", "tea-1", "rope-1", ts=NOW - 90_000)
    shop.click("ann", "tea-3", ts=NOW)
    bob, nobody = shop.click("bob", "boots-1", ts=NOW - 90_000), Profile("nobody")
    own = Own.of([ann, nobody, bob], shop.recommender.filters, NOW)
    found = [dict(zip(names(shop, own.rows[at]), own.times[at].tolist(), strict=True)) for at in own.each()]
    assert found == [{"tea-1": 3, "rope-1": 2, "tea-2": 1}, {}, {"boots-1": 1}]
    most = own.most(2)
    assert [sorted(names(shop, row)) for row in most] == [["rope-1", "tea-1"], [], ["boots-1"]]
    rows = np.array([[shop.items.row(name) for name in ("tea-1", "tea-3", "boots-1")]] * 3)
    valid = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 0]], np.bool_)
    assert own.of_candidates(rows, valid, len(shop.items)).tolist() == [[3, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_the_longer_ago_he_clicked_it_the_more_it_is_rested(shop: Shop) -> None:
    ann = shop.click(
        "ann", "tea-9", *(f"tea-{i % 5}" for i in range(60)), "rope-1", "rope-2", "rope-1", ts=NOW - 90_000
    )
    bob = shop.click("bob", "rope-1", *(f"tea-{i % 5}" for i in range(60)), ts=NOW - 90_000)
    profiles = [ann, bob]
    own = Own.of(profiles, shop.recommender.filters, NOW)
    rows = np.array([[shop.items.row(name) for name in ("rope-1", "rope-2", "tea-4", "tea-9", "boots-1")]] * 2)
    times = own.of_candidates(rows, np.ones(rows.shape, np.bool_), len(shop.items))
    made = own.rested(Histories.of(profiles), rows, times)
    expected = [[0, 1 - 0.95, 1 - 0.95**3, 1, 0], [1, 0, 0, 0, 0]]
    assert made == pytest.approx(np.array(expected), abs=1e-6)
    scored = shop.recommender.score(profiles, NOW)
    column = scored.features[0, FEATURES.index("own.rested")]
    at = scored.candidates.rows[0].tolist().index(shop.items.row("tea-9"))
    assert column[at] == 1


def test_what_is_not_in_the_catalogue_any_more_moves_nobody_elses(shop: Shop) -> None:
    ann, bob = shop.click("ann", "tea-1", ts=NOW - 90_000), shop.click("bob", "rope-1", ts=NOW - 90_000)
    ann.seen = {12345: (0, "purchase")} | ann.seen | {54321: (0, "purchase")}
    own = Own.of([ann, bob], shop.recommender.filters, NOW)
    assert [names(shop, own.rows[at]) for at in own.each()] == [["tea-1"], ["rope-1"]]


def test_his_own_items_lead_the_list_of_who_comes_back_and_the_reason_says_so(shop: Shop) -> None:
    ann = shop.click("ann", "tea-1", "paint-7", "paint-7", "tea-2", ts=NOW - 90_000)
    (ranked,) = shop.recommender.recommend([ann], NOW)
    first, *rest = shop.recommender.ranked_items(ranked, ann)
    assert (first.item_id, first.reason.text) == ("paint-7", "Something you chose 2 times")
    assert first.reason.because[0] == "paint-7"
    assert sum(first.reason.parts.values()) == pytest.approx(first.score)
    once = next(item for item in rest if item.item_id == "tea-2")
    assert once.reason.text == "Something you bought before"
    assert list(first.reason.parts) == list(PARTS)
    (soon,) = shop.recommender.recommend([ann], NOW - 60_000)
    assert not {"tea-1", "paint-7"} & set(shop.ids(soon.rows)), "a minute has not passed"


def test_a_click_that_is_named_for_it_does_raise_it(shop: Shop) -> None:
    often = shop.click("often", "paint-7", "paint-7", "tea-2", ts=NOW - 90_000)
    never = shop.click("never", "tea-2", ts=NOW - 90_000)
    row, raised = shop.items.row("paint-7"), []
    for profile in (often, never):
        scored = shop.recommender.score([profile], NOW)
        at = scored.candidates.rows[0].tolist()
        raised.append(float(scored.scores[0, at.index(row)]) if row in at else -np.inf)
    assert raised[0] > raised[1]


def test_its_cause_is_named_after_it_is_gone_from_the_history(shop: Shop) -> None:
    shop.click("ann", "paint-7", "paint-7", ts=NOW - 90_000)
    ann = shop.click("ann", *(f"tea-{i % 5}" for i in range(60)), ts=NOW - 80_000)
    assert shop.items.row("paint-7") not in ann.rows
    (ranked,) = shop.recommender.recommend([ann], NOW, 20)
    items = {item.item_id: item for item in shop.recommender.ranked_items(ranked, ann)}
    assert items["paint-7"].reason.because[0] == "paint-7"


def test_his_own_items_are_looked_at_whatever_else_is() -> None:
    few = RankingConfig(
        repeat_after_s={"purchase": 60}, text_candidates=8, like_candidates=4, co_candidates=4, linear_candidates=0,
        layer_candidates=3, popular_candidates=2, new_candidates=0, new_items=0, own_candidates=2,
    )  # fmt: skip
    shop = Shop(config=few)
    shop.populate()
    shop.click("ann", "paint-7", "paint-7", "rope-1", "rope-1", "rope-1", "boots-9", ts=NOW - 90_000)
    ann = shop.click("ann", *(f"tea-{i % 5}" for i in range(60)), ts=NOW - 80_000)
    scored = shop.recommender.score([ann], NOW)
    rows = scored.candidates.rows[0].tolist()
    assert len(rows) < 60
    own = dict(zip(shop.ids(rows), scored.candidates.said[OWN, 0].tolist(), strict=True))
    assert not {"paint-7", "boots-9"} & set(own), "he has clicked others more often"
    ann.often = {item: times for item, times in ann.often.items() if times < 10}
    scored = shop.recommender.score([ann], NOW)
    own = dict(zip(shop.ids(scored.candidates.rows[0].tolist()), scored.candidates.said[OWN, 0].tolist(), strict=True))
    assert (own["rope-1"], own["paint-7"]) == (3, 2)
    assert "boots-9" not in own


def test_it_has_share_logarithm_and_rank_as_every_scorer_has(shop: Shop) -> None:
    ann = shop.click("ann", "tea-1", "rope-1", "tea-1", "tea-1", ts=NOW - 90_000)
    scored = shop.recommender.score([ann], NOW)
    rows = shop.ids(scored.candidates.rows[0].tolist())
    for feature, tea, rope in (("ratio", 1, 1 / 3), ("rank", 1, 1 / 1.2), ("log", np.log(1001) / 3, None)):
        column = dict(zip(rows, scored.features[0, FEATURES.index(f"own.{feature}")].tolist(), strict=True))
        assert column["tea-1"] == pytest.approx(tea, rel=1e-3)
        assert rope is None or column["rope-1"] == pytest.approx(rope, rel=1e-3)


def test_where_nothing_may_come_again_it_says_nothing_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(config=RankingConfig(weights=FAVOURED))
    shop.populate()
    ann = shop.click("ann", "tea-1", "tea-1", "rope-1", ts=NOW - 90_000)
    monkeypatch.delattr(Own, "of")
    scored = shop.recommender.score([ann], NOW)
    own = [i for i, feature in enumerate(FEATURES) if part_of(feature) == "own"]
    assert not scored.features[:, own].any()
    assert not scored.candidates.said[OWN].any()
    assert shop.recommender.recommend([ann], NOW)[0].rows
