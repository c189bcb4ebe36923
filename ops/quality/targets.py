"""The figures that the project promises, beside what is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ops.quality.methods import HOURLY, OWN_ITEMS, PEERS, SCORERS, STRATA
from ops.quality.outcome import Outcome
from ops.quality.study import VARIANTS, Study


@dataclass(frozen=True, slots=True)
class Target:
    """``value``, with its standard error where that makes sense, is to be at least ``least``."""

    data: str
    what: str
    value: float
    least: float
    error: float | None = None

    @property
    def reached(self) -> bool:
        """As measured; the error is shown, not counted in."""
        return self.value >= self.least

    @property
    def line(self) -> str:
        """One line of the report."""
        error = "" if self.error is None else f" ± {self.error:.3f}"
        return (
            f"| {self.data} | {self.what} | {self.value:.3f}{error} | ≥ {self.least:g} "
            f"| {'yes' if self.reached else '**no**'} |"
        )


def ratio(ours: Outcome, other: Outcome, of: str = "all") -> tuple[float, float]:
    """HR@10 over another's on a slice, and its standard error by the delta method from the paired difference."""
    base = other.rate(of)
    if not base:
        return float("inf"), 0.0
    found = ours.rate(of) / base
    # r = a / b, a = b + d: dr ≈ (dd − (r − 1) db) / b; the two are hardly correlated, and db counts little
    return found, float(((ours.error(of, other)) ** 2 + ((found - 1) * other.error(of)) ** 2) ** 0.5 / base)


def targets(study: Study) -> Iterator[Target]:
    """Those of a data set."""
    name = study.source.name
    ours = study.outcome(STRATA)
    peers = dict(study.outcomes(PEERS))
    if ours is None or not peers:
        return
    yield _over_best(name, ours, peers, 1.09 if name == "movielens-100k" else 1.05)
    for variant, protocol in VARIANTS.items() if not study.source.new else ():
        others = dict(study.outcomes((*PEERS, OWN_ITEMS) if protocol.repeats else PEERS, protocol))
        if (asked := study.outcome(STRATA, protocol)) is not None and others:
            yield _over_best(name, asked, others, 1.0, f", {variant}")
    if ours.asked.slices[REST].any():
        yield _over_best(name, ours, peers, 1.0, f", {REST}", REST)
    alone = dict(study.outcomes((*SCORERS, "popularity")))
    if len(alone) > len(SCORERS):  # or the best of them may be missing
        top = best(alone)
        value, error = ratio(ours, alone[top])
        yield Target(name, f"over the best scorer in hindsight ({top})", value, 1.0, error)
    for scorer, times in OVER_POPULARITY.get(name, {}).items():
        if {scorer, "popularity"} <= alone.keys():
            value, error = ratio(alone[scorer], alone["popularity"])
            yield Target(name, f"{scorer}, over popularity", value, times, error)
    hourly = study.outcome(HOURLY)
    if hourly is not None and not study.source.new:
        value, error = ratio(ours, hourly)
        yield Target(name, "over itself, run hourly", value, 2.0, error)
    if name in NEW_ITEMS:
        chance = ours.asked.chance
        yield Target(
            name,
            "new items, over chance",
            ours.rate("new items") / chance,
            NEW_ITEMS[name],
            ours.error("new items") / chance,
        )
    peer = best(peers)
    yield Target(name, f"coverage over the best peer's ({peer})", ours.coverage() / peers[peer].coverage(), 1.0)


def missed(promised: Sequence[Target]) -> str:
    """What is not reached, in a sentence: who reads no table is to know where Strata is behind."""
    behind = [f"{target.data}, {target.what}: {target.value:.3f}" for target in promised if not target.reached]
    if not behind:
        return f"All {len(promised)} are reached."
    return f"Not reached, {len(behind)} of {len(promised)}: {'; '.join(behind)}."


def best(outcomes: Mapping[str, Outcome], of: str = "all") -> str:
    """The name of the one with the best HR@10 on a slice."""
    return max(outcomes, key=lambda name: outcomes[name].rate(of))


def _over_best(
    data: str, ours: Outcome, peers: Mapping[str, Outcome], least: float, where: str = "", of: str = "all"
) -> Target:
    """Against the peer that is best there, whoever was best elsewhere."""
    peer = best(peers, of)
    value, error = ratio(ours, peers[peer], of)
    return Target(data, f"HR@10 over the best peer's ({peer}){where}", value, least, error)


REST = "the rest"
"""The slice of clicks that neither a new item nor a new user explains: a lead may rest on these alone."""

OVER_POPULARITY = {"movielens-100k": {"layer alone": 1.4}, "online-retail": {"co alone": 2.5}}
"""Data set → scorer → how many times the tuned popularity's HR@10 it is to reach."""

NEW_ITEMS = {"movielens-100k": 5.0, "online-retail": 9.0}
"""Data set → how many times better than chance new items are to be found."""
