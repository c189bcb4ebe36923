"""Dead letters, for people: which there are, what one looks like, and back with them after a fix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.table import Table
from rich.text import Text

from consumers.client import Record
from consumers.tables import TableReader
from models.errors import StrataError
from ops.reading import clean
from producers.connection import Connection
from producers.publisher import Message, Publisher
from producers.topics import Topics

_OURS: Final = ("strata-error-", "kafka_dlt-original-")
_SHOWN: Final = 2_000  # bytes of a payload on the screen


class NoSuchLetter(StrataError):
    """There is no dead letter at that place."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter.

    Attributes
    ----------
    offset
        On the topic of dead letters: its name for :func:`find`.
    topic, partition, original_offset
        Where the message was.
    stage, error, reason
        Where it failed, the error's class, and what was wrong.
    key, value, headers
        The message itself, byte for byte.
    """

    offset: int
    topic: str
    partition: int
    original_offset: int
    stage: str
    error: str
    reason: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def message(self) -> Message:
        """The message as it was, for the place where it was."""
        return Message(self.topic, self.key, self.value, self.partition, self.headers)


def letters(connection: Connection, topics: Topics, reason: str = "", topic: str = "") -> list[Letter]:
    """All dead letters, oldest first; those whose reason, stage or error class contains ``reason``, of one topic.

    Raises
    ------
    BrokerError
        If the topic cannot be read.
    """
    found: list[Letter] = []

    def keep(record: Record) -> None:
        letter = read(record)
        if letter is not None and topic in ("", letter.topic):
            said = f"{letter.stage} {letter.error} {letter.reason}".lower()
            if reason.lower() in said:
                found.append(letter)

    reader = TableReader.open(connection, {topics.dead_letters: keep}, role="letters")
    try:
        reader.catch_up()
    finally:
        reader.close()
    return sorted(found, key=lambda letter: letter.offset)


def read(record: Record) -> Letter | None:
    """The letter in a record; None for what somebody else has written to the topic."""
    named = {name: content or b"" for name, content in record.headers}
    try:
        topic = named["kafka_dlt-original-topic"].decode()
        partition = int.from_bytes(named["kafka_dlt-original-partition"], "big", signed=True)
        offset = int.from_bytes(named["kafka_dlt-original-offset"], "big", signed=True)
    except (KeyError, UnicodeDecodeError):
        return None
    return Letter(
        offset=record.offset,
        topic=topic,
        partition=partition,
        original_offset=offset,
        stage=named.get("strata-error-stage", b"").decode(errors="replace"),
        error=named.get("strata-error-class", b"").decode(errors="replace"),
        reason=named.get("strata-error-message", b"").decode(errors="replace"),
        key=record.key,
        value=record.value,
        headers=tuple(
            (name, content) for name, content in record.headers if content is not None and not name.startswith(_OURS)
        ),
    )


def find(all_letters: Iterable[Letter], offset: int) -> Letter:
    """The letter at an offset of the topic of dead letters.

    Raises
    ------
    NoSuchLetter
        If there is none.
    """
    for letter in all_letters:
        if letter.offset == offset:
            return letter
    raise NoSuchLetter(f"no dead letter at offset {offset}: `strata dead-letters list` shows which there are")


def send_back(connection: Connection, topics: Topics, chosen: Sequence[Letter]) -> None:
    """Publish the messages again where they were; each gets a new offset there, and its letter stays.

    Raises
    ------
    PublishFailed
        With the messages that were refused.
    """
    publisher = Publisher(connection, limits=topics.limits)
    try:
        publisher.publish([letter.message for letter in chosen])
    finally:
        publisher.close()


def table(some: Sequence[Letter]) -> Table:
    """Dead letters as a table for the terminal; no payload."""
    out = Table("offset", "was at", "stage", "error", "reason")
    for letter in some:
        place = f"{letter.topic}-{letter.partition} @ {letter.original_offset}"
        told = (str(letter.offset), place, letter.stage, letter.error, letter.reason)
        out.add_row(*(Text(clean(text)) for text in told))
    return out


def whole(letter: Letter) -> Text:
    """One dead letter with its payload (its first 2,000 bytes)."""
    value = letter.value or b""
    lines = [
        f"was at   {letter.topic}-{letter.partition}, offset {letter.original_offset}",
        f"failed   {letter.stage}: {letter.error}: {letter.reason}",
        f"key      {_bytes(letter.key)}",
        *(f"header   {name}: {_bytes(content)}" for name, content in letter.headers),
        f"value    {'null' if letter.value is None else f'{len(value):,} bytes'}",
        _bytes(value[:_SHOWN]),
    ]
    return Text("\n".join(clean(line) for line in lines))


def _bytes(content: bytes | None) -> str:
    return "null" if content is None else content.decode(errors="backslashreplace")
