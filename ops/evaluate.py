"""``strata evaluate``: how good are the lists on a data set, beside what simpler methods reach on it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rich.console import Console
from rich.table import Table

from models.encoder import Encoder
from models.histories import BUCKETS
from models.ranker import RankingConfig
from ops import catalogue, prequential
from ops.datasets import dataset
from ops.measures import Evaluation
from ops.prequential import BLEND, CO, System


def evaluate(
    data: str,
    *,
    warm_up: float = 0.2,
    ties: Literal["shuffle", "keep"] = "shuffle",
    seed: int = 7,
    limit: int | None = None,
    model: str | None = None,
    encode_users: bool = False,
    alone: bool = True,
    repeats: bool = False,
    config: RankingConfig | None = None,
) -> Evaluation:
    """Evaluate the models on a data set, prequentially and without Kafka.

    Parameters
    ----------
    data
        A folder in the form of :mod:`producers.dataset`, or a name that :mod:`ops.datasets` builds.
    warm_up
        Share of the clicks that are learned first, without being asked for.
    ties
        ``shuffle`` (by seed) or ``keep``: see :func:`ops.prequential.ordered`.
    limit
        Only the first so many clicks.
    model
        Path or id of the encoder; the default one where not given.
    encode_users
        Re-encode users through BERT before every list, as the live system does; slow without a GPU. Otherwise a
        user's vector is the decayed mean of his items' (a = 0).
    alone
        Also evaluate each scorer alone.
    repeats
        What a user has clicked may be offered to him again at once, whatever kind of event it was; otherwise what
        ``config`` lets come again.
    config
        Settings of the ranking.
    """
    config = config or RankingConfig()
    source = dataset(data)
    clicks = list(source.clicks(limit))
    encoder = Encoder.load() if model is None else Encoder.load(model)
    clicked = {click.item_id for click in clicks}
    # the whole catalogue is on offer, but of a data set cut short only what the cut can know of
    items = catalogue.of(source, encoder, None if limit is None else clicked)
    if repeats:
        config = replace(config, repeat_after_s=dict.fromkeys({click.event for click in clicks}, 0.0))
    if not encode_users:
        config = replace(config, mix=0.0)
    system = System(items, config, encoder if encode_users else None)
    return prequential.run(system, source.name, clicks, warm_up=warm_up, ties=ties, seed=seed, alone=alone)


def table(outcome: Evaluation, title: str = "") -> Table:
    """The outcome as a table for the terminal."""
    out = Table(title=title or outcome.data, title_justify="left")
    for name in (
        "method",
        "HR@10",
        "± se",
        "NDCG@10",
        "MRR@10",
        "coverage",
        *(f"{label} clicks" for label in _buckets()),
    ):
        out.add_column(name, justify="left" if name == "method" else "right")
    for name, measures in outcome.methods.items():
        out.add_row(
            name,
            f"{measures.hit_rate():.4f}",
            f"{outcome.error(name):.4f}",
            f"{measures.ndcg():.4f}",
            f"{measures.reciprocal_rank():.4f}",
            f"{len(measures.shown) / max(1, outcome.items):.1%}",
            *(f"{rate:.3f}" if count else "–" for count, rate in outcome.by_bucket(name)),
        )
    out.add_section()
    out.add_row("tested clicks", *[""] * 5, *(f"{count:,}" for count, _ in outcome.by_bucket(BLEND)))
    return out


def summary(outcome: Evaluation) -> list[str]:
    """What else is to be said, a line each."""
    lines = [
        f"{outcome.clicks:,} clicks on {outcome.items:,} items; {outcome.warm_up:,} to warm up, then "
        f"{outcome.tested:,} tested: those whose item its user had not met, or may meet again."
    ]
    if CO in outcome.methods:
        lines.append(_difference(outcome, CO))
        best = max(
            (n for n in outcome.methods if n.startswith("popularity")), key=lambda n: outcome.methods[n].hit_rate()
        )
        lines.append(_difference(outcome, best))
    tested = max(1, outcome.tested)
    asked = sum(s for stage, s in outcome.seconds.items() if stage != "learn")
    lines.append(
        f"{asked / tested * 1e6:.0f} µs a list, {outcome.seconds['learn'] / max(1, outcome.clicks) * 1e6:.0f} µs to "
        "learn a click, on this machine as busy as it was."
    )
    return lines


def show(outcomes: Sequence[Evaluation], console: Console | None = None) -> None:
    """Print outcomes."""
    console = console or Console()
    for outcome in outcomes:
        console.print(table(outcome))
        for line in summary(outcome):
            console.print(line, highlight=False)


def _difference(outcome: Evaluation, other: str) -> str:
    difference = outcome.methods[BLEND].hit_rate() - outcome.methods[other].hit_rate()
    return f"{BLEND} − {other}: {difference:+.4f} ± {outcome.error(BLEND, other):.4f} (standard error, by user)"


def _buckets() -> list[str]:
    ends = [start - 1 for start in BUCKETS[1:]]
    return [f"{a}" if a == b else f"{a}–{b}" for a, b in itertools.zip_longest(BUCKETS[:-1], ends)] + [
        f"{BUCKETS[-1]}+"
    ]
