"""An item that is withdrawn at the worst moment is in no list a moment later."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest
from bookshop import Bookshop, value, wait_for

from models.records import Recommendation
from producers import failpoints
from producers.publisher import Message

USERS = [f"reader-{n}" for n in range(20)]
ITEM = "gardening-5"


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm(None)


def done(shop: Bookshop) -> bool:
    return shop.committed() == shop.ends()


def holding(lists: list[Recommendation]) -> list[Recommendation]:
    return [made for made in lists if ITEM in {one.item_id for one in made.items}]


def test_an_item_withdrawn_between_the_encoder_and_the_list_is_in_no_list_after_a_moment(shop: Bookshop) -> None:
    """The vectors are back, the lists are about to be made."""
    shop.readers(USERS, 2)
    withdrawn: list[float] = []

    def withdraw(point: str) -> None:
        if point == "after-encode" and not withdrawn:
            number = next(r.partition for r in shop.records(shop.topics.vectors) if r.key == ITEM.encode())
            shop.publisher.publish([Message(shop.topics.vectors, ITEM.encode(), None, number)])
            withdrawn.append(time.time())

    failpoints.arm(withdraw)
    with shop.running(["updater"]) as process:
        wait_for(lambda: done(shop), "everything committed")
        assert withdrawn
        wait_for(lambda: not holding(list(shop.lists().values())), "the end of it in every list", 5)
        ended = time.time()
        shop.readers(USERS, 1, seed=4)
        wait_for(lambda: done(shop), "everything committed")
        struck = value(process, "strata_lists_struck_total")
    made = [msgspec.json.decode(r.value or b"", type=Recommendation) for r in shop.records(shop.topics.recommendations)]
    assert not [m for m in holding(made) if m.generated_at > (withdrawn[0] + 1) * 1000], "it was known by then"
    print(f"\nstruck {struck:.0f} lists; in no list {ended - withdrawn[0]:.1f} s after the withdrawal")


def test_an_item_withdrawn_while_no_worker_ran_leaves_the_lists_after_a_start(shop: Bookshop) -> None:
    shop.readers(USERS, 2)
    with shop.running(["updater"]):
        wait_for(lambda: done(shop), "everything committed")
    assert holding(list(shop.lists().values()))
    number = next(r.partition for r in shop.records(shop.topics.vectors) if r.key == ITEM.encode())
    shop.publisher.publish([Message(shop.topics.vectors, ITEM.encode(), None, number)])
    profiles = shop.profiles()
    with shop.running(["updater"]):
        wait_for(lambda: not holding(list(shop.lists().values())), "the end of it in every list", 20)
    assert shop.profiles() == profiles, "nobody clicked"
