"""Centres and the vectors around them: distances, the way down the tree, batch k-means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits


def far_half(points: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut points in two across their longest axis; the mean of the half that is farther from a centre, float64 [r]."""
    apart = points - points.mean(axis=0)
    axis = np.linalg.svd(apart, full_matrices=False)[2][0]
    over = apart @ axis > 0
    if over.all() or not over.any():
        return points.mean(axis=0)  # type: ignore[no-any-return]
    halves = np.stack([points[over].mean(axis=0), points[~over].mean(axis=0)])
    half: NDArray[np.float64] = halves[((halves - centre) ** 2).sum(axis=1).argmax()]
    return half


def distances(z: NDArray[np.floating], centres: NDArray[np.floating]) -> NDArray[np.float64]:
    """Euclidean distances, float64 [n, k]."""
    wide, to = z.astype(np.float64), centres.astype(np.float64)
    squared = (wide**2).sum(axis=1)[:, None] - 2 * wide @ to.T + (to**2).sum(axis=1)
    apart: NDArray[np.float64] = np.sqrt(np.maximum(squared, 0))
    return apart


def route(
    z: NDArray[np.floating], coarse: NDArray[np.floating], fine: NDArray[np.floating]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Coarse layer and leaf of each vector: the nearest coarse centre, then the nearest fine one below it."""
    width = len(fine) // len(coarse)
    branch = distances(z, coarse).argmin(axis=1)
    below = distances(z, fine).reshape(len(z), len(coarse), width)[np.arange(len(z)), branch]
    return branch, branch * width + below.argmin(axis=1)


def batch_kmeans(
    z: NDArray[np.floating], k: int, seed: int, start: NDArray[np.floating] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Batch k-means (scikit-learn, one thread so that it is the same every time): centres and labels.

    With fewer different points than centres, centres are placed beside one another around the points there are.
    """
    wide = np.asarray(z, np.float64)
    points = np.unique(wide, axis=0)
    if len(points) < k:
        spread = max(float(wide.std()), 1e-6)
        jitter = np.random.default_rng(seed).normal(0, spread / 100, (k, wide.shape[1]))
        jitter[: len(points)] = 0
        centres = points[np.arange(k) % len(points)] + jitter
        return centres, distances(wide, centres).argmin(axis=1)
    with threadpool_limits(1):
        if start is None:
            fit = KMeans(k, n_init=4, random_state=seed).fit(wide)
        else:
            fit = KMeans(k, init=start, n_init=1, random_state=seed).fit(wide)
    return fit.cluster_centers_, fit.labels_.astype(np.intp)
