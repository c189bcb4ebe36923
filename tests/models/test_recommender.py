"""Lists: what is in them, what is not, and why."""

import dataclasses
import math

import msgspec
import numpy as np
import pytest
import torch
from small_shop import GROUPS, NOW, Shop, record

from models.diversity import diversify
from models.events import Click
from models.features import FEATURES, PARTS, SCORERS
from models.histories import Histories
from models.index import ItemIndex
from models.items import ItemStore
from models.linear import CoClicks
from models.neighbours import Neighbours
from models.profile import Profile
from models.ranked_list import RankedList
from models.ranker import RankingConfig
from models.recommender import Recommender
from models.records import RankedItem
from models.sequence import SequenceNet, SequenceScorer


@pytest.fixture(scope="module")
def shop() -> Shop:
    shop = Shop()
    shop.populate()
    return shop


@pytest.fixture(params=[False, True], ids=["exact", "approximate"])
def approximate(request: pytest.FixtureRequest) -> bool:
    """Whether the nearest are found as in a large catalogue, by an index."""
    return bool(request.param)


def regressed(shop: Shop) -> None:
    """Give the shop a linear part."""
    counts = CoClicks(shop.items)
    for profile in shop.profiles.values():
        counts.learn_user(np.fromiter(profile.seen, np.uint64))
    shop.neighbours.take(counts.solve(5.0))


def one(shop: Shop, profile: Profile, n: int = 10, now: int = NOW) -> RankedList:
    return shop.recommender.recommend([profile], now, n)[0]


def test_a_user_is_offered_what_his_like_choose(shop: Shop) -> None:
    profile = shop.click("tea lover", "tea-1", "tea-2", "tea-3")
    ranked = one(shop, profile)
    assert len(ranked.rows) == 10
    assert sum(item.startswith("tea") for item in shop.ids(ranked.rows)) >= 8


def test_lists_follow_the_last_clicks(shop: Shop) -> None:
    profile = shop.click("turncoat", *(f"boots-{i}" for i in range(5)))
    shop.click("turncoat", *(f"paint-{i}" for i in range(12)))
    assert sum(item.startswith("paint") for item in shop.ids(one(shop, profile, 5).rows)) >= 4


def test_a_user_without_clicks_gets_what_is_popular(shop: Shop) -> None:
    ranked = one(shop, Profile("nobody"))
    assert len(ranked.rows) == 10
    popular = shop.view.popularity(np.arange(len(shop.items))).max(axis=1)
    assert np.median(popular[ranked.rows]) > np.median(popular)
    assert ranked.layer == ""
    assert all(item.reason.text == "Popular right now" for item in shop.recommender.ranked_items(ranked, Profile("n")))


def test_a_list_does_not_depend_on_who_else_is_in_the_batch(shop: Shop) -> None:
    profiles = [shop.click(f"u{i}") for i in range(60)]
    together = shop.recommender.recommend(profiles, NOW)
    for profile, ranked in list(zip(profiles, together, strict=True))[::7]:
        alone = one(shop, profile)
        assert alone.rows == ranked.rows
        np.testing.assert_allclose(alone.scores, ranked.scores, rtol=1e-4)


def test_the_parts_of_a_reason_add_up_to_the_score(shop: Shop) -> None:
    profiles = [shop.click(f"u{i}") for i in range(12)] + [Profile("nobody")]
    for profile, ranked in zip(profiles, shop.recommender.recommend(profiles, NOW), strict=True):
        for item, raw in zip(shop.recommender.ranked_items(ranked, profile), ranked.scores, strict=True):
            assert math.isclose(sum(item.reason.parts.values()), item.score, abs_tol=1e-9)
            assert item.score == pytest.approx(raw, abs=len(PARTS) * 1e-4)
            assert set(item.reason.parts) <= set(PARTS)


