"""A made-up catalogue with tastes in it, and users who have them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.items import ItemStore
from models.records import ItemVector, half

TASTES = 20


def item(vector: NDArray[np.floating], title: str, tag: str) -> ItemVector:
    return ItemVector(model="m", text_hash=b"", tokens=b"", vector=half(vector), title=title, tags=(tag,))


def catalogue(items: int = 300, dimension: int = 32, seed: int = 0) -> ItemStore:
    """Items around ``TASTES`` directions, all leaning one way as a language model's vectors do."""
    rng = np.random.default_rng(seed)
    tastes = rng.normal(size=(TASTES, dimension))
    store = ItemStore(dimension)
    lean = 2 * rng.normal(size=dimension)
    for i in range(items):
        vector = tastes[i % TASTES] + 0.5 * rng.normal(size=dimension) + lean
        store.put(f"i{i}", item(vector / np.linalg.norm(vector), f"Thing {i}", f"taste{i % TASTES}"))
    store.recentre()
    return store


def stream(
    store: ItemStore, n: int, seed: int = 1, tastes: range | None = None
) -> tuple[NDArray[np.float32], list[list[int]]]:
    """Profile updates: vectors float32 [n, d] of users with one or two tastes, and what each of them clicked."""
    rng = np.random.default_rng(seed)
    among = tastes or range(TASTES)
    centred = store.centred(slice(0, len(store)))
    vectors = np.zeros((n, store.dimension), np.float32)
    clicked: list[list[int]] = []
    for u in range(n):
        liked = rng.choice(among, 2 if u % 3 else 1)
        rows = rng.integers(0, len(store) // TASTES, 6) * TASTES + rng.choice(liked, 6)
        vectors[u] = (0.9 ** np.arange(6)) @ centred[rows]
        clicked.append([int(row) for row in rows[: u % 3]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, clicked
