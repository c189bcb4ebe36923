"""The index."""

import numpy as np
import pytest

from models.index import ItemIndex
from models.items import ItemStore
from models.kernels import Product
from models.records import ItemVector, half

D = 48


def vectors(n: int, seed: int = 0) -> np.ndarray:
    """Unit vectors in clumps around a common direction, as a BERT's are."""
    draw = np.random.default_rng(seed)
    clumps = draw.normal(size=(60, D))
    v = clumps[draw.integers(60, size=n)] + 0.7 * draw.normal(size=(n, D)) + 1.5
    return (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32)


def put(items: ItemStore, item_id: str, vector: np.ndarray, **fields: object) -> int:
    return items.put(
        item_id, ItemVector(model="m", text_hash=b"", tokens=b"", vector=half(vector), title="T", **fields)
    )  # type: ignore[arg-type]


def filled(n: int = 3000, **kwargs: object) -> tuple[ItemStore, ItemIndex]:
    items = ItemStore(D)
    for i, vector in enumerate(vectors(n)):
        put(items, f"i{i}", vector)
    items.recentre()
    index = ItemIndex(items, **kwargs)  # type: ignore[arg-type]
    index.sync()
    return items, index


def test_among_items_that_are_all_alike_the_nearest_are_found() -> None:
    """Codes say how a vector differs from its list's centre: in codes of its own it would be like all of its kind."""
    draw, items = np.random.default_rng(3), ItemStore(D)
    kinds = draw.normal(size=(20, D))
    for i in range(4_000):
        vector = kinds[i % 20] + 0.1 * draw.normal(size=D)
        put(items, f"i{i}", (vector / np.linalg.norm(vector)).astype(np.float32))
    items.recentre()
    index = ItemIndex(items, exact_below=100)
    index.sync()
    assert recall(items, index) >= 0.8, ".77 by codes of their own"


def test_an_index_of_vectors_of_any_length_finds_what_the_exact_one_finds() -> None:
    items = ItemStore(D - 3)
    for i, vector in enumerate(vectors(1_200)[:, : D - 3]):  # so many that codes are learned
        put(items, f"i{i}", vector)
    items.recentre()
    index = ItemIndex(items, exact_below=100)
    index.sync()
    put(items, "late", items.vectors[5])
    index.sync()
    assert items.find("late") in index.near(items.centred(np.array([5])), 20)[0]
    assert recall(items, index) >= 0.95


def recall(items: ItemStore, index: ItemIndex, k: int = 20) -> float:
    exact = ItemIndex(items, exact_below=10**9)
    queries = items.centred(np.arange(0, len(items), 37)).copy()
    _, wanted = exact.search(queries, k)
    _, found = index.search(queries, k)
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(wanted, found, strict=True)]))


def test_the_exact_product_is_the_cosine_of_every_item_whatever_part_it_is_in() -> None:
    items, index = filled(1300)
    queries = items.centred(np.arange(5)).copy()
    scores = index.scores(queries)
    assert scores.flags.c_contiguous, "who ranks marks what is seen in it"
    np.testing.assert_allclose(scores, queries @ items.centred(np.arange(1300)).T, atol=1e-5)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_the_approximate_search_finds_what_the_exact_one_finds(kind: str) -> None:
    items, index = filled(kind=kind, exact_below=100)
    assert not index.exact
    assert recall(items, index) >= 0.95


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_recall_holds_under_additions_and_updates(kind: str) -> None:
    items, index = filled(kind=kind, exact_below=100)
    fresh = vectors(4200)[3000:]
    for i in range(600):
        put(items, f"i{i}", fresh[i])  # replaced by another of the same kind
        put(items, f"new{i}", fresh[600 + i])  # added
        if i % 100 == 99:
            items.recentre()
            index.sync()
    assert recall(items, index) >= 0.95


@pytest.mark.parametrize(("kind", "below"), [("ivf", 10**9), ("ivf", 100), ("hnsw", 100)])
def test_a_withdrawn_item_never_comes_back(kind: str, below: int) -> None:
    items, index = filled(1000, kind=kind, exact_below=below)
    queries = items.centred(np.arange(1000)).copy()
    for i in range(0, 1000, 2):
        items.withdraw(f"i{i}")
    _, before_sync = index.search(queries, 30)
    index.sync()
    for i in range(1, 1000, 4):  # others change meanwhile, and the mean moves
        put(items, f"i{i}", vectors(1, seed=i)[0])
    items.recentre()
    index.sync()
    _, after = index.search(queries, 30)
    for rows in (before_sync, after):
        assert (rows[rows >= 0] % 2 == 1).all()
    assert len(index) == 500
    put(items, "i4", vectors(1, seed=4)[0])  # offered again by its owner: that is another matter
    index.sync()
    assert 4 in index.search(items.centred(np.array([4])), 1)[1]


def test_a_search_is_by_centred_cosine_and_says_it() -> None:
    items, index = filled(500)
    cosines, rows = index.search(items.centred(np.array([7])), 3)
    assert rows[0, 0] == 7
    assert cosines[0, 0] == pytest.approx(1, abs=1e-3)
    expected = items.centred(rows[0]) @ items.centred(np.array([7]))[0]
    np.testing.assert_allclose(cosines[0], expected, atol=1e-5)
    np.testing.assert_allclose(index.cosines(items.centred(np.array([7])), rows)[0], expected, atol=1e-5)


