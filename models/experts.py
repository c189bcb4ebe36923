"""Experts: the ways to rank that compete for serving, and the choice among them by what they would have hit.

Every expert is a row of weights over the features, one for each bucket of history length: the learned ranker, the
weights that it started from, every scorer alone, and two fixed blends. So whoever serves, a score is
features · weights and a reason adds up.

For every click that is looked at, the rank that each expert would have given to the clicked item is known, whoever
served: full information. Hits in the top 10, decayed by the clicks of the bucket, choose who serves it (follow the
leader; design §7). When those that serve suddenly hit far less than they did, what was counted before says little, and
most of it is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.features import FEATURES, SCORERS
from models.histories import BUCKETS
from models.popularity import HALF_LIVES

CUTOFF: Final = 10
"""Places of a list in which a clicked item is a hit."""

POOLED: Final = 100
"""Clicks of the other buckets that count beside a bucket's own."""

RECENT: Final = 100.0
"""Clicks that were looked at, in whatever bucket, after which what was hit lately counts half: what is left of the
counts at a break."""

_BREAK: Final = 3.0  # standard errors by which fewer hits than expected are a break of the stream
_SLUMP: Final = 0.5  # of the rate at which those that serve hit: so few is a slump
_GROWTH: Final = 0.1  # of the clicks since a break: so long is the half-life of what is counted after it

LEARNED: Final = "learned"
PRIOR: Final = "prior"

_BLENDS: Final[Mapping[str, Mapping[str, float]]] = {
    "history": {"co.log": 1.0, "co.short.log": 0.5, "text.log": 0.5},
    "crowd": {"layer.log": 0.5} | {f"popularity.{half:.0f}.log": 0.3 for half in HALF_LIVES},
}
_ALONE: Final = {name: f"{name}.ratio" for name in (*SCORERS, *(f"popularity.{half:.0f}" for half in HALF_LIVES))}

EXPERTS: Final = (LEARNED, PRIOR, *_BLENDS, *_ALONE)
"""In this order in every array; of equals the first serves."""

_REST: Final = 1e-3  # of the prior: puts in order what a scorer alone says nothing about


