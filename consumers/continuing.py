"""Where a role that learns goes on after a restart: its last checkpoint, state and input offsets in one record."""

from __future__ import annotations

from typing import Final

from consumers.client import Record
from consumers.tables import OpenTables
from models.records import Checkpoint, decode

STATE: Final = b"state"
"""Key of the checkpoint, on the topic of what was learned."""


def last_checkpoint(open_tables: OpenTables, topic: str) -> Checkpoint | None:
    """The last one on this topic, None before the first.

    Raises
    ------
    InvalidEvent
        If it is none.
    CatchUpTimeout
    """
    found: list[bytes] = []

    def keep(record: Record) -> None:
        if record.key == STATE and record.value is not None:
            found[:] = [record.value]

    reader = open_tables({topic: keep})
    try:
        reader.catch_up()
    finally:
        reader.close()
    return decode(found[0], Checkpoint) if found else None
