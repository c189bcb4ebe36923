"""A user is forgotten in seconds, on every broker and with each delivery, and stays so whatever happens next."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable

import pytest
from bookshop import Bookshop, value, wait_for
from mortal_worker import Worker

from consumers.client import Record
from models.records import ProfileRecord, decode
from producers.publisher import Message

Start = Callable[..., Worker]

USERS = [f"reader-{n}" for n in range(20)]
ANN = USERS[3]


def done(shop: Bookshop) -> bool:
    return shop.committed() == shop.ends()


def erase(shop: Bookshop, user: str) -> float:
    """Order an erasure; when it was on the topic, s since the epoch."""
    value = b'{"request_id": "%s"}' % uuid.uuid4().hex.encode()
    shop.publisher.publish([Message(shop.topics.erasures, user.encode(), value)])
    return time.time()


def newest(shop: Bookshop, topic: str) -> dict[tuple[int, bytes], Record]:
    """The last record of each partition's keys, as compaction leaves it; without tombstones."""
    found = {(r.partition, r.key or b""): r for r in shop.records(topic)}
    return {key: record for key, record in found.items() if record.value is not None}


def state(shop: Bookshop) -> tuple[str, str]:
    """Where what is known of users lives."""
    return shop.topics.profiles, shop.topics.recommendations


def forgotten(shop: Bookshop, user: str) -> bool:
    return not any(user.encode() == key for topic in state(shop) for _, key in newest(shop, topic))


def profile(shop: Bookshop, user: str) -> ProfileRecord:
    (record,) = (r for (_, key), r in newest(shop, shop.topics.profiles).items() if key == user.encode())
    return decode(record.value, ProfileRecord)


def test_profile_list_and_dead_letters_go_within_five_seconds_and_a_receipt_says_so(
    shop: Bookshop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.readers(USERS, 3)
    shop.garbage(shop.topics.clicks, ANN.encode(), b"\xff no click")
    shop.garbage(shop.topics.clicks, None, b'{"user_id": "%s", "item' % ANN.encode())
    shop.garbage(shop.topics.clicks, b"reader-1", b"{")
    with caplog.at_level(logging.INFO), shop.running(["updater", "erasure"]) as process:
        wait_for(lambda: process.ready and done(shop), "everything committed")
        wait_for(lambda: len(newest(shop, shop.topics.dead_letters)) == 3, "three dead letters")
        assert not forgotten(shop, ANN)
        ordered = erase(shop, ANN)
        wait_for(lambda: forgotten(shop, ANN), "the tombstones", 5)
        buried = [r for topic in state(shop) for r in shop.records(topic) if r.value is None]
        assert {r.key for r in buried} == {ANN.encode()}
        assert max(r.timestamp for r in buried) / 1000 - ordered < 5
        wait_for(lambda: value(process, "strata_erasure_receipts_total") == 1, "the receipt")
        shop.clicks((ANN, "baking-1"), (USERS[1], "baking-2"))
        wait_for(lambda: done(shop), "what comes after it")
    receipt = next(r for r in caplog.records if r.getMessage().startswith("erasure: receipt"))
    assert receipt.__dict__["dead_letters"] == 2
    assert ANN not in caplog.text
    (left,) = newest(shop, shop.topics.dead_letters).values()
    assert left.value == b"{"
    assert [entry.item_id for entry in profile(shop, ANN).history] == ["baking-1"]
    assert profile(shop, USERS[1]).clicks == 4
