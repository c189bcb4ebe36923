"""``strata evaluate --peers``: Strata beside its peers on one data set, every one with its default settings."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from threadpoolctl import threadpool_limits

from ops.quality.methods import METHODS, OWN_ITEMS, PEERS, STRATA, allowing_repeats
from ops.quality.outcome import SLICES, Asked, Outcome
from ops.quality.replay import Protocol, replay
from ops.quality.sources import Source
from ops.quality.tables import rate, signed


def table(data: str, *, warm_up: float, seed: int, limit: int | None, repeats: bool = False) -> Table:
    """Run them all, one after another, and put what they reached side by side.

    Parameters
    ----------
    data, limit
        As in :class:`~ops.quality.sources.Source`.
    warm_up
        Share of the clicks that are only learned.
    repeats
        What a user has clicked may be offered to him again, and a user's own items are one more peer.
    """
    source = Source(Path(data).name, data, limit)
    stream, protocol = source.stream(), Protocol(start=warm_up, seed=seed, repeats=repeats)
    made: dict[str, Outcome] = {}
    for name in (STRATA, *PEERS, *((OWN_ITEMS,) if repeats else ())):
        params = METHODS[name].trials()[0]
        params = allowing_repeats(name, params) if repeats else params
        with threadpool_limits(1):  # a core each; and implicit, which has threads of its own, says so otherwise
            peer = METHODS[name].make(source, stream.items, params)
            replayed = replay(peer, stream, protocol)
        made[name] = Outcome(Asked.of(stream, protocol, replayed.at), replayed)
    title = f"{source.name}: beside peers, all with default settings (make bench-quality tunes them)"
    out = Table(title=title, title_justify="left")
    for head in ("method", "HR@10", "Strata − it", "NDCG@10", "coverage", *SLICES[1:], "µs an event"):
        out.add_column(head, justify="left" if head == "method" else "right")
    ours = made[STRATA]
    for name, outcome in made.items():
        out.add_row(
            name,
            f"{outcome.rate():.4f} ± {outcome.error():.4f}",
            "" if name == STRATA else signed(ours.rate() - outcome.rate(), ours.error("all", outcome)),
            f"{outcome.ndcg():.4f}",
            f"{outcome.coverage():.1%}",
            *(rate(outcome, of) for of in SLICES[1:]),
            f"{outcome.microseconds():,.0f}",
        )
    return out
