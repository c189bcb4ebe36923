"""Messages that a stage cannot use leave the stream here, and the rest flows on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from consumers.client import Partition, Record
from consumers.metrics import Metrics
from models.errors import InvalidEvent
from producers.dead_letters import DeadLetterLimits, dead_letter, stage_of
from producers.publisher import Message

log = logging.getLogger(__name__)

_TOLD: Final = 20
"""Lines in the log for dead letters in one time of :data:`_TOLD_S`; all of them are on the topic."""
_TOLD_S: Final = 10.0


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
    clock
        Monotonic, s: the log is told of a few dead letters in a time, the metric and the topic of all.
    """

    def __init__(
        self,
        role: str,
        topic: str,
        limits: DeadLetterLimits,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._role = role
        self._topic = topic
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._told = 0
        self._told_since = clock()
        self._waiting: list[tuple[Partition, int, Message]] = []

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
        stage = stage_of(error)
        self._metrics.dead_letters.labels(self._role, stage).inc()
        self._tell(record, error)
        letter = dead_letter(
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
        self._waiting.append(((record.topic, record.partition), record.offset, letter))
        self._limits.observe(dead=True)

    def _tell(self, record: Record, error: Exception) -> None:
        """Say it in the log, but not so often that whoever sends rubbish fills a disk."""
        now = self._clock()
        if now - self._told_since >= _TOLD_S:
            if self._told > _TOLD:
                more = {"role": self._role, "messages": self._told - _TOLD}
                log.warning("%(role)s: diverted %(messages)d more of which nothing was said here", more)
            self._told, self._told_since = 0, now
        self._told += 1
        if self._told > _TOLD:
            return
        told = {"role": self._role, "topic": record.topic, "partition": record.partition, "offset": record.offset}
        if isinstance(error, InvalidEvent):
            log.warning(
                "%(role)s: diverted %(topic)s-%(partition)d offset %(offset)d: %(reason)s",
                told | {"reason": error.reason},
            )
        else:  # a fault of ours: the trace tells where, and the message stays available for a second try
            log.error("%(role)s: diverted %(topic)s-%(partition)d offset %(offset)d", told, exc_info=error)

    def take(self, below: Mapping[Partition, int] | None = None) -> list[Message]:
        """The dead letters collected since the last call.

        Parameters
        ----------
        below
            Only those of offsets below these: what is committed together with a dead letter then covers it, and no
            crash in between makes it come twice.
        """
        taken = [
            letter for partition, offset, letter in self._waiting if below is None or offset < below.get(partition, 0)
        ]
        self._waiting = [
            waiting for waiting in self._waiting if below is not None and waiting[1] >= below.get(waiting[0], 0)
        ]
        return taken

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop the dead letters of these partitions: whoever owns them now diverts the messages again."""
        gone = set(partitions)
        self._waiting = [waiting for waiting in self._waiting if waiting[0] not in gone]
