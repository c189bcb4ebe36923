"""Learning the ranker's weights from the click stream.

For a click, the candidates as they stood just before it compete in a softmax over features · weights, and the weights
move towards the one that was clicked: with p = softmax(X w) and the clicked candidate c,

    g = X_c − Σ_q p_q X_q        a += g²        w += step · g / √a        (AdaGrad, Duchi et al. 2011)

Weights of a bucket of history length are those that all buckets share plus its own; both learn from g. What a batch of
clicks teaches is a :class:`Lesson`, sums alone, so that many updaters teach one ranker: it adds Σ g² and Σ g of the
batch in one step, which differs from a step a click by less than the measurement's error.

A gradient that was taken at weights which others have moved since pulls where they have gone already: with weights a
second old, a thousand clicks a second swing. So a lesson that comes ``delay`` clicks late moves the weights less (after
AdaDelay, Sra et al. 2016), the more so the fewer ``clicks`` are in them, since AdaGrad's first steps are the longest::

    step · 1 / (1 + delay / (DELAY + clicks / SETTLED))

All candidates compete, not the first 60 of each scorer alone: worth +.002 … +.004 of HR@10 on MovieLens-100k and on its
copy with mostly new users, and nothing on Online Retail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.breaks import Breaks
from models.experts import EXPERTS, ExpertChoice, Rankings, hits
from models.features import FEATURES, OFF, part_of
from models.histories import BUCKETS
from models.ranker import Scored

DELAY: Final = 8
"""Clicks learned from, between a lesson's weights and the present ones, at which it moves them half as far at first."""

SETTLED: Final = 32
"""Of so many clicks in the weights each lets a lesson come one click later."""

_TINY: Final = 1e-10


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """How the ranker learns. The updaters and the ranker role must agree on it."""

    sample: float = 0.25
    """Share of the clicks that are learned from, 0 … 1; 0: the weights stay as they are set."""
    young: int = 10_000
    """Clicks in the weights below which every click is learned from, and so many after a break of the stream: a quarter
    of a young stream says too little."""
    step: float = 0.1
    """AdaGrad's step size; .02 … .15 all serve."""
    half_life: float = 1_000
    """Clicks of a bucket that were looked at after which an expert's hit counts half."""
    caution: float = 1.0
    """Standard errors by which an expert must lead to take over."""
    without: frozenset[str] = OFF
    """Parts of a reason (:data:`~models.features.PARTS`) that weigh nothing and learn nothing, whatever they learned
    before."""


@dataclass(slots=True)
class Lesson:
    """What a batch of clicks teaches: sums, by bucket of history length.

    Attributes
    ----------
    clicks : float64 [buckets]
        How many were looked at.
    gradients, squares : float64 [buckets, features]
        Σ g and Σ g².
    hits : float64 [buckets, experts]
        In how many of the clicks an expert had the item in its top 10.
    version : int, optional
        Clicks in the weights that the gradients were taken at; None: in the present ones.
    clicked_ms : int
        When the clicks were made, ms since the epoch: their median, since a user's clock may be ahead; 0: not known.
    """

    clicks: NDArray[np.float64]
    gradients: NDArray[np.float64]
    squares: NDArray[np.float64]
    hits: NDArray[np.float64]
    version: int | None = None
    clicked_ms: int = 0

    @classmethod
    def empty(cls) -> Lesson:
        """Of no click."""
        by_feature = len(BUCKETS), len(FEATURES)
        return cls(
            np.zeros(len(BUCKETS)), np.zeros(by_feature), np.zeros(by_feature), np.zeros((len(BUCKETS), len(EXPERTS)))
        )

    def add(self, other: Lesson) -> None:
        """Take in another batch."""
        self.clicks += other.clicks
        self.gradients += other.gradients
        self.squares += other.squares
        self.hits += other.hits


