"""The evaluation as ``QUALITY.md``, pictures and a machine-readable result."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.bench.machine import cpu, versions
from ops.quality import plots, tables
from ops.quality.drift import AT, FRESH, ITEMS, NONE, SHIFTS, Adaptation
from ops.quality.gate import ENOUGH, asked, beyond_chance, second_runs, verdicts
from ops.quality.methods import STRATA, TRIALS
from ops.quality.study import Study
from ops.quality.targets import missed, targets

REPORT = "QUALITY.md"
RESULT = "quality.json"
PICTURES = ("quality-hit-rates.svg", "quality-staleness.svg", "quality-adaptation.svg")

_HEAD = """# Quality, measured beside peers

Written by `make bench-quality` (`python -m ops.bench.quality`); nothing here was typed by hand.

- {when} UTC, at commit {commit}
- {machine}
- {packages}

Prequential: every click is asked for, then learned. The first 30 % of a stream tune (its first tenth is only learned;
every second click after that is asked for), the rest is reported. Items new to their user; clicks of one moment in an
order by seed 7. All methods have the same live histories and see the same clicks in the same order, and each had
{trials} settings tried, or all that it has, chosen by HR@10 on the tuning slice. ± is the standard error, by user;
"Strata − it" is a paired difference. New items were clicked at most 4 times before by anybody, new users clicked at
most 3 times. Who a peer does not know is served decayed popularity. Strata's users have the decayed means of their
items' vectors (in fp32; no BERT on the user's side: on a CPU that alone takes hours); µs are CPU time on one thread.
"Hourly": Strata's own lists, each user's as it was at his first click within the hour of the data's time.

