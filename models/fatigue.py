"""What a user was shown again and again without a click steps back for a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.filters import Filters
from models.policy import Policy
from models.profile import Profile
from models.shown import Shown

KEEP_S: Final = 3_600
"""How long shows are remembered without a rule, s: a click so long after one is still a click on what was shown."""


class Fatigue:
    """Follows the policy's rule over what was shown.

    Nothing is stored of it: whether an item is withheld follows from what is remembered of shows, and from the
    profile's last click on it. It never makes a list short: where too little else may be offered, what was shown the
    longest ago comes back first.

    Parameters
    ----------
    counts
        Rule → how often it kept something from somebody, to be added to.
    """

    def __init__(self, shown: Shown, filters: Filters, counts: MutableMapping[str, int]) -> None:
        self._shown = shown
        self._filters = filters
        self._counts = counts
        self.apply(Policy())

    def apply(self, policy: Policy) -> None:
        """Take another rule. What was forgotten stays so: a longer time counts in full once it has passed."""
        self._rule = policy.fatigue
        self._shown.keep_s = KEEP_S if self._rule is None else max(KEEP_S, self._rule.seconds)

    def __bool__(self) -> bool:
        """Whether there is a rule."""
        return self._rule is not None

    def often(self, user_id: str, items: Iterable[int], now: int) -> list[int]:
        """Those of these items (hashes) that a user was shown too often, if he has not clicked them since.

        ``now``: s since the epoch.
        """
        if self._rule is None:
            return []
        counts = Counter(item for item, _ in self._shown.since(user_id, now - self._rule.seconds))
        return [item for item in items if counts[item] >= self._rule.after]

    def reached(self, profile: Profile, items: Iterable[int], now: int) -> list[int]:
        """Those of these items whose newest show is the one that is too many."""
        if self._rule is None:
            return []
        after, since = self._rule.after, now - self._rule.seconds
        return [item for item in items if self._shows(profile, item, since) == after]

    def tired_of(self, profile: Profile, now: int) -> list[int]:
        """What is to be withheld from a user (hashes), the last shown first."""
        if self._rule is None:
            return []
        after, since = self._rule.after, now - self._rule.seconds
        shows = self._shown.since(profile.user_id, since)
        counts, last = Counter(item for item, _ in shows), dict(shows)
        tired = [item for item, count in counts.items() if count >= after]
        tired = [item for item in tired if item not in profile.seen or self._shows(profile, item, since) >= after]
        return sorted(tired, key=lambda item: (-last[item], item))

    def _shows(self, profile: Profile, item: int, since: int) -> int:
        """Shows after this moment and the user's last click on the item."""
        since = max(since, profile.seen.get(item, (0, ""))[0])
        return sum(at > since for at in self._shown.times(profile.user_id, item))

    def withheld(
        self,
        profiles: Sequence[Profile],
        withheld: NDArray[np.int64],
        offered: NDArray[np.bool_],
        least: int,
        now_ms: int,
    ) -> NDArray[np.int64]:
        """What each user may not be offered, this included.

        Parameters
        ----------
        withheld : int64
            The rest of it, as :meth:`~models.filters.Filters.withheld` has it.
        offered : bool [n]
            What may be offered to anybody.
        least
            Items that must be left for each user.
        """
        n, on_offer = len(offered), int(offered.sum())
        keys = [withheld]
        for user, profile in enumerate(profiles):
            if not (tired := self.tired_of(profile, now_ms // 1000)):
                continue
            mine = set((withheld[withheld // n == user] % n).tolist())
            spare = on_offer - int(offered[list(mine)].sum()) - least
            rows = [row for row in self._filters.rows_of(tired) if offered[row] and row not in mine][: max(0, spare)]
            self._counts["fatigue"] += len(rows)
            keys.append(np.array(rows, np.int64) + user * n)
        return np.sort(np.concatenate(keys)) if len(keys) > 1 else withheld
