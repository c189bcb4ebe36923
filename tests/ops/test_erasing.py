"""An erasure that a person orders: on the topic, and seen to be done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bookshop import Bookshop, tiny_model, wait_for

from models.errors import InvalidEvent
from models.pseudonyms import Pseudonyms
from ops import erasing, reading
from producers.connection import Connection
from producers.topics import Topics

KEY = "a key of the shop's own"
NAMES = Pseudonyms(KEY.encode())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("tiny"), 32)


@pytest.fixture
def shop(tansu: Connection, topics: Topics) -> Iterator[Bookshop]:
    shop = Bookshop(tansu, topics, pseudonym_key=KEY)
    yield shop
    shop.publisher.close()


def test_an_erasure_is_ordered_and_waited_for_by_the_users_own_id(shop: Bookshop, tiny: str) -> None:
    with shop.running(["updater", "erasure"], model=tiny, first_start="earliest") as process:
        shop.clicks(("ann", "baking-1"), ("bob", "baking-2"))
        shop.garbage(shop.topics.clicks, b"ann", b"{")
        wait_for(lambda: process.ready and shop.committed() == shop.ends(), "everything committed")
        assert reading.recommendation(shop.connection, shop.topics, "ann", NAMES).user_id == NAMES("ann")
        until = erasing.order(shop.connection, shop.topics, "ann", "r-1")
        assert erasing.wait(shop.connection, shop.topics, "ann", until, NAMES, 20) < 5
        with pytest.raises(reading.NothingPublished):
            reading.recommendation(shop.connection, shop.topics, "ann", NAMES)
        assert reading.recommendation(shop.connection, shop.topics, "bob", NAMES)


def test_what_is_not_done_in_time_is_told_with_what_is_missing(shop: Bookshop) -> None:
    until = erasing.order(shop.connection, shop.topics, "ann", "r-1")
    with pytest.raises(
        erasing.NotErasedYet, match=rf"no tombstones in {shop.topics.profiles}-0, .*does an updater run"
    ):
        erasing.wait(shop.connection, shop.topics, "ann", until, NAMES, 1)


@pytest.mark.parametrize("user", ["", "a\x07", "\udc80", "x" * 300])
def test_what_can_be_no_users_id_is_refused(tansu: Connection, topics: Topics, user: str) -> None:
    with pytest.raises(InvalidEvent, match="key"):
        erasing.order(tansu, topics, user, "r-1")
