"""The deep part's net as bytes, in parts, and back: safetensors, whose reader makes arrays and nothing else.

Of the table of items only the rows travel that clicks have taught something, as halves: some 130 bytes an item. A
snapshot is cut into parts, since one of many items is longer than a message may be; the head, written last, says how
many there are and what they must add up to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Final

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import nn

from models.errors import InvalidEvent
from models.neighbours import WINDOW
from models.sequence import SequenceConfig, SequenceNet

PART_BYTES: Final = 512 * 1024
"""Longest part."""

_LARGEST: Final = 1e4
"""Of a weight: with larger ones the net's own sums may leave the range of a float."""
_LARGEST_SCALE: Final = 1e7
_TABLE: Final = ("items.weight", "bias.weight")
"""What travels by row: the table of items."""
_HEADER_BYTES: Final = 16 * 1024
"""Of a safetensors file with our two dozen names, at most."""


class SequenceLayout(Struct, frozen=True):
    """What a net is made for; one of another layout means nothing here."""

    model: str
    """The encoder whose vectors it reads."""
    vectors: int
    """Length of such a vector."""
    dimension: int
    heads: int
    slots: int
    window: int
    """Clicks that it looks at."""

    @classmethod
    def of(cls, model: str, vectors: int, config: SequenceConfig = SequenceConfig()) -> SequenceLayout:
        """The layout of this version's nets."""
        return cls(model, vectors, config.dimension, config.heads, config.slots, WINDOW)

    @property
    def most_parts(self) -> int:
        """Parts of a snapshot, at most."""
        row = 4 + 2 * self.dimension + 2
        dense = sum(4 * int(np.prod(shape)) for shape in _shapes(self).values())
        return -(-(self.slots * row + dense + _HEADER_BYTES) // PART_BYTES)


class SequencePart(Struct, frozen=True, array_like=True):
    """A piece of a snapshot (topic ``sequence``, key ``part/<number>``)."""

    version: int
    """The head's."""
    number: int
    """From 0."""
    data: bytes


class SequenceHead(Struct, frozen=True, kw_only=True):
    """What the parts before it are (topic ``sequence``, key ``head``)."""

    version: int
    """Clicks that the net has been trained on."""
    created_ms: int
    parts: int
    digest: bytes
    """BLAKE2b-256 of the parts, one after the other."""
    layout: SequenceLayout
    offsets: dict[int, int]
    """Partition of ``profiles`` → first offset whose clicks it may not have been trained on."""


def written(net: SequenceNet) -> bytes:
    """A net as safetensors bytes."""
    arrays: dict[str, NDArray[np.generic]] = {
        name: value.detach().numpy().astype("<f4", order="C")
        for name, value in net.state_dict().items()
        if name not in _TABLE
    }
    items, bias = net.items.weight.detach().numpy(), net.bias.weight.detach().numpy()[:, 0]
    rows = np.flatnonzero(items.any(axis=1) | (bias != 0))
    arrays["table.rows"] = rows.astype("<i4")
    arrays["table.items"], arrays["table.bias"] = items[rows].astype("<f2"), bias[rows].astype("<f2")
    data: bytes = save(arrays)
    return data


def read(data: bytes, layout: SequenceLayout) -> SequenceNet:
    """The net that was written, with weights of its own.

    Raises
    ------
    InvalidEvent
        If the bytes are not one of this layout, or hold a number that is not finite, or far from any that is learned.
    """
    try:
        arrays = dict(load(data))
    # what its Rust part says of a header, and its Python part of a type or of a length that it does not know
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise InvalidEvent(f"sequence: not safetensors ({type(error).__name__})") from None
    rows = _table_rows(arrays.pop("table.rows", None), layout.slots)
    items = _numbers(arrays, "table.items", "<f2", (len(rows), layout.dimension))
    bias = _numbers(arrays, "table.bias", "<f2", (len(rows),))
    state = {name: torch.from_numpy(_numbers(arrays, name, "<f4", shape)) for name, shape in _shapes(layout).items()}
    if arrays:
        raise InvalidEvent("sequence: arrays that the net has not", "validate")
    if not state["scale"] > 0:
        raise InvalidEvent("sequence: a scale that is not above 0", "validate")
    net = _bare(layout)
    # NumPy's zeros are pages that the system gives when they are written to: most rows never are
    table, biases = np.zeros((layout.slots, layout.dimension), np.float32), np.zeros((layout.slots, 1), np.float32)
    table[rows], biases[rows, 0] = items, bias
    net.items = nn.Embedding.from_pretrained(torch.from_numpy(table), freeze=False, sparse=True)
    net.bias = nn.Embedding.from_pretrained(torch.from_numpy(biases), freeze=False, sparse=True)
    net.load_state_dict(state, strict=False)
    return net


def cut(data: bytes, version: int) -> list[SequencePart]:
    """Bytes in parts."""
    return [
        SequencePart(version, number, data[start : start + PART_BYTES])
        for number, start in enumerate(range(0, len(data), PART_BYTES))
    ]


def digest_of(data: bytes) -> bytes:
    """What a head says of its parts."""
    return hashlib.blake2b(data, digest_size=32).digest()


class Assembly:
    """Collects the parts of a snapshot, of one at a time.

    Parameters
    ----------
    layout
        Bounds what is kept: no more than the largest snapshot of it.
    """

    def __init__(self, layout: SequenceLayout) -> None:
        self.layout = layout
        self._most = layout.most_parts
        self._version = -1
        self._parts: dict[int, bytes] = {}

    def add(self, part: SequencePart) -> None:
        """Keep a part, and drop those of other versions.

        Raises
        ------
        InvalidEvent
            If it is none that a snapshot of this layout could have.
        """
        if not 0 <= part.number < self._most:
            raise InvalidEvent(f"part: number {part.number} of {self._most} at most", "validate")
        if len(part.data) > PART_BYTES:
            raise InvalidEvent(f"part: longer than {PART_BYTES} bytes", "validate")
        if part.version != self._version:
            self._version = part.version
            self._parts.clear()
        self._parts[part.number] = part.data

    def whole(self, head: SequenceHead) -> bytes | None:
        """The bytes that a head speaks of, which are not kept any longer; None while not all its parts are there.

        Raises
        ------
        InvalidEvent
            If they are not what the head says.
        """
        if head.version < 1 or not 0 < head.parts <= self._most or any(offset < 0 for offset in head.offsets.values()):
            raise InvalidEvent("head: no parts, too many, or numbers below 0", "validate")
        if self._version != head.version or any(number not in self._parts for number in range(head.parts)):
            return None
        data = b"".join(self._parts[number] for number in range(head.parts))
        self._parts.clear()
        if digest_of(data) != head.digest:
            raise InvalidEvent("head: the parts are not those that it speaks of", "validate")
        return data


def _bare(layout: SequenceLayout) -> SequenceNet:
    """A net without its table: that would take most of the time, and is replaced."""
    return SequenceNet(layout.vectors, SequenceConfig(dimension=layout.dimension, heads=layout.heads, slots=1))


@cache
def _shapes(layout: SequenceLayout) -> Mapping[str, tuple[int, ...]]:
    """Of all that a snapshot holds but the table."""
    return {name: tuple(value.shape) for name, value in _bare(layout).state_dict().items() if name not in _TABLE}


def _table_rows(rows: NDArray[np.generic] | None, slots: int) -> NDArray[np.int32]:
    if rows is None or rows.dtype != np.dtype("<i4") or rows.ndim != 1:
        raise InvalidEvent("sequence: no rows of the table", "validate")
    known = rows.astype(np.int32)
    if len(known) and (known[0] < 0 or known[-1] >= slots or (np.diff(known) <= 0).any()):
        raise InvalidEvent("sequence: rows that the table has not, or twice", "validate")
    return known


def _numbers(
    arrays: dict[str, NDArray[np.generic]], name: str, kind: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """An array of the file, which is taken out of it, as float32 of its own."""
    found = arrays.pop(name, None)
    if found is None or found.dtype != np.dtype(kind) or found.shape != shape:
        raise InvalidEvent(f"sequence: {name} is not {shape} numbers of {kind}", "validate")
    numbers = found.astype(np.float32)
    largest = _LARGEST_SCALE if name == "scale" else _LARGEST
    if not (np.abs(numbers) <= largest).all():
        raise InvalidEvent(f"sequence: {name} holds a number that is not finite, or too large", "validate")
    return numbers
