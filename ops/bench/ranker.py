"""How good the ranker's guard is: ``python -m ops.bench.ranker``.

``python -m ops.bench.ranker DATA…`` takes these data sets, by name or folder, ``NAME:N`` the first N clicks of one.
With ``--only data`` the streams that change are left out, with ``--only changes`` the data sets: so that several
processes share the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from models.experts import CUTOFF, EXPERTS
from models.histories import BUCKETS
from models.ranker_learning import LearningConfig
from ops.bench.changes import DATA, changes_rows
from ops.bench.following import Followed, follow, named, of_data, told_as
from ops.bench.several import AGES, Several
from ops.prequential import BLOCK
from ops.quality.sources import Source, sources

WARM_UP: Final = 0.3

Part = Literal["data", "changes"]


def served_row(name: str, fresh: Followed) -> str:
    """One data set: who served against the best fixed expert, and against the best of all."""
    served, fixed, best = fresh.hits[:, -1], fresh.best_fixed(), fresh.best()
    gap, error = fresh.gap(served, fresh.hits[:, fixed])
    regret = fresh.difference(fresh.hits[:, best], served)
    return (
        f"| {name} | {len(served):,} | {served.mean():.4f} | {fresh.rate(0):.4f} | {EXPERTS[fixed]} "
        f"{fresh.rate(fixed):.4f} | {told_as(gap, error)} | {verdict(gap, error)} | {EXPERTS[best]} | {regret} "
        f"| {_by_bucket(fresh):.4f} |"
    )


def aged_row(name: str, weights: str, aged: Followed, fresh: Followed) -> str:
    """The same data set, served with weights that are late."""
    gap, error = fresh.gap(aged.hits[:, -1], fresh.hits[:, -1])
    return f"| {name} | {weights} | {aged.rate(-1):.4f} | {told_as(gap, error)} | {verdict(gap, error)} |"


def verdict(gap: float, error: float) -> str:
    """Whether a difference is not below 0 by more than its standard error."""
    return "yes" if gap >= -error else "**no**"


def _by_bucket(fresh: Followed) -> float:
    """HR@10 of the best expert of each bucket, in hindsight."""
    of = [fresh.hits[fresh.buckets == bucket, :-1].sum(axis=0).max(initial=0) for bucket in range(len(BUCKETS))]
    return float(np.sum(of) / len(fresh.hits))


def data_rows(chosen: Sequence[Source]) -> list[str]:
    """Both tables, a row or three for each data set."""
    served = [
        "| data set | clicks asked for | served | learned alone | best fixed expert | served − it | ≥ 0, within an "
        "error | best expert | regret | best of each bucket |",
        "|---|--:|--:|--:|---|--:|---|---|--:|--:|",
    ]
    aged = [
        "| data set | weights | served | − fresh ones | within one standard error or better |",
        "|---|---|--:|--:|---|",
    ]
    for source in chosen:
        fresh = follow(source, start=WARM_UP, label="fresh")
        served.append(served_row(source.name, fresh))
        for age in AGES:
            late = follow(source, start=WARM_UP, weights_age=age, label=f"{age * BLOCK:,} old")
            aged.append(aged_row(source.name, f"{age * BLOCK:,} clicks old", late, fresh))
        both = follow(source, start=WARM_UP, make=Several, label="two updaters")
        told = " and ".join(f"{age * BLOCK:,}" for age in AGES)
        aged.append(aged_row(source.name, f"of two updaters, {told} clicks old", both, fresh))
    return [
        *served,
        "",
        "Weights that are late. Of two updaters each serves and teaches its share of the users, with weights of its "
        "own age.",
        "",
        *aged,
        "",
    ]


def guard_section(names: Sequence[str] | None = None, only: Part | None = None) -> str:
    """Regret on each data set, with weights that are late, and where the stream changes."""
    chosen = [named(name) for name in names] if names else sources()
    lines = [
        "## The ranker's guard",
        "",
        "`python -m ops.bench.ranker`",
        "",
        f"HR@{CUTOFF} by the scores alone (no diversity), prequential, items new to their user; the ranker learns from "
        f"all of the first {LearningConfig.young:,} clicks, then from a quarter; ± is the standard error of a paired "
        "difference, by user. A fixed expert is any but the learned ranker; best is in hindsight.",
        "",
    ]
    if only != "changes":
        lines += [f"After the first {WARM_UP:.0%} of each data set:", ""]
        lines += [f"- {source.name}: {source.note}" for source in chosen]
        lines += ["", *data_rows(chosen)]
    if only != "data":
        lines += changes_rows(DATA)
    return "\n".join(lines).rstrip()


def main() -> None:
    """Print the section."""
    parser = of_data(__doc__)
    parser.add_argument("--only", choices=("data", "changes"), help="the data sets alone, or the streams that change")
    arguments = parser.parse_args()
    print(guard_section(arguments.data, arguments.only))


if __name__ == "__main__":
    main()
