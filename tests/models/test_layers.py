from __future__ import annotations

import msgspec
import numpy as np
import pytest
from interests import catalogue, item, stream

from models.errors import ConfigurationError, InvalidEvent
from models.items import ItemStore
from models.layer_membership import Membership
from models.layer_view import LayerView
from models.layers import LayerLearner, LayerSettings
from models.records import LayerInfo, LayerState, LayerTree, decode, encode

QUICK = LayerSettings(seed_at=(128, 512))


@pytest.fixture(scope="module")
def store() -> ItemStore:
    return catalogue()


def learned(store: ItemStore, n: int = 1_500, batch: int = 100, settings: LayerSettings = QUICK) -> LayerLearner:
    learner = LayerLearner(store, "m", settings)
    vectors, clicked = stream(store, n)
    for i in range(0, n, batch):
        learner.learn(vectors[i : i + batch], clicked[i : i + batch])
    return learner


def test_the_same_stream_gives_the_same_layers_whatever_its_batches(store: ItemStore) -> None:
    states = {learned(store, batch=batch).state() for batch in (1, 37, 64, 1_500)}
    assert len(states) == 1


@pytest.mark.parametrize("stopped_at", [50, 200, 400, 555, 1_400])
def test_a_restart_from_its_state_equals_never_having_stopped(store: ItemStore, stopped_at: int) -> None:
    vectors, clicked = stream(store, 1_500)
    first = LayerLearner(store, "m", QUICK)
    first.learn(vectors[:stopped_at], clicked[:stopped_at])
    elsewhere = ItemStore(store.dimension)  # another process: the items came in another order
    for row in reversed(range(len(store))):
        elsewhere.put(store.ids[row], item(store.vectors[row], store.titles[row], store.tags[row][0]))
    elsewhere.mean, elsewhere.mean_version = store.mean, 3
    elsewhere._rescale(np.arange(len(elsewhere)))
    second = LayerLearner(elsewhere, "m", QUICK)
    second.restore(first.state())
    assert second.state() == first.state()
    assert second.follow_catalogue() is False  # the catalogue is the one that the basis was derived from
    rows = [[elsewhere.row(store.ids[row]) for row in fresh] for fresh in clicked]
    second.learn(vectors[stopped_at:], rows[stopped_at:])
    never_stopped = learned(store)
    assert second.state() == never_stopped.state()
    assert encode(second.snapshot(7, dirty_only=False)) == encode(never_stopped.snapshot(7, dirty_only=False))


def test_a_state_under_other_settings_or_of_another_model_is_refused(store: ItemStore) -> None:
    state = learned(store, 300).state()
    for other in (LayerLearner(store, "m", LayerSettings(step=0.1)), LayerLearner(store, "another", QUICK)):
        with pytest.raises(ConfigurationError, match="learn anew"):
            other.restore(state)


def test_bytes_that_are_no_state_are_refused_and_change_nothing(store: ItemStore) -> None:
    learner = learned(store, 700)
    before = learner.state()
    record = decode(before, LayerState)
    for bad in (
        b"",
        b"\x80",
        encode(msgspec.structs.replace(record, basis=record.basis[:-4])),
        encode(msgspec.structs.replace(record, counts=record.counts[:-4])),
        encode(msgspec.structs.replace(record, items=record.items[:2])),
        encode(msgspec.structs.replace(record, count_sizes=(10**6, *record.count_sizes[1:]))),
        encode(msgspec.structs.replace(record, centres=(record.centres[0], record.centres[1][:-8]))),
        encode(msgspec.structs.replace(record, flows=record.flows[:-8])),
        encode(msgspec.structs.replace(record, updates=record.updates[:-1])),
    ):
        with pytest.raises(InvalidEvent):
            learner.restore(bad)
        assert learner.state() == before


def test_a_vector_that_is_not_finite_stays_outside_and_its_click_counts(store: ItemStore) -> None:
    learner = learned(store, 700)
    vectors, _ = stream(store, 64, seed=9)
    vectors[3, 5] = np.nan
    vectors[4] = np.inf
    vectors[5] = 0  # nothing is known of him: no error, no layer
    learner.learn(vectors, [[7]] * 64)
    assert learner.refused == 2
    assert learner.tree is not None
    assert np.isfinite(learner.tree.coarse).all()
    assert np.isfinite(learner.tree.fine).all()
    rows, counts, _ = learner.counts.group(0, learner.clicks)
    assert counts[-1, rows.tolist().index(7)] > 63


