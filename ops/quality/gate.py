"""The gate: a component has weight by default only where the evidence says that it earns it.

A component is *on* if

- on every data set Strata with it is not worse than the best of its scorers alone, within a standard error, and
- somewhere it makes one of all, new items, new users better than Strata without it by more than chance does: by
  :func:`beyond_chance` standard errors, or adds a hundredth of the catalogue to what is shown.

The standard errors know that other users might have been asked, not that one run of a learner goes another way than the
next. So where no slice gains twice as much as chance would, one that gains more than chance is asked for a second time,
in another order of clicks of one moment, and counts if it gains as much there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, Final

from models.features import OFF
from ops.quality.cells import Cell
from ops.quality.methods import OWN, OWN_ITEMS, PARTS, SCORERS, STRATA, toggled
from ops.quality.outcome import LENGTHS, Outcome
from ops.quality.replay import Protocol
from ops.quality.study import REPEATS, REPORTING, Study

GATED: Final = ("all", "new items", "new users")
ENOUGH: Final = 200
"""Clicks asked for in a bucket of history length from which on its gain is told."""

SECOND: Final = 8
"""The seed of a second run."""

_COVERAGE: Final = 0.01
_CHANCE: Final = 0.05


def beyond_chance(slices: int) -> float:
    """Standard errors that the best of so many slices exceeds by chance in one report of twenty at most.

    Bonferroni's correction of a one-sided test: 1.64 for a slice, 2.77 for the eighteen of six data sets. At two
    errors, a component that does nothing would pass a third of the time.
    """
    return NormalDist().inv_cdf(1 - _CHANCE / slices)


@dataclass(frozen=True, slots=True)
class Gain:
    """A difference of HR@10 on a slice, with its paired standard error."""

    of: str
    gain: float
    error: float

    def better(self, errors: float) -> bool:
        """By more than so many standard errors."""
        return self.gain > errors * self.error

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
    lengths
        With it against without, by length of history, where :data:`ENOUGH` are asked for. Told, not judged: of so many
        more slices the best would have to be better still.
    second
        ``gains`` of a second run, if there is one.
    """

    data: str
    gains: tuple[Gain, ...]
    coverage: float
    best: str
    blend: Gain
    lengths: tuple[Gain, ...] = ()
    second: tuple[Gain, ...] = ()

    @property
    def harms(self) -> bool:
        """Strata with it is worse than a scorer alone."""
        return self.blend.worse

    def helps(self, errors: float) -> bool:
        """Some slice gains by twice so many standard errors, or by so many in two runs, or coverage does."""
        found_again = {gain.of for gain in self.second if gain.better(errors)}
        return self.coverage >= _COVERAGE or any(
            gain.better(2 * errors) or (gain.better(errors) and gain.of in found_again) for gain in self.gains
        )

    def doubtful(self, errors: float) -> bool:
        """It hangs on a second run whether it helps."""
        return not self.helps(errors) and any(gain.better(errors) for gain in self.gains)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of a component."""

    component: str
    evidence: tuple[Evidence, ...]

    @property
    def slices(self) -> int:
        """Of how many the best may speak for it."""
        return sum(len(each.gains) for each in self.evidence)

    @property
    def on(self) -> bool:
        """It earns its weight."""
        errors = beyond_chance(self.slices)
        return any(each.helps(errors) for each in self.evidence) and not any(each.harms for each in self.evidence)

    @property
    def doubtful(self) -> tuple[str, ...]:
        """The data sets on which a second run would tell whether it earns its weight."""
        errors = beyond_chance(self.slices)
        if self.on or any(each.harms for each in self.evidence):
            return ()
        return tuple(each.data for each in self.evidence if each.doubtful(errors))

    def as_json(self) -> dict[str, Any]:
        """For the machine-readable result."""
        return {"verdict": "on" if self.on else "off", "evidence": [asdict(each) for each in self.evidence]}


def evidence(study: Study, component: str) -> Evidence | None:
    """From one data set; None while something is missing, or where the component has nothing to say."""
    protocol, scorers = judged(component)
    if not asked(component, [study]):
        return None
    whole, without = (study.outcome(name, protocol) for name in _compared(component))
    alone = dict(study.outcomes(scorers, protocol))
    if whole is None or without is None or len(alone) < len(scorers):
        return None
    gains = _gains(whole, without, GATED, 1)
    best = max(alone, key=lambda name: alone[name].rate())
    blend = Gain("all", whole.rate() - alone[best].rate(), whole.error("all", alone[best]))
    coverage = whole.coverage() - without.coverage()
    lengths = _gains(whole, without, LENGTHS, ENOUGH)
    second: tuple[Gain, ...] = ()
    one, other = (study.outcome(name, replace(protocol, seed=SECOND)) for name in _compared(component))
    if one is not None and other is not None:
        second = _gains(one, other, GATED, 1)
    return Evidence(study.source.name, gains, coverage, best, blend, lengths, second)


def _compared(component: str) -> tuple[str, str]:
    """The methods with it and without it."""
    return (toggled(component), STRATA) if component in OFF else (STRATA, toggled(component))


def second_runs(studies: Sequence[Study]) -> list[Cell]:
    """What verdicts hang on, and is not asked for a second time otherwise."""
    by_name = {study.source.name: study for study in studies}
    made = (
        by_name[data].cell(name, replace(judged(verdict.component)[0], seed=SECOND))
        for verdict in verdicts(studies)
        for data in verdict.doubtful
        for name in _compared(verdict.component)
    )
    return [cell for cell in made if cell is not None]


def judged(component: str) -> tuple[Protocol, tuple[str, ...]]:
    """How the component is judged, and against which scorers alone."""
    return (REPEATS, (OWN_ITEMS, "popularity")) if component == OWN else (REPORTING, (*SCORERS, "popularity"))


def asked(component: str, studies: Sequence[Study]) -> list[Study]:
    """Those of the studies that judge it."""
    protocol, _ = judged(component)
    return [study for study in studies if not (protocol.repeats and study.source.new)]


def _gains(whole: Outcome, without: Outcome, slices: Sequence[str], least: int) -> tuple[Gain, ...]:
    """On those of the slices of which at least so many clicks are asked for."""
    return tuple(
        Gain(of, whole.rate(of) - without.rate(of), whole.error(of, without))
        for of in slices
        if whole.asked.slices[of].sum() >= least
    )


def verdicts(studies: Sequence[Study]) -> list[Verdict]:
    """Of every component, from the data sets that are finished; none without any."""
    found = ((part, [evidence(study, part) for study in studies]) for part in PARTS)
    made = [Verdict(part, tuple(each for each in given if each is not None)) for part, given in found]
    return [verdict for verdict in made if verdict.evidence]
