"""Header names as they were sent: kafka-python alone stops at a name that is not UTF-8, and so would every worker.

Kafka's protocol calls a header's name a string and no broker looks whether it is one; clients in C send what they are
given. kafka-python decodes names strictly in the middle of a fetch, so one such message would end its reader again and
again. Names that are no UTF-8 come as :class:`RawName` instead, which is written again as the bytes that it came from.
"""

from __future__ import annotations

from typing import Any

from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import decode_varint


class RawName(str):
    """A header's name that is not UTF-8: each odd byte stands as a lone surrogate, and becomes that byte again."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> bytes:
        """The bytes that were sent."""
        return super().encode("utf-8", "surrogateescape")


class _Bytes(bytes):
    """A record batch of which every slice decodes to something."""

    def __getitem__(self, at: Any) -> Any:
        piece = super().__getitem__(at)
        return _Bytes(piece) if isinstance(piece, bytes) else piece

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        try:
            return super().decode("utf-8")
        except UnicodeDecodeError:
            return RawName(super().decode("utf-8", "surrogateescape"))


def accept_any() -> None:
    """From now on kafka-python reads header names of any bytes; what it does with all others stays as it is."""
    if DefaultRecordBatch._read_msg is not _read:
        DefaultRecordBatch._read_msg = _read


_strict = DefaultRecordBatch._read_msg


def _read(batch: Any, *given: Any) -> Any:
    began = batch._pos
    try:
        return _strict(batch, *given)
    except UnicodeDecodeError:
        buffer = batch._buffer
        length, start = decode_varint(buffer, began)
        end = start + length
        batch._pos, batch._buffer = 0, _Bytes(buffer[began:end])
        try:
            return _strict(batch, *given)
        finally:
            batch._pos, batch._buffer = end, buffer
