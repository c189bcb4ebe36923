"""A chart as we describe it, and as Grafana's typed schema wants it (generation only: ``grafana-foundation-sdk``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Chart:
    """Curves over time, or with ``now`` the last value of each as a number."""

    title: str
    text: str
    """What one sees in it, in a sentence."""
    curves: Mapping[str, str]
    """Legend → PromQL; ``{{label}}`` in a legend stands for the label's value."""
    unit: str = "short"
    """Grafana's name of it: ``s``, ``percentunit``, ``reqps``, ``short`` …"""
    width: int = 8
    """Of 24."""
    now: bool = False
    most: float | None = None
    """Top of the scale, where it is known."""


def board(uid: str, title: str, rows: Mapping[str, Sequence[Chart]]) -> str:
    """A dashboard as the JSON that Grafana is provisioned with."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .tags(["strata"])
        .editable()
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for name, charts in rows.items():
        made = made.with_row(dashboard.Row(name))
        for chart in charts:
            made = made.with_panel(_number(chart) if chart.now else _curves(chart))
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def _curves(chart: Chart) -> timeseries.Panel:
    panel = timeseries.Panel().height(7).fill_opacity(8).legend(common.VizLegendOptions().show_legend(True)).min(0)
    panel = panel.title(chart.title).description(chart.text).unit(chart.unit).datasource(_SOURCE).span(chart.width)
    if chart.most is not None:
        panel = panel.max(chart.most)
    for query in _queries(chart):
        panel = panel.with_target(query)
    return panel


def _number(chart: Chart) -> stat.Panel:
    panel = stat.Panel().height(4)
    panel = panel.title(chart.title).description(chart.text).unit(chart.unit).datasource(_SOURCE).span(chart.width)
    for query in _queries(chart):
        panel = panel.with_target(query)
    return panel


def _queries(chart: Chart) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + i)).datasource(_SOURCE)
        for i, (legend, query) in enumerate(chart.curves.items())
    ]
