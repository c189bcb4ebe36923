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
    "co.ratio": (0, 1.0, 1.0, 1.0, 1.0, 1.0),
    "co.log": (0, 0.3, 0.3, 0.3, 0.3, 0.3),
    "text.ratio": (0, 0.1, 0.1, 0.05, 0.05, 0.05),
    "layer.ratio": (0.0, 0.1, 0.1, 0.1, 0.05, 0.05),
    "popularity.3000.ratio": (1.0, 0.3, 0.2, 0.1, 0.02, 0.02),
}
"""Feature → weight for each of :data:`~models.histories.BUCKETS`; a feature that is not named weighs nothing."""


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
