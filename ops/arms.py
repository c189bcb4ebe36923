"""What the arms have hit, read from the metrics of running workers."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.error import URLError

import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from rich import box
from rich.table import Table

from models.arms import FULL, GROUPS
from models.errors import StrataError
from models.uplift import FEWEST, uplift

_COUNTED: Final = {
    "strata_hits_total": "hits",
    "strata_hit_attempts_total": "attempts",
    "strata_hit_reciprocal_ranks_total": "ranks",
    "strata_impressions_total": "shown",
    "strata_impression_clicks_total": "clicked",
}
_RATES: Final = (("hit rate", "hits", "attempts"), ("click-through", "clicked", "shown"))

Counts = dict[str, NDArray[np.float64]]
"""Hits, attempts, reciprocal ranks, impressions and clicks on them, each by group of users (ranks all in the first)."""


class NoMetrics(StrataError):
    """A worker's metrics cannot be read. The message says at which address, and why."""


def counts(urls: Iterable[str], timeout_s: float = 5.0) -> dict[str, Counts]:
    """By arm what workers have counted since they started, the sum over them.

    Raises
    ------
    NoMetrics
    """
    found: dict[str, Counts] = {}
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise NoMetrics(f"{url} is no http address; name a worker's, such as http://127.0.0.1:9464/metrics")
        try:
            with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 (http alone, see above)
                text = answer.read().decode()
            samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        except (URLError, OSError, ValueError) as error:
            raise NoMetrics(f"no metrics at {url}: {error}; does a worker run there (STRATA_HTTP_PORT)?") from None
        for sample in samples:
            if (kind := _COUNTED.get(sample.name)) is not None:
                own = found.setdefault(sample.labels["arm"], _nothing())
                own[kind][int(sample.labels.get("group", 0))] += sample.value
    return found


def table(found: Mapping[str, Counts]) -> Table:
    """Each arm's hit rate and click-through, and what the full method adds to each hold-out."""
    shown = Table(box=box.SIMPLE, title="arms", title_justify="left")
    for heading in ("arm", "measure", "counted", "value", "full over it", "95 % interval"):
        shown.add_column(heading, justify="left" if heading in ("arm", "measure") else "right", overflow="fold")
    full = found.get(FULL, _nothing())
    for arm in sorted(found, key=lambda arm: (arm != FULL, arm)):
        own, name = found[arm], arm
        for measure, part, whole in _RATES:
            of = own[whole].sum()
            if not of and part == "clicked":
                continue  # pages do not tell what they show
            added = ("", "") if arm == FULL else _added(full[part], full[whole], own[part], own[whole])
            share = f"{own[part].sum() / of:.2%}" if of else "–"
            shown.add_row(name, measure, f"{own[part].sum():,.0f} of {of:,.0f}", share, *added)
            name = ""
        tries = own["attempts"].sum()
        shown.add_row("", "MRR", "", f"{own['ranks'].sum() / tries:.4f}" if tries else "–", "", "")
    shown.caption = (
        f"Since each worker started. How far chance goes is told by how much {GROUPS} groups of users differ;"
        f" nothing is said of it before {FEWEST} of them have hit in both arms."
    )
    return shown


def _added(*counted: NDArray[np.float64]) -> tuple[str, str]:
    gain = uplift(*counted)
    if gain is None:
        return "–", "no hits yet"
    if gain.interval is None:
        return f"{gain.ratio:.2f} ×", "too few users yet"
    return f"{gain.ratio:.2f} ×", f"{gain.interval.low:.2f} – {gain.interval.high:.2f}"


def _nothing() -> Counts:
    return {kind: np.zeros(GROUPS) for kind in _COUNTED.values()}