def test_the_clicks_named_as_the_cause_do_raise_the_item(shop: Shop) -> None:
    """Without one of them the item's raw score, by co or else by text, is lower."""
    profile = shop.click("many", "tea-1", "rope-4", "tea-7", "lamps-3", "tea-2")
    ranked = one(shop, profile)
    named = 0
    for row, causes, parts in zip(ranked.rows, ranked.because, ranked.parts, strict=True):
        by_co = parts[PARTS.index("co")] > 0
        whole = raw(shop, profile, row, by_co)
        for cause in filter(lambda cause: cause >= 0, causes):
            named += 1
            without = shop.click(f"without-{cause}-{row}")
            kept = [i for i, other in enumerate(profile.rows) if other != cause]
            without.rows = [profile.rows[i] for i in kept]
            assert raw(shop, without, row, by_co) < whole
    assert named >= len(ranked.rows)


def raw(shop: Shop, profile: Profile, row: int, by_co: bool) -> float:
    """Σ of the decayed gains at the places the clicks have, or the cosine."""
    if by_co:
        full = shop.profiles["many"].rows
        age = [full[::-1].index(other) for other in profile.rows]
        rows = np.array([profile.rows])
        return float(shop.neighbours.scores(rows, np.float32(0.9) ** np.array([age], np.float32))[0, row])
    return float(shop.recommender.user_vectors([profile])[0] @ shop.items.centred(np.array([row]))[0])


def test_a_cause_that_has_no_title_yet_is_not_named() -> None:
    shop = Shop()
    for user in ("a", "b", "c"):
        shop.click(user, "unheard-of", "tea-1")
    profile = shop.click("new", "unheard-of")
    best = shop.recommender.ranked_items(one(shop, profile), profile)[0]
    assert best.item_id == "tea-1"
    assert best.reason.because == ("unheard-of",)
    assert "unheard-of" not in best.reason.text
    assert best.reason.text == "Often chosen together with what you chose"


def test_causes_of_one_title_are_named_once() -> None:
    shop = Shop()
    for item in ("tea-1", "tea-2"):
        shop.items.put(item, record(0, 1, title="Green tea"))
    for user in ("a", "b", "c"):
        shop.click(user, "tea-1", "tea-2", "rope-1")
    profile = shop.click("new", "tea-1", "tea-2")
    best = next(i for i in shop.recommender.ranked_items(one(shop, profile), profile) if i.item_id == "rope-1")
    assert set(best.reason.because) == {"tea-1", "tea-2"}
    assert best.reason.text.count("Green tea") == 1


def test_reasons_are_plain_sentences_with_titles_and_events(shop: Shop) -> None:
    profile = shop.click("reader", "seeds-1", "seeds-2", event="view")
    items = shop.recommender.ranked_items(one(shop, profile), profile)
    texts = [item.reason.text for item in items]
    assert any(text.startswith("Because you looked at Seeds number") for text in texts)
    assert all(item.reason.because for item in items[:3])
    assert msgspec.json.decode(msgspec.json.encode(items), type=tuple[RankedItem, ...]) == items


def test_of_a_long_history_the_newest_event_of_a_click_is_told() -> None:
    shop = Shop(each=40)
    shop.populate()
    shop.click("long", *(f"seeds-{i}" for i in range(30)), event="view")
    profile = shop.click("long", *(f"seeds-{i}" for i in range(8)), event="purchase")
    texts = [item.reason.text for item in shop.recommender.ranked_items(one(shop, profile), profile)]
    assert any(text.startswith("Because you bought Seeds number") for text in texts)


def test_a_layer_is_told_with_its_label() -> None:
    shop = Shop()
    shop.populate(users=400, clicks=5)
    profile = shop.profiles["u7"]
    ranked = one(shop, profile)
    assert shop.view.ready
    assert ranked.layer == profile.layer != ""
    assert ranked.label


