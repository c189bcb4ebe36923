"""The layers on a plane."""

from __future__ import annotations

import numpy as np
import pytest

from models.layer_map import LayerMap
from models.records import LayerTree

R, D = 5, 9


def tree(fine: np.ndarray, version: int = 1) -> LayerTree:
    """Two coarse layers, each the mean of its fine ones."""
    coarse = fine.reshape(2, -1, R).mean(axis=1)
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(D, R)))[0].T
    return LayerTree(
        version=version, model="m", dimensions=(R, D), basis=basis.astype("<f4").tobytes(),
        coarse=coarse.astype("<f4").tobytes(), fine=fine.astype("<f4").tobytes(), epochs=(0,) * len(fine), created_ms=0,
    )  # fmt: skip


def test_a_user_in_a_layer_lies_by_it_and_the_map_stays_as_it_lay() -> None:
    draw = np.random.default_rng(3)
    fine = draw.normal(size=(6, R)) * [3, 2, 0.1, 0.1, 0.1]
    shown = LayerMap()
    assert shown.place(np.zeros(D, np.float32)) is None
    shown.put(tree(fine))
    basis = np.frombuffer(tree(fine).basis, "<f4").reshape(R, D)
    middle = fine.reshape(2, -1, R).mean(axis=1)
    for number in range(2):
        place = shown.place((basis.T @ middle[number]).astype(np.float32))
        assert place == pytest.approx(shown.coarse[number], abs=1e-3)
    before = shown.coarse
    shown.put(tree(fine + draw.normal(size=fine.shape) * 0.01, version=2))
    assert np.abs(shown.coarse - before).max() < 0.1, "a small change of the centres turned the map"
    assert shown.place(np.zeros(D + 1, np.float32)) is None
