"""Traces of a whole process on a real broker, sent to a collector that listens on a socket."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from bookshop import Bookshop, knows_the_catalogue, tiny_model, wait_for
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from models.errors import ConfigurationError
from ops.process import Process
from ops.settings import Settings
from producers.connection import Connection
from producers.publisher import Message
from producers.topics import Topics

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: dict[str, str] = {}  # name → trace id
        self.text = ""
        super().__init__(("127.0.0.1", 0), Takes)


class Takes(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.text += str(request)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.server.spans |= {span.name: span.trace_id.hex() for span in scope.spans}
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        yield collector
        collector.shutdown()
        thread.join()


def traced_click(shop: Bookshop, user: str) -> None:
    event = {"user_id": user, "item_id": "gardening-1", "ts": 1_700_000_000_000, "event": "view"}
    shop.publisher.publish(
        [Message(shop.topics.clicks, user.encode(), msgspec.json.encode(event), headers=(("traceparent", PARENT),))]
    )


def carried(shop: Bookshop) -> bytes | None:
    lists = shop.records(shop.topics.recommendations)
    return dict(lists[0].headers).get("traceparent") if lists else None


@pytest.mark.broker
@pytest.mark.parametrize("tracing", ["carry", "otlp"])
def test_a_trace_goes_from_the_click_to_the_list(
    tracing: str, tansu: Connection, topics: Topics, collector: Collector, tmp_path: Path
) -> None:
    shop = Bookshop(tansu, topics)
    try:
        shop.stock()
        with shop.running(["catalogue", "updater"], model=tiny_model(tmp_path, 32), tracing=tracing) as process:
            wait_for(knows_the_catalogue(process), "the catalogue")
            traced_click(shop, "ann@example.com")
            found = wait_for(lambda: carried(shop), "the list")
    finally:
        shop.publisher.close()
    if tracing == "carry":
        assert found == PARENT
        assert not collector.spans
        return
    assert found.startswith(f"00-{TRACE}-".encode())
    assert found != PARENT, "a span of its own"
    assert collector.spans.keys() == {"strata.list", "strata.batch"}, "all of them were sent before the process ended"
    assert collector.spans["strata.list"] == TRACE != collector.spans["strata.batch"]
    assert "ann" not in collector.text


@pytest.mark.broker
def test_a_collector_that_is_not_there_holds_up_nothing(
    tansu: Connection, topics: Topics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:  # fmt: skip
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    shop = Bookshop(tansu, topics)
    try:
        shop.stock()
        with (
            caplog.at_level(logging.WARNING),
            shop.running(["catalogue", "updater"], model=tiny_model(tmp_path, 32), tracing="otlp") as process,
        ):
            wait_for(knows_the_catalogue(process), "the catalogue")
            traced_click(shop, "ann")
            wait_for(lambda: carried(shop), "the list")
            assert process.failure is None
    finally:
        shop.publisher.close()


def test_without_the_extra_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"STRATA_TRACING=otlp.*strata-recommender\[tracing\]"):
        Process(Settings(tracing="otlp"), Connection(bootstrap="127.0.0.1:1"), ["updater"])