@pytest.mark.parametrize(
    "config",
    [
        RankingConfig(),
        RankingConfig(without=frozenset()),
        RankingConfig(without=frozenset(), weights={"layer.ratio": (1,) * 6}),
        RankingConfig(without=frozenset(), weights={"layer.rank": (1,) * 6, "co.ratio": (2,) * 6}),
        RankingConfig(weights={"text.log": (1,) * 6}),
    ],
    ids=["default", "all", "layer's ratio", "layer's rank", "text's log"],
)
def test_what_a_list_leaves_out_weighs_nothing(config: RankingConfig) -> None:
    """A list works out what is weighed, a lesson everything."""
    shop = Shop(config=config)
    shop.populate(users=400, clicks=5)
    profiles = [shop.profiles[user] for user in ("u7", "u8", "u9")]
    lists, scored = shop.recommender.recommend(profiles, NOW), shop.recommender.score(profiles, NOW)
    for user, ranked in enumerate(lists):
        known = dict(zip(scored.candidates.rows[user].tolist(), scored.scores[user].tolist(), strict=True))
        assert ranked.scores == pytest.approx([known[row] for row in ranked.rows], abs=1e-3)
        assert any(ranked.scores)


# -- filters ---------------------------------------------------------------------------------------------------------


def test_what_was_seen_is_not_offered_again(shop: Shop) -> None:
    profile = shop.click("seen it", *(f"lamps-{i}" for i in range(15)))
    assert not set(one(shop, profile).rows) & set(profile.rows)


def test_a_kind_of_event_may_repeat_after_its_time() -> None:
    shop = Shop(config=RankingConfig(repeat_after_s={"purchase": 3600}, diversity=0))
    shop.populate()
    profile = shop.click("regular", *(f"tea-{i}" for i in range(20)), ts=NOW)
    shop.click("regular", "tea-0", event="view", ts=NOW)
    soon, later = one(shop, profile, now=NOW + 3_599_000), one(shop, profile, now=NOW + 3_600_000)
    assert not any(item.startswith("tea") for item in shop.ids(soon.rows))
    assert any(item.startswith("tea") for item in shop.ids(later.rows))
    assert "tea-0" not in shop.ids(later.rows)  # a view has no such time: never


def test_a_dismissed_item_stays_away_and_teaches_nothing(shop: Shop) -> None:
    profile = shop.click("picky", "rope-1", "rope-2")
    first = shop.ids(one(shop, profile).rows)[0]
    shop.click("picky", first, event="dismiss")
    assert first not in shop.ids(one(shop, profile, 50).rows)
    assert profile.clicks == 2


def test_unavailable_expired_and_blocked_items_are_in_no_list() -> None:
    config = RankingConfig(blocked_categories=frozenset({"paint"}), blocked_labels=frozenset({"adult"}))
    shop = Shop(config=config)
    shop.populate()
    shop.items.withdraw("tea-0")
    shop.items.put("tea-1", record(0, 1, expires_ms=NOW))
    shop.items.put("tea-2", record(0, 2, safety=("adult",)))
    shop.items.put("tea-3", record(0, 3, available=False))
    shop.items.put("tea-4", record(0, 4, category="paint"))
    shop.recommender.follow()
    for user in ("u0", "u5", "fresh"):
        listed = shop.ids(one(shop, shop.click(user), 200).rows)
        assert not {"tea-0", "tea-1", "tea-2", "tea-3", "tea-4"} & set(listed)
        assert not any(item.startswith("paint") for item in listed)
    shop.items.put("tea-2", record(0, 2))  # the label is taken off
    shop.recommender.follow()
    assert "tea-2" in shop.ids(one(shop, Profile("another"), 200).rows)


def test_a_list_is_as_long_as_what_there_is_to_offer() -> None:
    shop = Shop(each=3)
    for profile in (Profile("new"), shop.click("some", "tea-0", "tea-1")):
        left = 18 - len(profile.rows)
        ranked = one(shop, profile, 50)
        assert len(ranked.rows) == len(set(ranked.rows)) == left
    all_seen = shop.click("all", *shop.items.ids)
    assert one(shop, all_seen).rows == []


def test_before_anything_is_known_the_newest_items_are_offered() -> None:
    shop = Shop(layers=False)
    newest = shop.ids(range(len(shop.items) - 10, len(shop.items)))
    assert sorted(shop.ids(one(shop, Profile("first")).rows)) == sorted(newest)


