"""Messages that a stage cannot use leave the stream here, and the rest flows on."""

from __future__ import annotations

import logging

from consumers.client import Record
from consumers.metrics import Metrics
from models.errors import InvalidEvent
from producers.dead_letters import DeadLetterLimits, dead_letter
from producers.publisher import Message

log = logging.getLogger(__name__)


class Diversion:
    """Collects one role's dead letters until its next Work takes them along.

    A dead letter is published and acknowledged with the Work that commits the offset of its message, so a message is
    never lost between the two.

    Parameters
    ----------
    topic
        Where dead letters go.
    limits
        Stops a role that diverts nearly everything.
    """

    def __init__(self, role: str, topic: str, limits: DeadLetterLimits, metrics: Metrics) -> None:
        self._role = role
        self._topic = topic
        self._limits = limits
        self._metrics = metrics
        self._waiting: list[Message] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def passed(self) -> None:
        """Count a message that could be used."""
        self._metrics.consumed.labels(self._role).inc()
        self._limits.observe(dead=False)

    def divert(self, record: Record, error: Exception) -> None:
        """Keep a message that could not be used, byte for byte, with the reason.

        Raises
        ------
        DeadLetterLimitExceeded
            If too many are diverted: the role stops, and the offset is not committed.
        """
        self._metrics.consumed.labels(self._role).inc()
        stage = error.stage if isinstance(error, InvalidEvent) else "apply"
        self._metrics.dead_letters.labels(self._role, stage).inc()
        where = f"{record.topic}-{record.partition} offset {record.offset}"
        if isinstance(error, InvalidEvent):
            log.warning("%s: diverted %s: %s", self._role, where, error.reason)
        else:  # a fault of ours: the trace tells where, and the message stays available for a second try
            log.error("%s: diverted %s", self._role, where, exc_info=error)
        self._waiting.append(
            dead_letter(
                record.topic,
                record.partition,
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                record.headers,
                error,
                self._topic,
            )
        )
        self._limits.observe(dead=True)

    def take(self) -> list[Message]:
        """The dead letters collected since the last call."""
        waiting, self._waiting = self._waiting, []
        return waiting
