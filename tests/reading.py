"""A topic as a reader of committed records finds it."""

from __future__ import annotations

from consumers.client import Record
from consumers.tables import TableReader
from producers.connection import Connection


def read(connection: Connection, topic: str, timeout_s: float = 30) -> list[Record]:
    """The whole topic, each partition in order."""
    records: list[Record] = []
    reader = TableReader.open(connection, {topic: records.append})
    try:
        reader.catch_up(timeout_s)
    finally:
        reader.close()
    return records
