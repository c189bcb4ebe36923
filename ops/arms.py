"""What the arms have hit, read from the metrics of running workers."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.error import URLError

from prometheus_client.parser import text_string_to_metric_families
from rich import box
from rich.table import Table

from models.arms import FULL, uplift
from models.errors import StrataError

_COUNTED: Final = {
    "strata_hits_total": "hits",
    "strata_hit_attempts_total": "attempts",
    "strata_hit_reciprocal_ranks_total": "ranks",
    "strata_impressions_total": "shown",
    "strata_impression_clicks_total": "clicked",
}


class NoMetrics(StrataError):
    """A worker's metrics cannot be read. The message says at which address, and why."""


def counts(urls: Iterable[str], timeout_s: float = 5.0) -> dict[str, dict[str, float]]:
    """Arm → hits, attempts, reciprocal ranks, impressions and clicks on them, the sum over workers since they started.

    Raises
    ------
    NoMetrics
    """
    found: dict[str, dict[str, float]] = {}
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
                found.setdefault(sample.labels["arm"], _nothing())[kind] += sample.value
    return found


def table(found: Mapping[str, Mapping[str, float]]) -> Table:
    """Each arm's hit rate, and what the full method adds to each hold-out."""
    shown = Table(box=box.SIMPLE, title="arms", title_justify="left")
    for heading in ("arm", "clicks", "hits", "hit rate", "full over it", "95 % interval", "MRR", "click-through"):
        shown.add_column(heading, justify="left" if heading == "arm" else "right")
    full = found.get(FULL, _nothing())
    for arm in sorted(found, key=lambda arm: (arm != FULL, arm)):
        own = found[arm]
        cells = ("", "")
        if arm != FULL:
            gain = uplift(int(full["hits"]), int(full["attempts"]), int(own["hits"]), int(own["attempts"]))
            cells = ("–", "no hits yet") if gain is None else (
                f"{gain.ratio:.2f} ×", f"{gain.low:.2f} – {gain.high:.2f}"
            )  # fmt: skip
        shown.add_row(
            arm, f"{own['attempts']:,.0f}", f"{own['hits']:,.0f}", _share(own["hits"], own["attempts"]), *cells,
            f"{own['ranks'] / own['attempts']:.4f}" if own["attempts"] else "–", _share(own["clicked"], own["shown"]),
        )  # fmt: skip
    shown.caption = "Since the workers started. Clicks are taken as independent; the true interval is somewhat wider."
    return shown


def _nothing() -> dict[str, float]:
    return dict.fromkeys(_COUNTED.values(), 0.0)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.2%}" if whole else "–"
