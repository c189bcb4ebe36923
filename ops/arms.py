"""What the arms have hit, read from the metrics of running workers."""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Iterable
from typing import Final
from urllib.error import URLError

from prometheus_client.parser import text_string_to_metric_families
from rich import box
from rich.table import Table

from models.arms import FULL, uplift
from models.errors import StrataError

_HITS: Final = {"strata_hits_total": "hits", "strata_hit_attempts_total": "attempts"}


class NoMetrics(StrataError):
    """A worker's metrics cannot be read. The message says at which address, and why."""


def counts(urls: Iterable[str], timeout_s: float = 5.0) -> dict[str, Counter[str]]:
    """Arm → hits and attempts, the sum over workers since they started.

    Raises
    ------
    NoMetrics
    """
    found: dict[str, Counter[str]] = {}
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
            if (kind := _HITS.get(sample.name)) is not None:
                found.setdefault(sample.labels["arm"], Counter())[kind] += int(sample.value)
    return found


def table(found: dict[str, Counter[str]]) -> Table:
    """Each arm's hit rate, and what the full method adds to each hold-out."""
    shown = Table(box=box.SIMPLE, title="arms", title_justify="left")
    for heading in ("arm", "clicks", "hits", "hit rate", "full over it", "95 % interval"):
        shown.add_column(heading, justify="left" if heading == "arm" else "right")
    full = found.get(FULL, Counter())
    for arm in sorted(found, key=lambda arm: (arm != FULL, arm)):
        own = found[arm]
        rate = f"{own['hits'] / own['attempts']:.2%}" if own["attempts"] else "–"
        cells = ("", "")
        if arm != FULL:
            gain = uplift(full["hits"], full["attempts"], own["hits"], own["attempts"])
            cells = ("–", "no hits yet") if gain is None else (
                f"{gain.ratio:.2f} ×", f"{gain.low:.2f} – {gain.high:.2f}"
            )  # fmt: skip
        shown.add_row(arm, f"{own['attempts']:,}", f"{own['hits']:,}", rate, *cells)
    shown.caption = "Since the workers started. Clicks are taken as independent; the true interval is somewhat wider."
    return shown
