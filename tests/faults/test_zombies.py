"""Workers that are replaced without noticing, and groups that move on in the middle of a transaction."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from bookshop import Bookshop, value, wait_for
from invariant import check
from mortal_worker import Worker

from producers import failpoints

Start = Callable[..., Worker]

UNSTEADY = pytest.mark.skipif(
    "STRATA_TEST_FROZEN" not in os.environ,
    reason="on the embedded broker this case failed twice inside a whole run (once it was seen that a partition stayed"
    " without an owner for 40 s), and passed 24 times of 24 by itself; the cause is not known."
    " STRATA_TEST_FROZEN=1 runs it",
)

USERS = [f"reader-{n}" for n in range(30)]


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm(None)


def done(shop: Bookshop) -> bool:
    return shop.committed() == shop.ends()


@pytest.mark.slow
@pytest.mark.parametrize(
    "shop",
    [
        pytest.param(("kafka", "exactly-once"), id="kafka-exactly-once", marks=pytest.mark.kafka),
        pytest.param(("kafka", "at-least-once"), id="kafka-at-least-once", marks=pytest.mark.kafka),
        pytest.param(("tansu", "at-least-once"), id="tansu-at-least-once", marks=[pytest.mark.broker, UNSTEADY]),
    ],
    indirect=True,
)
def test_a_frozen_worker_is_replaced_and_what_it_writes_afterwards_is_hidden_or_harmless(
    shop: Bookshop, start: Start
) -> None:
    shop.given.pop("instance", None)
    frozen = start(shop)
    frozen.await_said("restored")
    shop.readers(USERS, 3)
    wait_for(lambda: shop.lists(), "the first lists")
    frozen.signal(signal.SIGSTOP)  # it may stand anywhere: in a transaction, too
    shop.readers(USERS, 3, seed=1)
    other = start(shop)
    wait_for(lambda: done(shop), "the other took over", 60)
    shop.readers(USERS, 3, seed=2)
    frozen.signal(signal.SIGCONT)
    wait_for(lambda: done(shop), "everything committed")
    frozen.await_said("lost")
    shop.readers(USERS, 3, seed=3)
    wait_for(lambda: done(shop), "everything committed, by both")
    frozen.stop()
    other.stop()
    check(shop, once=shop.given["delivery"] == "exactly-once")


@pytest.mark.kafka
@pytest.mark.parametrize("point", ["after-acknowledgements", "before-commit"])
def test_a_rebalance_in_the_middle_of_a_transaction(strict_shop: Bookshop, start: Start, point: str) -> None:
    """Before the offsets are sent the group refuses them; after that the transaction stands, and the other waits."""
    shop = strict_shop
    joined = threading.Event()

    def hold(name: str) -> None:
        if name == point and not joined.is_set():
            joined.wait(20)

    with shop.running(["updater"]) as process:
        wait_for(lambda: process.ready, "ready")
        failpoints.arm(hold)
        shop.readers(USERS, 4)
        other = start(shop)
        other.await_said("running updater")
        time.sleep(3)  # until the group has asked both to join
        joined.set()
        shop.readers(USERS, 4, seed=1)
        wait_for(lambda: done(shop), "everything committed", 60)
        other.await_said("assigned")
        shop.readers(USERS, 2, seed=2)
        wait_for(lambda: done(shop), "everything committed, by both", 60)
        other.stop()
        assert value(process, "strata_partitions_revoked_total", role="updater", kind="revoked") >= 1
    check(shop, once=True)


@pytest.mark.kafka
def test_a_transaction_that_outlives_its_time_limit_is_done_again_by_a_new_producer(strict_shop: Bookshop) -> None:
    shop = strict_shop
    held: list[float] = []

    def outlive(name: str) -> None:
        if name == "before-commit" and not held:
            began = time.monotonic()
            assert shop.records(shop.topics.profiles) == [], "a reader waits until the broker has ended it"
            held.append(time.monotonic() - began)

    with shop.running(["updater"], transaction_timeout_s=2) as process:
        wait_for(lambda: process.ready, "ready")
        failpoints.arm(outlive)
        shop.readers(USERS, 4)
        wait_for(lambda: done(shop), "everything committed")
        shop.readers(USERS, 2, seed=1)
        wait_for(lambda: done(shop), "and what comes after it")
        assert value(process, "strata_transactions_aborted_total", role="updater") >= 1
    assert held
    assert 1.5 < held[0] < 10, "the setting reaches the broker; its default is 10 s"
    check(shop, once=True)
