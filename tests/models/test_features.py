"""Features of candidates, and the arithmetic around them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.choosing import best, to_four_places
from models.diversity import cosines, diversify
from models.features import FEATURES, FORMS, PARTS, SCORERS, TO_PARTS, Matters, features_of, popularity_forms, weighed
from models.histories import BUCKETS, RECENT, Histories
from models.neighbours import WINDOW
from models.popularity import HALF_LIVES
from models.profile import Profile
from models.ranker import DEFAULT_WEIGHTS, as_weights


def made_of(values: np.ndarray, popularity: np.ndarray | None = None, counts: np.ndarray | None = None) -> np.ndarray:
    shape = values.shape[1:]
    popularity = np.zeros((*shape, len(HALF_LIVES)), np.float32) if popularity is None else popularity
    counts = np.zeros(shape, np.float32) if counts is None else counts
    flat = popularity.reshape(-1, len(HALF_LIVES))
    forms = popularity_forms(flat, flat.max(axis=0))
    places = np.arange(counts.size, dtype=np.int32).reshape(counts.shape)
    return features_of(values, forms, places, counts)


def column(made: np.ndarray, feature: str) -> np.ndarray:
    found: np.ndarray = made[:, FEATURES.index(feature)]
    return found


def test_the_three_forms_are_those_of_the_design() -> None:
    values = np.zeros((len(SCORERS), 1, 4), np.float32)
    values[0, 0] = [0.5, 2.0, 1.0, 0.0]
    ratio, log, rank = (column(made_of(values), f"co.{form}")[0] for form in ("ratio", "log", "rank"))
    np.testing.assert_allclose(ratio, [0.25, 1, 0.5, 0])
    # the design's log(ratio + .001) / 3, from its value at 0 upwards
    np.testing.assert_allclose(log, (np.log(ratio + 0.001) - np.log(0.001)) / 3, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rank, [1 / (1 + 2 / 5), 1, 1 / (1 + 1 / 5), 0])


def test_a_silent_scorer_adds_nothing() -> None:
    made = made_of(np.zeros((len(SCORERS), 2, 5), np.float32), counts=np.full((2, 5), 1e3, np.float32))
    assert not np.delete(made, FEATURES.index("item.log_count"), axis=1).any()


def test_what_is_clicked_often_is_counted_and_what_is_not_is_new_and_so_is_its_text() -> None:
    draw, counts = np.random.default_rng(5), np.array([[0, 1, 7, 1e4], [3, 0, 2, 50]], np.float32)
    values = draw.random((len(SCORERS), 2, 4), np.float32)
    made = made_of(values, counts=counts)
    text = values[SCORERS.index("text")]
    np.testing.assert_allclose(column(made, "item.log_count"), np.log(1 + counts) / 10, rtol=1e-6)
    np.testing.assert_allclose(column(made, "item.new"), np.exp(-counts / 5), rtol=1e-5)
    expected = text / text.max(axis=1, keepdims=True) * np.exp(-counts / 5)
    np.testing.assert_allclose(column(made, "text.new"), expected, rtol=1e-5)


def test_of_what_does_not_matter_there_is_the_ratio_alone() -> None:
    draw = np.random.default_rng(4)
    values, popularity = draw.random((len(SCORERS), 3, 50), np.float32), np.zeros((1, 2 * len(HALF_LIVES)), np.float32)
    given = values, popularity, np.zeros((3, 50), np.int32), draw.random((3, 50), np.float32)
    rested = draw.random((3, 50), np.float32)
    whole, some = features_of(*given, rested=rested), features_of(*given, np.array([1, 5]), rested)
    np.testing.assert_array_equal(column(whole, "own.rested"), rested)
    for feature, name in enumerate(FEATURES):
        scorer, _, form = name.rpartition(".")
        left_out = scorer in SCORERS and scorer not in (SCORERS[1], SCORERS[5]) and form in FORMS[1:]
        np.testing.assert_array_equal(some[:, feature], 0 if left_out else whole[:, feature])
        assert whole[:, feature].any() or name.startswith("popularity")


def test_what_matters_is_what_anybody_weighs() -> None:
    weights = np.zeros((2, 3, len(FEATURES)), np.float32)
    assert not weighed(weights).any()
    weights[1, 2, FEATURES.index("linear.log")] = -1
    weights[0, 0, FEATURES.index("co.ratio")] = weights[:, :, FEATURES.index("item.new")] = 1
    found = {(SCORERS[scorer], FORMS[form]) for scorer, form in zip(*weighed(weights).nonzero(), strict=True)}
    assert found == {("linear", "log"), ("co", "ratio")}


def test_of_what_matters_some_is_worked_out_in_all_its_forms() -> None:
    forms = np.zeros((len(SCORERS), len(FORMS)), np.bool_)
    assert Matters.of(forms).any_of == frozenset()
    forms[1, 0] = forms[3, 1] = forms[5, 2] = True
    matters = Matters.of(forms)
    assert matters.any_of == {SCORERS[1], SCORERS[3], SCORERS[5]}
    assert matters.formed.tolist() == [3, 5], "of the other the ratio is enough"


def test_parts_to_four_places_add_up_exactly() -> None:
    parts = np.random.default_rng(2).normal(size=(3, 5, 8)).astype(np.float32)
    sums, rounded = to_four_places(parts)
    np.testing.assert_allclose(rounded, parts, atol=0.5001e-4)
    assert (np.rint(rounded * 1e4) / 1e4 == rounded).all()
    assert (np.rint(rounded * 1e4).sum(axis=2) / 1e4 == sums).all()


def ranks(ratio: np.ndarray) -> np.ndarray:
    """The ranks of one scorer's values, [b, m]."""
    values = np.zeros((len(SCORERS), *ratio.shape), np.float32)
    values[3] = ratio
    return column(made_of(values), f"{SCORERS[3]}.rank")


