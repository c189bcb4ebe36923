"""kill -9, at every point of a click's way and at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from bookshop import Bookshop, wait_for
from invariant import check
from mortal_worker import Worker

from producers.failpoints import POINTS

Start = Callable[..., Worker]

ROUNDS = int(os.environ.get("STRATA_TEST_KILLS", "8"))
"""Random kills on each of two brokers: few enough for every change; STRATA_TEST_KILLS=50 for more, in minutes."""
USERS = [f"reader-{n}" for n in range(30)]


def done(shop: Bookshop) -> bool:
    return shop.committed() == shop.ends()


def test_killed_at_every_point_nothing_is_lost_and_nothing_counts_twice(shop: Bookshop, start: Start) -> None:
    once = shop.given["delivery"] == "exactly-once"
    for turn, point in enumerate(POINTS):
        shop.readers(USERS, 3, seed=turn)
        shop.garbage(shop.topics.clicks, b"reader-1", b"no click %d" % turn, partition=turn % 2)
        worker = start(shop, die=(point, 1))
        assert worker.wait() == -signal.SIGKILL, worker.tail()
    worker = start(shop)
    wait_for(lambda: done(shop), "everything committed")
    worker.stop()
    outcome = check(shop, once=once)
    assert outcome.letters == len(POINTS)


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * ROUNDS)
@pytest.mark.parametrize(
    "shop",
    [
        pytest.param(("kafka", "exactly-once"), id="kafka-exactly-once", marks=pytest.mark.kafka),
        pytest.param(("tansu", "at-least-once"), id="tansu-at-least-once", marks=pytest.mark.broker),
    ],
    indirect=True,
)
def test_killed_at_any_moment_nothing_is_lost_and_nothing_counts_twice(shop: Bookshop, start: Start) -> None:
    draw = random.Random(7)
    for turn in range(ROUNDS):
        worker = start(shop)
        shop.readers(USERS, 2, seed=turn)
        if turn % 4 == 0:
            shop.garbage(shop.topics.clicks, b"x", b"\xff%d" % turn)
        worker.await_said("running" if turn % 3 == 0 else "updater: partitions assigned")
        time.sleep(draw.uniform(0, 0.8))  # the moment is the input of this test
        worker.kill()
    worker = start(shop)
    wait_for(lambda: done(shop), "everything committed")
    worker.stop()
    check(shop, once=shop.given["delivery"] == "exactly-once")
