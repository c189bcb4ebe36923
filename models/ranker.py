"""The linear ranker: a candidate's score is features · weights, so the parts of a reason add up to it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.features import FEATURES, PERSONAL
from models.histories import BUCKETS

DEFAULT_WEIGHTS: Final[dict[str, tuple[float, ...]]] = {
    "co.ratio": (1.74, 1.78, 1.80, 1.80, 1.90, 1.72),
    "co.log": (0.46, 0.24, 0.41, 0.52, 0.68, 0.45),
    "co.rank": (0.14, 0.29, 0.18, 0.11, 0.16, 0.03),
    "co.3.ratio": (0.02, 0.06, 0.02, 0.04, 0.03, 0.00),
    "co.3.rank": (0.40, 0.63, 0.52, 0.40, 0.34, 0.29),
    "text.ratio": (0.47, 0.41, 0.40, 0.64, 0.38, 0.47),
    "text.log": (0.24, 0.24, 0.20, 0.28, 0.22, 0.26),
    "text.rank": (0.21, 0.16, 0.25, 0.10, 0.23, 0.23),
    "layer.ratio": (0.19, 0.00, 0.00, 0.00, 0.00, 0.01),
    "layer.log": (0.35, 0.42, 0.17, 0.11, 0.03, 0.04),
    "layer.rank": (0.17, 0.00, 0.08, 0.00, 0.00, 0.00),
    "text.new": (0.28, 0.26, 0.29, 0.28, 0.28, 0.31),
    "popularity.300.ratio": (0.29, 0.02, 0.06, 0.00, 0.00, 0.00),
    "popularity.300.log": (0.21, 0.17, 0.15, 0.00, 0.00, 0.01),
    "popularity.300.rank": (0.33, 0.14, 0.09, 0.00, 0.00, 0.00),
    "popularity.1000.ratio": (0.27, 0.08, 0.02, 0.00, 0.01, 0.00),
    "popularity.1000.log": (0.37, 0.29, 0.24, 0.11, 0.01, 0.01),
    "popularity.1000.rank": (0.28, 0.19, 0.10, 0.00, 0.02, 0.00),
    "popularity.3000.ratio": (0.23, 0.08, 0.02, 0.00, 0.00, 0.00),
    "popularity.3000.log": (0.85, 0.75, 0.64, 0.66, 0.41, 0.48),
    "popularity.3000.rank": (0.20, 0.18, 0.12, 0.00, 0.00, 0.00),
    "popularity.10000.ratio": (0.19, 0.07, 0.01, 0.00, 0.00, 0.00),
    "popularity.10000.log": (0.22, 0.10, 0.01, 0.00, 0.00, 0.00),
    "popularity.10000.rank": (0.17, 0.16, 0.06, 0.00, 0.00, 0.00),
    "popularity.50000.ratio": (0.17, 0.08, 0.01, 0.00, 0.00, 0.00),
    "popularity.50000.log": (0.20, 0.10, 0.02, 0.00, 0.00, 0.00),
    "popularity.50000.rank": (0.16, 0.15, 0.09, 0.00, 0.00, 0.00),
}
"""Feature → weight for each of :data:`~models.histories.BUCKETS`; a feature that is not named weighs nothing.

Fitted on the first fifth of three data sets: ``python -m ops.tune movielens-100k movielens-100k-new
../shared/data/online-retail``. Layers have earned a weight with up to nine clicks, popularity at several speeds with up
to three.
"""


def as_weights(named: Mapping[str, tuple[float, ...]]) -> NDArray[np.float32]:
    """float32 [buckets, features] from weights by name."""
    weights = np.zeros((len(BUCKETS), len(FEATURES)), np.float32)
    for name, values in named.items():
        weights[:, FEATURES.index(name)] = values
    return weights


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    """How lists are made. Every field is a setting of the updater."""

    mix: float = 0.5
    """a: share of the re-encoded vector in the user's vector, 0 … 1; the rest is the decayed mean of his items."""
    text_candidates: int = 200
    """Nearest items by vector that are looked at."""
    co_candidates: int = 200
    """Co-clicked items that are looked at."""
    layer_candidates: int = 100
    """Top items of the user's layers that are looked at."""
    popular_candidates: int = 50
    """What is popular with everybody that is looked at."""
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


def score(
    weights: NDArray[np.float32],
    buckets: NDArray[np.int64],
    personal: NDArray[np.float32],
    shared: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> NDArray[np.float32]:
    """features · weights.

    The items' own features are weighed once per bucket for the whole catalogue and then looked up.

    Parameters
    ----------
    weights : float32 [buckets, features]
    buckets : int64 [b]
        Each user's.
    personal : float32 [b, len(PERSONAL), m]
    shared : float32 [len(SHARED), n]
    rows : int64 [b, m]
        The candidates.

    Returns
    -------
    float32 [b, m]
    """
    split = len(PERSONAL)
    own = np.matmul(weights[buckets, None, :split], personal)[:, 0]
    own += (weights[:, split:] @ shared)[buckets[:, None], rows]
    scores: NDArray[np.float32] = own
    return scores