def test_before_the_seeding_everybody_is_in_the_root(store: ItemStore) -> None:
    learner = learned(store, 100)
    tree, layers = learner.snapshot(1)
    assert tree is None
    assert [info.id for info in layers] == ["root"]
    assert layers[0].items
    assert learner.snapshot(2) == (None, [])


def test_the_clicks_from_before_the_seeding_are_the_layers_too(store: ItemStore) -> None:
    learner = learned(store, 128)
    assert learner.tree is not None
    coarse = sum(learner.counts.group(1 + i, learner.clicks)[2] for i in range(8))
    np.testing.assert_allclose(coarse, learner.counts.group(0, learner.clicks)[2], rtol=1e-5)


def test_layers_are_separate_tastes_and_are_called_so(store: ItemStore) -> None:
    learner = learned(store, 3_000)
    tree, layers = learner.snapshot(1, dirty_only=False)
    assert tree is not None
    assert [info.id for info in layers] == learner.ids
    fine = [info for info in layers if "." in info.id]
    assert all(info.label.startswith("taste") and info.medoids for info in fine)
    assert len({info.label.split(" · ")[0] for info in fine}) >= 15  # of 20 tastes
    for info in fine:
        named = int(info.label.split(" · ")[0].removeprefix("taste"))
        leading = [int(i[1:]) % 20 for i in info.items[:3]]
        assert named in leading
    assert sum(info.size for info in fine) == pytest.approx(1)


def test_only_layers_with_news_are_published_again(store: ItemStore) -> None:
    learner = learned(store, 24 * 64)  # whole blocks, and no look for dead centres in the next one
    learner.snapshot(1)
    one_user = stream(store, 64, seed=4)[0][:1]
    learner.learn(np.repeat(one_user, 64, axis=0), [[3]] * 64)
    tree, layers = learner.snapshot(2)
    assert tree is not None
    assert tree.version == learner.blocks
    assert layers[0].id == "root"
    assert 5 <= len(layers) <= 1 + 3 + 3  # three fine layers and what is above them


def test_drift_lengthens_the_steps_for_a_while_and_resets_nothing(store: ItemStore) -> None:
    settings = LayerSettings(seed_at=(512,), drift_vectors=640)
    learner = LayerLearner(store, "m", settings)
    vectors, clicked = stream(store, 4_000, tastes=range(10))
    learner.learn(vectors, clicked)
    assert learner.counters["drifts"] == 0
    assert learner.tree is not None
    epochs = learner.epochs.copy()
    vectors, clicked = stream(store, 3_000, seed=2, tastes=range(10, 20))
    steps = []
    for i in range(0, 3_000, 64):
        learner.learn(vectors[i : i + 64], clicked[i : i + 64])
        steps.append(learner.tree.rivers.halflife)
    assert learner.counters["drifts"] >= 1
    assert 10 <= steps.count(4 * settings.step) <= 10 * learner.counters["drifts"]
    assert steps[0] == steps[-1] == settings.step
    assert learner.counters["seedings"] == 1
    assert (learner.epochs - epochs).sum() < 8


def test_a_restart_amid_longer_steps_goes_on_with_them(store: ItemStore) -> None:
    settings = LayerSettings(seed_at=(512,), drift_vectors=1_280)
    first = LayerLearner(store, "m", settings)
    first.learn(*stream(store, 4_000, tastes=range(10)))
    vectors, clicked = stream(store, 3_000, seed=2, tastes=range(10, 20))
    at = 0
    while not first.boosted:
        first.learn(vectors[at : at + 64], clicked[at : at + 64])
        at += 64
    second = LayerLearner(store, "m", settings)
    second.restore(first.state())
    for learner in (first, second):
        learner.learn(vectors[at : at + 640], clicked[at : at + 640])
        assert learner.boosted
    assert second.state() == first.state()