def test_an_empty_catalogue_gives_an_empty_list() -> None:
    items = ItemStore(8)
    recommender = Recommender(items, Neighbours(items), ItemIndex(items))
    assert recommender.recommend([Profile("a"), Profile("b")], NOW)[1].rows == []


def test_an_item_mentioned_since_the_last_look_at_the_catalogue_does_no_harm(shop: Shop) -> None:
    profile = shop.click("early", "tea-1", "tea-2")
    shop.neighbours.learn(shop.items.row("not in the catalogue"), profile.rows[::-1])
    profile.rows.append(shop.items.row("not in the catalogue either"))
    profile.times.append(NOW)
    profile.events.append("view")
    assert len(one(shop, profile).rows) == 10


# -- vectors, weights, size ------------------------------------------------------------------------------------------


def test_the_user_vector_mixes_bert_and_the_mean_of_his_items(shop: Shop) -> None:
    profile = shop.click("mixed", "tea-1", "tea-2")
    mean = shop.recommender.user_vectors([profile])[0]
    rows = np.array(profile.rows[::-1])
    expected = np.array([1, 0.9]) @ shop.items.centred(rows)
    np.testing.assert_allclose(mean, expected / np.linalg.norm(expected), atol=1e-5)
    bert = shop.items.vectors[[shop.items.row("lamps-3")]]
    centred = shop.items.centred(np.array([shop.items.row("lamps-3")]))[0]
    np.testing.assert_allclose(shop.recommender.user_vectors([profile], bert, 1.0)[0], centred, atol=1e-3)
    half = 0.5 * centred + 0.5 * mean
    np.testing.assert_allclose(
        shop.recommender.user_vectors([profile], bert, 0.5)[0], half / np.linalg.norm(half), atol=1e-3
    )
    np.testing.assert_array_equal(shop.recommender.user_vectors([profile], np.zeros_like(bert), 0.5)[0], mean)
    assert not shop.recommender.user_vectors([Profile("nobody")]).any()


def test_a_score_is_features_times_weights(shop: Shop) -> None:
    profiles = [shop.click(f"u{i}") for i in range(6)] + [Profile("nobody")]
    scored = shop.recommender.score(profiles, NOW)
    found = scored.candidates
    for user in range(len(profiles)):
        made = scored.features[user][:, found.valid[user]]
        assert made.shape == (len(FEATURES), found.valid[user].sum())
        expected = shop.recommender.weights[scored.buckets[user]] @ made
        np.testing.assert_allclose(scored.scores[user, found.valid[user]], expected, rtol=1e-4, atol=1e-5)
    assert np.isneginf(scored.scores[~found.valid]).all()


def test_the_deep_part_ranks_what_has_been_clicked_and_its_share_is_told() -> None:
    shop = Shop()
    shop.populate()
    deep, plain = SequenceScorer(shop.items), shop.recommender
    shop.items.put("paint-new", record(5, 5077))  # nobody has clicked it: the net has not met it
    shop.recommender = Recommender(
        shop.items, shop.neighbours, ItemIndex(shop.items), shop.view, RankingConfig(diversity=0), deep
    )
    profile = shop.click("ann", "paint-1", "paint-2", "paint-3")
    silent = shop.recommender.score([profile], NOW)
    at = FEATURES.index("sequence.ratio")
    assert not silent.features[:, at : at + 3].any(), "there is no net yet"
    torch.manual_seed(3)
    deep.put(SequenceNet(shop.items.dimension), 1)
    shop.recommender.follow()
    scored = shop.recommender.score([profile], NOW)
    rows, valid = scored.candidates.rows, scored.candidates.valid
    new = shop.neighbours.counts[rows[0]] == 0
    assert shop.items.row("paint-new") in rows[0, new & valid[0]]
    assert not scored.features[0, at : at + 3, new].any()
    said = deep.scores(Histories.of([profile]), rows, valid & ~new)
    np.testing.assert_allclose(scored.features[:, at], said / said.max(axis=1, keepdims=True), rtol=1e-5)
    assert len(np.unique(said[valid])) > 20
    ranked = one(shop, profile)
    assert any(parts[PARTS.index("sequence")] > 0 for parts in ranked.parts)
    assert all(parts[PARTS.index("sequence")] == 0 for parts in plain.recommend([profile], NOW)[0].parts)


