"""Spans of the updater for OpenTelemetry (the extra ``tracing``).

::

    trace of the newest click    … producer's span ──► strata.list          (links: the other clicks of that list)
    a trace of its own           strata.list.again                          (links: the list that it follows)
    a trace of its own           strata.batch                               (links: the lists that it published)

A list answers its newest click, so its span stands in that click's trace; the others, and a batch, which answers
nobody in particular, are told by links. So is a list that comes again, now that BERT has read it: the click was
answered, and its trace must not last until the encoder had room. Its record carries the first one's context. Only what
the click's producer samples is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consumers.shard import Owed
from consumers.tracing import Trace, context
from models.records import Source
from producers.sender import Headers

_LINKS: Final = 128
"""OpenTelemetry's own default for the links of a span."""
_W3C: Final = TraceContextTextMapPropagator()


class Spans:
    """:class:`~consumers.tracing.Tracing` that records.

    Parameters
    ----------
    provider
        Where spans go.
    clock
        The one that clicks are stamped by when they are read, monotonic s.
    wall
        The time, ns since the epoch.
    """

    def __init__(
        self,
        provider: TracerProvider,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._tracer = provider.get_tracer("strata")
        self._clock = clock
        self._wall = wall

    def begin(self, owed: Owed) -> Trace | None:
        """See :class:`~consumers.tracing.Tracing`. The span begins when the oldest of the clicks was read."""
        contexts = [(headers, _parse(headers)) for record in owed.records if (headers := context(record.headers))]
        if not contexts:
            return None
        headers, newest = contexts.pop()
        if not newest.trace_flags.sampled:
            return Trace(headers)
        span = self._tracer.start_span(
            "strata.list",
            _within(newest),
            SpanKind.CONSUMER,
            {
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.destination.name": owed.record.topic,
                "messaging.destination.partition.id": str(owed.record.partition),
                "messaging.kafka.offset": owed.records[-1].offset,
                "strata.clicks": len(owed.records),
            },
            links=[Link(linked) for _, linked in contexts[-_LINKS:]],
            start_time=self._wall() - int((self._clock() - owed.since) * 1e9),
        )
        return Trace(_headers(span), span if span.is_recording() else None)

    def again(self, headers: Headers, source: Source) -> Trace:
        """See :class:`~consumers.tracing.Tracing`. The span begins when the list is made."""
        first = _parse(headers)
        if not first.trace_flags.sampled:
            return Trace(headers)
        span = self._tracer.start_span(
            "strata.list.again",
            Context(),
            SpanKind.PRODUCER,
            {
                "messaging.system": "kafka",
                "messaging.destination.name": source.topic,
                "messaging.destination.partition.id": str(source.partition),
                "messaging.kafka.offset": source.offset,
            },
            links=[Link(first)],
            start_time=self._wall(),
        )
        return Trace(headers, span if span.is_recording() else None)

    def published(self, traces: Sequence[Trace]) -> None:
        """See :class:`~consumers.tracing.Tracing`."""
        spans = [made.span for made in traces if made.span is not None]
        if not spans:
            return
        now = self._wall()
        links = [Link(span.get_span_context()) for span in islice(spans, _LINKS)]
        batch = self._tracer.start_span(
            "strata.batch",
            Context(),
            SpanKind.PRODUCER,
            {"messaging.system": "kafka", "messaging.batch.message_count": len(spans)},
            links=links,
            start_time=min(span.start_time for span in spans),
        )
        for span in (*spans, batch):
            span.end(now)


def _parse(headers: Headers) -> SpanContext:
    carrier = {name: value.decode("ascii") for name, value in headers}
    return trace.get_current_span(_W3C.extract(carrier, Context())).get_span_context()


def _within(parent: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _headers(span: Any) -> Headers:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span, Context()))
    return tuple((name, value.encode("ascii")) for name, value in sorted(carrier.items()))
