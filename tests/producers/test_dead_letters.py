"""A message that cannot be used is kept as it was, with the reason; and not too many of them."""

from __future__ import annotations

import pytest

from consumers.client import Record
from consumers.letters import Letter, read_letter
from models.errors import InvalidEvent
from producers.dead_letters import DeadLetterLimits, dead_letter
from producers.errors import DeadLetterLimitExceeded
from producers.publisher import Message
from producers.topics import DEAD_LETTER_BYTES


def letter(error: Exception, key: bytes | None = b"k", value: bytes | None = b"\xff\x00v") -> Message:
    return dead_letter("clicks", 3, 2**40, 1_700_000_000_123, key, value, [("traceparent", b"00-a")], error, "dead")


def read_back(message: Message) -> Letter:
    found = read_letter(Record("dead", 0, 5, 9, message.key, message.value, message.headers))
    assert found is not None
    return found


@pytest.mark.parametrize("key", [b"k", b"", None])
@pytest.mark.parametrize("value", [b"\xff\x00v", b"", None])
def test_key_value_and_headers_stay_byte_for_byte(key: bytes | None, value: bytes | None) -> None:
    message = letter(InvalidEvent("value: not UTF-8"), key, value)
    assert message.value is not None, "a null would delete the letter"
    found = read_back(message)
    assert found.message == Message("clicks", key, value, 3, (("traceparent", b"00-a"),))
    assert (found.original_offset, found.timestamp) == (2**40, 1_700_000_000_123)


def test_a_letter_is_known_by_the_place_of_its_message() -> None:
    """So that it can be deleted alone, and is one letter if it is written twice."""
    assert letter(InvalidEvent("x")).key == b"clicks/3/1099511627776"
    assert read_back(letter(InvalidEvent("x"))).keyed


def test_a_letter_of_an_older_version_is_read_too() -> None:
    written = letter(InvalidEvent("x"), key=None)
    found = read_back(written._replace(key=b"ann"))
    assert (found.key, found.keyed) == (b"ann", False)


@pytest.mark.parametrize(
    ("key", "value", "header"),
    [
        (b"k", 1_989_000, 0),
        (b"k", 2_100_000, 0),
        (b"k" * 3_000_000, 0, 0),
        (b"k", 3, 9_000_000),
        (None, 5_000_000, 5_000_000),
    ],
)
def test_a_letter_fits_onto_its_topic_and_says_whether_it_was_cut(key: bytes | None, value: int, header: int) -> None:
    sent, headers = b"v" * value, (("x", b"h" * header),)
    message = dead_letter("clicks", 3, 17, 5, key, sent, headers, InvalidEvent("value: long"), "dead")
    size = (
        len(message.key or b"")
        + len(message.value or b"")
        + sum(len(n) + len(c or b"") + 10 for n, c in message.headers)
    )
    assert size <= DEAD_LETTER_BYTES - 200
    found = read_letter(Record("dead", 0, 0, 5, message.key, message.value, message.headers))
    assert found is not None
    assert found.cut == (len(key or b"") + value + header > 1_990_000)
    assert found.value is not None
    assert sent.startswith(found.value)
    if not found.cut:
        assert (found.key, found.value, found.headers) == (key, sent, headers)


def test_headers_that_are_called_as_ours_stay_the_senders_and_one_without_a_value_is_known() -> None:
    sent = (
        ("strata-original-headers", b"9:0"), ("kafka_dlt-original-offset", b"x"), ("strata-original-key", b"a lie"),
        ("null", None), ("strata-original-null", b""), ("x", b"1"), ("x", b"2"),
    )  # fmt: skip
    message = dead_letter("clicks", 3, 17, 5, None, b"v", sent, InvalidEvent("value: no"), "dead")
    found = read_letter(Record("dead", 0, 0, 5, message.key, message.value, message.headers))
    assert found is not None
    assert (found.topic, found.partition, found.original_offset) == ("clicks", 3, 17)
    assert (found.key, found.value, found.headers) == (None, b"v", sent)


def test_the_headers_say_where_and_why_as_spring_reads_them() -> None:
    headers = dict(letter(InvalidEvent("ts: missing", "validate")).headers)
    assert headers["strata-error-stage"] == b"validate"
    assert headers["strata-error-class"] == b"InvalidEvent"
    assert headers["strata-error-message"] == b"ts: missing"
    assert headers["kafka_dlt-original-topic"] == b"clicks"
    assert headers["kafka_dlt-original-partition"] == b"\x00\x00\x00\x03"
    assert int.from_bytes(headers["kafka_dlt-original-offset"], "big") == 2**40
    assert int.from_bytes(headers["kafka_dlt-original-timestamp"], "big") == 1_700_000_000_123


def test_an_error_that_may_hold_payload_is_told_by_its_class_alone() -> None:
    headers = dict(letter(ValueError("secret of user 7")).headers)
    assert headers["strata-error-class"] == b"ValueError"
    assert b"secret" not in headers["strata-error-message"]


def test_a_reason_cannot_break_a_terminal_or_a_header() -> None:
    reason = dict(letter(InvalidEvent("a\n\x1b[31m\ud800" + "x" * 10_000)).headers)["strata-error-message"]
    assert len(reason) <= 500
    assert reason.startswith(b"a??[31m?x")


def test_one_bad_message_among_many_stops_nothing() -> None:
    limits = DeadLetterLimits(share=0.5, window=10, consecutive=5)
    for number in range(1_000):
        limits.observe(number % 3 == 0)


def test_too_many_in_a_row_stop_the_worker() -> None:
    limits = DeadLetterLimits(share=1, consecutive=5)
    for _ in range(5):
        limits.observe(True)
    with pytest.raises(DeadLetterLimitExceeded, match="in a row"):
        limits.observe(True)


def test_too_large_a_share_stops_the_worker_once_there_is_a_share() -> None:
    limits = DeadLetterLimits(share=0.5, window=10, consecutive=100)
    for number in range(10):
        limits.observe(number % 2 == 0)
    limits.observe(False)
    limits.observe(True)  # five of the last ten: half is allowed
    limits.observe(True)
    with pytest.raises(DeadLetterLimitExceeded, match="of the last 10"):
        limits.observe(True)
