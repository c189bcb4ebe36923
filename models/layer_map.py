"""The layers on a plane, for people: where each lies, and where a user is among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.records import LayerTree


class LayerMap:
    """The plane in which the fine centres differ most (their first two principal components).

    A later tree is turned to lie as the one before did (orthogonal Procrustes), so that what moves on the map is what
    moved in fact.

    Attributes
    ----------
    coarse : float32 [k, 2]
        The coarse centres; the map's unit is the distance of the outermost fine centre from the middle.
    """

    def __init__(self) -> None:
        self.coarse: NDArray[np.float32] = np.zeros((0, 2), np.float32)
        self._basis: NDArray[np.float32] | None = None
        self._middle: NDArray[np.float32] = np.zeros(0, np.float32)
        self._plane: NDArray[np.float32] = np.zeros((0, 2), np.float32)
        self._unit = 1.0

    def put(self, tree: LayerTree) -> None:
        """Take in a tree.

        Raises
        ------
        ValueError
            If its arrays do not fit together.
        """
        r, d = tree.dimensions
        basis = np.frombuffer(tree.basis, "<f4").reshape(r, d)
        coarse, fine = (np.frombuffer(centres, "<f4").reshape(-1, r) for centres in (tree.coarse, tree.fine))
        middle = fine.mean(axis=0)
        _, _, axes = np.linalg.svd(fine - middle, full_matrices=False)
        plane = np.zeros((r, 2), np.float32)
        plane[:, : min(2, len(axes))] = axes[:2].T
        if self._basis is not None and self._basis.shape == basis.shape and len(coarse) == len(self.coarse):
            u, _, v = np.linalg.svd(((coarse - middle) @ plane).T @ self.coarse)
            plane = (plane @ u @ v).astype(np.float32)
        self._basis, self._middle, self._plane = basis, middle, plane
        self._unit = max(float(np.linalg.norm((fine - middle) @ plane, axis=1).max()), 1e-6)
        self.coarse = ((coarse - middle) @ plane / self._unit).astype(np.float32)

    def place(self, vector: NDArray[np.float32]) -> tuple[float, float] | None:
        """Where a user's vector [d] lies; None before there is a tree, or if it is another model's."""
        if self._basis is None or len(vector) != self._basis.shape[1]:
            return None
        x, y = (self._basis @ vector - self._middle) @ self._plane / self._unit
        return round(float(x), 4), round(float(y), 4)
