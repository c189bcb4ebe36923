"""Bad messages, repeated messages, and messages that the broker does not take."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from bookshop import Bookshop, value, wait_for
from invariant import check
from kafka import KafkaAdminClient, KafkaProducer
from mortal_worker import Worker

from consumers.letters import read_letter
from models.events import Click
from ops.letters import NoSuchLetter, send_back
from producers.errors import PublishFailed
from producers.replay import click_message

Start = Callable[..., Worker]

USERS = [f"reader-{n}" for n in range(40)]


def done(shop: Bookshop) -> bool:
    return shop.committed() == shop.ends()


def test_a_poison_pill_among_a_thousand_is_one_dead_letter_and_stops_nobody(shop: Bookshop) -> None:
    shop.readers(USERS, 12)
    shop.garbage(shop.topics.clicks, b"reader-3", b"\x00\xff{[[[", partition=1)
    shop.readers(USERS, 13, seed=4)
    with shop.running(["updater"]) as process:
        wait_for(lambda: done(shop), "everything committed")
        assert value(process, "strata_dead_letters_total", role="updater", stage="decode") == 1
    outcome = check(shop, once=shop.given["delivery"] == "exactly-once")
    assert (outcome.clicks, outcome.letters) == (1_001, 1)
    (letter,) = shop.records(shop.topics.dead_letters)
    assert letter.value == b"\x00\xff{[[["
    assert dict(letter.headers)["trace"] == b"\xff\x00"


def test_the_longest_message_that_a_broker_takes_fits_into_the_dead_letters(shop: Bookshop) -> None:
    value = random.Random(0).randbytes(999_800)
    shop.garbage(shop.topics.clicks, b"reader-1", value)
    shop.readers(USERS, 1)
    with shop.running(["updater"]):
        wait_for(lambda: done(shop), "everything committed")
    (letter,) = shop.records(shop.topics.dead_letters)
    assert letter.value == value
    check(shop, once=shop.given["delivery"] == "exactly-once")


def test_a_message_longer_than_any_dead_letter_stops_nobody(shop: Bookshop) -> None:
    """Brokers measure what is compressed: five megabytes of nothing are a few kilobytes to them."""
    producer = KafkaProducer(
        **shop.connection.client("test"), compression_type="lz4", max_request_size=20_000_000, batch_size=20_000_000
    )
    producer.send(shop.topics.clicks, b"0" * 5_000_000, b"reader-1", partition=0).get(30)
    producer.close()
    shop.readers(USERS, 1)
    with shop.running(["updater"]):
        wait_for(lambda: done(shop), "everything committed")
    (record,) = shop.records(shop.topics.dead_letters)
    letter = read_letter(record)
    assert letter is not None
    assert letter.cut
    assert b"0" * 900_000 in (letter.value or b"")
    check(shop, once=shop.given["delivery"] == "exactly-once")
    with pytest.raises(NoSuchLetter, match="only the beginning"):
        send_back(shop.connection, shop.topics, [letter])


def test_events_that_come_twice_and_offsets_that_are_set_back_change_nothing(shop: Bookshop) -> None:
    now = int(time.time() * 1000) - 10_000
    clicks = [
        Click(user_id=user, item_id=f"baking-{turn}", ts=now + turn, event_id=f"{user}/{turn}")
        for turn in range(5)
        for user in USERS
    ]
    for _ in range(2):  # the sender repeats itself
        shop.publisher.publish([click_message(click, shop.topics) for click in clicks])
    with shop.running(["updater"]):
        wait_for(lambda: done(shop), "everything committed")
    before = shop.profiles()
    assert {user: profile.clicks for user, profile in before.items()} == dict.fromkeys(USERS, 5)
    shop.rewind()
    with shop.running(["updater"]):
        wait_for(lambda: done(shop), "everything committed again")
    once = shop.given["delivery"] == "exactly-once"
    assert shop.profiles() == before
    assert check(shop, once=once).repeated_lists == (0 if once else len(USERS))


def test_clocks_that_run_ahead_or_back_and_times_in_no_order_are_clamped_and_counted(
    shop: Bookshop, start: Start
) -> None:
    began, draw = int(time.time() * 1000), random.Random(0)
    hour = 3_600_000

    def skewed(seed: int) -> tuple[list[Click], int]:
        past = [draw.choice([0, draw.randrange(began), began - draw.randrange(hour)]) for _ in range(15 * len(USERS))]
        soon = [
            began + 120_000 + draw.randrange(60_000) for _ in range(2 * len(USERS))
        ]  # within the tolerance of 5 minutes
        ahead = [draw.choice([began + hour, 4_000_000_000_000, 253_402_300_799_999]) for _ in range(3 * len(USERS))]
        times = past + soon + ahead
        draw.shuffle(times)
        clicks = [
            Click(user_id=USERS[n % len(USERS)], item_id=f"baking-{(n * 7 + seed) % 10}", ts=ts)
            for n, ts in enumerate(times)
        ]
        return clicks, len(ahead)

    once = shop.given["delivery"] == "exactly-once"
    clicks, ahead = skewed(0)
    shop.publisher.publish(click_message(click, shop.topics) for click in clicks)
    with shop.running(["updater"]) as process:
        wait_for(lambda: done(shop), "everything committed")
        assert value(process, "strata_clicks_future_total") == ahead
        assert value(process, "strata_freshness_seconds_sum") >= 0
    check(shop, once=once, clamped_since=began)
    clicks, _ = skewed(1)
    dying = start(shop, die=("before-commit", 1))
    shop.publisher.publish(click_message(click, shop.topics) for click in clicks)
    dying.wait()
    with shop.running(["updater"]):
        wait_for(lambda: done(shop), "everything committed, after a kill")
    check(shop, once=once, clamped_since=began)
    latest = int(time.time() * 1000)
    assert max(entry.ts for profile in shop.profiles().values() for entry in profile.history) <= latest
    assert max(made.event_ts for made in shop.lists().values()) <= latest


@pytest.mark.kafka
def test_a_record_that_the_broker_refuses_becomes_dead_letters_and_the_rest_goes_on(strict_shop: Bookshop) -> None:
    shop = strict_shop
    narrow(shop, shop.topics.profiles, 3_000)
    draw, now = random.Random(0), int(time.time() * 1000)
    long = [Click(user_id="long", item_id=draw.randbytes(120).hex(), ts=now) for _ in range(45)]
    for n, click in enumerate(long):
        shop.publisher.publish([click_message(click, shop.topics)])
        shop.readers(USERS[n % 8 : n % 8 + 1], 1, seed=n)
    with shop.running(["updater"]) as process:
        wait_for(lambda: done(shop), "everything committed")
        shop.readers(USERS, 1, seed=5)
        wait_for(lambda: done(shop), "and what comes after it")
        assert value(process, "strata_dead_letters_total", role="updater", stage="publish") > 0
    outcome = check(shop, once=True)
    assert outcome.letters > 0
    assert {dict(r.headers)["strata-original-key"] for r in shop.records(shop.topics.dead_letters)} == {b"long"}


@pytest.mark.kafka
def test_a_dead_letter_that_cannot_be_written_stops_the_worker_and_commits_nothing(strict_shop: Bookshop) -> None:
    shop = strict_shop
    narrow(shop, shop.topics.dead_letters, 150)  # a transaction's own marks still fit
    shop.readers(USERS, 2)
    with shop.running(["updater"]):
        wait_for(lambda: done(shop), "the clicks before it")
    before = shop.committed()
    shop.garbage(shop.topics.clicks, b"reader-1", b"no click")
    with pytest.raises(PublishFailed, match="dead-letters refused"), shop.running(["updater"]) as process:
        wait_for(lambda: process.wait(0), "the end of the process")
    assert shop.committed() == before
    narrow(shop, shop.topics.dead_letters, 1_000_000)
    with shop.running(["updater"]):
        wait_for(lambda: done(shop), "the dead letter, now that it can be written")
    assert check(shop, once=True).letters == 1


def narrow(shop: Bookshop, topic: str, size: int) -> None:
    """Let the topic take no longer messages than this."""
    from kafka.admin import ConfigResource, ConfigResourceType

    admin = KafkaAdminClient(**shop.connection.client("test"))
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": str(size)})])
    admin.close()
