from __future__ import annotations

import numpy as np
import pytest
from interests import catalogue, item, stream

from models.centres import batch_kmeans, distances, route
from models.items import ItemStore
from models.layer_tree import LayerTree
from models.space import InteractionSpace, carry, fingerprints, gram_matrix


@pytest.fixture(scope="module")
def store() -> ItemStore:
    return catalogue()


def rows_of_a(store: ItemStore, vectors: np.ndarray) -> np.ndarray:
    """A = U Vᵀ, one row a user: what the space stands for."""
    return vectors.astype(float) @ store.centred(slice(0, len(store))).astype(float).T


def test_distances_in_the_space_are_those_of_full_rows_of_similarities(store: ItemStore) -> None:
    users, _ = stream(store, 60)
    space = InteractionSpace(reduced=store.dimension)
    space.derive(store)
    full = rows_of_a(store, users)
    apart = distances(full, full)
    in_space = distances(space.project(users), space.project(users)) * np.sqrt(len(store)) / space.scale
    assert space.kept == pytest.approx(1)
    off = ~np.eye(len(users), dtype=bool)
    np.testing.assert_allclose(in_space[off], apart[off], rtol=2e-6)


def test_sixteen_dimensions_cluster_as_full_rows_do(store: ItemStore) -> None:
    users, _ = stream(store, 400)
    space = InteractionSpace(reduced=16)
    space.derive(store)
    full = rows_of_a(store, users)

    def inertia(labels: np.ndarray) -> float:
        return float(sum(((part - part.mean(axis=0)) ** 2).sum() for i in range(8) for part in [full[labels == i]]))

    reduced = inertia(batch_kmeans(space.project(users), 8, 0)[1])
    assert reduced <= 1.01 * inertia(batch_kmeans(full, 8, 0)[1])


def test_dimensions_keep_their_own_scale(store: ItemStore) -> None:
    space = InteractionSpace(reduced=16)
    space.derive(store)
    spread = space.project(store.centred(slice(0, len(store)))).std(axis=0)
    assert (np.diff(spread) < 0.05 * spread[0]).all()
    assert spread[0] > 1.5 * spread[-1]  # whitening would make them equal
    assert (space.project(store.centred(slice(0, len(store)))) ** 2).sum(axis=1).mean() == pytest.approx(1, abs=0.02)


def test_a_basis_change_keeps_users_in_their_layers_at_ten_percent_turnover() -> None:
    store = catalogue(items=600)
    users, _ = stream(store, 2_000)
    space = InteractionSpace()
    space.derive(store)
    tree = LayerTree(16)
    tree.seed_from(space.project(users))
    before = tree.route(space.project(users))
    rng = np.random.default_rng(5)
    for i in range(60):  # a tenth goes, others of the same tastes come
        vector = store.vectors[i] + 0.1 * rng.normal(size=store.dimension)
        store.put(f"i{i}", item(vector / np.linalg.norm(vector), "New", "new"))
    old = space.basis
    space.derive(store)
    tree.carry(carry(old, space.basis))
    after = route(space.project(users), tree.coarse, tree.fine)
    assert (after[0] == before[0]).mean() >= 0.98
    assert (after[1] == before[1]).mean() >= 0.98
    # and without carrying them over, the centres would mean nothing
    stale = LayerTree(16)
    stale.seed_from(space.project(users) @ np.linalg.qr(rng.normal(size=(16, 16)))[0].astype(np.float32))
    assert (stale.route(space.project(users))[0] == before[0]).mean() < 0.9


def test_carrying_a_point_over_is_projecting_its_vector_with_the_new_basis() -> None:
    rng = np.random.default_rng(0)
    old = rng.normal(size=(16, 40)).astype(np.float32)
    new = (rng.normal(size=(16, 16)) @ old).astype(np.float32)  # the same subspace: nothing is lost
    u = rng.normal(size=(10, 40)).astype(np.float32)
    np.testing.assert_allclose((u @ old.T) @ carry(old, new), u @ new.T, rtol=1e-3, atol=1e-3)


def test_the_basis_does_not_depend_on_the_order_in_which_items_came() -> None:
    store = catalogue()
    again = ItemStore(store.dimension)
    for i in reversed(range(len(store))):
        again.put(store.ids[i], item(store.vectors[i], store.titles[i], "t"))
    again.mean, again.mean_version = store.mean, 1
    again._rescale(np.arange(len(again)))
    first, second = InteractionSpace(), InteractionSpace()
    first.derive(store)
    second.derive(again)
    np.testing.assert_array_equal(first.basis, second.basis)
    np.testing.assert_array_equal(first.contents, second.contents)


def test_the_changed_share_counts_new_changed_and_missing_items() -> None:
    store = catalogue(items=200)
    space = InteractionSpace()
    space.derive(store)
    assert space.changed_share(fingerprints(store)) == 0
    for i in range(3):
        store.put(f"i{i}", item(store.vectors[50 + i], "changed", "t"))
    for i in range(4):
        store.put(f"new{i}", item(store.vectors[i], "new", "t"))
    assert space.changed_share(fingerprints(store)) == pytest.approx(7 / 200)
    assert space.changed_share(space.contents[:150]) == pytest.approx(50 / 200)


def test_there_is_no_space_without_items() -> None:
    with pytest.raises(ValueError, match="no item is encoded"):
        gram_matrix(ItemStore(8))
