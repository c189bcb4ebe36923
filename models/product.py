"""The product of users with all items: in fp32, or in bf16 where the processor multiplies that quicker."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.compiled import compiled
from models.items import ItemStore

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


class HalfProduct:
    """The items' centred vectors in bf16.

    Kept are the *centred* unit vectors, so that what is rounded is the cosine itself (to 2⁻⁹ of its size) and not the
    large raw product that it would be the small difference of.

    Parameters
    ----------
    items
        The catalogue; :meth:`follow` is told its changed rows.
    """

    def __init__(self, items: ItemStore) -> None:
        self.items = items
        self._vectors = torch.zeros((0, items.dimension), dtype=torch.bfloat16)
        self._mean_version = -1

    def follow(self, changed: NDArray[np.int64]) -> None:
        """Take in these rows; all rows where the catalogue's mean has moved."""
        n, held = len(self.items), len(self._vectors)
        if n > held:
            grown = torch.zeros((max(1_024, 2 * n), self.items.dimension), dtype=torch.bfloat16)
            grown[:held] = self._vectors
            self._vectors = grown
        if self._mean_version != self.items.mean_version:
            self._mean_version = self.items.mean_version
            changed = np.arange(n)
        for start in range(0, len(changed), _SLICE):
            rows = changed[start : start + _SLICE]
            self._vectors[torch.from_numpy(rows)] = torch.from_numpy(self.items.centred(rows)).bfloat16()

    def cosines(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine of every item with each centred vector, float32 [b, n]; 0 for an item without a vector."""
        with torch.inference_mode():
            users = torch.from_numpy(np.ascontiguousarray(vectors)).bfloat16()
            products = self._vectors[: len(self.items)] @ users.T  # the few are laid out anew for it, not the many
            return _widened(products.view(torch.int16).numpy())


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
