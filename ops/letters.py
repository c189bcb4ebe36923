"""Dead letters, for people: which there are, what one looks like, and back with them after a fix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from consumers.client import Record
from consumers.letters import Letter, read_letter
from consumers.tables import TableReader
from models.errors import StrataError
from ops.reading import clean
from producers.connection import Connection
from producers.publisher import Publisher
from producers.topics import Topics

_SHOWN: Final = 2_000  # bytes of a payload on the screen


class NoSuchLetter(StrataError):
    """There is no dead letter at that place."""


def letters(connection: Connection, topics: Topics, reason: str = "", topic: str = "") -> list[Letter]:
    """All dead letters, oldest first; those whose reason, stage or error class contains ``reason``, of one topic.

    What was deleted, or written again, counts as such before the broker's compaction makes it so.

    Raises
    ------
    BrokerError
        If the topic cannot be read.
    """
    found: dict[bytes | int, Letter] = {}

    def keep(record: Record) -> None:
        letter = read_letter(record)
        name = record.offset if letter is not None and not letter.keyed else record.key or b""
        found.pop(name, None)
        if letter is not None:
            found[name] = letter

    def wanted(letter: Letter) -> bool:
        said = f"{letter.stage} {letter.error} {letter.reason}".lower()
        return topic in ("", letter.topic) and reason.lower() in said

    reader = TableReader.open(connection, {topics.dead_letters: keep}, role="letters")
    try:
        reader.catch_up()
    finally:
        reader.close()
    return sorted(filter(wanted, found.values()), key=lambda letter: letter.offset)


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
    NoSuchLetter
        If of one of them only the beginning was kept. Nothing is sent then.
    PublishFailed
        With the messages that were refused.
    """
    for letter in chosen:
        if letter.cut:
            raise NoSuchLetter(
                f"of the dead letter at offset {letter.offset} only the beginning was kept; the message itself is at"
                f" {letter.topic}-{letter.partition} offset {letter.original_offset}, while that topic keeps it"
            )
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
