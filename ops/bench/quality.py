"""``make bench-quality``: Strata beside its peers, into ``ops/bench/QUALITY.md``.

Cells (a method with its settings on a data set) that are finished are kept in ``.cache/quality`` until their code or
data change: a run that is stopped goes on where it was, and a second one only writes the report.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

from ops.bench.machine import commit
from ops.quality import cells, report
from ops.quality.cells import Cell
from ops.quality.gate import second_runs
from ops.quality.sources import source, sources
from ops.quality.study import Study

FOLDER: Final = Path(__file__).parent

SLOW: Final = ("SASRec",)
"""Later, so that nothing waits for them."""


def steps(studies: Sequence[Study]) -> Iterator[tuple[str, list[Cell]]]:
    """What is to be computed, one step after another: a step's cells are known when those before it are done."""
    for slow in (False, True):
        for study in studies:
            yield "tuning", [cell for cell in study.tuning() if (cell.method in SLOW) == slow]
            yield "reporting", [cell for cell in study.reporting() if (cell.method in SLOW) == slow]
        for study in studies if not slow else ():
            yield "adaptation", list(study.drift().values())
    for study in studies:
        yield "variants", study.variants()
    yield "a second time", second_runs(studies)


def main(given: Sequence[str] | None = None) -> None:
    """Compute what is missing, as far as time goes, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", help="data sets by name or folder; default: all that there are here")
    parser.add_argument("--jobs", type=int, default=2, help="processes, each of one thread (default 2)")
    parser.add_argument("--minutes", type=float, default=60, help="begin nothing after so long (default 60)")
    parser.add_argument(
        "--only", action="append", metavar="METHOD", help="compute these methods alone; may be repeated"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the report is written")
    wanted = parser.parse_args(given)
    wanted.folder.mkdir(parents=True, exist_ok=True)  # not found out only when everything is computed
    written = (f"ops/bench/{name}" for name in (report.REPORT, report.RESULT, *report.PICTURES))
    made_by = commit(besides=list(written))  # now: what is imported stays, whatever is committed while this runs
    studies = [Study(each) for each in (map(source, wanted.data) if wanted.data else sources())]
    until = monotonic() + 60 * wanted.minutes
    for phase, every in steps(studies):
        todo = [cell for cell in every if not wanted.only or cell.method in wanted.only]
        for cell, seconds in cells.compute(todo, wanted.jobs, until):
            settings = ", ".join(f"{name} {value}" for name, value in cell.params)
            shift = cell.source.shift and f" ({cell.source.shift})"
            print(f"{phase}: {cell.source.name}{shift}, {cell.method} {settings}: {seconds:.0f} s", flush=True)
    report.write(studies, wanted.folder, made_by)
    print(f"written to {wanted.folder / report.REPORT}")


if __name__ == "__main__":
    main()