def test_a_changed_catalogue_is_followed_and_layers_stay_who_they_are() -> None:
    store = catalogue(items=400)
    learner = learned(store, 2_000)
    vectors, _ = stream(store, 1_000, seed=8)
    assert learner.follow_catalogue() is False
    assert learner.tree is not None
    view = LayerView(store)
    view.put_tree(tree_of(learner))
    before = view.membership(vectors).layers[:, 0]
    rng = np.random.default_rng(3)
    for i in range(40):
        vector = store.vectors[i] + 0.1 * rng.normal(size=store.dimension)
        store.put(f"i{i}", item(vector / np.linalg.norm(vector), "New", f"taste{i % 20}"))
    assert learner.follow_catalogue() is False  # until the mean moves
    store.recentre()
    assert learner.follow_catalogue() is True
    assert learner.follow_catalogue() is False
    view.put_tree(tree_of(learner))
    assert (view.membership(vectors).layers[:, 0] == before).mean() >= 0.98
    learner.learn(vectors, [[]] * 1_000)
    stayed = learned(catalogue(items=400), 2_000)
    stayed.learn(vectors, [[]] * 1_000)
    assert learner.stats()["error"] == pytest.approx(stayed.stats()["error"], rel=0.05)


def tree_of(learner: LayerLearner) -> LayerTree:
    tree, _ = learner.snapshot(1, dirty_only=False)
    assert tree is not None
    return tree


def test_a_revived_layer_is_another_one_and_begins_without_items(store: ItemStore) -> None:
    learner = learned(store, 2_000)
    assert learner.tree is not None
    learner.tree.fine[5] = 50.0
    learner.tree.place_rivers()
    learner.tree.size_fine[5] = 0
    view = LayerView(store)
    info = next(i for i in learner.snapshot(1, dirty_only=False)[1] if i.id == "0.5")
    epoch = info.epoch
    view.put_layer(info)
    vectors, clicked = stream(store, 8 * 64, seed=6)
    learner.learn(vectors, clicked)
    tree, layers = learner.snapshot(2)
    assert tree is not None
    assert learner.epochs_fine[5] == tree.epochs[5] == epoch + 1
    view.put_tree(tree)
    np.testing.assert_array_equal(view.shares(5), view._shares_of("0"))  # the old layer's items are not the new one's
    again = next(i for i in layers if i.id == "0.5")
    assert again.epoch == epoch + 1
    assert sum(again.totals) < sum(info.totals)


def test_the_state_stays_under_two_megabytes() -> None:
    rng = np.random.default_rng(0)
    learner = LayerLearner(ItemStore(16), "m", QUICK)
    store = learner.items
    for i in range(70_000):
        store.row(f"item-{i:07d}")
    vectors = rng.normal(size=(70_000, 16)).astype(np.float32)
    store.vectors[:70_000], store.encoded[:70_000] = vectors, True
    store._since_recentre = 70_000
    store.recentre()
    users = rng.normal(size=(20_000, 16)).astype(np.float32)
    clicked = np.split(rng.integers(0, 70_000, 60_000), 20_000)
    learner.learn(users, [part.tolist() for part in clicked])
    assert len(learner.counts.rows[learner.counts.rows >= 0]) > 0.7 * len(learner.counts.rows)
    assert len(learner.state()) < 2_000_000


def test_membership_counts_a_click_for_each_of_the_users_layers(store: ItemStore) -> None:
    learner = learned(store, 700)
    totals = [learner.counts.group(g, learner.clicks)[2][-1] for g in range(learner.groups)]
    learner._count(Membership(np.array([[0, 1, 9]]), np.array([[0.5, 0.3, 0.2]], np.float32)), [((4, learner.clicks),)])
    added = {
        learner.ids[g]: round(float(learner.counts.group(g, learner.clicks)[2][-1] - total), 4)
        for g, total in enumerate(totals)
    }
    assert {k: v for k, v in added.items() if v} == {"0": 0.8, "1": 0.2, "0.0": 0.5, "0.1": 0.3, "1.1": 0.2}


