from __future__ import annotations

import numpy as np
import pytest
from interests import catalogue, stream

from models.items import ItemStore
from models.layer_membership import soft
from models.layer_view import LayerView
from models.layers import LayerLearner, LayerSettings
from models.records import LayerInfo


@pytest.fixture(scope="module")
def store() -> ItemStore:
    return catalogue()


@pytest.fixture(scope="module")
def learner(store: ItemStore) -> LayerLearner:
    learner = LayerLearner(store, "m", LayerSettings(seed_at=(256,)))
    learner.learn(*stream(store, 3_000))
    return learner


@pytest.fixture
def view(store: ItemStore, learner: LayerLearner) -> LayerView:
    view = LayerView(store)
    tree, layers = learner.snapshot(1, dirty_only=False)
    assert tree is not None
    view.put_tree(tree)
    for info in layers:
        view.put_layer(info)
    return view


def root(**counts: list[float]) -> LayerInfo:
    numbers = np.array(list(counts.values()), "<f4")
    return LayerInfo(
        id="root",
        label="everybody",
        size=1.0,
        epoch=0,
        items=tuple(counts),
        counts=numbers.tobytes(),
        totals=tuple(numbers.sum(axis=0).tolist()),
        half_lives=(300.0, 10_000.0),
    )


def test_the_root_alone_serves_everybody() -> None:
    store = ItemStore(4)
    view = LayerView(store)
    assert not view.ready
    membership = view.membership(np.ones((2, 4), np.float32))
    assert view.popular(5).tolist() == []
    assert view.top(-1, 5).tolist() == []
    view.put_layer(root(classic=[0, 90], fresh=[9, 9], other=[1, 1]))
    assert [store.ids[row] for row in view.popular(2)] == ["fresh", "classic"]  # the best of each half-life first
    assert view.top(-1, 2).tolist() == view.popular(2).tolist()
    rows = np.array([store.row("classic"), store.row("unheard")])
    np.testing.assert_allclose(view.popularity(rows), [[0, 90], [0, 0]])
    log = np.log(1 + 1000) / 3
    np.testing.assert_allclose(view.popularity_forms[view.places(rows)], [[0, 0, 1, log], [0, 0, 0, 0]], rtol=1e-6)
    view.put_layer(root(classic=[4, 45], fresh=[8, 9], other=[1, 1]))
    np.testing.assert_allclose(view.popularity_forms[view.places(rows)][0, ::2], [0.5, 1])
    view.put_layer(root(classic=[0, 90], fresh=[9, 9], other=[1, 1]))
    np.testing.assert_allclose(view.scores(membership, 1, rows), [0.9, 0])
    assert view.layer_id(-1) == "root"
    assert view.label("root") == "everybody"


def test_a_user_of_whom_nothing_is_known_is_in_the_root(view: LayerView, store: ItemStore) -> None:
    vectors = np.zeros((3, store.dimension), np.float32)
    vectors[1, 0] = np.nan
    vectors[2] = stream(store, 1)[0]
    membership = view.membership(vectors)
    assert membership.layers[:2].tolist() == [[-1] * 3] * 2
    assert membership.weights[:2].tolist() == [[1, 0, 0]] * 2
    assert (membership.layers[2] >= 0).all()
    every = np.arange(len(store))
    np.testing.assert_allclose(view.scores(membership, 0, every), view.shares(-1)[view.places(every)])


def test_the_first_layer_is_the_one_that_learning_routes_to(
    view: LayerView, store: ItemStore, learner: LayerLearner
) -> None:
    vectors, _ = stream(store, 500, seed=3)
    membership = view.membership(vectors)
    assert learner.tree is not None
    routed = learner.tree.route(learner.space.project(vectors))[1]
    assert (membership.layers[:, 0] == routed).mean() > 0.99  # float32 against float64 centres
    np.testing.assert_allclose(membership.weights.sum(axis=1), 1, rtol=1e-5)
    assert all(len(set(row)) == 3 for row in membership.layers.tolist())


def test_weights_fall_with_the_squared_distance_and_the_own_layer_comes_first() -> None:
    squared = np.array([[4.0, 1.0, 2.0, 9.0], [1.0, 2.0, 3.0, 0.5]])
    layers, weights = soft(squared, np.array([2, 3]), spread=2.0)
    assert layers.tolist() == [[2, 1, 0], [3, 0, 1]]
    wanted = np.exp(-np.array([[2.0, 1.0, 4.0], [0.5, 1.0, 2.0]]) / 2)
    np.testing.assert_allclose(weights, wanted / wanted.sum(axis=1, keepdims=True), rtol=1e-6)


