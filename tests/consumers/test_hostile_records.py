"""Strata's own topics, written by somebody else: a role diverts or skips what it cannot read, and goes on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fed_topics import Clock, Topic, by_topic

from consumers.client import Record
from consumers.diversion import Diversion
from consumers.layers import LayersRole
from consumers.metrics import Metrics
from consumers.neighbours import NeighboursRole
from consumers.shard import Shard
from consumers.stage import Stage
from consumers.tables import TableReader
from models.errors import DimensionMismatch, InvalidEvent
from models.items import ItemStore
from models.layer_view import LayerView
from models.layers import LayerLearner
from models.neighbours import Neighbours
from models.profile import Profile
from models.records import HistoryEntry, LayerInfo, LayerTree, ProfileRecord, decode, encode, half
from producers.dead_letters import DeadLetterLimits
from producers.topics import Topics

D = 8
GOOD = encode(
    ProfileRecord(
        applied=3, encoded=1, clicks=3, fresh=2, history=tuple(HistoryEntry(f"i{n}", n, "click") for n in range(4)),
        seen=b"\x01" * 14, events=("click",), vector=half(np.full(D, D**-0.5)), layer="1.2", updated_ms=0,
    )
)  # fmt: skip


def hostile(good: bytes, number: int, seed: int = 0) -> Iterator[bytes]:
    """Noise, cut records, and records with a few other bytes."""
    draw = random.Random(seed)
    for n in range(number):
        if n % 3 == 0:
            yield draw.randbytes(draw.randrange(200))
        elif n % 3 == 1:
            yield good[: draw.randrange(len(good))]
        else:
            changed = bytearray(good)
            for _ in range(draw.randrange(1, 4)):
                changed[draw.randrange(len(good))] = draw.randrange(256)
            yield bytes(changed)


@pytest.fixture
def diversion(names: Topics, metrics: Metrics) -> Diversion:
    return Diversion("test", names.dead_letters, DeadLetterLimits(share=1, consecutive=10_000), metrics)


@pytest.fixture(params=["neighbours", "layers"])
def role(request: pytest.FixtureRequest, names: Topics, diversion: Diversion, metrics: Metrics) -> Stage:
    topics = Topic()
    stage: Stage
    if request.param == "neighbours":
        stage = NeighboursRole(Neighbours(ItemStore(0)), topics.open, names, diversion, metrics)
    else:
        stage = LayersRole(LayerLearner(ItemStore(D), "m"), topics.open, names, diversion, metrics, wall=Clock().wall)
    stage.assigned([(names.profiles, 0)])
    return stage


def test_a_role_diverts_profiles_that_are_none_and_learns_from_those_that_are(role: Stage, names: Topics) -> None:
    values = [*hostile(GOOD, 2_000), GOOD]
    records = [Record(names.profiles, 0, n, 0, b"u", value) for n, value in enumerate(values)]
    assert role.submit(records) == len(records)
    work = role.poll(1_000.0)
    assert work is not None
    letters = by_topic(list(work.messages), names.dead_letters)
    assert len(letters) > 1_200
    assert {letter.value for letter in letters} <= set(values)
    assert GOOD not in {letter.value for letter in letters}
    assert len(work.messages) > len(letters), "the last one was learned"


def test_a_profile_that_cannot_be_read_costs_its_user_his_past_and_stops_nobody() -> None:
    items = ItemStore(D)
    restored = fresh = 0
    for n, value in enumerate(hostile(GOOD, 3_000)):
        shard = Shard(0, items, 10)
        try:
            shard.restore(f"u{n}", value)
        except InvalidEvent:
            continue
        restored += 1
        profile = shard.profile(f"u{n}")
        fresh += not profile.rows
        assert isinstance(profile, Profile)
        profile.record(items, 0)
    assert restored > 500
    assert fresh > 100


class Given:
    """A consumer that hands out what it was given."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records

    def poll(self, timeout_s: float, max_records: int) -> list[Record]:
        records, self.records = self.records, []
        return records


def test_a_table_skips_what_does_not_fit_together_and_counts_it(metrics: Metrics) -> None:
    view = LayerView(ItemStore(D))
    tree = encode(
        LayerTree(
            version=1, model="m", dimensions=(2, D), basis=np.ones((2, D), "<f4").tobytes(), coarse=b"\0" * 16,
            fine=b"\0" * 32, epochs=(0, 0, 0, 0), created_ms=0,
        )
    )  # fmt: skip
    info = encode(
        LayerInfo(
            id="root", label="", size=1, epoch=0, items=("a", "b"), counts=b"\0" * 8, totals=(1,), half_lives=(9,)
        )
    )

    def take(record: Record) -> None:
        if record.key == b"tree":
            view.put_tree(decode(record.value, LayerTree))
        else:
            view.put_layer(decode(record.value, LayerInfo))

    values: list[Any] = [(b"tree", value) for value in hostile(tree, 600)] + [(b"root", v) for v in hostile(info, 600)]
    values += [(b"tree", tree), (b"root", info)]
    records = [Record("layers", 0, n, 0, key, value) for n, (key, value) in enumerate(values)]
    reader = TableReader(Given(records), {"layers": take}, metrics)  # type: ignore[arg-type]
    reader._partitions = {("layers", 0)}
    assert reader.poll() == len(records)
    assert metrics.registry.get_sample_value("strata_table_record_errors_total", {"topic": "layers"}) > 700
    assert view.ready
    view.membership(np.full((1, D), D**-0.5, np.float32))


def test_an_error_that_says_what_to_do_is_not_taken_for_a_bad_record() -> None:
    def take(record: Record) -> None:
        raise DimensionMismatch("another model")

    reader = TableReader(Given([Record("t", 0, 0, 0, b"", b"")]), {"t": take})  # type: ignore[arg-type]
    reader._partitions = {("t", 0)}
    with pytest.raises(DimensionMismatch):
        reader.poll()
