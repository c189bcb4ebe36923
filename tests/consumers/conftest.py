"""What the stages' tests share: the real encoder, a shelf of real items, a clock that stands still."""

from __future__ import annotations

import pytest
from fed_topics import TITLES, Clock, Topic
from updater_bench import Bench, fill

from consumers.diversion import Diversion
from consumers.metrics import Metrics
from models.encoder import Encoder
from models.records import ItemVector, half
from producers.dead_letters import DeadLetterLimits
from producers.topics import Topics


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The real model, exact."""
    return Encoder.load(precision="fp32", threads=1)  # two threads that wait for each other are slower on busy cores


@pytest.fixture(scope="session")
def shelf(encoder: Encoder) -> list[ItemVector]:
    """The titles as the catalogue role publishes them."""
    tokens = encoder.tokenise(TITLES)
    vectors = encoder.encode(encoder.inputs([[ids] for ids in tokens]))
    return [
        ItemVector(
            model=encoder.name, text_hash=b"", tokens=ids.astype("<i4").tobytes(), vector=half(vector), title=title
        )
        for title, ids, vector in zip(TITLES, tokens, vectors, strict=True)
    ]


@pytest.fixture
def names() -> Topics:
    """Topic names."""
    return Topics()


@pytest.fixture
def diversion(names: Topics, metrics: Metrics) -> Diversion:
    return Diversion("test", names.dead_letters, DeadLetterLimits(), metrics)


@pytest.fixture
def shelves(shelf: list[ItemVector], names: Topics) -> Topic:
    """Topics with the shelf on offer."""
    topics = Topic()
    fill(topics, names, shelf)
    return topics


@pytest.fixture
def bench(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> Bench:
    """An updater that owns two partitions."""
    bench = Bench(encoder, shelves, names, diversion, metrics, clock)
    bench.assign(0, 1)
    return bench
