"""The catalogue in memory: item ids as dense rows, and what ranking needs of each in arrays.

Every table of Strata (neighbours, layers, histories) refers to items by row, so that scoring is array work. A row is
given at first mention, also to an item that is not encoded yet, and is never given to another.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import DimensionMismatch, InvalidEvent
from models.records import ItemVector, from_half

NEVER: Final = np.iinfo(np.int64).max
"""``expires_ms`` of an item that does not expire."""

UNDESCRIBED: Final = 50_000
"""Items that are known by their clicks alone, at most (some 4 KB each in the updater)."""

_LONGEST: Final = 64
"""Bytes of the id of such an item, at most: the layers' checkpoint holds tens of thousands of them in one record."""
_NOWHERE: Final = ""
"""Id of the row that stands for all that have none; no item can have it."""

_FEW: Final = 32  # below so many vectors their mean is noise, and subtracting it would leave nothing


def item_hash(item_id: str) -> int:
    """64-bit hash of an item id, the same on every machine: what a profile remembers of a seen item."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "little")


class ItemStore:
    """Items by row.

    Anybody can click an id that no item has, so the rows of items that nobody has described are bounded: when they have
    all been given, :meth:`mention` gives the one row :attr:`nowhere` in their place, until they are described.

    Parameters
    ----------
    dimension
        Length of an item vector.
    most_undescribed
        Rows for items that were mentioned and never described.

    Attributes
    ----------
    ids : list[str]
        Row → item id.
    vectors : float32 [capacity, dimension]
        Unit length; zero where ``encoded`` is False.
    mean : float32 [dimension]
        The mean that ``centred`` subtracts; moved by :meth:`recentre` alone, so that whoever holds centred vectors
        (the index, the layers) knows when to follow.
    encoded, available : bool [capacity]
    expires_ms : int64 [capacity]
    hashes : uint64 [capacity]
    centred_scale : float32 [capacity]
        1 / |v − mean|, 0 where not encoded.
    described : bool [capacity]
        Whether the item is, or was, in the catalogue.
    undescribed : int
        Rows of items that are not.
    nowhere : int
        The row of all items that have none of their own; -1 while there is room for all. It is never encoded.
    revision : int
        Records taken in, and items withdrawn: what is on offer stays the same while this does, but for what expires.
    changed : set[int]
        Rows whose vector or availability changed since the index last looked; the index empties it.
    moved : set[int]
        Rows whose vector is another than before, of those that had one; :class:`~models.likeness.Likeness` empties it.
    """

    def __init__(self, dimension: int, most_undescribed: int = UNDESCRIBED) -> None:
        self.dimension = dimension
        self.most_undescribed = most_undescribed
        self.undescribed = 0
        self.nowhere = -1
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.categories: list[str] = []
        self.tags: list[tuple[str, ...]] = []
        self.safety: list[tuple[str, ...]] = []
        self.tokens: list[NDArray[np.int32]] = []
        self.revision = 0
        self.changed: set[int] = set()
        self.moved: set[int] = set()
        self.mean: NDArray[np.float32] = np.zeros(dimension, np.float32)
        self.mean_version = 0
        self._rows: dict[str, int] = {}
        self._since_recentre = 0
        self._allocate(1024)

    def __len__(self) -> int:
        return len(self.ids)

    def _allocate(self, capacity: int) -> None:
        n = len(self.ids)

        def grown(name: str, like: NDArray[np.generic]) -> None:
            if n:
                like[:n] = getattr(self, name)[:n]
            setattr(self, name, like)

        grown("vectors", np.zeros((capacity, self.dimension), np.float32))
        grown("described", np.zeros(capacity, np.bool_))
        grown("encoded", np.zeros(capacity, np.bool_))
        grown("available", np.zeros(capacity, np.bool_))
        grown("expires_ms", np.full(capacity, NEVER, np.int64))
        grown("hashes", np.zeros(capacity, np.uint64))
        grown("centred_scale", np.zeros(capacity, np.float32))

    vectors: NDArray[np.float32]
    described: NDArray[np.bool_]
    encoded: NDArray[np.bool_]
    available: NDArray[np.bool_]
    expires_ms: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    centred_scale: NDArray[np.float32]

    def find(self, item_id: str) -> int:
        """The item's row, or -1 where it was never mentioned."""
        return self._rows.get(item_id, -1)

    def mention(self, item_id: str) -> int:
        """The item's row, given now if there is room for one that nobody has described; else ``nowhere``."""
        row = self._rows.get(item_id)
        if row is not None and item_id:
            return row
        if item_id and self.undescribed < self.most_undescribed and len(item_id.encode()) <= _LONGEST:
            return self.row(item_id)
        if self.nowhere < 0:
            self.nowhere = self.row(_NOWHERE)
            self.undescribed -= 1
        return self.nowhere

    def hash_of(self, item_id: str) -> int:
        """:func:`item_hash`, looked up where the item has a row."""
        row = self._rows.get(item_id)
        return item_hash(item_id) if row is None else int(self.hashes[row])

    def describe(self, item_id: str) -> int:
        """The item is in the catalogue: its row, given now if it has none."""
        row = self.row(item_id)
        self.undescribed -= not self.described[row]
        self.described[row] = True
        return row

    def row(self, item_id: str) -> int:
        """The item's row, given now if it has none, whether or not there is room."""
        row = self._rows.get(item_id)
        if row is None:
            self.undescribed += 1
            row = self._rows[item_id] = len(self.ids)
            if row == len(self.hashes):
                self._allocate(2 * row)
            self.ids.append(item_id)
            self.titles.append(item_id)
            self.categories.append("")
            self.tags.append(())
            self.safety.append(())
            self.tokens.append(np.empty(0, np.int32))
            self.hashes[row] = item_hash(item_id)
        return row

    def put(self, item_id: str, record: ItemVector) -> int:
        """Take in an item's record and return its row.

        Raises
        ------
        DimensionMismatch
            If the record's vector has another length: it comes from another model.
        InvalidEvent
            If a number of it is not finite: the catalogue's mean, and all that is learned, would not be either.
        """
        vector = from_half(record.vector)
        if len(vector) != self.dimension:
            raise DimensionMismatch(
                f"the vector of item {item_id!r} has {len(vector)} numbers, the model {self.dimension}: it was written "
                "with another model; the catalogue role encodes it again"
            )
        if not np.isfinite(vector).all():
            raise InvalidEvent("vector: a number that is not finite", "validate")
        row = self.put_facts(item_id, record)
        if not (self.encoded[row] and np.array_equal(self.vectors[row], vector)):
            self.vectors[row] = vector
            if self.encoded[row]:
                self.moved.add(row)
            self.encoded[row] = True
            self._since_recentre += 1
        self.tokens[row] = np.frombuffer(record.tokens, "<i4")
        self._rescale(np.array([row]))
        return row

    def put_facts(self, item_id: str, record: ItemVector) -> int:
        """Take in what holds of an item whatever the model, and return its row: its vector and tokens stay as they are.

        So a record of another model can take an item off offer; one without a vector is not on offer yet.
        """
        row = self.describe(item_id)
        self.titles[row], self.categories[row] = record.title or item_id, record.category
        self.tags[row], self.safety[row] = record.tags, record.safety
        self.available[row] = record.available
        self.expires_ms[row] = NEVER if record.expires_ms is None else record.expires_ms
        self.changed.add(row)
        self.revision += 1
        return row

    def withdraw(self, item_id: str) -> int:
        """Take an item off offer for good (its row stays, since histories refer to it); -1 if it was never known."""
        row = self.find(item_id)
        if row >= 0:
            self.available[row] = False
            self.changed.add(row)
            self.revision += 1
        return row

    def centred(self, rows: NDArray[np.integer] | slice) -> NDArray[np.float32]:
        """Unit vectors after the catalogue's mean is taken off, float32 [rows, dimension].

        Raw cosines of a BERT are all high; around their mean they tell items apart (HR@10 .050 against .028).
        """
        centred: NDArray[np.float32] = (self.vectors[rows] - self.mean) * self.centred_scale[rows, None]
        return centred

    def recentre(self, changed_share: float = 0.01) -> bool:
        """Move ``mean`` to the present mean if at least this share of the vectors changed since; True if it moved."""
        rows = np.flatnonzero(self.encoded[: len(self)])
        if self._since_recentre < max(1.0, changed_share * len(rows)):
            return False
        self._since_recentre = 0
        self.mean = self.vectors[rows].mean(axis=0) if len(rows) >= _FEW else np.zeros(self.dimension, np.float32)
        self.mean_version += 1
        self._rescale(rows)
        return True

    def _rescale(self, rows: NDArray[np.integer]) -> None:
        norms = np.linalg.norm(self.vectors[rows] - self.mean, axis=1)
        self.centred_scale[rows] = np.where(norms > 1e-6, 1 / np.maximum(norms, 1e-6), 0)
