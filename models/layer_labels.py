"""What a layer is called: the terms that set it apart, and the items that look most like it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.items import ItemStore

NAMING: Final = 50
"""Items of a layer that its label speaks of."""
_NAMING_ALL: Final = 2_000  # items that it is compared with
_RENAME: Final = 32  # blocks that a label stands
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_JOIN: Final = " · "


class Name(NamedTuple):
    """What a layer is called.

    Attributes
    ----------
    label : str
    medoids : tuple[str, ...]
        Ids of the items nearest to its centre.
    """

    label: str
    medoids: tuple[str, ...]


class LayerNames:
    """The names of the layers, given anew from time to time.

    Parameters
    ----------
    items
        The catalogue.
    """

    def __init__(self, items: ItemStore) -> None:
        self.items = items
        self._names: dict[int, tuple[int, Name]] = {}
        self._everybody: tuple[int, dict[str, float]] = (0, {})

    def of(self, group: int, block: int) -> Name | None:
        """A layer's name; None when it is time to give it one."""
        given, name = self._names.get(group, (0, None))
        return name if name is not None and block - given < _RENAME else None

    def give(
        self,
        group: int,
        block: int,
        own: tuple[NDArray[np.int64], NDArray[np.float32]],
        everybody: tuple[NDArray[np.int64], NDArray[np.float32]],
        *,
        z: NDArray[np.floating],
        centre: NDArray[np.floating],
    ) -> Name:
        """Name a layer.

        Parameters
        ----------
        own, everybody
            Item rows and their counts: of the layer's top items, and of all users.
        z, centre
            Where the layer's top items are in the interaction space, and where it is.
        """
        if block - self._everybody[0] >= _RENAME or not self._everybody[1]:
            rows, counts = everybody
            top = np.argsort(-counts, kind="stable")[:_NAMING_ALL]
            self._everybody = block, term_weights(self.items, rows[top].tolist(), counts[top].tolist())
        rows, counts = own
        names = distinctive(term_weights(self.items, rows.tolist(), counts.tolist()), self._everybody[1])
        near = rows[medoids(z, centre)].tolist()
        # an item that is not encoded yet has its id for a title
        titled = next((self.items.titles[row] for row in near if self.items.encoded[row]), "")
        label = _JOIN.join(names) if names else titled
        name = Name(label, tuple(self.items.ids[row] for row in near))
        self._names[group] = block, name
        return name

    def forget(self, group: int) -> None:
        """The layer began anew: what it was called says nothing."""
        self._names.pop(group, None)


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
