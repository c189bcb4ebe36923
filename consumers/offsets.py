"""Questions about offsets that a partition cannot be started without, and what it means if one does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from consumers.client import rolled_back
from producers.errors import BrokerError, LogRolledBack, OffsetsExpired

ANSWER_S: Final = 30.0
"""How long the broker may take to answer."""


def committed_offset(consumer: KafkaConsumer, where: Any, bootstrap: str) -> int | None:
    """The group's offset of a partition (a ``TopicPartition``), None where there is none.

    Raises
    ------
    BrokerError
        No answer.
    """
    try:
        committed: int | None = consumer.committed(where, timeout_ms=int(ANSWER_S * 1000))
    except KafkaError as error:
        raise BrokerError(
            f"the group's offset for {where.topic}-{where.partition} could not be read within {ANSWER_S:.0f} s at"
            f" {bootstrap} ({type(error).__name__}): is the group's coordinator up?"
        ) from error
    return committed


def out_of_range(consumer: KafkaConsumer, positions: Mapping[Any, int], group: str) -> BrokerError:
    """What to raise for positions (by ``TopicPartition``) that the logs do not hold: they lie before or beyond them."""
    where = list(positions)
    begins = consumer.beginning_offsets(where, timeout_ms=10_000) if where else {}
    expired = {p: begins[p] for p, at in positions.items() if at < begins.get(p, 0)}
    if expired:
        told = ", ".join(
            f"{p.topic}-{p.partition} (next {positions[p]}, log begins at {begin})" for p, begin in expired.items()
        )
        return OffsetsExpired(
            f"retention deleted messages that were still to be read: {told}. Lengthen the topic's retention.ms;"
            " to go on without them, set the group's offset to the log's beginning with Kafka's own tool:"
            f" kafka-consumer-groups.sh --group {group}"
            " --reset-offsets --to-earliest --topic … --execute"
        )
    return LogRolledBack(rolled_back("the committed offset", {tuple(p): at for p, at in positions.items()}))
