"""The hostile stream, in small: `make hostile` sends a million of the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from bookshop import Bookshop
from gauntlet import SETTINGS, run
from hostile import Stream

from producers.connection import Connection
from producers.topics import Topics

MESSAGES = 10_000


@pytest.fixture(
    params=[pytest.param("tansu", marks=pytest.mark.broker), pytest.param("kafka", marks=pytest.mark.kafka)]
)
def stocked(request: pytest.FixtureRequest, topics: Topics, tiny: str) -> Iterator[Bookshop]:
    connection: Connection = request.getfixturevalue(request.param)
    delivery = "exactly-once" if request.param == "kafka" else "at-least-once"
    shop = Bookshop(connection, topics, model=tiny, delivery=delivery, **SETTINGS)
    shop.stock()
    yield shop
    shop.publisher.close()


def test_the_stream_is_the_same_for_the_same_seed() -> None:
    assert list(islice(Stream(3), 2_000)) == list(islice(Stream(3), 2_000))
    assert list(islice(Stream(3), 2_000)) != list(islice(Stream(4), 2_000))


@pytest.mark.slow
def test_hostile_messages_stop_nobody_and_each_bad_one_is_a_dead_letter_byte_for_byte(
    stocked: Bookshop, tmp_path: Path
) -> None:
    gauntlet = run(stocked, MESSAGES, 2, 0, tmp_path / "worker.log")
    assert gauntlet.sent.total() == MESSAGES
    assert MESSAGES / 3 < gauntlet.letters < MESSAGES / 2
    assert len(gauntlet.sent) > 65, "most kinds came"