def with_few_candidates(shop: Shop, approximate: bool, like: int, linear: int) -> Recommender:
    """What one source brings is not among what the others do."""
    return Recommender(
        shop.items,
        shop.neighbours,
        ItemIndex(shop.items, exact_below=100 if approximate else 1_000),
        shop.view,
        RankingConfig(
            text_candidates=3,
            like_candidates=like,
            co_candidates=3,
            linear_candidates=linear,
            layer_candidates=3,
            popular_candidates=1,
            new_items=0,
        ),
    )


def test_the_linear_part_brings_its_own_candidates_and_names_the_clicks_that_it_follows_from(approximate: bool) -> None:
    shop = Shop()
    shop.populate()
    linear = shop.neighbours.linear
    profile = shop.click("ann", "paint-1", "paint-2", "paint-3")
    at = FEATURES.index("linear.ratio")
    silent = shop.recommender.score([profile], NOW)
    assert not silent.features[:, at : at + 3].any(), "nothing has been solved for yet"
    few = with_few_candidates(shop, approximate, like=3, linear=1)  # what he has seen takes nobody's place
    near, clicked = shop.items.row("paint-9"), shop.items.row("paint-2")
    far = next(row for row in reversed(range(len(shop.items))) if row not in few.score([profile], NOW).candidates.rows)
    linear.fill(clicked, np.array([far, near]), np.array([2.0, -1.0], np.float32))
    linear.fill(shop.items.row("paint-1"), np.array([near, clicked]), np.array([0.5, 3.0], np.float32))
    scored = few.score([profile], NOW)
    said = dict(zip(scored.candidates.rows[0].tolist(), scored.features[0, at].tolist(), strict=True))
    assert said[far] == 1
    assert said.get(near, 0) == 0, "a sum below 0 says nothing"
    assert clicked not in said, "he has seen it"
    few.weights = np.zeros_like(few.weights)
    few.weights[:, at] = 1
    ranked = few.recommend([profile], NOW)[0]
    assert ranked.rows[0] == far
    assert ranked.because[0] == [clicked, -1, -1]
    first = few.ranked_items(ranked, profile)[0]
    assert first.reason.parts["linear"] == first.score == 1
    assert first.reason.text == "Because you bought Paint number 5002"


def test_what_reads_like_one_click_is_a_candidate_and_names_that_click(approximate: bool) -> None:
    shop = Shop()
    shop.populate()
    clicked = [*(f"rope-{i}" for i in range(12)), "tea-1", *(f"rope-{i}" for i in range(12, 18))]
    profile = shop.click("ann", *clicked)
    few = with_few_candidates(shop, approximate, like=9, linear=1)
    few.recommend([profile], NOW)  # somebody has asked for what reads like that tea
    shop.items.put("tea-new", record(0, 1, title="New tea"))
    few.follow()
    few.weights = np.zeros_like(few.weights)
    few.weights[:, FEATURES.index("text.like.ratio")] = 1
    ranked = few.recommend([profile], NOW)[0]
    place = shop.ids(ranked.rows).index("tea-new")
    assert ranked.because[place] == [shop.items.row("tea-1"), -1, -1]
    first = few.ranked_items(ranked, profile)[place]
    assert first.reason.parts["text"] == first.score > 0
    assert first.reason.text.startswith("Like Tea number 1")