def test_a_text_of_a_user_is_centred_as_the_items_are() -> None:
    items, index = filled(500)
    raw = items.vectors[[7, 8]]
    np.testing.assert_allclose(index.centre(raw), items.centred(np.array([7, 8])), atol=1e-4)


def test_fewer_items_than_asked_for_are_all_given_and_the_rest_is_marked() -> None:
    items, index = filled(3)
    cosines, rows = index.search(items.centred(np.arange(2)), 5)
    assert sorted(rows[0, :3].tolist()) == [0, 1, 2]
    assert (rows[:, 3:] == -1).all()
    assert np.isneginf(cosines[:, 3:]).all()


def test_the_index_changes_its_ways_when_the_catalogue_outgrows_the_threshold() -> None:
    items, index = filled(150, exact_below=200)
    assert index.exact
    for i, vector in enumerate(vectors(300, seed=9)):
        put(items, f"more{i}", vector)
    items.recentre()
    index.sync()
    assert not index.exact
    assert recall(items, index, 10) >= 0.95
    assert not items.changed


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_a_replaced_vector_is_found_once_and_where_it_now_is(kind: str) -> None:
    items, index = filled(1000, kind=kind, exact_below=100)
    old = items.centred(np.array([5])).copy()
    put(items, "i5", items.vectors[700])
    index.sync()
    near_new = index.near(items.centred(np.array([700])), 20)[0].tolist()
    assert near_new.count(5) == 1
    assert 5 not in index.near(old, 20)[0]
    put(items, "i9", items.vectors[9], tags=("reduced",))  # the same vector again
    index.sync()
    assert index.near(items.centred(np.array([9])), 20)[0].tolist().count(9) == 1


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_candidates_are_the_nearest_and_only_what_is_on_offer(kind: str) -> None:
    items, index = filled(kind=kind, exact_below=100)
    for i in range(0, 3000, 3):
        items.withdraw(f"i{i}")
    queries = items.centred(np.arange(1, 3000, 100)).copy()
    before_sync = index.near(queries, 40)
    index.sync()
    _, wanted = ItemIndex(items, exact_below=10**9).search(queries, 40)
    for found in (before_sync, after := index.near(queries, 40)):
        assert (found[found >= 0] % 3 > 0).all()
    assert np.mean([len(np.intersect1d(a, b)) / 40 for a, b in zip(wanted, after, strict=True)]) > 0.9
    assert (index.near(queries, 2_500) == -1).sum(axis=1).min() >= 500, "there are 2,000 on offer"


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_index_of_which_half_is_holes_is_built_anew(kind: str) -> None:
    items, index = filled(1000, kind=kind, exact_below=100)
    for turn in range(4):
        for i in range(400):
            put(items, f"i{i}", items.vectors[items.row(f"i{i}")])
        index.sync()
        assert index.builds == (2 if turn == 3 else 1), "of 2,200 that the third turn left 1,200 are holes"
    assert recall(items, index) >= 0.95


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
@pytest.mark.parametrize("left", range(4))
def test_a_large_catalogue_of_which_next_to_nothing_is_on_offer(kind: str, left: int) -> None:
    items, index = filled(400, kind=kind, exact_below=100)
    queries = items.centred(np.arange(3)).copy()
    for i in range(left, 400):
        items.withdraw(f"i{i}")
    fresh = ItemIndex(items, exact_below=100, kind=kind)  # type: ignore[arg-type]
    for _ in range(2):  # the second time the old one is built anew, of so few
        items.changed.update(range(400))
        for one in (index, fresh):
            one.sync()
            assert {*one.near(queries, 20).ravel().tolist()} == {-1, *range(left)}
            assert {*one.search(queries, 20)[1].ravel().tolist()} == {-1, *range(left)}
    row = put(items, "other", vectors(1, seed=2)[0])
    index.sync()
    assert row in index.near(queries, 20)[0]


def test_a_small_change_does_not_rebuild() -> None:
    items, index = filled(2000, exact_below=100)
    put(items, "i3", vectors(1, seed=3)[0])
    items.recentre()
    index.sync()
    assert index.builds == 1


@pytest.mark.parametrize(("precision", "within"), [("bf16", 0.01), ("int8", 0.02)])
def test_the_product_of_less_bits_is_the_exact_one_but_for_rounding_and_follows_the_catalogue(
    precision: Product, within: float
) -> None:
    items, exact = filled()
    small = ItemIndex(items, precision=precision)

    def agrees() -> None:
        items.recentre()
        changed = set(items.changed)
        exact.sync()
        items.changed.update(changed)  # the other index has emptied it
        small.sync()
        users = items.centred(np.arange(0, len(items), 97)).copy()
        assert exact.scores(users) == pytest.approx(small.scores(users), abs=within)

    agrees()
    version = items.mean_version
    for i, vector in enumerate(vectors(2_000, seed=3)):  # replaced, added, and so many that the mean moves
        put(items, f"i{2_900 + i}", vector)
    agrees()
    assert items.mean_version > version
    put(items, "i7", -vectors(1, seed=4)[0])  # one alone: the mean stays
    agrees()
    assert recall(items, small) > 0.9
