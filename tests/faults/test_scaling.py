"""One worker, three, and one again, while clicks keep coming."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

import numpy as np
import pytest
from bookshop import Bookshop, value, wait_for
from invariant import check
from load import Load
from mortal_worker import Worker

from models.events import Click
from models.items import ItemStore
from models.profile import Profile
from producers.publisher import Message

Start = Callable[..., Worker]
pytestmark = [pytest.mark.kafka, pytest.mark.slow]

USERS = [f"reader-{n}" for n in range(60)]


def done(shop: Bookshop) -> bool:
    return shop.committed() == shop.ends()


@pytest.mark.parametrize("shop", [("kafka", "exactly-once"), ("kafka", "at-least-once")], indirect=True)
@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_one_worker_three_and_one_again_lose_nothing(shop: Bookshop, start: Start, static: bool) -> None:
    shop.given.pop("instance", None)

    def begin(number: int) -> Worker:
        name = {"instance": f"worker-{number}"} if static else {}
        return start(shop, **name)

    with Load(shop, USERS):
        first = begin(0)
        first.await_said("updater: partitions assigned")
        second, third = begin(1), begin(2)
        wait_for(
            lambda: second.said("updater: partitions assigned") or third.said("updater: partitions assigned"),
            "a share for another",
        )
        time.sleep(2)  # under load
        second.stop()
        third.stop()
        time.sleep(1)
    wait_for(lambda: done(shop), "everything committed", 60)
    first.stop()
    assert check(shop, once=shop.given["delivery"] == "exactly-once").clicks > 500
    restored = re.findall(r"restored (\d+) profiles", first.log.read_text())
    assert int(restored[-1]) > 0, "it knew the users of what it took back"


@pytest.mark.parametrize("shop", [("kafka", "exactly-once")], indirect=True)
def test_profiles_are_restored_before_the_first_list_and_the_speed_is_told(
    shop: Bookshop, caplog: pytest.LogCaptureFixture
) -> None:
    number = 20_000
    items, now = ItemStore(384), int(time.time() * 1000)
    profile = Profile("x", vector=np.full(384, 384**-0.5, np.float32))
    for turn in range(20):
        profile.apply(Click(user_id="x", item_id=f"baking-{turn % 10}", ts=now), turn, items)
    profile.applied = -1  # as if nothing of the log, which is empty, had been applied
    record = profile.record(items, now)
    shop.publisher.publish(Message(shop.topics.profiles, b"user-%d" % n, record, n % 2) for n in range(number))
    with caplog.at_level(logging.INFO), shop.running(["updater"]) as process:
        wait_for(lambda: process.ready, "ready")
        assert value(process, "strata_profiles_restored_total") == number
        seconds = value(process, "strata_restore_seconds_sum", role="updater")
    assert seconds > 0
    told = next(m for m in caplog.messages if m.startswith(f"updater: restored {number} profiles"))
    assert int(told.split("(")[-1].removesuffix("/s)")) > 1_000, told
    print(f"\n{told}; {len(record)} bytes each")