class Rankings:
    """Every expert's weights.

    Parameters
    ----------
    prior : float32 [buckets, features]
        What the learned ranker starts from.
    """

    def __init__(self, prior: NDArray[np.float32]) -> None:
        self.prior = prior
        self._alone = np.array([FEATURES.index(feature) for feature in _ALONE.values()])
        self._blends = np.zeros((len(_BLENDS), len(FEATURES)), np.float32)
        for row, blend in zip(self._blends, _BLENDS.values(), strict=True):
            for feature, weight in blend.items():
                row[FEATURES.index(feature)] = weight

    def weights(self, learned: NDArray[np.float32], experts: NDArray[np.int64]) -> NDArray[np.float32]:
        """The weights of one expert for each bucket, float32 [buckets, features]."""
        rows = []
        for bucket, expert in enumerate(experts.tolist()):
            if expert == 0:
                rows.append(learned[bucket])
            elif expert == 1:
                rows.append(self.prior[bucket])
            else:
                own = np.zeros(len(FEATURES), np.float32)
                if expert < 2 + len(_BLENDS):
                    own += self._blends[expert - 2]
                else:
                    own[self._alone[expert - 2 - len(_BLENDS)]] = 1
                rows.append(own + np.float32(_REST) * self.prior[bucket])
        return np.stack(rows)

    def scores(
        self, learned: NDArray[np.float32], features: NDArray[np.float32], buckets: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """What every expert says of candidates.

        Parameters
        ----------
        learned : float32 [buckets, features]
        features : float32 [b, features, m]
        buckets : int64 [b]

        Returns
        -------
        float32 [b, experts, m]
            Those of :meth:`weights`, to rounding.
        """
        b, _, m = features.shape
        scores = np.empty((b, len(EXPERTS), m), np.float32)
        blended = 2 + len(_BLENDS)
        weights = np.empty((b, blended, len(FEATURES)), np.float32)
        weights[:, 0], weights[:, 1], weights[:, 2:] = learned[buckets], self.prior[buckets], self._blends
        scores[:, :blended] = np.matmul(weights, features)
        scores[:, blended:] = features[:, self._alone]
        scores[:, 2:] += np.float32(_REST) * scores[:, 1:2]
        return scores


def hits(scores: NDArray[np.float32], valid: NDArray[np.bool_], places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which experts have the clicked item in their top 10.

    Parameters
    ----------
    scores : float32 [b, experts, m]
    valid : bool [b, m]
        Places that hold a candidate.
    places : int64 [b]
        Where the clicked item stands among the candidates.

    Returns
    -------
    bool [b, experts]
        What has the same score does not stand before it: with :data:`_REST` hardly anything has.
    """
    own = np.take_along_axis(scores, places[:, None, None], axis=2)
    better = (scores > own) & valid[:, None, :]
    ahead: NDArray[np.bool_] = better.sum(axis=2) < CUTOFF
    return ahead


class ExpertChoice:
    """Who serves, by decayed hits.

    A challenger takes over when it leads by more than chance explains: by ``caution`` standard errors of the
    difference, of which each click that only one of the two hit contributes one; and from the learned ranker, which
    is meant to serve, only when it leads by as many standard errors of what that has hit. With its own hits a bucket
    counts those of the others, as if :data:`POOLED` of their clicks had been looked at: where few users are, a choice
    need not start from nothing.

    A break of the stream: those that serve have hit fewer of the clicks of late (:data:`RECENT`) than they did before,
    by three standard errors. Then only what was hit of late counts on, and its half-life is short at first: a tenth of
    the clicks since. What an expert was worth in another world keeps nobody from one that serves this one. When it
    began is told by Page's cumulative sum (Continuous inspection schemes, Biometrika 41, 1954) of by how much the hits
    are likelier at half their rate (in log, as Poisson counts): the last time that it was 0.

    Parameters
    ----------
    half_life
        Clicks of a bucket that were looked at after which a hit counts half.
    caution
        0 is plain follow the leader.

    Attributes
    ----------
    hits : float64 [buckets, experts]
        Decayed.
    clicks : float64 [buckets]
        Decayed clicks, the same for every expert.
    recent_hits, recent_clicks
        The same of late.
    since : float
        Clicks looked at since a break; at a start as many as give the full half-life.
    slump : float
        The cumulative sum.
    steady : int
        When it was last 0, ms since the epoch: at a break, when that began. 0: not known.
    serving : int64 [buckets]
        The expert that serves, a position in :data:`EXPERTS`.
    """

    def __init__(self, half_life: float = 1_000, caution: float = 1.0) -> None:
        self.half_life = half_life
        self.caution = caution
        self.hits = np.zeros((len(BUCKETS), len(EXPERTS)))
        self.clicks = np.zeros(len(BUCKETS))
        self.recent_hits = np.zeros_like(self.hits)
        self.recent_clicks = np.zeros_like(self.clicks)
        self.since = half_life / _GROWTH
        self.slump = 0.0
        self.steady = 0
        self.serving = np.zeros(len(BUCKETS), np.int64)

    def learn(self, clicks: NDArray[np.float64], hits: NDArray[np.float64], moment: int = 0) -> bool:
        """Count a batch: clicks [buckets] and hits [buckets, experts], clicked at a moment (ms since the epoch).

        Returns whether the stream has broken.
        """
        if not self.slump:
            self.steady = moment
        expected, found = self._serving_hit(clicks, hits)
        self.slump = max(0.0, self.slump + (1 - _SLUMP) * expected + math.log(_SLUMP) * found)
        looked = float(clicks.sum())
        of_late = 2 ** (-looked / RECENT)
        self.recent_clicks = self.recent_clicks * of_late + clicks
        self.recent_hits = self.recent_hits * of_late + hits
        self.since += looked
        if broke := self._broke():
            self.hits, self.clicks, self.since, self.slump = self.recent_hits, self.recent_clicks, 0.0, 0.0
        else:
            kept = np.exp2(-clicks / min(self.half_life, max(RECENT, _GROWTH * self.since)))
            self.clicks = self.clicks * kept + clicks
            self.hits = self.hits * kept[:, None] + hits
        self._choose()
        return broke

    def _broke(self) -> bool:
        """Whether those that serve hit less of late than by all that is counted, by more than chance explains."""
        if self.clicks.sum() < 2 * RECENT / math.log(2):  # nothing is counted yet but what is of late
            return False
        expected, found = self._serving_hit(self.recent_clicks, self.recent_hits)
        return found < expected - _BREAK * math.sqrt(expected)

    def _serving_hit(self, clicks: NDArray[np.float64], hits: NDArray[np.float64]) -> tuple[float, float]:
        """How many of the clicks those that serve should have hit by their rates, and did."""
        every = np.arange(len(BUCKETS))
        return float(self.rates()[every, self.serving] @ clicks), float(hits[every, self.serving].sum())

    def _choose(self) -> None:
        every = np.arange(len(BUCKETS))
        elsewhere = self.clicks.sum() - self.clicks
        share = np.minimum(1, POOLED / np.maximum(1, elsewhere))
        counted = self.hits + (self.hits.sum(axis=0) - self.hits) * share[:, None]
        leader = counted.argmax(axis=1)
        lead = counted[every, leader] - counted[every, self.serving]
        serving = np.where(lead > self.caution * np.sqrt(np.maximum(lead, 1)), leader, self.serving)
        learned = counted[:, 0] + self.caution * np.sqrt(np.maximum(counted[:, 0], 1))
        self.serving = np.where(learned >= counted[every, serving], 0, serving)

    def rates(self) -> NDArray[np.float64]:
        """Recent hit rate in the top 10, [buckets, experts]; 0 before the first click."""
        rates: NDArray[np.float64] = self.hits / np.maximum(self.clicks, 1e-9)[:, None]
        return rates
