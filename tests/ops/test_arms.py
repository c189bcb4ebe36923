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
            metrics.reciprocal_ranks.labels(arm).inc(own / 2)
        metrics.impressions.labels("full").inc(4_000)
        metrics.impression_clicks.labels("full").inc(30)
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
    assert found["full"] == {"hits": 400, "attempts": 2_000, "ranks": 200, "shown": 8_000, "clicked": 60}
    assert found["popularity.3000"] == {"hits": 100, "attempts": 2_000, "ranks": 50, "shown": 0, "clicked": 0}
    out = io.StringIO()
    Console(file=out, width=120).print(table(found))
    full, held_out = (line.split() for line in out.getvalue().splitlines() if "2,000" in line)
    assert full == ["full", "2,000", "400", "20.00%", "0.1000", "0.75%"]
    assert held_out[:6] == ["popularity.3000", "2,000", "100", "5.00%", "4.00", "×"]
    assert held_out[-2:] == ["0.0250", "–"]


def test_a_worker_that_is_not_there_is_told_with_its_address() -> None:
    with pytest.raises(NoMetrics, match=r"no metrics at http://127\.0\.0\.1:9/metrics"):
        counts(["http://127.0.0.1:9/metrics"])
    with pytest.raises(NoMetrics, match="is no http address"):
        counts(["file:///etc/passwd"])
