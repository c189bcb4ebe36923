"""The figures of ``strata evaluate`` that the project promises: ``python -m ops.bench.quality``.

Three data sets, ties shuffled with a seed, items new to their user, after a warm-up of a fifth: MovieLens-100k, the
same with mostly new users, and Online Retail where it is present. All methods see the same clicks in the same order.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from ops.bench.updater import SHARED
from ops.evaluate import evaluate, summary
from ops.measures import Evaluation
from ops.prequential import BLEND, CO, LAYERS


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to reach: ``value`` of an outcome at least ``least``."""

    what: str
    value: float
    least: float

    @property
    def line(self) -> str:
        """One line of the report."""
        reached = "yes" if self.value >= self.least else "**no**"
        return f"| {self.what} | {self.value:.4g} | ≥ {self.least:.4g} | {reached} |"


def best_popularity(outcome: Evaluation) -> float:
    """HR@10 of the best half-life, chosen in hindsight."""
    return max(m.hit_rate() for name, m in outcome.methods.items() if name.startswith("popularity"))


def targets(outcome: Evaluation) -> list[Target]:
    """What is promised of this data set."""
    rate = {name: measures.hit_rate() for name, measures in outcome.methods.items()}
    best = best_popularity(outcome)
    if outcome.data == "movielens-100k":
        return [
            Target("co, HR@10", rate[CO], 0.20),
            Target("layers over the best popularity", rate[LAYERS] / best, 1.4),
            Target("blend over co", rate[BLEND] / rate[CO], 1.0),
        ]
    if outcome.data == "movielens-100k-new":
        return [Target("blend over the best popularity", rate[BLEND] / best, 1.0)]
    return [
        Target("co over the best popularity", rate[CO] / best, 2.5),
        Target("blend over co", rate[BLEND] / rate[CO], 1.0),
    ]


def section(outcome: Evaluation) -> str:
    """One data set."""
    lines = [
        f"### {outcome.data}",
        "",
        "| method | HR@10 | ± | NDCG@10 | MRR@10 | coverage |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {name} | {m.hit_rate():.4f} | {outcome.error(name):.4f} | {m.ndcg():.4f} | {m.reciprocal_rank():.4f} "
        f"| {len(m.shown) / outcome.items:.0%} |"
        for name, m in outcome.methods.items()
    ]
    lines += [
        "",
        *(f"- {line}" for line in summary(outcome)),
        "",
        "| promised | is | target | reached |",
        "|---|--:|--:|---|",
    ]
    lines += [target.line for target in targets(outcome)]
    return "\n".join(lines)


def report(names: Sequence[str] | None = None) -> str:
    """The section of RESULTS.md."""
    if names is None:
        names = ["movielens-100k", "movielens-100k-new", *([str(SHARED)] if SHARED.is_dir() else [])]
    head = [
        "## Quality of the lists",
        "",
        "`strata evaluate`, prequential: every click is asked for, then learned; items new to their user; ties "
        "shuffled with seed 7; ± is the standard error, by user. The users' vectors are the decayed means of their "
        "items' (no BERT on the user's side: on a CPU that alone takes hours). The default weights were fitted on the "
        "first fifth of these data sets (`python -m ops.tune`), the warm-up here. `python -m ops.bench.quality`",
        "",
    ]
    return "\n".join(head) + "\n" + "\n\n".join(section(evaluate(name)) for name in names)


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", help="data sets, default those that figures are promised for")
    print(report(parser.parse_args().data or None))


if __name__ == "__main__":
    main()
