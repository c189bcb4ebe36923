"""strata arms: what running workers count, as a table."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from arm_counts import exposed
from prometheus_client import CollectorRegistry
from rich.console import Console

from consumers.metrics import Metrics
from models.arms import GROUPS
from ops.arms import NoMetrics, counts, table

HELD_OUT = "popularity.3000"


def worker(hits: Callable[[int], float], clicks: Callable[[int], float]) -> Metrics:
    """Counts 100 clicks of each group, so many of them hits, a quarter as many in the hold-out, and shows."""
    metrics = Metrics(CollectorRegistry())
    for arm, of in (("full", 1), (HELD_OUT, 4)):
        for group in range(GROUPS):
            metrics.hit_attempts.labels(arm, group).inc(100)
            metrics.hits.labels(arm, group).inc(hits(group) / of)
            metrics.impressions.labels(arm, group).inc(200)
            metrics.impression_clicks.labels(arm, group).inc(clicks(group) / of)
        metrics.reciprocal_ranks.labels(arm).inc(sum(map(hits, range(GROUPS))) / of / 2)
    return metrics


def printed(*workers: Metrics) -> list[list[str]]:
    """The lines of the table in words."""
    with exposed(workers) as urls:
        found = counts(urls)
    out = io.StringIO()
    Console(file=out, width=120).print(table(found))
    return [line.split() for line in out.getvalue().splitlines()]


def test_the_arms_of_all_workers_are_added_up_and_compared() -> None:
    told = printed(
        worker(lambda group: 20 + 4 * (group % 2), lambda _: 4), worker(lambda group: 16 + 4 * (group % 2), lambda _: 0)
    )
    assert ["full", "hit", "rate", "800", "of", "4,000", "20.00%"] in told
    assert ["click-through", "80", "of", "8,000", "1.00%"] in told
    assert ["MRR", "0.1000"] in told
    assert ["MRR", "0.0250"] in told
    (hit,) = (line for line in told if line[:1] == [HELD_OUT])
    assert hit[1:9] == ["hit", "rate", "200", "of", "4,000", "5.00%", "4.00", "×"]
    low, dash, high = hit[9:]
    assert (dash, float(low) < 4 < float(high)) == ("–", True)
    (clicked,) = (line for line in told if line[:2] == ["click-through", "20"])
    assert clicked[1:] == ["20", "of", "8,000", "0.25%", "4.00", "×", "4.00", "–", "4.00"], "all groups alike"


def test_where_few_groups_have_hit_no_interval_is_printed_and_without_impressions_no_click_through() -> None:
    few = worker(lambda group: 40 if group < 9 else 0, lambda _: 0)
    (hit,) = (line for line in printed(few) if line[:1] == [HELD_OUT])
    assert hit[1:] == ["hit", "rate", "90", "of", "2,000", "4.50%", "4.00", "×", "too", "few", "users", "yet"]
    (clicked,) = (line for line in printed(few) if line[:1] == ["click-through"] and line[-1] == "yet")
    assert clicked[1:] == ["0", "of", "4,000", "0.00%", "–", "no", "hits", "yet"]
    silent = Metrics(CollectorRegistry())
    silent.hit_attempts.labels("full", 3).inc(7)
    assert not any("click-through" in line for line in printed(silent))


def test_a_worker_that_is_not_there_is_told_with_its_address() -> None:
    with pytest.raises(NoMetrics, match=r"no metrics at http://127\.0\.0\.1:9/metrics"):
        counts(["http://127.0.0.1:9/metrics"])
    with pytest.raises(NoMetrics, match="is no http address"):
        counts(["file:///etc/passwd"])
