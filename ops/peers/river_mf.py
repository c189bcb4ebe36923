"""Factorisation by ``river.reco``: learned click by click, as it comes from River."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from river import optim
from river.reco import FunkMF

from ops.peers.popularity import Filled
from ops.peers.protocol import Clicks, Questions, positive, top, within


class RiverMF:
    """:class:`river.reco.FunkMF` on clicks (1) and as many drawn items that were not clicked (0).

    River ranks an item at a time; here all items are ranked at once from its own latent vectors, which gives the same
    numbers. Its user vectors are its own memory of a user, live after each click.

    Parameters
    ----------
    factors
        Length of a latent vector.
    rate
        Step of stochastic gradient descent.
    l2
        Pull of latents to 0.
    negatives
        Drawn for each click, among what was clicked before by anybody.
    """

    def __init__(
        self,
        items: int,
        *,
        factors: int = 16,
        rate: float = 0.05,
        l2: float = 0.001,
        negatives: int = 4,
        seed: int = 7,
    ) -> None:
        positive(items=items, factors=factors, rate=rate, negatives=negatives)
        self.items = items
        self.negatives = negatives
        self.model = FunkMF(
            n_factors=factors,
            optimizer=optim.SGD(rate),
            l2=l2,
            initializer=optim.initializers.Normal(mu=0.0, sigma=0.1, seed=seed),
            clip_gradient=5.0,
            seed=seed,
        )
        self._draw = np.random.default_rng(seed)
        self._latents = np.zeros((items, factors), np.float32)
        self._clicked = np.zeros(items, np.bool_)
        self._seen: list[int] = []
        self._filled = Filled(items)

    def recommend(self, questions: Questions, n: int) -> NDArray[np.int64]:
        """River's predictions for all items; who is new to River is served what is popular."""
        known = np.array([user in self.model.u_latents for user in questions.users.tolist()])
        scores = np.full((len(questions), self.items), -np.inf, np.float32)
        if known.any():
            users = np.stack([self.model.u_latents[user] for user in questions.users[known].tolist()])
            scores[known] = users.astype(np.float32) @ self._latents.T
            scores[:, ~self._clicked] = -np.inf
        return top(self._filled.fill(scores, np.isfinite(scores)), questions, n)

    def learn(self, clicks: Clicks) -> None:
        """One step for each click and each drawn item."""
        within(clicks, self.items)
        self._filled.learn(clicks)
        touched: set[int] = set()
        for user, row in zip(clicks.users.tolist(), clicks.rows.tolist(), strict=True):
            self.model.learn_one(user, row, 1.0)
            touched.add(row)
            for drawn in self._draw.integers(0, max(1, len(self._seen)), self.negatives).tolist():
                if self._seen and (other := self._seen[drawn]) != row:
                    self.model.learn_one(user, other, 0.0)
                    touched.add(other)
            self._seen.append(row)
        rows = sorted(touched)
        if rows:
            self._latents[rows] = np.stack([self.model.i_latents[row] for row in rows])
            self._clicked[rows] = True
