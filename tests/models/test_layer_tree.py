from __future__ import annotations

import numpy as np
import pytest
from interests import catalogue, stream
from river import cluster

from models.centres import batch_kmeans, distances, far_half
from models.layer_tree import LayerTree
from models.space import InteractionSpace


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    store = catalogue()
    space = InteractionSpace()
    space.derive(store)
    return space.project(stream(store, 4_000)[0])


def seeded(z: np.ndarray, **settings: float) -> LayerTree:
    tree = LayerTree(z.shape[1], **settings)  # type: ignore[arg-type]
    tree.seed_from(z[:500])
    return tree


class StockRiver:
    """The same tree of stock river.cluster.KMeans, one vector after the other."""

    def __init__(self, tree: LayerTree, factor: float = 1.0) -> None:
        self.width = tree.width_fine
        self.coarse = cluster.KMeans(tree.width, tree.step * factor)
        self.fine = [cluster.KMeans(tree.width_fine, tree.step_fine * factor) for _ in range(tree.width)]
        for i in range(tree.width):
            self.coarse.centers[i].update(enumerate(tree.coarse[i].tolist()))
            for j in range(self.width):
                self.fine[i].centers[j].update(enumerate(tree.fine[i * self.width + j].tolist()))

    def learn(self, row: list[float]) -> int:
        x = dict(enumerate(row))
        i = self.coarse.learn_predict_one(x)
        return int(i * self.width + self.fine[i].learn_predict_one(x))

    def centres(self) -> list[list[float]]:
        return [list(river.centers[i].values()) for river in self.fine for i in range(self.width)]


@pytest.mark.parametrize(
    ("block", "factor", "steps"), [(64, 1, {}), (64, 4, {}), (256, 1, {"step": 0.2, "step_fine": 0.2}), (1, 1, {})]
)
def test_routed_learning_equals_stock_river_label_for_label(
    vectors: np.ndarray, block: int, factor: float, steps: dict[str, float]
) -> None:
    tree = seeded(vectors, **steps)
    tree.boost(factor)
    stock = StockRiver(tree, factor)
    part = vectors[500:2_000]
    routed = np.concatenate([tree.learn(part[i : i + block])[0] for i in range(0, len(part), block)])
    assert routed.tolist() == [stock.learn(row) for row in part.tolist()]
    assert tree.fine.tolist() == stock.centres()  # bit for bit


def test_labels_are_rivers_however_wildly_centres_move() -> None:
    for seed in range(150):  # long steps in few dimensions: winners change within a block all the time
        rng = np.random.default_rng(seed)
        width, dimensions = int(rng.integers(2, 6)), int(rng.integers(1, 4))
        step = float(rng.choice([0.02, 0.1, 0.3, 0.6]))
        block = rng.normal(size=(int(rng.integers(5, 40)), dimensions)).astype(np.float32)
        tree = LayerTree(dimensions, width=width, width_fine=2, step=step, step_fine=step)
        tree.coarse[:], tree.fine[:] = rng.normal(size=(width, dimensions)), rng.normal(size=(2 * width, dimensions))
        tree.place_rivers()
        stock = StockRiver(tree)
        assert tree.learn(block)[0].tolist() == [stock.learn(row) for row in block.tolist()], seed


def test_labels_are_rivers_also_among_equal_centres(vectors: np.ndarray) -> None:
    tree = seeded(vectors)
    tree.coarse[5] = tree.coarse[2]
    tree.fine[9] = tree.fine[12]
    tree.place_rivers()
    stock = StockRiver(tree)
    part = np.concatenate([vectors[500:800], tree.fine[9:10].astype(np.float32)])
    assert tree.learn(part)[0].tolist() == [stock.learn(row) for row in part.tolist()]


def test_a_winner_found_at_the_start_of_a_block_is_not_trusted_blindly(vectors: np.ndarray) -> None:
    """The test above would be worth nothing if no label changed within a block."""
    tree = seeded(vectors, step=0.05)
    before = np.concatenate([distances(vectors[500:756], tree.coarse).argmin(axis=1)])
    assert (tree.learn(vectors[500:756])[0] // 8 != before).any()


def test_seeding_fits_as_batch_kmeans_and_the_first_layer_is_the_largest(vectors: np.ndarray) -> None:
    tree = LayerTree(16)
    tree.seed_from(vectors)
    inertia = (distances(vectors, tree.coarse).min(axis=1) ** 2).sum()
    centres, _ = batch_kmeans(vectors, 8, 0)
    assert inertia <= 1.02 * (distances(vectors, centres).min(axis=1) ** 2).sum()
    branch = tree.route(vectors)[0]
    sizes = np.bincount(branch)
    assert sizes[0] == sizes.max()


def test_seeding_again_leaves_layers_where_they_are(vectors: np.ndarray) -> None:
    tree = seeded(vectors)
    before, _ = tree.route(vectors)
    tree.seed_from(vectors, keep=True)
    assert (tree.route(vectors)[0] == before).mean() > 0.8


def test_a_tree_can_be_seeded_from_fewer_points_than_it_has_centres() -> None:
    tree = LayerTree(4)
    tree.seed_from(np.eye(4, dtype=np.float32)[[0, 1, 2, 0, 1]])
    assert np.isfinite(tree.coarse).all()
    assert np.isfinite(tree.fine).all()
    tree.learn(np.eye(4, dtype=np.float32))


def test_a_dead_leaf_moves_into_the_sibling_with_the_most_to_tell_apart(vectors: np.ndarray) -> None:
    tree = seeded(vectors)
    tree.fine[3] = 100.0  # no vector will ever be nearest
    tree.place_rivers()
    for i in range(500, 3_000, 64):
        tree.learn(vectors[i : i + 64])
    assert tree.size_fine[3] < 1
    coarse, leaves = tree.revive(vectors[2_000:3_000], dead_share=0.15)
    assert coarse == []
    assert 3 in leaves
    tree.learn(vectors[3_000:3_500])
    assert (tree.route(vectors)[1] == 3).any()


def test_a_dead_coarse_layer_takes_its_leaves_along(vectors: np.ndarray) -> None:
    tree = seeded(vectors)
    tree.coarse[6] = 100.0
    tree.place_rivers()
    for i in range(500, 4_000, 64):
        tree.learn(vectors[i : i + 64])
    for i in range(20):  # until every vector of the time when it was alive is forgotten
        tree.learn(vectors[i * 64 : (i + 1) * 64])
    tree.size[6] = 0
    coarse, leaves = tree.revive(vectors[-1_024:], dead_share=0.15)
    assert coarse == [6]
    assert set(range(48, 56)) <= set(leaves)
    branch, leaf = tree.route(vectors)
    assert (branch == 6).any()
    assert len(np.unique(leaf[branch == 6])) >= 4


def test_living_centres_are_left_alone(vectors: np.ndarray) -> None:
    tree = seeded(vectors)
    tree.size[:], tree.size_fine[:] = 100, 100
    centres = tree.fine.copy()
    assert tree.revive(vectors[:500], dead_share=0.15) == ([], [])
    np.testing.assert_array_equal(tree.fine, centres)


def test_half_of_the_points_is_the_half_away_from_the_centre() -> None:
    points = np.array([[0.0, 0], [0.1, 0], [1, 0], [1.2, 0]])
    np.testing.assert_allclose(far_half(points, np.array([0.0, 0])), [1.1, 0])
    np.testing.assert_allclose(far_half(np.ones((5, 2)), np.zeros(2)), [1, 1])
