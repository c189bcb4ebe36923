"""What an arm has counted, the sum over the groups of its users."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from prometheus_client import start_http_server

from consumers.metrics import Metrics


def counted(metrics: Metrics, name: str, arm: str = "full") -> float:
    found = [
        sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == f"strata_{name}_total" and sample.labels["arm"] == arm
    ]
    assert found, f"{name} is not there from the start"
    return sum(found)


@contextlib.contextmanager
def exposed(workers: Sequence[Metrics]) -> Iterator[list[str]]:
    """Where the metrics of each are."""
    with contextlib.ExitStack() as stack:
        urls = []
        for metrics in workers:
            server, thread = start_http_server(0, "127.0.0.1", metrics.registry)
            for end in (thread.join, server.server_close, server.shutdown):
                stack.callback(end)
            urls.append(f"http://127.0.0.1:{server.server_port}/metrics")
        yield urls
