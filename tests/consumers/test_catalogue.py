"""The catalogue role: what is encoded, what is not, and what is withdrawn."""

from __future__ import annotations

import numpy as np
import pytest
from fed_topics import Clock, Ends, Topic, by_topic, json

from consumers.catalogue import Catalogue, CatalogueConfig
from consumers.client import Record
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from models.encode_queue import EncodeQueue
from models.encoder import Encoder
from models.records import ItemVector, decode, from_half
from producers.publisher import Message
from producers.topics import Topics


class Bench:
    def __init__(
        self,
        encoder: Encoder,
        topics: Topic,
        names: Topics,
        diversion: Diversion,
        metrics: Metrics,
        config: CatalogueConfig | None = None,
        capacity: int = 64,
    ) -> None:
        self.topics, self.names, self.encoder = topics, names, encoder
        self.queue = EncodeQueue(encoder, clock=Clock())
        self.ends = Ends()
        self.stage = Catalogue(
            self.ends,  # type: ignore[arg-type]
            encoder,
            self.queue.outlet("items", capacity=capacity, share=1),
            topics.open,
            names,
            diversion,
            metrics,
            config or CatalogueConfig(),
        )
        self.stage.assigned([(names.items, 0)])
        self.now = 0.0

    def item(self, key: str, **fields: object) -> Record:
        value = json({"item_id": key, "title": f"Title of {key}"} | fields)
        return self.topics.append(self.names.items, key, value)

    def work(self) -> list[Message]:
        """Encode and publish all that is in flight."""
        messages: list[Message] = []
        while self.queue.step():
            pass
        while not self.stage.idle() or not messages:
            self.now += 1
            work = self.stage.poll(self.now)
            if work is None:
                break
            messages += work.messages
        self.topics.publish(messages)
        return messages

    def encoded(self) -> int:
        return sum(sum(stats.inputs.values()) for stats in self.queue.take_stats())


@pytest.fixture
def bench(encoder: Encoder, names: Topics, diversion: Diversion, metrics: Metrics) -> Bench:
    return Bench(encoder, Topic(), names, diversion, metrics)


def vectors(messages: list[Message], names: Topics) -> dict[str, ItemVector | None]:
    return {
        (m.key or b"").decode(): None if m.value is None else decode(m.value, ItemVector)
        for m in by_topic(messages, names.vectors)
    }


def test_an_item_becomes_the_vector_of_its_text(bench: Bench) -> None:
    bench.stage.submit([bench.item("a", title="Red shoes", category="Shoes", tags=["sale"], safety=["adult"])])
    record = vectors(bench.work(), bench.names)["a"]
    assert record is not None
    (tokens,) = bench.encoder.tokenise(["Red shoes. Shoes. sale"])
    (expected,) = bench.encoder.encode(bench.encoder.inputs([[tokens]]))
    assert from_half(record.vector) @ expected == pytest.approx(1, abs=1e-3)
    (title,) = bench.encoder.tokenise(["Red shoes"])
    np.testing.assert_array_equal(np.frombuffer(record.tokens, "<i4"), title)
    assert (record.title, record.category, record.tags, record.safety) == ("Red shoes", "Shoes", ("sale",), ("adult",))


def test_unchanged_items_are_not_encoded_again_after_a_restart(
    bench: Bench, diversion: Diversion, metrics: Metrics
) -> None:
    items = [bench.item("a"), bench.item("b")]
    bench.stage.submit(items)
    bench.work()
    again = Bench(bench.encoder, bench.topics, bench.names, diversion, metrics)
    again.stage.submit(items)
    assert again.work() == []
    assert again.encoded() == 0


def test_other_fields_change_without_the_encoder(bench: Bench) -> None:
    bench.stage.submit([bench.item("a")])
    bench.work()
    bench.encoded()
    bench.stage.submit([bench.item("a", available=False)])
    record = vectors(bench.work(), bench.names)["a"]
    assert record is not None
    assert not record.available
    assert bench.encoded() == 0


def test_equal_texts_are_encoded_once(bench: Bench) -> None:
    bench.stage.submit([bench.item(i, title="Milk") for i in ("a", "b", "c")])
    assert set(vectors(bench.work(), bench.names)) == {"a", "b", "c"}
    assert bench.encoded() == 1


