"""What one arm's rate is over another's, and how sure that is.

A user's clicks hang together: some hit with every second click, some with none, and some click a hundred times as often
as others. Of 100 intervals that take clicks for independent some 40 hold the truth with such users, of 100 of these
some 95 (``pytest -s tests/models/test_uplift.py``).

So counts are kept by groups of users (:func:`~models.arms.group_of`): users are independent of each other, so groups
are, and by how much they differ says how far chance goes. It needs no memory of single users; and counts of several
workers, of a user who moved from one to another, and of any time add up.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

FEWEST: Final = 10
"""Groups of each arm that must have hit before anything is said of chance: where it was fewer, the intervals of
simulated experiments held the truth too rarely."""


class Interval(NamedTuple):
    """Bounds of a ratio."""

    low: float
    high: float


class Uplift(NamedTuple):
    """An arm's rate over another's."""

    ratio: float
    interval: Interval | None
    """95 %; None where too few groups of users have hit."""


def uplift(
    hits: NDArray[np.float64],
    attempts: NDArray[np.float64],
    base_hits: NDArray[np.float64],
    base_attempts: NDArray[np.float64],
) -> Uplift | None:
    """Ratio of two rates, with the interval of its logarithm; None where one of the two has no hits.

    The standard error is the jackknife's, each group left out in turn (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 11), the quantile Student's with Welch's degrees of freedom.

    Parameters
    ----------
    hits, attempts, base_hits, base_attempts
        Counts by group of users, float64 [groups]; hits may be clicks and attempts shows.
    """
    counts = (hits, attempts, base_hits, base_attempts)
    if min(count.sum() for count in counts) <= 0:
        return None
    ratio = float((hits.sum() / attempts.sum()) / (base_hits.sum() / base_attempts.sum()))
    if min((count > 0).sum() for count in counts) < FEWEST:
        return Uplift(ratio, None)
    (own, own_freedom), (base, base_freedom) = _variance(hits, attempts), _variance(base_hits, base_attempts)
    if not (variance := own + base):  # every group alike to the last click
        return Uplift(ratio, Interval(ratio, ratio))
    freedom = variance**2 / (own**2 / own_freedom + base**2 / base_freedom)
    spread = float(np.exp(stdtrit(freedom, 0.975) * np.sqrt(variance)))
    return Uplift(ratio, Interval(ratio / spread, ratio * spread))


def _variance(hits: NDArray[np.float64], attempts: NDArray[np.float64]) -> tuple[float, int]:
    """Of the logarithm of a rate, and its degrees of freedom."""
    tried = (attempts > 0) | (hits > 0)  # clicks on what was shown before a worker's start: its shows are not counted
    hits, attempts = hits[tried], attempts[tried]
    without = np.log((hits.sum() - hits) / (attempts.sum() - attempts))
    n = len(hits)
    return float((n - 1) / n * ((without - without.mean()) ** 2).sum()), n - 1
