"""A shop with its catalogue already encoded, and workers that can be started at any time and are gone at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bookshop import BOOKS, Bookshop, tiny_model, wait_for
from mortal_worker import Worker, warm

from producers.connection import Connection
from producers.topics import Topics

Start = Callable[..., Worker]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The encoder where its sense does not matter."""
    model = tiny_model(tmp_path_factory.mktemp("tiny"), 32)
    warm(model)
    return model


DELIVERIES = [
    pytest.param(("kafka", "exactly-once"), id="kafka-exactly-once", marks=pytest.mark.kafka),
    pytest.param(("kafka", "at-least-once"), id="kafka-at-least-once", marks=pytest.mark.kafka),
    pytest.param(("tansu", "at-least-once"), id="tansu-at-least-once", marks=pytest.mark.broker),
]


@pytest.fixture(params=DELIVERIES)
def shop(request: pytest.FixtureRequest, topics: Topics, tiny: str) -> Iterator[Bookshop]:
    """A stocked shop on each broker, with each delivery that it has."""
    name, delivery = request.param
    for shop in opened(request.getfixturevalue(name), topics, tiny, delivery):
        if name == "kafka":
            shop.given["instance"] = "one"  # static membership: a restart makes no rebalance, and is quicker by seconds
        yield shop


@pytest.fixture
def strict_shop(kafka: Connection, topics: Topics, tiny: str) -> Iterator[Bookshop]:
    """A stocked shop on Apache Kafka, exactly once."""
    yield from opened(kafka, topics, tiny, "exactly-once")


def opened(connection: Connection, topics: Topics, tiny: str, delivery: str, **given: Any) -> Iterator[Bookshop]:
    """The shop; its catalogue is encoded, so that the updater is all that has to run."""
    shop = Bookshop(
        connection,
        topics,
        model=tiny,
        delivery=delivery,
        threads=1,
        deadline_ms=60_000,
        transaction_timeout_s=5,
        **given,
    )
    encode_the_stock(shop)
    yield shop
    shop.publisher.close()


def encode_the_stock(shop: Bookshop) -> None:
    shop.stock()
    with shop.running(["catalogue"]):
        wait_for(lambda: len(shop.records(shop.topics.vectors)) == len(BOOKS), "the catalogue")


@pytest.fixture
def stock() -> Callable[[Bookshop], None]:
    """Stocks a shop of the test's own and has the catalogue encoded."""
    return encode_the_stock


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a worker on a shop: ``start(shop, die=("before-commit", 3), **settings)``."""
    workers: list[Worker] = []

    def begin(shop: Bookshop, die: tuple[str, int] | None = None, **given: Any) -> Worker:
        log = tmp_path / f"worker-{len(workers)}.log"
        worker = Worker(shop.connection.bootstrap, shop.given | given, log, die=die)
        workers.append(worker)
        return worker

    yield begin
    for worker in workers:
        if worker.alive:
            worker.kill()