What Strata had before its first click: {fitted}
"""

FITTED = (
    "the default weights (`models.ranker.DEFAULT_WEIGHTS`), fitted by `ops.tune` on the first fifth of MovieLens-100k, "
    "of a stream of its mostly new users, and of the first 100,000 clicks of Online Retail; those of a user's own "
    "items, which matter where items may come again, on the first fifth of Online Retail's and of the grocery panel's. "
    "All lie within the 30 % that tune. Which features there are, the candidates' quotas and the constants of breaks "
    "were chosen in the course of development on whole streams. The margins over peers, whose settings were chosen on "
    "the tuning slice alone, may be a little flattered by that."
)
"""Which clicks have had a say in what is measured; the docstring of the weights names the same."""

_PROMISED = (
    "Ties are shuffled and repeats left out, as everywhere here, except where a row says otherwise. *Ties kept*: "
    "clicks of one user at one moment (a basket) are all asked for before any of them is known. *Repeats allowed*: "
    "what a user has clicked may be offered again, and is asked for; *own items* are the user's by how often he has "
    "clicked them, then popular ones. *The rest*: without new items and new users. "
    "Below 1, the best peer there is ahead of Strata."
)

_GATE = (
    "What Strata gains by each component: HR@10 with it − without it, paired. *On*: nowhere is a scorer alone better "
    "than Strata by more than a standard error, and somewhere a slice gains more than the best of so many would by "
    "chance in one report of twenty ({errors:.2f} errors for {slices}), or coverage a hundredth. Where nothing gains "
    "twice as much as that, what gains more than chance is asked for a second time, in another order of clicks of one "
    "moment, and has to gain as much there (*again*): learners do not run the same way twice. *own*, what the user has "
    "clicked himself, is judged where items may come again, since elsewhere it is silent. A verdict is final when "
    "every data set is finished; `quality.json` says whether that is so."
)

_NEW_USERS = (
    "HR@10 by the number of clicks that the user had made before. At 0 nobody knows anything of him: a list can only "
    "say what is popular now. The best peer is the best of that row."
)

_LENGTHS = (
    "The same by the number of clicks that the user had made before, in the buckets that have weights of their own: "
    "there each component is weighed. A dash: fewer than {enough} clicks asked for. Of the many figures here a few are "
    "two errors from nothing by chance; no verdict depends on them."
)


def write(studies: Sequence[Study], folder: Path, commit: str) -> None:
    """Write report, result and pictures into a folder; what is not finished is named so.

    Parameters
    ----------
    commit
        Of the code that made it.
    """
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    packages = versions("torch", "river", "implicit", "faiss-cpu", "numpy", "scipy")
    machine = f"{cpu()}; {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    lines = [_HEAD.format(when=when, commit=commit, machine=machine, packages=packages, trials=TRIALS, fitted=FITTED)]
    promised = [target for study in studies for target in targets(study)]
    lines += ["## Promised", "", _PROMISED, *(["", missed(promised)] if promised else ()), ""]
    lines += [
        *tables.table(("data", "what", "is", "target", "reached"), ()),
        *(t.line for t in promised),
    ]
    shown = {study.source.name: dict(study.outcomes(tables.ROWS)) for study in studies}
    if any(shown.values()):
        plots.hit_rates({name: made for name, made in shown.items() if made}, folder / PICTURES[0])
        lines += ["", f"![HR@10 of every method]({PICTURES[0]})"]
    for study in studies:
        lines += ["", f"## {study.source.name}", "", f"Taken: {study.source.note}.", "", *tables.main(study)]
        if not study.source.new:
            lines += ["", *tables.variants(study), "", *tables.places(study)]
        lines += ["", *tables.tuned(study)]
    ours = {study.source.name: made for study in studies if (made := study.outcome(STRATA)) is not None}
    lines += ["", "## How fresh a list has to be", "", *tables.stale(studies)]
    if ours:
        plots.staleness(ours, folder / PICTURES[1])
        lines += ["", f"![HR@10 by the age of the list]({PICTURES[1]})"]
    lines += ["", "## New users", "", _NEW_USERS, "", *tables.new_users(studies)]
    found = verdicts(studies)
    slices = max((verdict.slices for verdict in found), default=1)
    lines += ["", "## The gate", "", _GATE.format(errors=beyond_chance(slices), slices=slices)]
    lines += ["", *tables.gate(found)]
    lines += ["", _LENGTHS.format(enough=ENOUGH), "", *tables.lengths(found)]
    lines += _adaptation(studies, folder)
    (folder / REPORT).write_text("\n".join(lines) + "\n")
    result: dict[str, Any] = {
        "when": when,
        "commit": commit,
        "complete": bool(found)
        and all(len(v.evidence) == len(asked(v.component, studies)) for v in found)
        and all(cell.path.is_file() for cell in second_runs(studies)),
        "gate": {verdict.component: verdict.as_json() for verdict in found},
        "targets": [{"data": t.data, "what": t.what, "value": t.value, "least": t.least} for t in promised],
        "methods": {data: {name: _numbers(made) for name, made in each.items()} for data, each in shown.items()},
    }
    (folder / RESULT).write_text(json.dumps(result, indent=1) + "\n")


def _numbers(made: Any) -> dict[str, float]:
    return {
        "hr": round(made.rate(), 5),
        "error": round(made.error(), 5),
        "ndcg": round(made.ndcg(), 5),
        "mrr": round(made.reciprocal_rank(), 5),
        "coverage": round(made.coverage(), 4),
        "gini": round(made.gini(), 4),
        "us": round(made.microseconds(), 1),
    }


def _adaptation(studies: Sequence[Study], folder: Path) -> list[str]:
    lines = [
        "",
        "## Adaptation",
        "",
        "At the half of the stream the world changes, and no model is told or reset. *items*: every item changes "
        "places with one about as popular. *users*: from then on nobody stays for more than two clicks. *users back*: "
        "until then nobody did. Target: within 5,000 clicks the hit rate is back at 95 % of its new level. "
        f"*{FRESH}*: the clicks after the first shift by themselves, asked of who has nothing to unlearn, nor knows "
        f"anything. *{NONE}*: the stream as it is around its half, to tell its own swings from those of a shift.",
    ]
    drawn: dict[str, dict[str, Adaptation]] = {}
    for study in studies:
        shifts: dict[str, dict[str, Adaptation]] = {}
        for (shift, name), cell in (study.drift() | study.unshifted()).items():
            made, at = cell.outcome(), AT if shift == NONE else SHIFTS[shift].at
            if made is not None and (found := Adaptation.of(made, at * len(cell.stream))) is not None:
                shifts.setdefault(shift, {})[name] = found
        if shifts:
            lines += ["", *tables.adaptation(study.source.name, shifts)]
            fresh = shifts.pop(FRESH, {})
            shifts.pop(NONE, None)  # is in the table alone
            if STRATA in fresh and ITEMS in shifts:  # a line beside the others, not a panel
                shifts[ITEMS][f"{STRATA}, from nothing"] = fresh[STRATA]
            drawn |= {f"{study.source.name}, {shift}": each for shift, each in shifts.items()}
    if drawn:
        plots.adaptation(drawn, folder / PICTURES[2])
        lines += ["", f"![HR@10 around a shift]({PICTURES[2]})"]
    return lines
