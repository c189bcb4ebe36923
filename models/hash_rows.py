"""Item hash → row, for many hashes at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled

_FIRST = 1 << 10


class HashRows:
    """An open-addressing table: a fifth of the memory of a dictionary of integers, and looked up in a compiled loop.

    The hashes are random already, so their last bits say where to look first; the next place comes after it.
    """

    def __init__(self) -> None:
        self._keys: NDArray[np.uint64] = np.zeros(_FIRST, np.uint64)
        self._rows: NDArray[np.int32] = np.full(_FIRST, -1, np.int32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, hashes: NDArray[np.uint64]) -> None:
        """Give the next rows to these, uint64 [k]; a hash that has one keeps the newer."""
        first, self._count = self._count, self._count + len(hashes)
        if 2 * self._count > len(self._keys):
            held = self._rows >= 0
            keys, rows = self._keys[held], self._rows[held]
            size = 1 << (4 * self._count - 1).bit_length()
            self._keys, self._rows = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
            _enter(self._keys, self._rows, keys, rows)
        _enter(self._keys, self._rows, hashes, np.arange(first, self._count, dtype=np.int32))

    def look_up(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Rows of these, int64 [k]; -1 of one that has none."""
        return _look_up(self._keys, self._rows, hashes)


@compiled
def _place(keys: NDArray[np.uint64], rows: NDArray[np.int32], key: np.uint64) -> np.uint64:
    """Where a hash is, or would be entered."""
    last = np.uint64(len(keys) - 1)
    place = key & last
    while rows[place] >= 0 and keys[place] != key:
        place = (place + np.uint64(1)) & last
    return place


@compiled
def _enter(
    keys: NDArray[np.uint64], rows: NDArray[np.int32], new: NDArray[np.uint64], their_rows: NDArray[np.int32]
) -> None:
    for i in range(len(new)):
        place = _place(keys, rows, new[i])
        keys[place], rows[place] = new[i], their_rows[i]


@compiled
def _look_up(keys: NDArray[np.uint64], rows: NDArray[np.int32], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    found = np.empty(len(wanted), np.int64)
    for i in range(len(wanted)):
        found[i] = rows[_place(keys, rows, wanted[i])]
    return found
