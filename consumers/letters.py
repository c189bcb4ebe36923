"""Dead letters, read back: the message as it was, and what was wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consumers.client import Record
from producers.dead_letters import NULL_VALUE, ORIGINAL_KEY, letter_key
from producers.publisher import Message

_OURS: Final = ("strata-error-", "strata-original-", "kafka_dlt-original-")


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter.

    Attributes
    ----------
    offset
        On the topic of dead letters: its name for a person.
    topic, partition, original_offset, timestamp
        Where the message was, and when it was produced, ms since the epoch.
    stage, error, reason
        Where it failed, the error's class, and what was wrong.
    key, value, headers
        The message itself, byte for byte.
    keyed
        Whether its key on the topic is its own: one of another version may share it with others.
    """

    offset: int
    topic: str
    partition: int
    original_offset: int
    timestamp: int
    stage: str
    error: str
    reason: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    keyed: bool

    @property
    def message(self) -> Message:
        """The message as it was, for the place where it was."""
        return Message(self.topic, self.key, self.value, self.partition, self.headers)


def read_letter(record: Record) -> Letter | None:
    """The letter in a record; None for a tombstone, and for what somebody else has written to the topic."""
    named = {name: content or b"" for name, content in record.headers}
    try:
        topic = named["kafka_dlt-original-topic"].decode()
        partition = int.from_bytes(named["kafka_dlt-original-partition"], "big", signed=True)
        offset = int.from_bytes(named["kafka_dlt-original-offset"], "big", signed=True)
    except (KeyError, UnicodeDecodeError):
        return None
    keyed = record.key == letter_key(topic, partition, offset)
    return Letter(
        offset=record.offset,
        topic=topic,
        partition=partition,
        original_offset=offset,
        timestamp=int.from_bytes(named.get("kafka_dlt-original-timestamp", b""), "big", signed=True),
        stage=named.get("strata-error-stage", b"").decode(errors="replace"),
        error=named.get("strata-error-class", b"").decode(errors="replace"),
        reason=named.get("strata-error-message", b"").decode(errors="replace"),
        key=named.get(ORIGINAL_KEY) if keyed else record.key,
        value=None if NULL_VALUE in named else record.value,
        headers=tuple(
            (name, content) for name, content in record.headers if content is not None and not name.startswith(_OURS)
        ),
        keyed=keyed,
    )
