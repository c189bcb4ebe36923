"""A user is forgotten in seconds, on every broker and with each delivery, and stays so whatever happens next."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable

import pytest
from bookshop import Bookshop, value, wait_for
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
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


def settle(shop: Bookshop) -> None:
    wait_for(lambda: done(shop), "everything committed", 60)


@pytest.mark.parametrize(
    ("shop", "point"),
    [
        pytest.param(("kafka", "exactly-once"), "before-commit", marks=pytest.mark.kafka),
        pytest.param(("tansu", "at-least-once"), "after-acknowledgements", marks=pytest.mark.broker),
    ],
    indirect=["shop"],
)
def test_a_worker_killed_while_it_erases_leaves_nothing_of_the_user_behind(
    shop: Bookshop, start: Start, point: str
) -> None:
    shop.readers(USERS, 3)
    with shop.running(["updater"]):
        settle(shop)
    dying = start(shop, die=(point, 1))  # there is nothing to do but what follows
    dying.await_said("updater: restored")
    erase(shop, ANN)
    shop.readers(USERS[:3], 1, seed=7)
    dying.wait()
    again = start(shop)
    wait_for(lambda: forgotten(shop, ANN), "the tombstones", 30)
    settle(shop)
    shop.clicks((ANN, "baking-1"))
    settle(shop)
    again.stop()
    assert profile(shop, ANN).clicks == 1
    assert [profile(shop, user).clicks for user in USERS[:3]] == [4, 4, 4]
    assert profile(shop, USERS[5]).clicks == 3


def test_offsets_that_are_set_back_bring_nobody_back(shop: Bookshop) -> None:
    shop.readers(USERS, 3)
    with shop.running(["updater"]):
        settle(shop)
        erase(shop, ANN)
        wait_for(lambda: forgotten(shop, ANN), "the tombstones", 5)
    shop.rewind()
    with shop.running(["updater"]):
        settle(shop)
        shop.clicks((USERS[0], "baking-9"))
        settle(shop)
    assert forgotten(shop, ANN)
    assert profile(shop, USERS[0]).clicks == 4


def test_an_order_that_nobody_can_read_is_a_dead_letter_and_stops_nobody(shop: Bookshop) -> None:
    shop.readers(USERS, 1)
    with shop.running(["updater", "erasure"]) as process:
        wait_for(lambda: process.ready and done(shop), "everything committed")
        for key, order in ((b"a", b"\xff"), (b"\xff", b'{"request_id": "r"}'), (b"b", b"[" * 100_000), (b"c", b"{}")):
            shop.publisher.publish([Message(shop.topics.erasures, key, order)])
        wait_for(lambda: len(shop.records(shop.topics.dead_letters)) == 4, "the dead letters")
        erase(shop, ANN)
        wait_for(lambda: forgotten(shop, ANN), "the tombstones", 5)
        wait_for(lambda: value(process, "strata_erasure_receipts_total") == 1, "the receipt")
    kept = {r.value for r in shop.records(shop.topics.dead_letters)}
    assert kept == {b"\xff", b'{"request_id": "r"}', b"[" * 100_000, b"{}"}


def test_an_erasure_without_an_updater_is_reported_and_done_as_soon_as_one_runs(
    shop: Bookshop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.readers(USERS, 1)
    with shop.running(["updater"]):
        settle(shop)
    with shop.running(["erasure"], erasure_receipt_s=0.5) as process:
        erase(shop, ANN)
        wait_for(lambda: value(process, "strata_erasures_overdue_total") == 1, "the report")
    assert "does an updater run for these partitions?" in caplog.text
    with caplog.at_level(logging.INFO), shop.running(["updater", "erasure"]) as process:
        wait_for(lambda: value(process, "strata_erasure_receipts_total") == 1, "the receipt, after both were restarted")
    assert forgotten(shop, ANN)


@pytest.mark.kafka
def test_what_is_erased_leaves_the_disk(strict_shop: Bookshop) -> None:
    """Compaction spares the newest segment; the topics' max.compaction.lag.ms, here of a second, makes it roll."""
    shop = strict_shop
    topics = (*state(shop), shop.topics.dead_letters)
    for topic in topics:
        alter(
            shop,
            topic,
            {
                "cleanup.policy": "compact",
                "max.compaction.lag.ms": "1000",
                "min.compaction.lag.ms": "0",
                "segment.ms": "1000",
            },
        )
    shop.readers(USERS, 2)
    shop.garbage(shop.topics.clicks, ANN.encode(), b"{")
    with shop.running(["updater", "erasure"]) as process:
        wait_for(lambda: process.ready and done(shop), "everything committed")
        erase(shop, ANN)
        wait_for(lambda: value(process, "strata_erasure_receipts_total") == 1, "the receipt")

        def on_disk() -> set[str]:
            shop.readers(USERS[4:], 1, seed=int(time.time()) % 10)  # a segment rolls when something is written to it
            shop.garbage(shop.topics.clicks, b"reader-1", b"{")
            return {t for t in topics for r in shop.records(t) if r.value is not None and named(r, ANN)}

        wait_for(lambda: not on_disk(), "the end of the records themselves", 60)


def named(record: Record, user: str) -> bool:
    return user.encode() in (record.key, dict(record.headers).get("strata-original-key"))


def alter(shop: Bookshop, topic: str, configs: dict[str, str]) -> None:
    admin = KafkaAdminClient(**shop.connection.client("test"))
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
    admin.close()
