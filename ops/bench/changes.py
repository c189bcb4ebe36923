"""Streams whose middle third is another world, and how the guard takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.events import Click
from models.experts import EXPERTS
from models.popularity import HALF_LIVES
from ops.bench.following import Followed, follow, named

DATA: Final = "movielens-100k:60000"

WINDOW: Final = 500
"""Clicks asked for, in which who serves is compared with who is best in hindsight."""

_STEP: Final = 100  # clicks from the start of a window to that of the next
_SEED: Final = 7
_TRENDING: Final = 30
_TREND: Final = 1_000
_FASHION: Final = 300
_HISTORY: Final = tuple(EXPERTS.index(name) for name in ("history", "co", "co.short"))
_POPULARITY: Final = tuple(EXPERTS.index(f"popularity.{half:.0f}") for half in HALF_LIVES)


def trends(clicks: list[Click]) -> list[Click]:
    """The users click on what is trending: 30 items, others every 1,000 clicks."""
    by_time, middle = _thirds(clicks)
    for i, item in zip(middle, _trending(by_time, len(middle), _TREND), strict=True):
        by_time[i] = msgspec.structs.replace(by_time[i], item_id=item)
    return by_time


def passers_by(clicks: list[Click]) -> list[Click]:
    """Nobody stays, and histories mislead: whoever comes clicks twice.

    First on what was clicked there anyway, then on what is in fashion: 30 items, others every 300 clicks, the r-th of
    them 1/r as often as the first. So what a user has clicked speaks for what went with it in the first third, which is
    of no use now; what is clicked most of late is.
    """
    by_time, middle = _thirds(clicks)
    fashion = _trending(by_time, len(middle), _FASHION, 1 / np.arange(1, _TRENDING + 1))
    for i, item in zip(middle, fashion, strict=True):
        number, second = divmod(i - middle.start, 2)
        click = by_time[i]
        by_time[i] = msgspec.structs.replace(
            click, user_id=f"passer-by {number}", item_id=item if second else click.item_id
        )
    return by_time


CHANGES: Final[Mapping[str, Callable[[list[Click]], list[Click]]]] = {
    "users click on 30 items, others every 1,000 clicks": trends,
    "passers-by, of whose two clicks the second is on what is in fashion, others every 300 clicks": passers_by,
}
"""What the middle third becomes."""


def _thirds(clicks: list[Click]) -> tuple[list[Click], range]:
    """The clicks by time, and the places of the middle third."""
    by_time = sorted(clicks, key=lambda click: click.ts)
    return by_time, range(len(by_time) // 3, 2 * len(by_time) // 3)


def _trending(
    clicks: Sequence[Click], count: int, every: int, shares: NDArray[np.float64] | None = None
) -> Iterator[str]:
    """So many items, each drawn from those that trend then: all alike, or by shares."""
    draw = np.random.default_rng(_SEED)
    ids = sorted({click.item_id for click in clicks})
    trending: Sequence[str] = ()
    for number in range(count):
        if number % every == 0:
            trending = draw.choice(ids, _TRENDING, replace=False).tolist()
        at = draw.integers(_TRENDING) if shares is None else draw.choice(_TRENDING, p=shares / shares.sum())
        yield trending[int(at)]


def changes_rows(name: str) -> Iterator[str]:
    """The lines about each change: by third who would have been best and who was served, and how soon it was."""
    data = named(name)
    for label, change in CHANGES.items():
        outcome = follow(data, change=change, label=label.split(",")[0])
        yield f"**{data.name}, {data.note}; in the middle third {label}**"
        yield ""
        yield (
            "| third | best expert | its HR@10 | served | served − best | served − learned alone | best of history | "
            "best popularity | served most |"
        )
        yield "|---|---|--:|--:|--:|--:|--:|--:|---|"
        for third in range(3):
            yield _third_row(third, outcome.part(*_span(third)))
        yield ""
        yield (
            "| clicks after the change | noticed as a break | another expert chosen | "
            f"{WINDOW} clicks begin in which served − their best is not below 0 by more than its error |"
        )
        yield "|---|--:|--:|--:|"
        for third, into in ((1, "into it"), (2, "and back")):
            yield f"| {into} | {' | '.join(map(_count, adapted(outcome, *_span(third))))} |"
        yield ""


def adapted(outcome: Followed, start: float, end: float) -> tuple[int | None, int | None, int | None]:
    """How soon a change is answered, in clicks of the stream after it; None: not at all.

    Parameters
    ----------
    start, end
        Shares of the stream at which the world changes, and changes again.

    Returns
    -------
    noticed, chosen, recovered
        When the guard says that the stream has broken; when it first chooses another expert for a bucket than it had
        there; when the first :data:`WINDOW` clicks begin in which who served hits within a standard error of the expert
        that is best in just these, since the best of the whole third may be one that has to learn first.
    """
    past, part = outcome.part(0, start), outcome.part(start, end)
    had = dict(zip(past.buckets.tolist(), past.serving.tolist(), strict=True))  # the last one stays
    pairs = zip(part.buckets.tolist(), part.serving.tolist(), strict=True)
    chosen = next((i for i, (bucket, expert) in enumerate(pairs) if expert != had.get(bucket, 0)), None)
    recovered = None
    for first in range(0, len(part.hits) - WINDOW + 1, _STEP):
        window = part.taken(slice(first, first + WINDOW))
        gap, error = window.gap(window.hits[:, -1], window.hits[:, window.best()])
        if gap >= -error:
            recovered = first
            break

    def clicks(at: float) -> int:
        return round((at - start) * outcome.clicks)

    return (
        clicks(part.breaks[0]) if part.breaks else None,
        None if chosen is None else clicks(part.at[chosen]),
        None if recovered is None else clicks(part.at[recovered]),
    )


def _span(third: int) -> tuple[float, float]:
    return third / 3, (third + 1) / 3


def _third_row(third: int, part: Followed) -> str:
    best, served = part.best(), part.hits[:, -1]
    history, popularity = max(map(part.rate, _HISTORY)), max(map(part.rate, _POPULARITY))
    most, share = part.served_most()
    return (
        f"| {third + 1} | {EXPERTS[best]} | {part.rate(best):.4f} | {served.mean():.4f} "
        f"| {part.difference(served, part.hits[:, best])} | {part.difference(served, part.hits[:, 0])} "
        f"| {history:.4f} | {popularity:.4f} | {EXPERTS[most]}, {share:.0%} |"
    )


def _count(clicks: int | None) -> str:
    return "never" if clicks is None else f"{clicks:,}"