def test_what_somebody_has_met_takes_no_place_of_what_reads_alike(approximate: bool) -> None:
    shop = Shop()
    shop.populate()
    few = with_few_candidates(shop, approximate, like=1, linear=1)
    profile = shop.click("ann", *(f"boots-{i}" for i in range(12)))
    looked_at = few.score([profile], NOW).candidates.rows
    likeness, (clicked, *others) = few.sources.likeness, profile.rows
    for row in profile.rows:
        likeness.fill(row, np.empty(0, np.int64), np.empty(0, np.float32))
    far = next(row for row in reversed(range(len(shop.items))) if row not in looked_at)
    likeness.fill(clicked, np.array([*others, far]), np.array([1.0] * len(others) + [0.1], np.float32))
    assert far in few.score([profile], NOW).candidates.rows


def test_candidates_lose_nothing_that_scoring_everything_would_list() -> None:
    few = RankingConfig(diversity=0, text_candidates=40, co_candidates=40, layer_candidates=30, popular_candidates=20)
    everything = dataclasses.replace(few, text_candidates=9999, co_candidates=9999, layer_candidates=9999)
    shop = Shop(each=60)
    shop.populate(users=120, clicks=10)
    profiles = [shop.profiles[f"u{i}"] for i in range(0, 120, 7)]
    lists = []
    for config in (few, everything):
        recommender = Recommender(shop.items, shop.neighbours, ItemIndex(shop.items), shop.view, config)
        lists.append([set(ranked.rows) for ranked in recommender.recommend(profiles, NOW)])
    same = [len(a & b) for a, b in zip(*lists, strict=True)]
    assert np.mean(same) >= 9.5


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_a_catalogue_past_the_threshold_is_ranked_by_the_approximate_index_alike(kind: str) -> None:
    shop = Shop(each=60)
    shop.populate(users=60)
    regressed(shop)
    profiles = [shop.profiles[f"u{i}"] for i in range(0, 60, 5)]
    index = ItemIndex(shop.items, exact_below=100, kind=kind)  # type: ignore[arg-type]
    other = Recommender(shop.items, shop.neighbours, index, shop.view, shop.recommender.config)
    assert not index.exact
    for recommender in (shop.recommender, other):  # 64 items a list are looked up, and here is more to look up
        recommender.recommend(profiles, NOW)
        recommender.recommend(profiles, NOW)
    for a, b in zip(shop.recommender.recommend(profiles, NOW), other.recommend(profiles, NOW), strict=True):
        assert len(set(a.rows) & set(b.rows)) >= 9


def test_nothing_of_one_call_is_left_in_the_next(approximate: bool) -> None:
    shop = Shop()
    shop.populate()
    regressed(shop)
    tea = shop.click("tea only", "tea-1", "tea-2")
    few = RankingConfig(text_candidates=16, co_candidates=16, layer_candidates=9, popular_candidates=2)
    index = ItemIndex(shop.items, exact_below=100 if approximate else 1_000)
    recommender = Recommender(shop.items, shop.neighbours, index, shop.view, few)
    before = recommender.score([tea], NOW)
    assert before.candidates.said[SCORERS.index("linear")].any()
    found = before.candidates.rows[before.candidates.valid]
    assert len({*found.tolist()}) == len(found), "none twice"
    recommender.recommend([shop.click(f"u{i}") for i in range(60)], NOW)
    after = recommender.score([tea], NOW)
    np.testing.assert_array_equal(before.candidates.rows, after.candidates.rows)
    np.testing.assert_array_equal(before.scores, after.scores)


def test_where_nothing_is_on_offer_and_nothing_popular_lists_are_empty(approximate: bool) -> None:
    shop = Shop()
    shop.populate()
    index = ItemIndex(shop.items, exact_below=100 if approximate else 1_000)
    recommender = Recommender(shop.items, shop.neighbours, index)
    assert recommender.recommend([Profile("nobody")], NOW)[0].rows, "there is something yet"
    for item_id in list(shop.items.ids):
        shop.items.withdraw(item_id)
    recommender.follow()
    assert recommender.recommend([Profile("nobody")], NOW)[0].rows == []


