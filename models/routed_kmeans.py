"""River's k-means, told the winners."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from river import cluster

TIE: Final = 1e-7
"""Distances this near to one another count as equal: NumPy's lose 1e-8 near zero."""


class RoutedKMeans(cluster.KMeans):  # type: ignore[misc]
    """River's k-means, told the nearest centre instead of looking for it."""

    _told: int | None = None

    def learn_routed(self, x: dict[int, float], winner: int) -> None:
        """Learn ``x`` as River does, given the nearest centre."""
        self._told = winner
        self.learn_one(x)
        self._told = None

    def predict_one(self, x: dict[int, float]) -> int:
        """The nearest centre."""
        return super().predict_one(x) if self._told is None else self._told

    def nearest(self, x: dict[int, float], row: list[float], among: list[int]) -> int:
        """The nearest of some centres for a vector, given in both forms; where two are equally near, River decides."""
        if len(among) == 1:
            return among[0]
        by = sorted((self.distance(row, centre), centre) for centre in among)
        return by[0][1] if by[0][0] + TIE < by[1][0] else self.predict_one(x)

    def distance(self, row: list[float], centre: int) -> float:
        """Euclidean distance to a centre."""
        return math.dist(row, self.centers[centre].values())

    def place(self, centre: int, at: NDArray[np.float64]) -> None:
        """Put a centre somewhere."""
        self.centers[centre].clear()
        # keys are integers: the order of string keys in River's sums changes from process to process
        self.centers[centre].update(enumerate(at.tolist()))