def test_a_layer_backs_off_to_the_layers_above_it(view: LayerView, store: ItemStore, learner: LayerLearner) -> None:
    h, m = 3, 20.0  # half-life 10,000

    def counts(group: int) -> tuple[np.ndarray, float]:
        rows, numbers, totals = learner.counts.group(group, learner.clicks)
        dense = np.zeros(len(store))
        dense[rows] = numbers[h]
        return dense, float(totals[h])

    layer = 19  # 2.3
    (n0, t0), (n1, t1), (n2, t2) = counts(0), counts(1 + 2), counts(1 + 8 + layer)
    p = n0 / t0
    p = (n1 + m * p) / (t1 + m)
    p = (n2 + m * p) / (t2 + m)
    np.testing.assert_allclose(view.shares(layer)[view.places(np.arange(len(store)))], p, rtol=1e-4)
    assert p.sum() == pytest.approx(1, rel=1e-4)


def test_layers_rank_their_users_tastes_above_the_rest(view: LayerView, store: ItemStore) -> None:
    vectors, _ = stream(store, 50, seed=5, tastes=range(7, 8))
    membership = view.membership(vectors)
    every = np.arange(len(store))
    for user in range(50):
        best = np.argsort(-view.scores(membership, user, every))[:5]
        assert (best % 20 == 7).mean() >= 0.8
        own = membership.layers[user, membership.weights[user].argmax()]
        assert (view.top(own, 3) % 20 == 7).any()


def test_candidates_of_many_users_are_scored_as_each_user_alone(view: LayerView, store: ItemStore) -> None:
    vectors = stream(store, 6, seed=5)[0]
    vectors[2] = 0
    membership = view.membership(vectors)
    rows = np.random.default_rng(1).integers(0, len(store), (6, 9))
    alone = [view.scores(membership, user, rows[user]) for user in range(6)]
    np.testing.assert_allclose(view.candidate_scores(membership, rows), alone, rtol=1e-5)
    assert len({*membership.weights[0].tolist()}) == 3, "layers weigh unequally"


def test_news_of_a_layer_are_in_all_that_is_asked_of_many_users(view: LayerView, store: ItemStore) -> None:
    vectors = stream(store, 6, seed=5)[0]
    membership = view.membership(vectors)
    own = int(membership.layers[0, 0])
    rows = np.tile(np.arange(len(store)), (6, 1))
    before, tops = view.candidate_scores(membership, rows), view.tops(membership.layers, 3)[own].copy()
    assert tops.tolist() == view.top(own, 3).tolist()
    other = next(row for row in range(len(store)) if row not in tops)
    counts = np.full((1, 2), 1e6, "<f4")
    news = LayerInfo(
        id=view.layer_id(own), label="", size=1.0, epoch=view._epochs[own], items=(store.ids[other],),
        counts=counts.tobytes(), totals=(1e6, 1e6), half_lives=(300.0, 10_000.0),
    )  # fmt: skip
    view.put_layer(news)
    after = view.candidate_scores(membership, rows)
    assert after[0, other] > before[0, other]
    np.testing.assert_allclose(after[0], view.scores(membership, 0, rows[0]), rtol=1e-5)
    assert view.tops(membership.layers, 3)[own, 0] == other


def test_news_of_a_layer_replaces_what_was_known(view: LayerView, store: ItemStore, learner: LayerLearner) -> None:
    before = view.shares(0)
    view.put_layer(root(i5=[3, 3], brand_new=[6, 6]))
    after = view.shares(0)
    assert after[view.places(np.array([store.row("brand_new")]))] > 0
    assert len(after) != len(before), "what is in no record any more has no place"
    assert view.popular(1).tolist() == [store.row("brand_new")]
    assert view.popularity(np.array([store.row("brand_new")])).tolist() == [[6, 6]]


def test_what_is_worked_out_is_as_large_as_the_records_and_not_as_the_catalogue() -> None:
    store = ItemStore(4)
    for i in range(50_000):
        store.row(f"i{i}")
    view = LayerView(store)
    view.put_layer(root(i7=[1, 3], i40000=[1, 1]))
    assert len(view.shares(-1)) == 3, "two items, and all others"
    np.testing.assert_allclose(view.shares(-1)[view.places(np.array([7, 40_000, 8]))], [0.75, 0.25, 0])


def test_an_item_that_comes_later_has_no_share_yet(view: LayerView, store: ItemStore) -> None:
    view.shares(0)
    view.popularity(np.array([0]))
    for i in range(3_000):  # beyond the arrays' capacity
        store.row(f"later{i}")
    row = store.row("later2999")
    membership = view.membership(stream(store, 1)[0])
    assert view.scores(membership, 0, np.array([row])).tolist() == [0]
    assert (view.popularity(np.array([row])) == 0).all()
