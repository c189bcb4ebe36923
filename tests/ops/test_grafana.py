"""The dashboards: up to date, provisioned, and every query one that Prometheus can answer from what Strata exports.

test_watched.py asks a real Prometheus.
"""

from __future__ import annotations

import json
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_server import OPS, dashboard_queries, exported

FOLDER = OPS / "grafana"
BOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
RECORDED = {
    rule["record"]
    for group in yaml.safe_load((OPS / "prometheus" / "recording.yaml").read_text())["groups"]
    for rule in group["rules"]
}


def selected(expression: Any) -> set[str]:
    """The metrics that a parsed query selects."""
    if isinstance(expression, promql_parser.VectorSelector):
        return {expression.name}
    inner = ("vector_selector", "vs", "expr", "lhs", "rhs", "args", "param")
    parts = [getattr(expression, name) for name in inner if getattr(expression, name, None) is not None]
    return set().union(*(selected(one) for part in parts for one in (part if isinstance(part, list) else [part])))


def test_there_are_two_and_they_are_up_to_date() -> None:
    from ops.dashboards import files

    assert sorted(files()) == BOARDS
    assert len(BOARDS) == 2
    for path, text in files().items():
        assert path.read_text() == text, f"{path.name}: run `python -m ops.dashboards`"


@pytest.mark.parametrize("title", dashboard_queries())
def test_a_query_parses_and_asks_for_what_strata_exports(title: str) -> None:
    for query in dashboard_queries()[title]:
        named = selected(promql_parser.parse(query.replace("$__rate_interval", "5m")))
        assert named
        assert named - exported() - RECORDED == set()


def test_the_check_sees_every_metric_of_a_query() -> None:
    query = "sum by (a) (rate(b_total[5m])) / (max(c{d='e'}) > 0) or topk(3, f offset 1h)"
    assert selected(promql_parser.parse(query)) == {"b_total", "c", "f"}


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: str(path.stem))
def test_every_panel_says_what_it_shows_and_lies_in_the_grid(path: Any) -> None:
    panels = [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]
    assert len(panels) >= 10
    for panel in panels:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def test_the_dashboards_are_provisioned_where_compose_puts_them() -> None:
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/strata.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