def test_a_reason_names_a_click_as_it_is_called_now() -> None:
    shop = Shop()
    shop.populate()
    profile = shop.click("tea lover", "tea-1", "tea-2")

    def named() -> str:
        return " ".join(item.reason.text for item in shop.recommender.ranked_items(one(shop, profile), profile))

    assert "Tea number 1" in named()
    shop.items.put("tea-1", record(0, 1, title="Darjeeling"))
    shop.recommender.follow()
    assert "Darjeeling" in named()


def test_diversity_spreads_a_list(shop: Shop) -> None:
    def spread(strength: float) -> float:
        config = RankingConfig(diversity=strength, diversity_pool=60)
        recommender = Recommender(shop.items, shop.neighbours, ItemIndex(shop.items), shop.view, config)
        profile = shop.click("two minds", "tea-1", "boots-1")
        vectors = shop.items.centred(np.array(recommender.recommend([profile], NOW)[0].rows))
        return float((vectors @ vectors.T).mean())

    assert spread(0.6) < spread(0.0)


def test_stages_are_timed(shop: Shop) -> None:
    shop.recommender.timings.clear()
    one(shop, shop.profiles["u1"])
    assert {"filters", "candidates", "features", "score", "diversity", "reasons"} <= set(shop.recommender.timings)
    assert len(GROUPS) == 6


def test_from_the_first_click_on_a_list_is_full_and_the_users_own(shop: Shop) -> None:
    names = ("tea", "rope", "lamps", "boots")
    nobody = shop.recommender.recommend([Profile("nobody")], NOW)[0].rows
    assert len(nobody) == 10
    for clicks in (1, 2, 3):
        profiles = [shop.click(f"new {clicks} {name}", *(f"{name}-{i}" for i in range(clicks))) for name in names]
        lists = [ranked.rows for ranked in shop.recommender.recommend(profiles, NOW)]
        assert [len(rows) for rows in lists] == [10] * len(names)
        assert len({tuple(rows) for rows in [*lists, nobody]}) == len(names) + 1, "no two lists are the same"
        for name, rows in zip(names, lists, strict=True):
            assert sum(item.startswith(name) for item in shop.ids(rows)) >= 5


@pytest.mark.parametrize("known", [True, False], ids=["where others have clicked", "where nobody has"])
def test_new_users_of_one_group_have_a_full_list_of_their_own_after_different_clicks(known: bool) -> None:
    """Items of a group are alike, so here two lists are easily the same; nobody learns from these users' clicks."""
    shop = Shop()
    if known:
        shop.populate()
    nobody = one(shop, Profile("nobody")).rows
    assert len(set(nobody)) == 10
    for clicks in (1, 2, 3):
        profiles = []
        for name in GROUPS:
            for first in range(20):
                profile = Profile(f"new {clicks} {name} {first}")
                for i in range(first, first + clicks):
                    click = Click(user_id=profile.user_id, item_id=f"{name}-{i % 20}", ts=NOW, event="purchase")
                    profile.apply(click, profile.applied + 1, shop.items)
                profiles.append(profile)
        shop.place(profiles)
        lists = [tuple(ranked.rows) for ranked in shop.recommender.recommend(profiles, NOW)]
        assert {len(set(rows)) for rows in lists} == {10}
        assert len({*lists, tuple(nobody)}) == len(lists) + 1, f"two lists after {clicks} are the same"
        assert not any(set(rows) & set(profile.rows) for rows, profile in zip(lists, profiles, strict=True))


def test_who_has_few_candidates_left_is_offered_none_of_them_twice() -> None:
    """In a batch with others, places that he cannot fill stay empty."""
    scores = np.array([[3, 2, -np.inf, -np.inf], [4, 3, 2, 1], [-np.inf] * 4], np.float32)
    near = np.eye(4, dtype=np.float32)[None].repeat(3, axis=0)
    order = diversify(scores, near, 4, 0.3)
    assert [sorted(line) for line in order.tolist()] == [[0, 1, 2, 3]] * 3
    assert order[0, :2].tolist() == [0, 1]
