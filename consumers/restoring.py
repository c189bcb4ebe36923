"""The users of newly assigned partitions, read back from ``profiles``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from consumers.client import Record
from consumers.metrics import Metrics
from consumers.shard import Shard
from consumers.tables import OpenTables
from models.items import ItemStore

log = logging.getLogger(__name__)

_TELL_S: Final = 2.0
"""How often a long restore says how far it is."""


def restore(
    numbers: Iterable[int],
    open_tables: OpenTables,
    profiles: str,
    items: ItemStore,
    hot: int,
    list_length: int,
    metrics: Metrics,
    *,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[int, Shard]:
    """The shards of these partitions as the topic ``profiles`` has them; blocks until it is read.

    Parameters
    ----------
    hot, list_length
        See :class:`~consumers.shard.Shard`.
    timeout_s
        How long that may take, s.

    Raises
    ------
    CatchUpTimeout
    """
    shards = {number: Shard(number, items, hot, list_length) for number in sorted(numbers)}

    def take(record: Record) -> None:
        shards[record.partition].restore((record.key or b"").decode(errors="replace"), record.value)
        metrics.profiles_restored.inc()

    began = told = clock()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if clock() - told > _TELL_S:
            told = clock()
            log.info(
                "updater: restoring profiles, %(done)d of %(records)d records read", {"done": done, "records": total}
            )

    if shards:
        reader = open_tables({profiles: take}, shards)
        try:
            reader.catch_up(timeout_s, progress)
        finally:
            reader.close()
    found, seconds = sum(map(len, shards.values())), max(clock() - began, 1e-3)
    log.info(
        "updater: restored %(profiles)d profiles of %(partitions)d partition(s) in %(seconds).2f s (%(rate).0f/s)",
        {"profiles": found, "partitions": len(shards), "seconds": round(seconds, 4), "rate": round(found / seconds)},
    )
    return shards
