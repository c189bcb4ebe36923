"""What one arm's rate is over another's, and whether its interval keeps its word."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t

from models.arms import GROUPS
from models.uplift import FEWEST, Interval, uplift

Counted = tuple[NDArray[np.float64], NDArray[np.float64]]


def test_the_uplift_and_its_interval_are_those_of_the_formula() -> None:
    draw = np.random.default_rng(2)
    attempts, base_attempts = (draw.integers(50, 100, GROUPS).astype(float) for _ in range(2))
    hits, base_hits = attempts - draw.integers(20, 40, GROUPS), base_attempts - draw.integers(40, 50, GROUPS)
    gain = uplift(hits, attempts, base_hits, base_attempts)
    assert gain is not None
    assert gain.interval is not None
    assert gain.ratio == pytest.approx(hits.sum() / attempts.sum() / (base_hits.sum() / base_attempts.sum()))
    variances = []
    for part, whole in ((hits, attempts), (base_hits, base_attempts)):
        others = [np.arange(GROUPS) != group for group in range(GROUPS)]
        logs = [np.log(part[kept].sum() / whole[kept].sum()) for kept in others]
        variances.append((GROUPS - 1) * np.var(logs))
    freedom = (GROUPS - 1) * sum(variances) ** 2 / sum(variance**2 for variance in variances)
    spread = np.exp(t.ppf(0.975, freedom) * np.sqrt(sum(variances)))
    assert gain.interval == pytest.approx((gain.ratio / spread, gain.ratio * spread))


def by_group(*counts: float) -> NDArray[np.float64]:
    return np.array([*counts, *[0.0] * (GROUPS - len(counts))])


def test_of_few_groups_nothing_is_said_but_the_ratio_and_of_no_hits_nothing() -> None:
    some, all_of_them = by_group(*[2.0] * (FEWEST - 1)), np.full(GROUPS, 2.0)
    for counts in ((some, all_of_them, all_of_them, all_of_them), (all_of_them, all_of_them, some, all_of_them)):
        gain = uplift(counts[0], 10 * counts[1], counts[2], 10 * counts[3])
        assert gain is not None
        assert gain.interval is None
        assert gain.ratio == pytest.approx(counts[0].sum() / counts[2].sum())
    enough = uplift(by_group(*range(1, FEWEST + 1)), 10 * all_of_them, all_of_them, 10 * all_of_them)
    assert enough is not None
    assert enough.interval is not None
    nothing = by_group()
    for counts in ((nothing, some, some, some), (some, some, nothing, some), (some, nothing, some, some)):
        assert uplift(*counts) is None


def test_clicks_on_what_was_shown_before_the_start_and_groups_that_are_all_alike_are_no_trouble() -> None:
    clicks, shown = np.full(GROUPS, 2.0), np.full(GROUPS, 40.0)
    assert uplift(clicks, shown, clicks, shown) == (1.0, Interval(1.0, 1.0))
    gain = uplift(clicks, np.where(np.arange(GROUPS) < FEWEST, shown, 0), clicks, shown)
    assert gain is not None
    assert gain.interval is not None
    assert gain.ratio == pytest.approx(2)
    assert gain.interval.low < 2 < gain.interval.high


class Crowd(NamedTuple):
    """Users who differ: each draws his own rate (beta) and his own number of clicks (log-normal, Poisson)."""

    users: int
    clicks: float
    rate: float
    alike: float
    """The rates' alpha and beta together: the smaller, the more users differ."""
    uneven: float
    """Standard deviation of the logarithm of how often they click."""

    def draw(self, draw: np.random.Generator) -> Counted:
        groups = draw.integers(GROUPS, size=self.users)
        eager = draw.lognormal(-(self.uneven**2) / 2, self.uneven, self.users)
        attempts = draw.poisson(self.clicks * eager)
        rates = draw.beta(self.rate * self.alike, (1 - self.rate) * self.alike, self.users)
        hits = draw.binomial(attempts, rates)
        return np.bincount(groups, hits, GROUPS), np.bincount(groups, attempts, GROUPS).astype(float)


def katz(hits: float, attempts: float, base_hits: float, base_attempts: float) -> tuple[float, float]:
    """The interval for independent clicks (Katz et al., Biometrics 34, 1978)."""
    ratio = (hits / attempts) / (base_hits / base_attempts)
    spread = np.exp(1.959964 * np.sqrt(1 / hits - 1 / attempts + 1 / base_hits - 1 / base_attempts))
    return ratio / spread, ratio * spread


@pytest.mark.parametrize(
    ("full", "held_out", "independent"),
    [
        (Crowd(4_000, 20, 0.12, 3, 1), Crowd(400, 20, 0.08, 3, 1), (0.3, 0.5)),
        (Crowd(5_000, 20, 0.015, 5, 0.5), Crowd(500, 20, 0.01, 5, 0.5), (0.5, 0.75)),
        (Crowd(5_000, 2, 0.12, 1e6, 0), Crowd(500, 2, 0.08, 1e6, 0), (0.92, 0.98)),
    ],
    ids=["strong effects by user", "a low rate, as of click-through", "clicks that are independent"],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    full: Crowd, held_out: Crowd, independent: tuple[float, float]
) -> None:
    draw = np.random.default_rng(7)
    held = naive = 0
    for _ in range(1_000):
        counts = (*full.draw(draw), *held_out.draw(draw))
        gain = uplift(*counts)
        assert gain is not None
        assert gain.interval is not None
        held += gain.interval.low <= 1.5 <= gain.interval.high
        low, high = katz(*(float(count.sum()) for count in counts))
        naive += low <= 1.5 <= high
    print(
        f"the truth is held by {held / 10:.1f} % of the intervals,"
        f" by {naive / 10:.1f} % of those for independent clicks"
    )
    assert 0.93 <= held / 1_000 <= 0.97
    assert independent[0] <= naive / 1_000 <= independent[1], "the crowd is what it is said to be"
