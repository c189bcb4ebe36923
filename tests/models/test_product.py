from __future__ import annotations

import numpy as np
import pytest

from models.product import quantised, scaled


def test_vectors_are_whole_numbers_of_their_own_steps() -> None:
    vectors = np.array([[1, -2, 0.5], [0, 0, 0], [1e-6, 3e-6, -2e-6], [254, 0.9, -1.1]], np.float32)
    made, steps = quantised(vectors)
    assert made.tolist() == [[64, -127, 32], [0, 0, 0], [42, 127, -85], [127, 0, -1]]
    assert steps == pytest.approx(np.array([2, 0, 3e-6, 254]) / 127)
    assert (np.abs(made * steps[:, None] - vectors).max(axis=1) <= steps / 2 * 1.001).all()


def test_products_of_whole_numbers_are_scaled_by_the_steps_of_both_however_large_they_are() -> None:
    products = np.array([[1, -2, 127 * 127 * 384], [0, 5, -127 * 127 * 384]], np.int32)
    made = scaled(products.copy(), np.array([0.5, 2], np.float32), np.array([1, 0, 3], np.float32))
    assert made.dtype == np.float32
    assert made == pytest.approx(products * np.array([[0.5], [2]]) * np.array([1, 0, 3]))
