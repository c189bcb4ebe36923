from __future__ import annotations

import numpy as np
import pytest

from models.items import ItemStore
from models.product import SMALL, SmallProduct, cosines, quantised, scaled
from models.records import ItemVector, half


def test_vectors_are_whole_numbers_of_their_own_steps() -> None:
    vectors = np.array([[1, -2, 0.5], [0, 0, 0], [1e-6, 3e-6, -2e-6], [254, 0.9, -1.1]], np.float32)
    made, steps = quantised(vectors)
    assert made.tolist() == [[64, -127, 32], [0, 0, 0], [42, 127, -85], [127, 0, -1]]
    assert steps == pytest.approx(np.array([2, 0, 3e-6, 254]) / 127)
    assert (np.abs(made * steps[:, None] - vectors).max(axis=1) <= steps / 2 * 1.001).all()


@pytest.mark.parametrize("product", SMALL.values())
def test_what_was_taken_in_stays_when_there_must_be_more_room(product: type[SmallProduct]) -> None:
    draw, items = np.random.default_rng(0), ItemStore(16)

    def put(count: int) -> None:
        for _ in range(count):
            vector = draw.normal(size=16).astype(np.float32)
            vector /= np.linalg.norm(vector)
            made = ItemVector(model="m", text_hash=b"", tokens=b"", vector=half(vector), title="")
            items.put(str(len(items)), made)

    small = product(items)
    put(3)
    small.follow(np.arange(3))
    put(2_000)
    small.follow(np.arange(3, 2_003))
    users = items.centred(np.arange(5)).copy()
    np.testing.assert_allclose(small.cosines(users), cosines(items, users), atol=0.03)


def test_products_of_whole_numbers_are_scaled_by_the_steps_of_both_however_large_they_are() -> None:
    products = np.array([[1, -2, 127 * 127 * 384], [0, 5, -127 * 127 * 384]], np.int32)
    made = scaled(products.copy(), np.array([0.5, 2], np.float32), np.array([1, 0, 3], np.float32))
    assert made.dtype == np.float32
    assert made == pytest.approx(products * np.array([[0.5], [2]]) * np.array([1, 0, 3]))
