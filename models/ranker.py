"""The linear ranker: a candidate's score is features · weights, so the parts of a reason add up to it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.candidates import Candidates
from models.features import FEATURES, OFF, part_of
from models.histories import BUCKETS

DEFAULT_WEIGHTS: Final[dict[str, tuple[float, ...]]] = {
    "co.ratio": (1.23, 1.15, 1.25, 1.14, 1.16, 1.51),
    "co.log": (0.06, 0.06, 0.00, 0.08, 0.05, 0.13),
    "co.rank": (0.00, 0.07, 0.05, 0.01, 0.00, 0.00),
    "co.short.ratio": (0.33, 0.25, 0.40, 0.28, 0.43, 0.27),
    "co.short.rank": (0.00, 0.07, 0.09, 0.00, 0.00, 0.00),
    "text.ratio": (0.34, 0.17, 0.40, 0.60, 0.25, 0.24),
    "text.log": (0.13, 0.12, 0.12, 0.16, 0.10, 0.16),
    "text.like.log": (0.38, 0.20, 0.24, 0.30, 0.63, 0.50),
    "text.like.rank": (0.07, 0.04, 0.06, 0.22, 0.08, 0.02),
    "layer.ratio": (0.05, 0.00, 0.00, 0.00, 0.00, 0.07),
    "layer.log": (0.14, 0.22, 0.05, 0.00, 0.02, 0.07),
    "sequence.log": (1.51, 1.13, 0.72, 0.75, 0.58, 0.42),
    "sequence.rank": (0.11, 0.09, 0.00, 0.00, 0.00, 0.10),
    "linear.ratio": (0.09, 0.00, 0.13, 0.11, 0.19, 0.24),
    "linear.log": (0.23, 0.28, 0.13, 0.24, 0.35, 0.18),
    "linear.rank": (0.26, 0.16, 0.37, 0.30, 0.22, 0.26),
    "own.rank": (0.00, 0.00, 0.00, 0.00, 0.00, 0.29),
    "text.new": (0.80, 0.75, 0.81, 0.73, 0.77, 0.88),
    "own.rested": (0.00, 0.00, 0.00, 0.00, 0.00, 1.02),
    "popularity.300.ratio": (0.20, 0.11, 0.03, 0.00, 0.02, 0.03),
    "popularity.300.log": (0.51, 0.44, 0.49, 0.05, 0.09, 0.22),
    "popularity.1000.ratio": (0.15, 0.03, 0.03, 0.00, 0.04, 0.00),
    "popularity.1000.log": (0.61, 0.52, 0.56, 0.49, 0.34, 0.18),
    "popularity.3000.ratio": (0.09, 0.00, 0.02, 0.00, 0.00, 0.00),
    "popularity.3000.log": (0.13, 0.15, 0.06, 0.07, 0.00, 0.00),
    "popularity.10000.ratio": (0.05, 0.00, 0.00, 0.00, 0.00, 0.00),
    "popularity.10000.log": (0.10, 0.18, 0.05, 0.12, 0.00, 0.00),
    "popularity.50000.log": (0.09, 0.19, 0.04, 0.14, 0.00, 0.00),
    "item.log_count": (0.27, 0.28, 0.26, 0.27, 0.15, 0.23),
}
"""Feature → weight for each of :data:`~models.histories.BUCKETS`; a feature that is not named weighs nothing.

Fitted by ``python -m ops.tune`` on the first fifth of ``movielens-100k``, ``movielens-100k-new`` and
``../shared/data/online-retail:100000``, which the quality report only tunes with; those of the user's own items, which
matter where items may come again, on that of its ``online-retail`` and ``completejourney``. Those of the parts in
:data:`~models.features.OFF` count for who turns them on.
"""


def as_weights(named: Mapping[str, tuple[float, ...]]) -> NDArray[np.float32]:
    """float32 [buckets, features] from weights by name."""
    weights = np.zeros((len(BUCKETS), len(FEATURES)), np.float32)
    for name, values in named.items():
        weights[:, FEATURES.index(name)] = values
    return weights


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    """How lists are made; what of it users may set is in :mod:`ops.settings.lists`."""

    mix: float = 0.5
    """a: share of the re-encoded vector in the user's vector, 0 … 1; the rest is the decayed mean of his items."""
    text_candidates: int = 80
    """Nearest items by vector that are looked at."""
    like_candidates: int = 60
    """Items that are looked at since they read like single clicks."""
    co_candidates: int = 120
    """Co-clicked items that are looked at."""
    linear_candidates: int = 40
    """Items that are looked at since the linear part speaks for them."""
    own_candidates: int = 60
    """Items that are looked at since the user has chosen them himself, those most often; where they may come again."""
    layer_candidates: int = 45
    """Top items of the user's layers that are looked at."""
    popular_candidates: int = 30
    """What is popular with everybody that is looked at."""
    new_candidates: int = 20
    """New items that are looked at: by co, and by text."""
    new_items: int = 1
    """Places of a list that are kept for new items, the last ones, unless most clicks are on such; the other places go
    by score alone."""
    new_within: float = 2.0
    """How far below the item that it displaces the score of a new one may be."""
    diversity: float = 0.15
    """λ of maximal marginal relevance, 0 (by score alone) … 1."""
    diversity_pool: int = 20
    """Best candidates among which diversity chooses."""
    repeat_after_s: Mapping[str, float] = field(default_factory=dict)
    """Event kind → seconds after which an item that the user met so may be offered again; never where not named."""
    blocked_categories: frozenset[str] = frozenset()
    """Categories that are never offered."""
    blocked_labels: frozenset[str] = frozenset()
    """Safety labels that are never offered."""
    weights: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: DEFAULT_WEIGHTS)
    """Weights of the features by bucket of history length: see :data:`DEFAULT_WEIGHTS`."""
    without: frozenset[str] = OFF
    """Parts whose weights are 0 whatever ``weights`` says. As experts, candidates and names they stay."""
    arms: Mapping[str, float] = field(default_factory=dict)
    """Hold-out → share of the users: see :class:`~models.arms.Arms`."""

    @property
    def prior(self) -> NDArray[np.float32]:
        """float32 [buckets, features]: what lists are made with until something has been learned."""
        return as_weights({name: row for name, row in self.weights.items() if part_of(name) not in self.without})


@dataclass(slots=True, frozen=True)
class Scored:
    """Candidates with their features: what a list is made from, and what the weights learn from.

    Attributes
    ----------
    candidates
        Who is ranked.
    features : float32 [b, features, m]
    buckets : int64 [b]
    scores : float32 [b, m]
        features · weights; -inf in places that are not valid.
    """

    candidates: Candidates
    features: NDArray[np.float32]
    buckets: NDArray[np.int64]
    scores: NDArray[np.float32]


def score(
    weights: NDArray[np.float32],
    features: NDArray[np.float32],
    valid: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """features · weights, float32 [b, m]; -inf where not ``valid``.

    Parameters
    ----------
    weights : float32 [b, features]
        Each user's.
    features : float32 [b, features, m]
    valid : bool [b, m]
    """
    scores: NDArray[np.float32] = np.matmul(weights[:, None, :], features)[:, 0]
    scores[~valid] = -np.inf
    return scores
