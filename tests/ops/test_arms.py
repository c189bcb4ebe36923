"""strata arms: what running workers count, as a table."""

from __future__ import annotations

import io

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from rich.console import Console

from consumers.metrics import Metrics
from ops.arms import NoMetrics, counts, table


def test_the_arms_of_all_workers_are_added_up_and_compared() -> None:
    urls, servers = [], []
    for hits in (300, 100):
        metrics = Metrics(CollectorRegistry())
        for arm, own in (("full", hits), ("popularity.3000", hits // 4)):
            metrics.hit_attempts.labels(arm).inc(1_000)
            metrics.hits.labels(arm).inc(own)
        server, thread = start_http_server(0, "127.0.0.1", metrics.registry)
        servers.append((server, thread))
        urls.append(f"http://127.0.0.1:{server.server_port}/metrics")
    try:
        found = counts(urls)
    finally:
        for server, thread in servers:
            server.shutdown()
            server.server_close()
            thread.join()
    assert found["full"] == {"hits": 400, "attempts": 2_000}
    assert found["popularity.3000"] == {"hits": 100, "attempts": 2_000}
    out = io.StringIO()
    Console(file=out, width=120).print(table(found))
    assert "4.00 ×" in out.getvalue()
    assert "20.00%" in out.getvalue()


def test_a_worker_that_is_not_there_is_told_with_its_address() -> None:
    with pytest.raises(NoMetrics, match=r"no metrics at http://127\.0\.0\.1:9/metrics"):
        counts(["http://127.0.0.1:9/metrics"])
    with pytest.raises(NoMetrics, match="is no http address"):
        counts(["file:///etc/passwd"])