@pytest.mark.parametrize("many", [1_024, 1_025, 1_500])
def test_ranks_of_more_candidates_than_there_hardly_ever_are(many: int) -> None:
    form = ranks(np.linspace(1, 0.2, many, dtype=np.float32)[None])[0]
    np.testing.assert_allclose(form, 1 / (1 + np.arange(many) / 5), rtol=1e-6)


@given(arrays(np.float32, (3, 40), elements=st.floats(0, 1, width=32)))
def test_ranks_follow_the_values(ratio: np.ndarray) -> None:
    for values, form in zip(ratio, ranks(ratio), strict=True):
        told = values / max(values.max(), 1e-12) > 1e-30
        assert len({*form[told].tolist()}) == told.sum()
        assert sorted(form[told], reverse=True) == pytest.approx((1 / (1 + np.arange(told.sum()) / 5)).tolist())
        for i in range(40):
            for j in range(40):
                if values[i] > values[j] * (1 + 2**-10):
                    assert form[i] > form[j] or form[j] == 0
        assert (form[values == 0] == 0).all()


def test_many_candidates_are_ranked_to_a_thousandth() -> None:
    ratio = np.random.default_rng(0).random((2, 5000), dtype=np.float32)
    for values, form in zip(ratio, ranks(ratio), strict=True):
        by_rank = values[np.argsort(-form)]
        assert (by_rank >= np.sort(values)[::-1] * (1 - 2**-9)).all()


def test_popularity_has_a_place_for_each_half_life_and_a_new_item_is_told_by_its_clicks() -> None:
    popularity = np.array([[[1, 0, 2, 3, 4], [2, 5, 1, 1, 1]]], np.float32)
    values = np.zeros((len(SCORERS), 1, 2), np.float32)
    values[SCORERS.index("text"), 0] = [1, 0.5]
    made = made_of(values, popularity, np.array([[3, 0]], np.float32))
    assert column(made, "popularity.300.ratio")[0].tolist() == [0.5, 1]
    assert column(made, "popularity.1000.ratio")[0].tolist() == [0, 1]
    assert column(made, "item.new")[0] == pytest.approx([np.exp(-3 / 5), 1])
    assert column(made, "text.new")[0] == pytest.approx([np.exp(-3 / 5), 0.5])