def test_of_two_texts_in_flight_the_newer_wins(bench: Bench) -> None:
    bench.stage.submit([bench.item("a", title="Old"), bench.item("b", title="Old"), bench.item("a", title="New")])
    messages = bench.work()
    assert [decode(m.value, ItemVector).title for m in messages if m.key == b"a"] == ["New"]
    assert len(messages) == 2


def test_null_withdraws_also_what_is_still_being_encoded(bench: Bench) -> None:
    bench.stage.submit([bench.item("a"), bench.topics.append(bench.names.items, "a", None)])
    assert vectors(bench.work(), bench.names) == {"a": None}


def test_a_given_vector_is_used_as_it_is(bench: Bench) -> None:
    given = np.random.default_rng(0).normal(size=bench.encoder.dimension)
    bench.stage.submit([bench.item("a", vector=given.tolist())])
    record = vectors(bench.work(), bench.names)["a"]
    assert record is not None
    assert from_half(record.vector) @ given / np.linalg.norm(given) == pytest.approx(1, abs=1e-3)
    assert bench.encoded() == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"vector": [1.0, 2.0]}, b"2 numbers"),
        ({"vector": [0.0] * 384}, b"zero"),
        ({"item_id": "other"}, b"key"),
        ({"title": ""}, b"title"),
    ],
)
def test_an_unusable_item_is_diverted_and_the_rest_flows_on(
    bench: Bench, fields: dict[str, object], reason: bytes
) -> None:
    bad = bench.item("a", **fields)
    bench.stage.submit([bad, bench.item("b")])
    messages = bench.work()
    (letter,) = by_topic(messages, bench.names.dead_letters)
    assert letter.value == bad.value
    assert reason in dict(letter.headers)["strata-error-message"]
    assert set(vectors(messages, bench.names)) == {"b"}


@pytest.mark.parametrize("key", [b"\xff\xfe", b"a\x00", b""])
def test_a_withdrawal_under_a_key_that_is_no_item_id_is_diverted_and_withdraws_nothing(
    bench: Bench, key: bytes
) -> None:
    bench.stage.submit([Record(bench.names.items, 0, 5, 5, key, None)])
    messages = bench.work()
    (letter,) = by_topic(messages, bench.names.dead_letters)
    assert b"key: " in (dict(letter.headers)["strata-error-message"] or b"")
    assert not vectors(messages, bench.names)


def test_another_model_or_another_template_encodes_everything_again(
    bench: Bench, diversion: Diversion, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    items = [bench.item("a"), bench.item("b")]
    bench.stage.submit(items)
    bench.work()
    template = CatalogueConfig(text="Product: {title}")
    again = Bench(bench.encoder, bench.topics, bench.names, diversion, metrics, template)
    again.stage.submit(items)
    assert set(vectors(again.work(), bench.names)) == {"a", "b"}

    name, bench.encoder.name = bench.encoder.name, "another"
    try:
        again = Bench(bench.encoder, bench.topics, bench.names, diversion, metrics)
        again.stage.submit(items)
        assert {v.model for v in vectors(again.work(), bench.names).values() if v} == {"another"}
        assert "vectors are of another model than another" in caplog.text
    finally:
        bench.encoder.name = name


def test_a_full_encoder_refuses_the_rest_which_comes_again(
    encoder: Encoder, names: Topics, diversion: Diversion, metrics: Metrics
) -> None:
    bench = Bench(encoder, Topic(), names, diversion, metrics, capacity=2)
    items = [bench.item(str(i)) for i in range(5)]
    taken, done = 0, set()
    while taken < 5:
        more = bench.stage.submit(items[taken:])
        assert more <= 2
        taken += more
        done |= set(vectors(bench.work(), names))
    assert done == {"0", "1", "2", "3", "4"}


def test_a_withdrawal_that_was_compacted_away_is_made_up_for(
    bench: Bench, diversion: Diversion, metrics: Metrics
) -> None:
    items = [bench.item("a"), bench.item("b")]
    bench.stage.submit(items)
    bench.work()
    again = Bench(bench.encoder, bench.topics, bench.names, diversion, metrics)
    again.stage.submit(items[:1])  # b and its tombstone are gone from the topic
    again.ends.positions[bench.names.items, 0], again.ends.ends[bench.names.items, 0] = 1, 2
    assert again.work() == [], "there is more to read"
    again.ends.positions[bench.names.items, 0] = 2
    assert vectors(again.work(), bench.names) == {"b": None}
