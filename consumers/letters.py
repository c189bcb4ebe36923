"""Dead letters, read back: the message as it was, and what was wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consumers.client import Record
from producers.dead_letters import CUT, NULL_VALUE, ORIGINAL_HEADERS, ORIGINAL_KEY, letter_key
from producers.publisher import Message

_Headers = tuple[tuple[str, bytes | None], ...]

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
    cut
        Whether this is only the beginning of the message, which was too long to be kept.
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
    headers: _Headers
    keyed: bool
    cut: bool

    @property
    def message(self) -> Message:
        """The message as it was, for the place where it was; a header that had no value has an empty one."""
        headers = tuple((name, content or b"") for name, content in self.headers)
        return Message(self.topic, self.key, self.value, self.partition, headers)


def read_letter(record: Record) -> Letter | None:
    """The letter in a record; None for a tombstone, and for what somebody else has written to the topic."""
    sent, added = _told_apart(record.headers)
    named = {name: content or b"" for name, content in added}
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
        headers=sent,
        keyed=keyed,
        cut=CUT in named,
    )


def _told_apart(headers: _Headers) -> tuple[_Headers, _Headers]:
    """The sender's headers, and ours. He may have called his own as we call ours: the last of that name is ours."""
    marks = [at for at, (name, _) in enumerate(headers) if name == ORIGINAL_HEADERS]
    try:
        number, _, nulls = (headers[marks[-1]][1] or b"").decode().partition(":")
        empty = {int(place) for place in nulls.split(",") if place}
        split = int(number)
    except (IndexError, ValueError):  # of an earlier version
        sent = tuple(header for header in headers if not header[0].startswith(_OURS))
        return sent, tuple(header for header in headers if header[0].startswith(_OURS))
    sent = tuple((name, None if at in empty else content) for at, (name, content) in enumerate(headers[:split]))
    return sent, headers[split:]