def teach(scored: Scored, targets: Sequence[int], learned: NDArray[np.float32], rankings: Rankings) -> Lesson:
    """What clicks teach.

    Parameters
    ----------
    scored
        The users' candidates as they stood before the clicks.
    targets
        The clicked items' rows. One that is no candidate counts as a click that nobody hit.
    learned : float32 [buckets, features]
        The weights that the gradient is taken at.
    """
    lesson = Lesson.empty()
    np.add.at(lesson.clicks, scored.buckets, 1)
    found = scored.candidates
    match = (found.rows == np.asarray(targets)[:, None]) & found.valid
    known = np.flatnonzero(match.any(axis=1))
    if not len(known):
        return lesson
    places, valid, buckets = match[known].argmax(axis=1), found.valid[known], scored.buckets[known]
    features = scored.features[known]
    scores = rankings.scores(learned, features, buckets)
    pull = -_softmax(scores[:, 0], valid)
    pull[np.arange(len(known)), places] += 1
    gradients = np.matmul(features, pull[:, :, None])[:, :, 0]
    np.add.at(lesson.gradients, buckets, gradients)
    np.add.at(lesson.squares, buckets, gradients**2)
    np.add.at(lesson.hits, buckets, hits(scores, valid, places))
    return lesson


class RankerLearner:
    """The weights, and who serves.

    Parameters
    ----------
    prior : float32 [buckets, features]
        Weights to start from.
    config
        Step and half-life.

    Attributes
    ----------
    shared : float64 [features]
        Of all buckets.
    own : float64 [buckets, features]
        On top of those.
    shared_squares, own_squares
        AdaGrad's Σ g² of each.
    choice : ExpertChoice
    version : int
        Clicks learned from.
    young : int
        Clicks below which every click is to be learned from: of late the stream broke.
    breaks : Breaks
        When the stream broke.
    """

    def __init__(self, prior: NDArray[np.float32], config: LearningConfig = LearningConfig()) -> None:
        self.config = config
        self.rankings = Rankings(prior)
        self.shared = np.zeros(len(FEATURES))
        self.own = prior.astype(np.float64)
        self.shared_squares = np.zeros(len(FEATURES))
        self.own_squares = np.zeros((len(BUCKETS), len(FEATURES)))
        self.choice = ExpertChoice(config.half_life, config.caution)
        self.version = 0
        self.young = 0
        self.breaks = Breaks()
        self._on = np.array([part_of(feature) not in config.without for feature in FEATURES])

    def learn(self, lesson: Lesson) -> bool:
        """Take one step along a batch's gradients, a shorter one if they come late, and count the experts' hits.

        Returns whether the stream broke: see :class:`~models.experts.ExpertChoice`. Then AdaGrad's sums keep a share
        only (:mod:`models.breaks`), so the weights move as far again as at a start.
        """
        delay = 0 if lesson.version is None else max(0, self.version - lesson.version)
        steps = self.config.step * self._on / (1 + delay / (DELAY + self.version / SETTLED))
        self.shared_squares += lesson.squares.sum(axis=0)
        self.own_squares += lesson.squares
        self.shared += steps * lesson.gradients.sum(axis=0) / np.sqrt(self.shared_squares + _TINY)
        self.own += steps * lesson.gradients / np.sqrt(self.own_squares + _TINY)
        self.version += int(lesson.clicks.sum())
        broke = self.choice.learn(lesson.clicks, lesson.hits, lesson.clicked_ms)
        if broke:
            self.young = self.version + self.config.young
            left = self.breaks.add([self.choice.steady])
            self.shared_squares *= left
            self.own_squares *= left
        return broke

    def learned(self) -> NDArray[np.float32]:
        """The learned weights, float32 [buckets, features], whoever serves."""
        return np.where(self._on, self.shared + self.own, 0).astype(np.float32)

    def serving(self) -> NDArray[np.float32]:
        """The weights of who serves, float32 [buckets, features]."""
        return self.rankings.weights(self.learned(), self.choice.serving)


def _softmax(scores: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Over the valid places of each row, 0 elsewhere."""
    masked = np.where(valid, scores, np.float32(-np.inf))
    masked -= masked.max(axis=1, keepdims=True)
    np.exp(masked, out=masked)
    shares: NDArray[np.float32] = masked / masked.sum(axis=1, keepdims=True)
    return shares
