"""Which delivery a worker runs with: what the setting asks for, and what the broker can do."""

from __future__ import annotations

import logging
import uuid
from typing import Final

from consumers.capability import why_no_transactions
from consumers.metrics import Metrics
from ops.settings import Settings
from producers.connection import Connection
from producers.errors import TransactionsUnsupported

log = logging.getLogger(__name__)

TRANSACTION_S: Final = 0.05
"""Least time between two transactions, s: each costs some 10 ms whatever its size."""


def exactly_once(settings: Settings, connection: Connection, metrics: Metrics) -> bool:
    """Whether to work in transactions; said in the log and in ``strata_delivery_info``.

    Raises
    ------
    TransactionsUnsupported
        If they are asked for, and the broker's do not hold.
    """
    why = None
    if settings.delivery != "at-least-once":
        # an id of its own: two workers that look at the same time must not fence each other
        probe = f"{settings.group}-probe-{uuid.uuid4().hex[:12]}"
        why = why_no_transactions(connection, settings.topics.layers, probe)
    if why is not None and settings.delivery == "exactly-once":
        raise TransactionsUnsupported(
            f"STRATA_DELIVERY=exactly-once, but with Kafka at {connection.bootstrap} {why}. Use a broker with"
            " transactions (Apache Kafka 2.5 or newer), or STRATA_DELIVERY=auto: then work may be done twice after a"
            " crash, which the applied offsets make harmless"
        )
    chosen = settings.delivery != "at-least-once" and why is None
    mode = "exactly-once" if chosen else "at-least-once"
    log.info("delivery %(mode)s%(because)s", {"mode": mode, "because": f": {why}" if why else ""})
    metrics.delivery.info({"mode": mode})
    return chosen
