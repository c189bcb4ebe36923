"""A click's trace goes on in its list: what is carried, what is recorded, and what is not believed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fed_topics import Clock, Topic, by_topic
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanContext
from updater_bench import Bench

from consumers.client import Record
from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.shard import Shard
from consumers.spans import Spans
from consumers.stage import Work
from consumers.tracing import Carried, Tracing, context
from models.encoder import Encoder
from models.items import ItemStore
from producers.topics import Topics

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OTHER = "0af7651916cd43dd8448eb211c80319c"


def parent(trace: str = TRACE, span: str = "00f067aa0ba902b7", flags: str = "01") -> bytes:
    return f"00-{trace}-{span}-{flags}".encode()


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(exported: InMemorySpanExporter, clock: Clock) -> Spans:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    return Spans(provider, clock=clock, wall=lambda: int(clock.wall() * 1e9))


def made(
    tracing: Tracing,
    encoder: Encoder,
    shelves: Topic,
    names: Topics,
    diversion: Diversion,
    metrics: Metrics,
    clock: Clock,
) -> Bench:
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, tracing=tracing)
    bench.assign(0)
    return bench


@pytest.fixture
def carrying(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> Bench:
    return made(Carried(), encoder, shelves, names, diversion, metrics, clock)


@pytest.fixture
def recording(
    spans: Spans, encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> Bench:
    return made(spans, encoder, shelves, names, diversion, metrics, clock)


def click(bench: Bench, user: str, item: str, *headers: tuple[str, bytes]) -> Record:
    return bench.click(user, item)._replace(headers=headers)


def publish(bench: Bench) -> Work:
    bench.encode()
    return bench.work()


def headers(bench: Bench, work: Work, user: str = "ann") -> dict[str, bytes]:
    (message,) = (m for m in by_topic(work.messages, bench.names.recommendations) if m.key == user.encode())
    return dict(message.headers)


def test_a_list_carries_the_trace_of_its_click(carrying: Bench) -> None:
    carrying.submit(
        click(carrying, "ann", "i0", ("traceparent", parent()), ("tracestate", b"shop=1")),
        click(carrying, "bob", "i1"),
    )
    work = publish(carrying)
    assert headers(carrying, work) == {"traceparent": parent(), "tracestate": b"shop=1"}
    assert headers(carrying, work, "bob") == {}
    assert not any(m.headers for m in by_topic(work.messages, carrying.names.profiles))


def test_a_list_for_several_clicks_carries_the_newest_trace(carrying: Bench) -> None:
    carrying.submit(
        click(carrying, "ann", "i0", ("traceparent", parent(OTHER))),
        click(carrying, "ann", "i1", ("traceparent", parent())),
        click(carrying, "ann", "i2"),
    )
    assert headers(carrying, publish(carrying)) == {"traceparent": parent()}


def test_a_cloud_event_carries_it_in_its_own_way() -> None:
    assert context([("ce_traceparent", parent()), ("ce_id", b"1")]) == (("traceparent", parent()),)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"00", parent().upper(), parent("0" * 32), parent(span="0" * 16), b"ff" + parent()[2:], parent() + b"-x",
        parent() + b"\n", b"\xff" * 55,
    ],
)  # fmt: skip
def test_what_is_no_trace_context_is_not_handed_on(value: bytes, carrying: Bench) -> None:
    carrying.submit(click(carrying, "ann", "i0", ("traceparent", value), ("tracestate", b"shop=1")))
    assert headers(carrying, publish(carrying)) == {}


def test_a_state_that_is_too_long_or_no_text_is_left_out() -> None:
    for state in (b"a=" + b"1" * 511, b"a=\xff", b"a=\r\nb"):
        assert context([("traceparent", parent()), ("tracestate", state)]) == (("traceparent", parent()),)


@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "x"]), st.none() | st.binary(max_size=60))))
def test_any_header_is_survived(found: list[tuple[str, bytes | None]]) -> None:
    for name, value in context(found):
        assert name in ("traceparent", "tracestate")
        assert value.isascii()


def late(bench: Bench, *records: Record) -> Work:
    """A Work that did not wait for the encoder."""
    bench.submit(*records)
    bench.clock.now += 1
    work = bench.work()
    assert not any(made.encoded for made in bench.lists(work))
    assert not bench.work().messages  # they made room for others, and are handed over again now that none waits
    return work


def test_the_list_that_follows_an_unencoded_one_carries_its_trace(carrying: Bench) -> None:
    late(carrying, click(carrying, "ann", "i0", ("traceparent", parent())), click(carrying, "bob", "i1"))
    second = publish(carrying)
    assert [made.encoded for made in carrying.lists(second)] == [True, True]
    assert headers(carrying, second) == {"traceparent": parent()}
    assert headers(carrying, second, "bob") == {}
    carrying.submit(click(carrying, "ann", "i2"))
    assert headers(carrying, publish(carrying)) == {}, "it has been handed on"


def test_a_click_without_a_trace_does_not_end_one(carrying: Bench) -> None:
    late(carrying, click(carrying, "ann", "i0", ("traceparent", parent())))
    late(carrying, click(carrying, "ann", "i1"))
    assert headers(carrying, publish(carrying)) == {"traceparent": parent()}


def test_a_list_for_a_newer_click_carries_that_ones_trace(carrying: Bench) -> None:
    late(carrying, click(carrying, "ann", "i0", ("traceparent", parent(OTHER))))
    carrying.submit(click(carrying, "ann", "i1", ("traceparent", parent())))
    assert headers(carrying, publish(carrying)) == {"traceparent": parent()}
    carrying.submit(click(carrying, "ann", "i2"))
    assert headers(carrying, publish(carrying)) == {}


def test_a_list_that_was_struck_carries_no_trace(carrying: Bench) -> None:
    first = late(carrying, click(carrying, "ann", "i0", ("traceparent", parent())))
    (made,) = carrying.lists(first)
    carrying.topics.append(carrying.names.vectors, made.items[0].item_id, None)
    carrying.clock.now += 2
    again = carrying.work()
    assert headers(carrying, again) == {}, "no click brought it about"
    assert not carrying.work().messages
    assert headers(carrying, publish(carrying)) == {"traceparent": parent()}, "the one that follows has it still"


def test_traces_that_wait_are_bounded_and_go_with_their_user() -> None:
    shard = Shard(0, ItemStore(4), 10)
    for n in range(3_000):
        shard.answered(f"u{n}", (("traceparent", parent()),), encoded=False)
    assert sum(shard.trace(f"u{n}") is not None for n in range(3_000)) == 2_000
    assert shard.trace("u2999")
    shard.forget("u2999")
    shard.go_back("u2998", None)
    assert (shard.trace("u2999"), shard.trace("u2998")) == (None, None)


# -- recorded -------------------------------------------------------------------------------------------------------


def by_name(exported: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exported.get_finished_spans() if span.name == name]


def linked(span: ReadableSpan) -> list[SpanContext]:
    return [link.context for link in span.links]


def ids(found: Sequence[SpanContext]) -> list[str]:
    return [f"{one.trace_id:032x}" for one in found]


def test_a_list_is_a_span_in_its_newest_clicks_trace_with_links_to_the_others(
    recording: Bench, exported: InMemorySpanExporter
) -> None:
    recording.submit(
        click(recording, "ann", "i0", ("traceparent", parent(OTHER))),
        click(recording, "ann", "i1", ("traceparent", parent()), ("tracestate", b"shop=1")),
    )
    recording.clock.now += 0.2
    work = publish(recording)
    (span,) = by_name(exported, "strata.list")
    assert (ids([span.context]), ids(linked(span))) == ([TRACE], [OTHER])
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
    carried = headers(recording, work)
    assert carried == {
        "traceparent": f"00-{TRACE}-{span.context.span_id:016x}-01".encode(),
        "tracestate": b"shop=1",
    }, "whoever reads the list goes on from its span"
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0.2 <= (span.end_time - span.start_time) / 1e9 < 0.4, (
        "from the read of the first click to the acknowledgement"
    )
    assert dict(span.attributes or {}).items() >= {
        "messaging.destination.name": recording.names.clicks, "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 1, "strata.clicks": 2,
    }.items()  # fmt: skip
    assert "ann" not in span.to_json()


def test_a_batch_has_links_and_no_parent(recording: Bench, exported: InMemorySpanExporter) -> None:
    recording.submit(
        click(recording, "ann", "i0", ("traceparent", parent())),
        click(recording, "bob", "i1", ("traceparent", parent(OTHER))),
        click(recording, "cid", "i2"),
    )
    publish(recording)
    (batch,) = by_name(exported, "strata.batch")
    assert batch.parent is None
    assert ids([batch.context]) not in ([TRACE], [OTHER])
    assert sorted(ids(linked(batch))) == sorted([TRACE, OTHER])
    assert (batch.attributes or {})["messaging.batch.message_count"] == 2


def test_what_its_producer_does_not_sample_is_carried_and_not_recorded(
    recording: Bench, exported: InMemorySpanExporter
) -> None:
    recording.submit(click(recording, "ann", "i0", ("traceparent", parent(flags="00"))), click(recording, "bob", "i1"))
    assert headers(recording, publish(recording)) == {"traceparent": parent(flags="00")}
    assert not exported.get_finished_spans()


def test_a_sampler_that_wants_nothing_is_obeyed(
    exported: InMemorySpanExporter, encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion,
    metrics: Metrics, clock: Clock,
) -> None:  # fmt: skip
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    bench = made(Spans(provider, clock=clock), encoder, shelves, names, diversion, metrics, clock)
    bench.submit(click(bench, "ann", "i0", ("traceparent", parent())))
    carried = headers(bench, publish(bench))["traceparent"]
    assert carried.startswith(f"00-{TRACE}-".encode())
    assert carried.endswith(b"-00")
    assert not exported.get_finished_spans()


def test_what_was_not_published_is_not_recorded(recording: Bench, exported: InMemorySpanExporter) -> None:
    recording.submit(click(recording, "ann", "i0", ("traceparent", parent())))
    recording.encode()
    recording.clock.now += 0.05
    assert recording.updater.poll(recording.clock.now) is not None
    assert not exported.get_finished_spans()


def test_a_list_that_comes_again_has_a_link_and_no_parent(recording: Bench, exported: InMemorySpanExporter) -> None:
    first = late(recording, click(recording, "ann", "i0", ("traceparent", parent())))
    second = publish(recording)
    (answer,), (again,) = by_name(exported, "strata.list"), by_name(exported, "strata.list.again")
    assert again.parent is None
    assert ids([again.context]) != [TRACE]
    (link,) = linked(again)
    assert (link.trace_id, link.span_id) == (answer.context.trace_id, answer.context.span_id)
    assert headers(recording, second) == headers(recording, first), "whoever reads it goes on from the answer"
    assert dict(again.attributes or {})["messaging.kafka.offset"] == 0
    assert "ann" not in again.to_json()
    assert sum(again.context in linked(batch) for batch in by_name(exported, "strata.batch")) == 1


def test_a_list_that_comes_again_is_not_recorded_where_its_click_was_not(
    recording: Bench, exported: InMemorySpanExporter
) -> None:
    late(recording, click(recording, "ann", "i0", ("traceparent", parent(flags="00"))))
    assert headers(recording, publish(recording)) == {"traceparent": parent(flags="00")}
    assert not exported.get_finished_spans()
