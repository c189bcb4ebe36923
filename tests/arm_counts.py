"""What an arm has counted, the sum over the groups of its users."""

from __future__ import annotations

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
