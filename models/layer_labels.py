"""What a layer is called: the terms that set it apart, and the items that look most like it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.items import ItemStore

_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_JOIN: Final = " · "


def terms(items: ItemStore, row: int) -> tuple[str, ...]:
    """An item's category and tags; where it has neither, the words of its title."""
    named = tuple(dict.fromkeys(term for term in (items.categories[row], *items.tags[row]) if term))
    return named or tuple(dict.fromkeys(word.lower() for word in _WORD.findall(items.titles[row])))


def term_weights(items: ItemStore, rows: Iterable[int], counts: Iterable[float]) -> dict[str, float]:
    """How often each term was clicked: the counts of the items that bear it."""
    weights: dict[str, float] = {}
    for row, count in zip(rows, counts, strict=True):
        for term in terms(items, row):
            weights[term] = weights.get(term, 0.0) + count
    return weights


def distinctive(layer: dict[str, float], everybody: dict[str, float], n: int = 3) -> list[str]:
    """The terms that tell a layer from everybody, best first.

    By the term's part of the Kullback-Leibler divergence, p · log(p / q) with p its share in the layer and q its
    share in all (half a click added to both, so that a term seen once is not a discovery): common *and* typical.
    """
    inside, outside = sum(layer.values()) + 1e-9, sum(everybody.values()) + 1e-9
    scored = []
    for term, weight in layer.items():
        p = weight / inside
        q = max(everybody.get(term, 0.0), weight) / max(outside, inside)
        gain = p * math.log((p + 0.5 / inside) / (q + 0.5 / inside))
        if gain > 0:
            scored.append((-gain, term))
    return [term for _, term in sorted(scored)[:n]]


def medoids(z: NDArray[np.floating], centre: NDArray[np.floating], n: int = 3) -> NDArray[np.intp]:
    """Which of the points are nearest to a centre, nearest first, intp [n]."""
    nearest: NDArray[np.intp] = np.argsort(((z - centre) ** 2).sum(axis=1), kind="stable")[:n]
    return nearest


def label(names: list[str], titles: list[str]) -> str:
    """A layer's label: its terms, else its first medoid's title."""
    return _JOIN.join(names) if names else (titles[0] if titles else "")