def test_every_feature_belongs_to_one_part() -> None:
    assert (TO_PARTS.sum(axis=1) == 1).all()
    assert (TO_PARTS.sum(axis=0) > 0).all()
    assert len(PARTS) == TO_PARTS.shape[1]


def test_the_default_weights_name_features_and_are_not_negative() -> None:
    weights = as_weights(DEFAULT_WEIGHTS)
    assert weights.shape == (len(BUCKETS), len(FEATURES))
    assert (weights >= 0).all()
    assert (weights.sum(axis=1) > 0).all()


def test_histories_are_newest_first_and_buckets_go_by_all_clicks_ever() -> None:
    profiles = [
        Profile("none"),
        Profile("two", rows=[4, 7], clicks=2),
        Profile("long", rows=list(range(50)), clicks=400),
    ]
    histories = Histories.of(profiles)
    assert histories.rows[1, :2].tolist() == [7, 4]
    assert histories.decay[1, :3].tolist() == pytest.approx([1, 0.9, 0])
    assert histories.rows[2].tolist() == list(range(49, 29, -1))
    assert histories.counts.tolist() == [0, 2, WINDOW]
    for weights, decay, most in (
        (histories.decay, 0.9, WINDOW),
        (histories.long, 0.95, WINDOW),
        (histories.recent, 0.6, RECENT),
    ):
        expected = [[decay**m if m < count else 0 for m in range(most)] for count in (0, 2, WINDOW)]
        np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert histories.buckets.tolist() == [0, 2, 5]
    edges = [Profile("x", clicks=n) for n in (1, 3, 4, 9, 10, 29, 30)]
    assert Histories.of(edges).buckets.tolist() == [1, 2, 3, 3, 4, 4, 5]


def test_diversity_prefers_what_is_unlike_the_picked() -> None:
    scores = np.array([[3.0, 2.9, 1.5, 1.0]], np.float32)
    near = np.eye(4, dtype=np.float32)[None]
    near[0, 0, 1] = near[0, 1, 0] = 1
    assert diversify(scores, near, 3, 0.0).tolist() == [[0, 1, 2]]
    assert diversify(scores, near, 3, 0.7).tolist() == [[0, 2, 3]]


def test_diversity_picks_nobody_twice_and_leaves_the_unusable_to_the_end() -> None:
    scores = np.array([[2.0, 1.0, -np.inf, -np.inf], [-np.inf] * 4], np.float32)
    near = np.ones((2, 4, 4), np.float32)
    picked = diversify(scores, near, 4, 0.5)
    assert picked[0, :2].tolist() == [0, 1]


@given(arrays(np.float32, (3, 12), elements=st.sampled_from([-np.inf, -1.0, 0.0, 1.0, 2.0])))
def test_the_best_are_the_largest_of_equals_the_first(scores: np.ndarray) -> None:
    for n in (1, 5, 12):
        assert best(scores, n).tolist() == np.argsort(-scores, axis=1, kind="stable")[:, :n].tolist()


def test_cosines_are_among_each_users_own_items() -> None:
    draw = np.random.default_rng(0)
    vectors, mean = draw.normal(size=(9, 5)).astype(np.float32), draw.normal(size=5).astype(np.float32)
    scale = draw.random(9, np.float32)
    rows = draw.integers(0, 9, (3, 4))
    for own, made in zip(rows, cosines(vectors, mean, scale, rows), strict=True):
        centred = (vectors[own] - mean) * scale[own, None]
        np.testing.assert_allclose(made, centred @ centred.T, rtol=1e-4, atol=1e-5)