def test_records_survive_the_wire(store: ItemStore) -> None:
    tree, layers = learned(store, 700).snapshot(1, dirty_only=False)
    assert tree is not None
    assert decode(encode(tree), LayerTree) == tree
    assert [decode(encode(info), LayerInfo) for info in layers] == layers
    fields = msgspec.msgpack.decode(encode(layers[1]))
    for name in ("since_ms", "updates", "joined", "left"):  # of an older version
        del fields[name]
    old = decode(msgspec.msgpack.encode(fields), LayerInfo)
    assert (old.label, old.since_ms, old.joined) == (layers[1].label, 0, None)


def test_a_layer_knows_since_when_it_is_what_it_is_and_how_much_it_learned(store: ItemStore) -> None:
    learner = learned(store, 2_000)
    before = {info.id: info for info in learner.snapshot(1_000, dirty_only=False)[1]}
    assert {info.since_ms for info in before.values()} == {1_000}
    assert before["root"].updates == 2_000 // 64 * 64
    assert learner.tree is not None
    learner.tree.fine[5] = 50.0
    learner.tree.place_rivers()
    learner.tree.size_fine[5] = 0
    learner.refreshed("1.1", "0.5")
    vectors, clicked = stream(store, 8 * 64, seed=6)
    learner.learn(vectors, clicked)
    after = {info.id: info for info in learner.snapshot(9_000, dirty_only=False)[1]}
    began = {i for i in after if after[i].epoch > before[i].epoch}
    assert "0.5" in began
    assert {i for i in after if after[i].since_ms == 9_000} == began
    assert after["0.5"].updates < 8 * 64
    assert (after["0.5"].joined, after["0.5"].left) == (None, None), "who came, came to another layer"
    assert after["0"].updates > before["0"].updates


def test_every_vector_that_is_learned_is_learned_by_one_layer_of_each_level(store: ItemStore) -> None:
    infos = learned(store, 7 * 64).snapshot(1, dirty_only=False)[1]  # up to the first look for dead centres
    for level in (infos[:1], [i for i in infos if i.id.isdigit()], [i for i in infos if "." in i.id]):
        assert sum(info.updates for info in level) == 7 * 64
    for coarse in (i for i in infos if i.id.isdigit()):
        assert coarse.updates == sum(i.updates for i in infos if i.id.startswith(f"{coarse.id}."))


def test_who_comes_and_goes_is_published_with_both_layers(store: ItemStore) -> None:
    learner = LayerLearner(store, "m", QUICK)
    learner.refreshed("2.3", "4.5")  # of a tree that this learner, which learns anew, does not have
    assert [info.id for info in learner.snapshot(1)[1]] == []
    learner = learned(store, 24 * 64)
    learner.snapshot(1)
    learner.refreshed("2.3", "4.5")
    learner.refreshed("4.5", "4.5")
    layers = {info.id: (info.joined, info.left) for info in learner.snapshot(2)[1]}
    assert layers.keys() == {"2", "4", "2.3", "4.5"}
    assert layers["2"] == layers["2.3"] == (0, 1)
    assert layers["4"] == layers["4.5"] == pytest.approx((0.5, 0), abs=1e-4)


def test_lives_go_on_after_a_restart_and_of_an_older_state_nothing_is_known(store: ItemStore) -> None:
    learner = learned(store, 700)
    learner.snapshot(1_000)
    for before in ("2.3", "4.5", "4.5"):
        learner.refreshed(before, "4.5")
    state = learner.state()
    restored = LayerLearner(store, "m", QUICK)
    restored.restore(state)
    assert restored.state() == state
    told, retold = ({i.id: i for i in each.snapshot(2_000, dirty_only=False)[1]} for each in (learner, restored))
    for layer in ("root", "4", "4.5"):
        assert retold[layer] == told[layer]
    assert retold["4.5"].since_ms == 1_000
    assert retold["4.5"].joined == pytest.approx(1 / 3, abs=1e-4)

    fields = msgspec.msgpack.decode(state)
    for name in ("since_ms", "updates", "flows", "flow_weight"):
        del fields[name]
    restored.restore(msgspec.msgpack.encode(fields))
    (info,) = (i for i in restored.snapshot(3_000, dirty_only=False)[1] if i.id == "4.5")
    assert (info.since_ms, info.joined, info.left) == (0, None, None), "it is not as young as the upgrade"
    assert restored.clicks == learner.clicks
