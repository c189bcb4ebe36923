"""What it is worth to forget when the stream breaks, and what a false alarm costs: ``python -m ops.bench.breaks``.

``python -m ops.bench.breaks DATA…`` takes these data sets, ``NAME:N`` the first N clicks of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from models.breaks import KEPT
from models.events import Click
from models.experts import CUTOFF
from ops.bench.following import Followed, follow, named, of_data
from ops.bench.updater import SHARED
from ops.prequential import System
from ops.quality.drift import items_exchanged
from ops.quality.stream import Stream

AFTER: Final = 15_000
"""Clicks that are asked for after the half of a stream."""

_SOON: Final = 5_000


class Keeping(System):
    """Remembers all that it has counted, as if the stream had never broken."""

    def forget(self, breaks: Sequence[int]) -> None:
        """Does not."""


def exchanged(clicks: list[Click]) -> list[Click]:
    """From the half of a stream on every item has changed places: see :func:`~ops.quality.drift.items_exchanged`."""
    by_time = sorted(clicks, key=lambda click: click.ts)
    ids = sorted({click.item_id for click in by_time})
    rows = items_exchanged(Stream.of("", ids, by_time)).rows.tolist()
    return [msgspec.structs.replace(click, item_id=ids[row]) for click, row in zip(by_time, rows, strict=True)]


def rows(name: str) -> Iterator[str]:
    """The rows of one data set."""
    data, limit = named(name), name.partition(":")[2]
    called = data.name + (f", first {int(limit):,} clicks" if limit else "")
    for label, change, told in (
        ("every item changes places", exchanged, None),
        ("nothing changes, it is only told so", None, 0.5),
    ):
        forgetting, keeping = (
            follow(data, change=change, start=0.5, most=AFTER, make=make, told=told, label=make.__name__)
            for make in (System, Keeping)
        )
        for count in (_SOON, AFTER):
            yield f"| {called}: {label} | {count:,} | {' | '.join(compared(forgetting, keeping, count))} |"


def compared(one: Followed, other: Followed, count: int) -> tuple[str, str, str]:
    """HR@10 of who served one and the other for the first clicks, and the difference."""
    first, second = one.hits[:count, -1], other.hits[:count, -1]
    return f"{first.mean():.4f}", f"{second.mean():.4f}", one.first(count).difference(first, second)


def breaks_section(names: Sequence[str] | None = None) -> str:
    """Both, on each data set."""
    if not names:
        names = ["movielens-100k", *([f"{SHARED}:100000"] if SHARED.is_dir() else [])]
    lines = [
        "## Breaks of the stream",
        "",
        "`python -m ops.bench.breaks`",
        "",
        f"At a break co-occurrence and regression keep {KEPT:.0%} of the weight of what they have counted. HR@{CUTOFF} "
        "by the scores alone, of the clicks asked for after the half of a stream: with that, and if they kept all; ± "
        "is the standard error of the paired difference, by user. Where every item changes places with one about as "
        "popular, nobody is told, and the guard notices by itself; where nothing changes, the tables are told of a "
        "break that there is not.",
        "",
        "| stream | clicks after it | forgets | keeps all | forgets − keeps |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in names:
        lines += rows(name)
    return "\n".join(lines)


def main() -> None:
    """Print the section."""
    print(breaks_section(of_data(__doc__).parse_args().data))


if __name__ == "__main__":
    main()
