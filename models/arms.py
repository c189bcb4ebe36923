"""Arms: what share of the users is served by which ranking, so that what the method adds can be measured.

Everybody is in the arm ``full`` unless a hold-out is set. A hold-out is served by one expert alone (one of popularity,
say): the difference in hit rate between the arms is then caused by the ranking, since who is in which arm depends on
nothing but a hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigurationError
from models.experts import EXPERTS, LEARNED, Rankings
from models.histories import BUCKETS

FULL: Final = "full"
"""The arm of everybody else: whoever the experts' choice lets serve."""

HOLD_OUTS: Final = tuple(expert for expert in EXPERTS if expert != LEARNED)
"""What a hold-out may be served by."""

GROUPS: Final = 20
"""Groups of users that counts are kept by, so that it can be seen how much they differ (:mod:`models.uplift`)."""


class Arms:
    """Which arm a user is in.

    Parameters
    ----------
    shares
        Hold-out → share of the users, 0 … 1; the rest is :data:`FULL`.

    Raises
    ------
    ConfigurationError
        If there is no such expert, or the shares are more than 1 together.
    """

    def __init__(self, shares: Mapping[str, float] | None = None) -> None:
        self.shares = {arm: share for arm, share in (shares or {}).items() if arm != FULL}
        if unknown := sorted(set(self.shares).difference(HOLD_OUTS)):
            raise ConfigurationError(f"no such arm: {', '.join(unknown)}; a hold-out is one of {', '.join(HOLD_OUTS)}")
        if sum(self.shares.values()) > 1:
            raise ConfigurationError(f"the hold-outs' shares are {sum(self.shares.values()):g} together, more than 1")
        self.names = (FULL, *self.shares)

    def number(self, user_id: str) -> int:
        """Position of the user's arm in ``names``: the same in every process and for ever."""
        if not self.shares:
            return 0
        digest = hashlib.blake2b(user_id.encode(), digest_size=8, person=b"strata-arms").digest()
        at = int.from_bytes(digest, "little") / 2**64
        for number, share in enumerate(self.shares.values(), 1):
            at -= share
            if at < 0:
                return number
        return 0

    def of(self, user_id: str) -> str:
        """The user's arm."""
        return self.names[self.number(user_id)]

    def weights(
        self, rankings: Rankings, serving: NDArray[np.float32], learned: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Every arm's weights, float32 [arms, buckets, features]; those that serve first."""
        experts = [np.full(len(BUCKETS), EXPERTS.index(arm)) for arm in self.shares]
        return np.stack([serving, *(rankings.weights(learned, expert) for expert in experts)])


def group_of(user_id: str) -> int:
    """Which of the :data:`GROUPS` a user is in, whatever his arm: the same in every process and for ever."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=8, person=b"strata-groups").digest()
    return int.from_bytes(digest, "little") % GROUPS
