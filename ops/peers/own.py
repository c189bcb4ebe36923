"""What the user has clicked most: where items may be offered again, the first thing that anybody would run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ops.peers.popularity import Filled
from ops.peers.protocol import Clicks, Questions, positive, top, within


class OwnItems:
    """A user's items by how often he has clicked them, those of his last clicks not yet learned as well.

    After them what is popular, for who has too few.

    Parameters
    ----------
    items
        Size of the catalogue.
    """

    def __init__(self, items: int) -> None:
        positive(items=items)
        self._filled = Filled(items)
        self._clicked: dict[int, dict[int, int]] = {}
        self._learned: dict[int, int] = {}

    def recommend(self, questions: Questions, n: int) -> NDArray[np.int64]:
        """The user's own, then what is popular."""
        scores = np.zeros((len(questions), questions.items), np.float32)
        each = zip(questions.users.tolist(), questions.lengths.tolist(), questions.histories, strict=True)
        for place, (user, length, history) in enumerate(each):
            own = self._clicked.get(user, {})
            scores[place, list(own)] = list(own.values())
            # as live as everybody's histories
            newer = history[: length - self._learned.get(user, 0)]
            np.add.at(scores[place], newer[newer >= 0], 1)
        return top(self._filled.fill(scores, scores > 0), questions, n)

    def learn(self, clicks: Clicks) -> None:
        """Count clicks."""
        within(clicks, len(self._filled.popular.counts))
        self._filled.learn(clicks)
        for user, row in zip(clicks.users.tolist(), clicks.rows.tolist(), strict=True):
            own = self._clicked.setdefault(user, {})
            own[row] = own.get(row, 0) + 1
            self._learned[user] = self._learned.get(user, 0) + 1
