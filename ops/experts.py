"""Who ranks for whom, and why, for the terminal: ``strata experts``."""

from __future__ import annotations

from typing import Final

import numpy as np
from rich.table import Table

from models.ranker_records import RankerWeights
from ops.reading import moment

_RIVALS: Final = 3


def table(record: RankerWeights) -> Table:
    """For each length of history the expert that serves, its recent hit rate, and those that come next."""
    clicks = np.frombuffer(record.clicks, "<f8")
    hits = np.frombuffer(record.hits, "<f8").reshape(len(record.buckets), len(record.experts))
    made = Table(title=f"experts, after {record.version:,} clicks looked at", title_justify="left")
    told = []
    if record.breaks:
        told.append(f"The stream last broke about {moment(record.breaks[-1])}: what came before counts little.")
    if record.young > record.version:
        told.append(f"Every click is looked at until {record.young:,}.")
    made.caption, made.caption_justify = "\n".join(told) or None, "left"
    for name in ("clicks of the user", "serves", "hits in its top 10", "next best", "looked at lately"):
        made.add_column(name, justify="left" if name in ("serves", "next best") else "right")
    for bucket, serving in enumerate(record.serving):
        seen = float(clicks[bucket])
        rates = hits[bucket] / max(seen, 1e-9)
        rivals = [i for i in np.argsort(-rates, kind="stable").tolist() if i != serving][:_RIVALS]
        made.add_row(
            span(record.buckets, bucket),
            record.experts[serving],
            f"{rates[serving]:.1%}" if seen else "–",
            ", ".join(f"{record.experts[i]} {rates[i]:.1%}" for i in rivals) if seen else "no clicks yet",
            f"{seen:,.0f}",
        )
    return made


def span(buckets: tuple[int, ...], bucket: int) -> str:
    """``2–3``: the lengths of history of a bucket."""
    start = buckets[bucket]
    if bucket + 1 == len(buckets):
        return f"{start}+"
    end = buckets[bucket + 1] - 1
    return f"{start}" if start == end else f"{start}–{end}"
