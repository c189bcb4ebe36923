"""Where the spans of :mod:`consumers.spans` go: by OTLP to whatever OpenTelemetry's own variables name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Final, Literal

from consumers.tracing import Carried, Tracing
from models.errors import ConfigurationError

log = logging.getLogger(__name__)

_SEND_S: Final = 5
"""How long a collector that does not answer may hold up a stop, s."""


def tracing(mode: Literal["carry", "otlp"]) -> tuple[Tracing, Callable[[], object]]:
    """How clicks are traced, and what to call at the end.

    Parameters
    ----------
    mode
        ``carry`` hands each click's trace context on to its list; ``otlp`` also records spans and sends them, as
        ``OTEL_EXPORTER_OTLP_ENDPOINT`` and its kin say (https://opentelemetry.io/docs/specs/otel/protocol/exporter).

    Raises
    ------
    ConfigurationError
        ``otlp`` without the extra ``tracing``.
    """
    if mode == "carry":
        return Carried(), lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from consumers.spans import Spans
    except ImportError:
        raise ConfigurationError(
            "STRATA_TRACING=otlp needs OpenTelemetry: pip install 'strata-recommender[tracing]', or set it to carry"
        ) from None
    ours = {SERVICE_NAME: "strata", SERVICE_VERSION: version("strata-recommender")}
    provider = TracerProvider(resource=Resource.create(ours))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_SEND_S)))
    log.info("tracing: spans go out by OTLP")
    return Spans(provider), provider.shutdown
