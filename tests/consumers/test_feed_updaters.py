"""The updaters' figures on the page: those of this process, and those that something at an address may answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from bookshop import wait_for
from fed_topics import Clock
from prometheus_client import CollectorRegistry

from consumers.feed import updaters
from consumers.feed.updaters import Here, Prometheus
from consumers.metrics import Metrics


def vector(*samples: tuple[dict[str, str], str]) -> bytes:
    found = [{"metric": labels, "value": [0, value]} for labels, value in samples]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": found}}).encode()


class Server:
    """In the place of a Prometheus."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.lag = vector(({}, "1.5"))
        self.hits = vector(({"arm": "full"}, "0.25"), ({"arm": "popularity.3000"}, "NaN"))
        self.let_go = threading.Event()
        self.let_go.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)["query"][0]
                outer.asked.append(query)
                outer.let_go.wait(10)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(outer.hits if "hits" in query else outer.lag)

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.let_go.set()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ask(server: Server, clock: Clock) -> Prometheus:
    return Prometheus(server.url + "/", 'namespace="shop"', clock=clock)


def answered(ask: Prometheus) -> Callable[[], bool]:
    ask.figures()
    return lambda: not ask._asking


def test_an_updater_in_the_same_process_tells_its_own() -> None:
    metrics = Metrics(CollectorRegistry())
    assert Here(metrics.registry).figures()[:2] == (None, {})
    now = int(time.time() * 1000)
    metrics.lag("updater", ("clicks", 0), 5, now - 2_000)
    metrics.lag("updater", ("clicks", 1), 5, now - 9_000)
    metrics.lag("layers", ("profiles", 0), 5, now - 99_000)
    for group in (3, 7):
        metrics.hit_attempts.labels("full", group).inc(2)
    metrics.hits.labels("full", 7).inc(1)
    found = Here(metrics.registry).figures()
    assert found.lag == pytest.approx(9, abs=1)
    assert found.hits == {"full": 0.25}
    assert not found.missing


def test_a_prometheus_is_asked_about_this_strata_only(server: Server, ask: Prometheus) -> None:
    wait_for(answered(ask), "an answer")
    found = ask.figures()
    assert (found.lag, found.hits, found.missing) == (1.5, {"full": 0.25}, "")
    assert found.over == "over the last hour"
    lag, hits = server.asked
    assert lag == 'max(strata_lag_seconds{role="updater", namespace="shop"})'
    assert hits.count('{namespace="shop"}') == 2


def test_nobody_waits_for_it_and_it_is_asked_once_at_a_time(server: Server, ask: Prometheus) -> None:
    server.let_go.clear()
    began = time.monotonic()
    assert {ask.figures().missing for _ in range(100)} == {"Prometheus is being asked."}
    assert time.monotonic() - began < 0.5
    wait_for(lambda: server.asked, "a question")
    assert len(server.asked) == 1
    server.let_go.set()
    wait_for(lambda: ask.figures().lag == 1.5, "the answer")


def test_many_pages_ask_as_rarely_as_one(server: Server, ask: Prometheus, clock: Clock) -> None:
    wait_for(answered(ask), "an answer")
    for _ in range(50):
        wait_for(answered(ask), "the end, if there was a question")
    assert len(server.asked) == 2
    clock.now += updaters._EVERY_S
    wait_for(answered(ask), "another one")
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"{}", b'{"data": {"result": [{}]}}', b"[" * 60_000,
               vector(({"x": "y" * 100_000}, "1"))],
    ids=["nothing", "a page", "no data", "no sample", "deep", "long"],
)  # fmt: skip
def test_what_is_no_answer_is_none_and_is_said(server: Server, ask: Prometheus, clock: Clock, answer: bytes) -> None:
    server.lag = answer
    wait_for(answered(ask), "the end")
    assert ask.figures().missing == "Prometheus does not answer (STRATA_FEED_PROMETHEUS)."
    server.lag = vector()
    clock.now += updaters._EVERY_S
    wait_for(answered(ask), "an answer without samples")
    assert ask.figures().missing.startswith("Prometheus knows no updater")


def test_an_answer_that_drips_is_left_in_time(server: Server, ask: Prometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updaters, "_PATIENCE_S", 0.2)
    server.let_go.clear()
    began = time.monotonic()
    wait_for(answered(ask), "the end")
    assert time.monotonic() - began < 2
    assert ask.figures().missing.startswith("Prometheus does not answer")


def test_old_figures_are_shown_for_a_while_and_then_no_more(server: Server, ask: Prometheus, clock: Clock) -> None:
    wait_for(answered(ask), "an answer")
    server.lag = b""
    clock.now += updaters._EVERY_S
    wait_for(answered(ask), "a failure")
    assert ask.figures().lag == 1.5
    clock.now += updaters._STALE_S
    assert (ask.figures().lag, ask.figures().missing) == (None, "Prometheus does not answer any more.")
