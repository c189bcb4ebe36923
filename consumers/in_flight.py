"""How much of the input is in memory: what was read and is not committed yet."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Final

from consumers.client import Record

_OBJECTS: Final = 512
"""Bytes of Python around a record, about."""


class InFlight:
    """Counts the bytes of records by partition, from being read until nothing can ask for them any more.

    A record is kept for its dead letter until its list is published: without a bound, the longest messages that are
    accepted, from as many users as may be owed a list, would fill any memory.

    Parameters
    ----------
    most
        Bytes; one record always has room.

    Attributes
    ----------
    bytes : int
        Of all that is in flight.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = 0
        self._sizes: defaultdict[int, deque[tuple[int, int]]] = defaultdict(deque)

    @property
    def full(self) -> bool:
        """Whether nothing more should be read for now."""
        return self.bytes >= self.most

    def took(self, record: Record) -> None:
        """Count a record."""
        size = len(record.value or b"") + len(record.key or b"") + _OBJECTS
        size += sum(len(name) + len(content or b"") for name, content in record.headers)
        self._sizes[record.partition].append((record.offset, size))
        self.bytes += size

    def settled(self, partition: int, below: int) -> None:
        """Nothing of a partition below this offset is waited for."""
        sizes = self._sizes[partition]
        while sizes and sizes[0][0] < below:
            self.bytes -= sizes.popleft()[1]

    def forget(self, partition: int) -> None:
        """A partition went."""
        self.bytes -= sum(size for _, size in self._sizes.pop(partition, ()))
