"""iALS by the library ``implicit``, refitted at intervals; users are folded in from their live histories.

Hu, Koren, Volinsky, Collaborative filtering for implicit feedback datasets, ICDM 2008.
"""

from __future__ import annotations

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray

from ops.peers.protocol import Questions, positive
from ops.peers.refitted import Refitted, pairs


class IALS(Refitted):
    """Factors of users and items; a user's are solved for anew at each question, so that he is never stale.

    Parameters
    ----------
    factors, regularization, alpha, iterations
        As in ``implicit``; iterations are those of a refit, which begins at the factors of the last one.
    decay
        Weight (of confidence) of a click in the user's history against the next newer one.
    """

    def __init__(
        self,
        items: int,
        *,
        factors: int = 64,
        regularization: float = 1.0,
        alpha: float = 5.0,
        iterations: int = 5,
        decay: float = 0.95,
        every: int = 5_000,
        seed: int = 7,
    ) -> None:
        super().__init__(items, every=every)
        positive(factors=factors, alpha=alpha, iterations=iterations, decay=decay)
        self.decay = decay
        self.seed = seed
        self._model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularization,
            alpha=alpha,
            iterations=iterations,
            num_threads=1,
            random_state=seed,
        )

    def fit(self, users: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """A few more iterations over all clicks; the item factors go on from where they are."""
        clicked = pairs(users, rows, self.items)
        if self._model.user_factors is not None:
            self._model.user_factors = self._more(self._model.user_factors, clicked.shape[0])
        self._model.fit(clicked, show_progress=False)

    def scores(self, questions: Questions) -> NDArray[np.float32]:
        """User · item; nothing to say of an item that nobody clicked."""
        history = questions.history(self.decay)
        users = self._model.recalculate_user(questions.users, history)
        scores: NDArray[np.float32] = users @ self._model.item_factors.T
        scores[:, ~self.clicked] = -np.inf
        return scores

    def _more(self, factors: NDArray[np.float32], users: int) -> NDArray[np.float32]:
        more = max(0, users - len(factors))
        random = np.random.default_rng([self.seed, users])
        return np.concatenate([factors, 0.01 * random.random((more, factors.shape[1]), np.float32)])
