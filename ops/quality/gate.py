"""The gate: a component has weight by default only where the evidence says that it earns it.

A component is *on* if

- on every data set Strata with it is not worse than the best of its scorers alone, within a standard error, and
- somewhere it makes one of all, new items, new users better than Strata without it by more than two standard errors
  (of so many slices some would gain one by chance), or adds a hundredth of the catalogue to what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from models.features import OFF
from ops.quality.methods import PARTS, SCORERS, STRATA, toggled
from ops.quality.study import Study

GATED: Final = ("all", "new items", "new users")
_COVERAGE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Gain:
    """A difference of HR@10 on a slice, with its paired standard error."""

    of: str
    gain: float
    error: float

    @property
    def better(self) -> bool:
        """By more than two standard errors."""
        return self.gain > 2 * self.error

    @property
    def worse(self) -> bool:
        """By more than a standard error."""
        return -self.gain > self.error


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a component does on one data set.

    Attributes
    ----------
    gains
        With it against without, by slice.
    coverage
        The same for coverage.
    best
        The best single scorer, and Strata against it.
    """

    data: str
    gains: tuple[Gain, ...]
    coverage: float
    best: str
    blend: Gain

    @property
    def harms(self) -> bool:
        """Strata with it is worse than a scorer alone."""
        return self.blend.worse

    @property
    def helps(self) -> bool:
        """Some slice gains."""
        return any(gain.better for gain in self.gains) or self.coverage >= _COVERAGE


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of a component."""

    component: str
    evidence: tuple[Evidence, ...]

    @property
    def on(self) -> bool:
        """It earns its weight."""
        return any(each.helps for each in self.evidence) and not any(each.harms for each in self.evidence)

    def as_json(self) -> dict[str, Any]:
        """For the machine-readable result."""
        return {"verdict": "on" if self.on else "off", "evidence": [asdict(each) for each in self.evidence]}


def evidence(study: Study, component: str) -> Evidence | None:
    """From one data set; None while something is missing."""
    whole, without = study.outcome(STRATA), study.outcome(toggled(component))
    if component in OFF:
        whole, without = without, whole
    alone = dict(study.outcomes((*SCORERS, "popularity")))
    if whole is None or without is None or len(alone) <= len(SCORERS):
        return None
    gains = tuple(
        Gain(of, whole.rate(of) - without.rate(of), whole.error(of, without))
        for of in GATED
        if whole.asked.slices[of].any()
    )
    best = max(alone, key=lambda name: alone[name].rate())
    blend = Gain("all", whole.rate() - alone[best].rate(), whole.error("all", alone[best]))
    return Evidence(study.source.name, gains, whole.coverage() - without.coverage(), best, blend)


def verdicts(studies: Sequence[Study]) -> list[Verdict]:
    """Of every component, from the data sets that are finished; none without any."""
    found = ((part, [evidence(study, part) for study in studies]) for part in PARTS)
    made = [Verdict(part, tuple(each for each in given if each is not None)) for part, given in found]
    return [verdict for verdict in made if verdict.evidence]
