"""The product of users with all items: in fp32, or in int8 or bf16 where the processor multiplies that quicker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.compiled import compiled
from models.items import ItemStore
from models.kernels import Product

_SLICE: Final = 4_096  # items centred at a time: 6 MB of working memory
_BLOCK: Final = 512  # items in a part of the product: what is done to it finds it in the processor's cache
_MANY: Final = 16  # users from which on torch's product of all is quicker than NumPy's of parts; of 64 by a third


def cosines(items: ItemStore, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of every item with each (centred) vector, float32 [b, len(items)]; 0 for an item without a vector."""
    n, to_mean = len(items), vectors @ items.mean
    if len(vectors) >= _MANY:
        with torch.inference_mode():
            every = torch.from_numpy(items.vectors[:n])
            products: NDArray[np.float32] = (torch.from_numpy(vectors) @ every.T).numpy()
        _centre(products, to_mean, items.centred_scale)
        return products
    made, users = np.empty((len(vectors), n), np.float32), np.ascontiguousarray(vectors.T)
    for start in range(0, n, _BLOCK):
        some = slice(start, min(n, start + _BLOCK))
        products = items.vectors[some] @ users  # the many on the left: of few users half the time of the other way
        products -= to_mean
        products *= items.centred_scale[some, None]
        made[:, some] = products.T
    return made


@compiled
def _centre(products: NDArray[np.float32], to_mean: NDArray[np.float32], scale: NDArray[np.float32]) -> None:
    """products [b, n] ← (products − to mean) · scale, their cosines."""
    for user in range(len(products)):
        for item in range(products.shape[1]):
            products[user, item] = (products[user, item] - to_mean[user]) * scale[item]


class SmallProduct(ABC):
    """The items' centred vectors in a smaller type.

    Kept are the *centred* unit vectors, so that what is rounded is the cosine itself and not the large raw product that
    it would be the small difference of.

    Parameters
    ----------
    items
        The catalogue; :meth:`follow` is told its changed rows.
    """

    dtype: torch.dtype

    def __init__(self, items: ItemStore) -> None:
        self.items = items
        self._vectors = torch.zeros((0, items.dimension), dtype=self.dtype)
        self._mean_version = -1

    def follow(self, changed: NDArray[np.int64]) -> None:
        """Take in these rows; all rows where the catalogue's mean has moved."""
        n, held = len(self.items), len(self._vectors)
        if n > held:
            self._grow(max(1_024, 2 * n))
        if self._mean_version != self.items.mean_version:
            self._mean_version = self.items.mean_version
            changed = np.arange(n)
        for start in range(0, len(changed), _SLICE):
            rows = changed[start : start + _SLICE]
            self._put(rows, self.items.centred(rows))

    @abstractmethod
    def cosines(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine of every item with each centred vector, float32 [b, n]; 0 for an item without a vector."""

    @abstractmethod
    def _put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None: ...

    def _grow(self, size: int) -> None:
        grown = torch.zeros((size, self.items.dimension), dtype=self.dtype)
        grown[: len(self._vectors)] = self._vectors
        self._vectors = grown


class HalfProduct(SmallProduct):
    """In bf16: a cosine is rounded to 2⁻⁹ of its size."""

    dtype = torch.bfloat16

    def cosines(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """As :meth:`SmallProduct.cosines`."""
        with torch.inference_mode():
            users = torch.from_numpy(np.ascontiguousarray(vectors)).bfloat16()
            products = self._vectors[: len(self.items)] @ users.T  # the few are laid out anew for it, not the many
            return _widened(products.view(torch.int16).numpy())

    def _put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self._vectors[torch.from_numpy(rows)] = torch.from_numpy(vectors).bfloat16()


class ByteProduct(SmallProduct):
    """In int8, each vector by a scale of its own, its largest component 127; the sums are exact.

    A component is off by up to half a step, so that a cosine is off by some 2⁻¹⁰, of whatever size. HR@10 with it − in
    fp32, Strata on the whole streams of ``ops/bench/QUALITY.md``, by a script: −.00016 ± .00007 (MovieLens-100k),
    +.00007 ± .00010 (Online Retail), −.0004 ± .0007 and +.0001 ± .0008 (completejourney).
    """

    dtype = torch.int8

    def __init__(self, items: ItemStore) -> None:
        super().__init__(items)
        self._steps = np.zeros(0, np.float32)

    def cosines(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """As :meth:`SmallProduct.cosines`."""
        users, steps = quantised(np.ascontiguousarray(vectors))
        products = torch._int_mm(torch.from_numpy(users), self._vectors[: len(self.items)].T)
        return scaled(products.numpy(), steps, self._steps)

    def _put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        made, self._steps[rows] = quantised(vectors)
        self._vectors[torch.from_numpy(rows)] = torch.from_numpy(made)

    def _grow(self, size: int) -> None:
        super()._grow(size)
        self._steps = np.concatenate([self._steps, np.zeros(size - len(self._steps), np.float32)])


SMALL: Final[dict[Product, type[SmallProduct]]] = {"bf16": HalfProduct, "int8": ByteProduct}
"""By what they multiply in."""


@compiled
def quantised(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Vectors [b, d] as whole numbers of steps, and how large each one's step is, float32 [b]."""
    made, steps = np.empty(vectors.shape, np.int8), np.empty(len(vectors), np.float32)
    for i in range(len(vectors)):
        largest = np.float32(0)
        for x in range(vectors.shape[1]):
            largest = max(largest, abs(vectors[i, x]))
        steps[i] = largest / np.float32(127)
        scale = np.float32(127) / largest if largest > 0 else np.float32(0)
        for x in range(vectors.shape[1]):
            made[i, x] = np.int8(np.rint(vectors[i, x] * scale))
    return made, steps


@compiled
def scaled(products: NDArray[np.int32], users: NDArray[np.float32], items: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products [b, n] of whole numbers, by the steps of both; in their place."""
    made = products.view(np.float32)
    for user in range(products.shape[0]):
        for item in range(products.shape[1]):
            made[user, item] = products[user, item] * users[user] * items[item]
    return made


@compiled
def _widened(bits: NDArray[np.int16]) -> NDArray[np.float32]:
    """bf16 [n, b] as float32 [b, n]: the upper half of its bits."""
    n, b = bits.shape
    made = np.empty((b, n), np.float32)
    out = made.view(np.int32)
    for start in range(0, n, 64):
        for user in range(b):
            for item in range(start, min(start + 64, n)):
                out[user, item] = np.int32(bits[item, user]) << 16
    return made
