"""Whose dead letters there are, also where the message itself could not be read."""

from __future__ import annotations

import pytest

from consumers.client import Record
from consumers.letter_index import LetterIndex
from models.errors import InvalidEvent
from producers.dead_letters import dead_letter
from producers.topics import Topics

TOPICS = Topics()


def record(key: bytes | None, value: bytes | None, offset: int = 7, topic: str = "clicks", at: int = 1_000) -> Record:
    letter = dead_letter(topic, 0, offset, at, key, value, (), InvalidEvent("x"), TOPICS.dead_letters)
    return Record(TOPICS.dead_letters, 0, offset, 9_000, letter.key, letter.value, letter.headers)


@pytest.mark.parametrize(
    "value",
    [
        b'{"user_id": "ann", "item_id": "i"}',
        b'{"user_id": "ann", "item_id": "i", "ts": 1e999',
        b'{"specversion": "1.0", "data": {"user_id" :\n"ann"}}',
        b'\xff\xfe {"user_id": "ann"',
        b'{"user_id": "bob", "user_id": "ann"}',
        b'{"user_id": "\\u0061nn"}',
    ],
)
def test_a_letter_is_found_by_the_user_in_its_value(value: bytes) -> None:
    index = LetterIndex(TOPICS)
    assert "ann" in index.take(record(None, value))
    assert index.of("ann", 1_000) == [b"clicks/0/7"]


def test_a_letter_is_found_by_its_messages_key_whatever_the_value() -> None:
    index = LetterIndex(TOPICS)
    for offset, value in enumerate((None, b"", b"\xff", b"[" * 100_000)):
        index.take(record(b"ann", value, offset))
    assert len(index.of("ann", 1_000)) == 4
    assert index.of("bob", 1_000) == []


def test_a_letter_of_after_the_moment_is_none_of_those() -> None:
    index = LetterIndex(TOPICS)
    index.take(record(b"ann", b"{", 1, at=1_000))
    index.take(record(b"ann", b"{", 2, at=2_000))
    assert index.of("ann", 1_999) == [b"clicks/0/1"]


def test_a_deleted_letter_is_gone_and_one_that_came_again_is_one() -> None:
    index = LetterIndex(TOPICS)
    for _ in range(2):
        index.take(record(b"ann", b"{"))
    assert len(index.of("ann", 1_000)) == 1
    index.take(Record(TOPICS.dead_letters, 0, 9, 9_000, b"clicks/0/7", None))
    assert index.of("ann", 1_000) == []


def test_an_item_whose_id_looks_like_a_users_is_left_alone() -> None:
    index = LetterIndex(TOPICS)
    assert index.take(record(b"ann", b"{", topic="items")) == set()


def test_a_letter_of_an_earlier_version_shares_its_key_and_is_left_to_retention() -> None:
    index = LetterIndex(TOPICS)
    assert index.take(record(b"ann", b"{")._replace(key=b"ann")) == set()
