"""Metrics and health over HTTP."""

from __future__ import annotations

import http.client
import logging
import socket
from collections.abc import Iterator

import pytest

from consumers.metrics import Metrics
from models.errors import ConfigurationError
from ops.probes import Probes


class Served:
    def __init__(self, metrics: Metrics) -> None:
        self.wrong: dict[str, str | None] = {"live": None, "ready": None}
        self.probes = Probes(
            metrics.registry,
            live=[lambda: self.wrong["live"]],
            ready=[lambda: self.wrong["ready"]],
            on_ready=lambda ready: metrics.ready.set(ready),
        )
        self.probes.start()

    def get(self, path: str, accept: str = "", method: str = "GET") -> tuple[int, str, str]:
        connection = http.client.HTTPConnection(self.probes.url.removeprefix("http://"), timeout=5)
        connection.request(method, path, headers={"Accept": accept})
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, answer.headers["Content-Type"], body


@pytest.fixture
def served(metrics: Metrics) -> Iterator[Served]:
    served = Served(metrics)
    yield served
    served.probes.close()


def test_it_listens_on_loopback_unless_told_otherwise(served: Served) -> None:
    assert served.probes.url.startswith("http://127.0.0.1:")


def test_health_follows_the_checks(served: Served) -> None:
    assert served.get("/livez")[0] == served.get("/readyz")[0] == 200
    served.wrong["ready"] = "updater: no partitions assigned yet"
    assert served.get("/livez")[0] == 200
    assert served.get("/readyz")[::2] == (503, "updater: no partitions assigned yet\n")
    served.wrong["live"] = "updater: no step for 61 s"
    assert served.get("/livez")[::2] == (503, "updater: no step for 61 s\n")
    assert "no step" in served.get("/readyz")[2]


def test_metrics_come_in_both_formats_and_know_the_readiness(served: Served) -> None:
    status, kind, body = served.get("/metrics")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert "strata_ready 1.0" in body
    served.wrong["ready"] = "restoring"
    _, kind, body = served.get("/metrics", "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert "strata_ready 0.0" in body
    assert body.endswith("# EOF\n")


def test_other_paths_say_what_there_is(served: Served) -> None:
    assert served.get("/")[0] == 404
    assert "/readyz" in served.get("/x")[2]


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz"])
def test_nothing_can_be_changed_over_http(path: str, served: Served) -> None:
    assert served.get(path, method="HEAD")[::2] == (200, "")
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert served.get(path, method=method)[::2] == (405, "nothing can be changed here: GET and HEAD\n"), method
    for method in ("TRACE", "CONNECT", "PROPFIND", "GETS"):
        assert served.get(path, method=method)[0] == 501, method


def test_a_path_writes_no_commands_of_a_terminal_into_the_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        socket.create_connection(("127.0.0.1", int(served.probes.url.rpartition(":")[2]))) as client,
    ):
        client.sendall(b"GET /\x1b[2J\x07 HTTP/1.0\r\n\r\n")
        while client.recv(4096):
            pass
    assert "[2J" in caplog.text
    assert not set("\x1b\x07").intersection(caplog.text)


def test_a_check_that_fails_is_a_failed_probe(served: Served) -> None:
    served.wrong.pop("live")
    assert served.get("/livez")[0] == 500


def test_a_port_in_use_is_told_with_the_setting(served: Served, metrics: Metrics) -> None:
    port = int(served.probes.url.rpartition(":")[2])
    with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}.*is in use.*STRATA_HTTP_PORT"):
        Probes(metrics.registry, port=port)


def test_an_address_that_is_not_ours_is_told(metrics: Metrics) -> None:
    with pytest.raises(ConfigurationError, match="cannot be listened on"):
        Probes(metrics.registry, host="192.0.2.1")
