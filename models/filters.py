"""What a user may not be offered: what he has seen, what is not on offer, what is blocked, for all or for him."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.hash_rows import HashRows
from models.items import NEVER, ItemStore
from models.policy import Policy
from models.profile import Profile
from models.user_blocks import UserBlocks

_WHY: Final = ("", "blocked_item", "blocked_category", "blocked_label")


class Filters:
    """Hard filters: an item that one of them catches is in no list.

    Parameters
    ----------
    items
        The catalogue.
    repeat_after_s
        Event kind → seconds after which an item that the user met so may be offered again. A kind that is not named
        never repeats; a dismissal, therefore, neither.
    blocked_categories, blocked_labels
        Categories and safety labels that are never offered.
    counts
        Rule → how often it kept something from somebody, to be added to: see :data:`~models.policy.RULES`.

    Attributes
    ----------
    users : UserBlocks
        What the policy blocks for single users.
    """

    def __init__(
        self,
        items: ItemStore,
        repeat_after_s: Mapping[str, float],
        blocked_categories: frozenset[str],
        blocked_labels: frozenset[str],
        counts: MutableMapping[str, int],
    ) -> None:
        self.items = items
        self.users = UserBlocks(items)
        self._counts = counts
        self._set = (repeat_after_s, blocked_categories, blocked_labels)
        self._rows = HashRows()
        self._allowed: NDArray[np.bool_] = np.ones(0, np.bool_)
        self._why: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._away: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._looked_ms = 0
        self._on_offer: NDArray[np.bool_] = self._allowed
        self._offered_at = (-1, -1)  # the catalogue's revision and the rules', for which it holds
        self._offered_ms = (0, 0)  # from when on, and until when
        self._followed = 0
        self.apply(Policy())

    def apply(self, policy: Policy) -> None:
        """Take other rules; :meth:`follow` with ``again`` must come next."""
        repeat_after_s, categories, labels = self._set
        self.repeat_after_s = repeat_after_s if policy.repeat_after is None else policy.repeat_after
        self._blocked = (
            policy.blocked.blocked_items,
            categories | policy.blocked.blocked_categories,
            labels | policy.blocked.blocked_labels,
        )
        self._blocking = any(self._blocked)
        self.users.apply(policy.users)

    @property
    def known(self) -> int:
        """Items that :meth:`follow` has seen."""
        return len(self._allowed)

    def follow(self, again: bool = False) -> None:
        """Follow the catalogue's new and ``changed`` rows; to be called before the index empties ``changed``.

        With ``again`` all rows are looked at, because the rules are other ones.
        """
        items = self.items
        known, n = len(self._rows), len(items)
        if known < n:
            self._rows.extend(items.hashes[known:n])
            self._allowed = np.concatenate([self._allowed, np.ones(n - len(self._allowed), np.bool_)])
            self._why = np.concatenate([self._why, np.zeros(n - len(self._why), np.uint8)])
            self._away = np.concatenate([self._away, np.zeros(n - len(self._away), np.bool_)])
        rows = range(n) if again else items.changed
        if not rows:
            return
        self._followed += 1
        looked = np.fromiter(rows, np.int64, len(rows))
        away = items.described[looked] & ~items.available[looked]
        self._counts["unavailable"] += int((away & ~self._away[looked]).sum())
        self._away[looked] = away
        if self._blocking or again:
            for row in rows:
                self._block(row)
        self.users.follow(rows)

    def _reason(self, row: int) -> int:
        """Which of :data:`_WHY` blocks an item for everybody, 0 for none."""
        items, (ids, categories, labels) = self.items, self._blocked
        if items.ids[row] in ids:
            return 1
        if items.categories[row] in categories:
            return 2
        return 3 if labels.intersection(items.safety[row]) else 0

    def _block(self, row: int) -> None:
        why = self._reason(row)
        if why != self._why[row]:
            self._why[row], self._allowed[row] = why, not why
            if why:
                self._counts[_WHY[why]] += 1

    def count_expired(self, now_ms: int) -> None:
        """Count the items that have expired since the last call."""
        expires = self.items.expires_ms[: len(self.items)]
        self._counts["expired"] += int(((expires > self._looked_ms) & (expires <= now_ms)).sum())
        self._looked_ms = now_ms

    def offered(self, now_ms: int) -> NDArray[np.bool_]:
        """Which items may be offered to anybody, bool [n]; the same array, not to be written to, while they stay so."""
        items, at, (start, end) = self.items, (self.items.revision, self._followed), self._offered_ms
        if at != self._offered_at or len(self._on_offer) != len(self._allowed) or not start <= now_ms < end:
            self._on_offer, end = _offered(items.encoded, items.available, items.expires_ms, self._allowed, now_ms)
            self._offered_at, self._offered_ms = at, (now_ms, end)
        return self._on_offer

    def is_offered(self, row: int, now_ms: int) -> bool:
        """The same of one item, without a pass over all; also of one that came after the last :meth:`follow`."""
        items = self.items
        allowed = self._allowed[row] if row < len(self._allowed) else not self._reason(row)
        return bool(allowed and items.encoded[row] and items.available[row] and items.expires_ms[row] > now_ms)

    def awaited(self, now_ms: int) -> NDArray[np.bool_]:
        """Which items lack nothing but a vector to be offered, bool [n]: the only ones are another model's yet."""
        items, n = self.items, len(self._allowed)
        awaited: NDArray[np.bool_] = items.available[:n] & ~items.encoded[:n]
        if awaited.any():  # mostly there is none
            awaited &= self._allowed & (items.expires_ms[:n] > now_ms)
        return awaited

    def may_repeat(self, profile: Profile, row: int, now_ms: int) -> bool:
        """Whether an item may be offered to a user as far as what he has seen goes."""
        met = profile.seen.get(int(self.items.hashes[row]))
        if met is None:
            return True
        at, event = met
        return event in self.repeat_after_s and now_ms // 1000 - at >= self.repeat_after_s[event]

    def rows_of(self, hashes: Iterable[int]) -> list[int]:
        """The rows of those of these items that :meth:`follow` has seen, in their order."""
        rows: list[int] = self.rows_at(np.fromiter(hashes, np.uint64)).tolist()
        return [row for row in rows if row >= 0]

    def withheld(self, profiles: Sequence[Profile], now_ms: int) -> NDArray[np.int64]:
        """What each user may not be offered though others may, as keys user · n + row, int64, user by
        user.

        What he has seen and may not see again, and what is blocked for him. ``n`` is the number of items that
        :meth:`follow` knew; users count from 0.
        """
        n = len(self._allowed)
        met: list[Collection[int]] = [profile.seen for profile in profiles]
        if self.repeating:
            met = [self._not_again(profile, now_ms) for profile in profiles]
        sizes = np.fromiter(map(len, met), np.int64, len(met))
        rows = self.rows_at(np.fromiter(chain.from_iterable(met), np.uint64, int(sizes.sum())))
        users = np.repeat(np.arange(len(met)), sizes)[rows >= 0]
        keys = rows[rows >= 0] + users * n
        self._counts["seen"] += len(keys)
        if not self.users.users:
            return keys
        blocked = [self.users.rows(profile.user_id) for profile in profiles]
        self._counts["user_blocked"] += sum(map(len, blocked))
        return np.sort(np.concatenate([keys, *(rows + user * n for user, rows in enumerate(blocked))]))

    @property
    def repeating(self) -> bool:
        """Whether anything that a user has met may be offered to him again."""
        return bool(self.repeat_after_s)

    def again(self, profile: Profile, now_ms: int) -> list[int]:
        """What a user has met and may be offered again (hashes)."""
        waits, now_s = self.repeat_after_s, now_ms // 1000
        return [item for item, (at, event) in profile.seen.items() if event in waits and now_s - at >= waits[event]]

    def rows_at(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The rows of these items, -1 for those that :meth:`follow` has not seen; int64 of the same shape."""
        rows: NDArray[np.int64] = self._rows.look_up(hashes)
        return rows

    def _not_again(self, profile: Profile, now_ms: int) -> list[int]:
        """What a user has met and may not be offered again yet (hashes)."""
        again = set(self.again(profile, now_ms))
        self._counts["repeat_after"] += len(again)
        return [item for item in profile.seen if item not in again]


@compiled
def _offered(
    encoded: NDArray[np.bool_], available: NDArray[np.bool_], expires_ms: NDArray[np.int64],
    allowed: NDArray[np.bool_], now_ms: int,
) -> tuple[NDArray[np.bool_], int]:  # fmt: skip
    """Encoded, available, allowed and not expired, and when the first of these expires.

    One pass over what may be a million items.
    """
    offered, end = np.empty(len(allowed), np.bool_), NEVER
    for item in range(len(allowed)):
        offered[item] = encoded[item] & available[item] & allowed[item] & (expires_ms[item] > now_ms)
        end = min(end, expires_ms[item] if offered[item] else NEVER)
    return offered, end
