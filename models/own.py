"""What users have chosen themselves and may be offered again: nothing tells better what somebody buys again.

The count of a user's own clicks on an item, over all that his profile remembers, is a ranking of its own: it finds
.096 of the clicks on groceries where all that others clicked together finds .058 (``ops/bench/QUALITY.md``). Counts
that decay, by half every 100 clicks of the user, or that go no further back than his last 50 clicks, found less (.090
and .034 of the same clicks, by a script).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.filters import Filters
from models.histories import Histories
from models.profile import Profile


class Own(NamedTuple):
    """Users' own items, user by user.

    Attributes
    ----------
    ends : int64 [b]
        Where each user's end in the others.
    rows : int64 [k]
        Item rows.
    times : float32 [k]
        How often the user has clicked them.
    """

    ends: NDArray[np.int64]
    rows: NDArray[np.int64]
    times: NDArray[np.float32]

    @classmethod
    def of(cls, profiles: Sequence[Profile], filters: Filters, now_ms: int) -> Own:
        """What these users have met, and may be offered again as far as that goes."""
        ends, found, times = [], [], []
        for profile in profiles:
            again = filters.again(profile, now_ms)
            found.extend(again)
            often = profile.often.get
            times.extend([often(item, 1) for item in again])
            ends.append(len(found))
        rows = filters.rows_at(np.array(found, np.uint64))
        known = rows >= 0
        kept = np.concatenate([[0], np.cumsum(known)])[ends]
        return cls(kept, rows[known], np.array(times, np.float32)[known])

    def each(self) -> list[slice]:
        """Where each user's are."""
        ends = self.ends.tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def most(self, k: int) -> NDArray[np.int64]:
        """The ``k`` rows that each user has clicked most, int64 [b, k]; -1 where there are fewer."""
        made = np.full((len(self.ends), k), -1)
        for user, own in enumerate(self.each()):
            rows, times = self.rows[own], self.times[own]
            if len(rows) > k:
                rows = rows[np.argpartition(-times, k - 1)[:k]]
            made[user, : len(rows)] = rows
        return made

    def of_candidates(self, rows: NDArray[np.int64], valid: NDArray[np.bool_], items: int) -> NDArray[np.float32]:
        """How often each user has clicked each of his candidates.

        Parameters
        ----------
        rows, valid : int64, bool [b, m]
        items
            In the catalogue.

        Returns
        -------
        float32 [b, m]
            0 where he never has, and of what may not be offered to him again.
        """
        times, made = np.zeros(items, np.float32), np.empty(rows.shape, np.float32)
        for user, own in enumerate(self.each()):
            times[self.rows[own]] = self.times[own]
            made[user] = times[rows[user]]
            times[self.rows[own]] = 0
        made *= valid
        return made

    def rested(self, histories: Histories, rows: NDArray[np.int64], times: NDArray[np.float32]) -> NDArray[np.float32]:
        """How long ago users have last clicked their own items among the candidates.

        Parameters
        ----------
        histories
            Theirs.
        rows : int64 [b, m]
        times : float32 [b, m]
            :meth:`of_candidates`.

        Returns
        -------
        float32 [b, m]
            1 − .95^k, k clicks back; 1 of what is not in the history, 0 of what is not their own.
        """
        made = (times > 0).astype(np.float32)
        lately = np.zeros(max(int(rows.max(initial=0)), int(histories.rows.max(initial=0))) + 1, np.float32)
        for user, (clicked, weights) in enumerate(zip(histories.rows, histories.long, strict=True)):
            np.maximum.at(lately, clicked, weights)
            made[user] *= 1 - lately[rows[user]]
            lately[clicked] = 0
        return made
