"""Dead letters can be seen, filtered, and sent back as they were."""

from __future__ import annotations

import pytest

from consumers.client import Record
from consumers.tables import TableReader
from models.errors import InvalidEvent
from ops import letters
from producers.connection import Connection
from producers.dead_letters import dead_letter, letter_key
from producers.publisher import Message, Publisher
from producers.topics import Topics

HEADERS = (("traceparent", b"00-ab"), ("bytes", b"\xff\x00"))


@pytest.fixture
def filled(tansu: Connection, topics: Topics) -> Topics:
    """Two clicks and an item among the dead letters, and something that is no letter."""
    topics.ensure(tansu)
    publisher = Publisher(tansu, limits=topics.limits)

    def bad(topic: str, offset: int, key: bytes | None, value: bytes | None, error: Exception) -> Message:
        return dead_letter(topic, 1, offset, 5, key, value, HEADERS, error, topics.dead_letters)

    publisher.publish(
        [
            bad(topics.clicks, 7, b"ann", b"\xff{", InvalidEvent("value: not UTF-8")),
            bad(topics.clicks, 8, b"bob", b"{}", InvalidEvent("ts: missing", "validate")),
            Message(topics.dead_letters, b"k", b"somebody else's"),
            bad(topics.items, 2, b"sku", b"{}", KeyError("secret-name")),
        ]
    )
    publisher.close()
    return topics


def test_letters_are_listed_and_filtered(tansu: Connection, filled: Topics) -> None:
    def offsets(**chosen: str) -> list[int]:
        return [letter.original_offset for letter in letters.letters(tansu, filled, **chosen)]

    assert offsets() == [7, 8, 2]
    assert offsets(reason="utf-8") == [7]
    assert offsets(reason="validate") == [8]
    assert offsets(reason="KeyError") == [2]
    assert offsets(topic=filled.clicks) == [7, 8]


def test_a_deleted_letter_is_gone_and_one_that_was_written_twice_is_one(tansu: Connection, filled: Topics) -> None:
    publisher = Publisher(tansu, limits=filled.limits)
    again = dead_letter(filled.clicks, 1, 8, 5, b"bob", b"{}", (), InvalidEvent("again"), filled.dead_letters)
    publisher.publish([again, Message(filled.dead_letters, letter_key(filled.clicks, 1, 7), None)])
    publisher.close()
    found = letters.letters(tansu, filled)
    assert [(letter.original_offset, letter.reason) for letter in found] == [
        (2, "see the log of the worker"),
        (8, "again"),
    ]


def test_a_letter_is_shown_whole_and_told_when_there_is_none(tansu: Connection, filled: Topics) -> None:
    found = letters.letters(tansu, filled)
    text = letters.whole(letters.find(found, found[0].offset)).plain
    assert r"\xff{" in text
    assert "not UTF-8" in text
    assert "traceparent: 00-ab" in text
    with pytest.raises(letters.NoSuchLetter, match="999"):
        letters.find(found, 999)


def test_what_is_sent_back_is_the_message_as_it_was(tansu: Connection, filled: Topics) -> None:
    letters.send_back(tansu, filled, letters.letters(tansu, filled, topic=filled.clicks))
    records: list[Record] = []
    reader = TableReader.open(tansu, {filled.clicks: records.append})
    reader.catch_up()
    reader.close()
    assert [(r.partition, r.key, r.value, tuple(r.headers)) for r in records] == [
        (1, b"ann", b"\xff{", HEADERS),
        (1, b"bob", b"{}", HEADERS),
    ]


def test_the_list_shows_no_payload_and_no_detail_of_a_fault_of_ours(tansu: Connection, filled: Topics) -> None:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as shown:
        console.print(letters.table(letters.letters(tansu, filled)))
    assert "secret-name" not in shown.get()
    assert "KeyError" in shown.get()
