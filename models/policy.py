"""What whoever runs Strata knows beforehand, as rules: what is blocked, raised, pinned, capped, and what may repeat.

The file is read by :mod:`models.policy_file`; :mod:`models.filters`, :mod:`models.user_blocks` and
:mod:`models.promotion` follow the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct, field

MOST_RULES: Final = 64
"""Boosts, and pins, in a policy at most: each has a counter, and a column over all items."""

EVERY: Final = "*"
"""The category of a cap that is meant for every category without one of its own."""

LONGEST_FATIGUE_S: Final = 7 * 86_400
"""As long as impressions are kept where Strata creates their topic, s."""

Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,39}$")]
"""Of a rule: the label of its counter."""

Seconds = Annotated[float, Meta(ge=0, le=1e10)]
Places = Annotated[int, Meta(ge=0, le=1_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Moment = Annotated[datetime, Meta(tz=True)]


class Blocked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is never offered to a user."""

    blocked_categories: frozenset[str] = frozenset()
    blocked_labels: frozenset[str] = frozenset()
    """Safety labels."""
    blocked_items: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether anything is."""
        return bool(self.blocked_categories or self.blocked_labels or self.blocked_items)


class Timed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule with a name, and a time if it has one."""

    name: Name
    since: Moment | None = field(default=None, name="from")
    """It holds from this moment on."""
    until: Moment | None = None
    """It does not hold any more from this moment on."""

    def holds(self, now_ms: int) -> bool:
        """Whether it holds at this time, ms since the epoch."""
        now = now_ms / 1000
        return (self.since is None or self.since.timestamp() <= now) and (
            self.until is None or now < self.until.timestamp()
        )


class Boost(Timed, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raises the score of items of a category, with a tag, or of one item; exactly one of the three is given."""

    add: Annotated[float, Meta(ge=-100, le=100)]
    """Added to the score, which is a sum of a few parts around 1; below 0 it lowers."""
    category: str | None = None
    tag: str | None = None
    item: str | None = None


class Pin(Timed, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts an item at a place of every list whose user may be offered it."""

    item: str
    place: Annotated[int, Meta(ge=1, le=1_000)]
    """1 is the first."""


class Fatigue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Withholds an item from a user who was shown it so often within so long, and has not clicked it since."""

    after: Annotated[int, Meta(ge=1, le=100)]
    """Shows."""
    seconds: Annotated[int, Meta(ge=1, le=LONGEST_FATIGUE_S)] = field(name="for")
    """How long a show counts, s; so an item comes back once the first of them is as long ago."""


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rules; of what is not given, the settings hold."""

    repeat_after: dict[str, Seconds] | None = None
    """Event kind → seconds after which an item that the user met so may come again; in place of the setting."""
    diversity: Share | None = None
    """λ of maximal marginal relevance; in place of the setting."""
    blocked: Blocked = Blocked()
    """For everybody, besides what the settings block."""
    users: dict[str, Blocked] = {}
    """For single users, besides."""
    category_caps: dict[str, Places] = {}
    """Items of a category in a list, at most; :data:`EVERY`: of any category without a cap of its own."""
    fatigue: Fatigue | None = None
    """What was shown too often; None: nothing ever is."""
    boosts: tuple[Boost, ...] = ()
    pins: tuple[Pin, ...] = ()

    @property
    def rules(self) -> frozenset[str]:
        """The counters' labels of boosts and pins."""
        return frozenset(boost_rule(boost) for boost in self.boosts) | {pin_rule(pin) for pin in self.pins}

    def stored(self, names: Callable[[str], str]) -> Policy:
        """The same with users by the names that they are stored under, too.

        A file may thus name a user by his own id or by his pseudonym.
        """
        return msgspec.structs.replace(self, users=self.users | {names(user): b for user, b in self.users.items()})


def boost_rule(boost: Boost) -> str:
    """The label of a boost's counter."""
    return f"boost:{boost.name}"


def pin_rule(pin: Pin) -> str:
    """The label of a pin's counter."""
    return f"pin:{pin.name}"


RULES: Final = (
    "unavailable",
    "expired",
    "blocked_category",
    "blocked_label",
    "blocked_item",
    "user_blocked",
    "seen",
    "repeat_after",
    "dismissed",
    "fatigue",
    "category_cap",
    "diversity",
    "new_items",
)
"""The counters' labels of all other rules.

Items that came under it: the first five.
Items kept from users, list by list: user_blocked, seen, fatigue, category_cap.
Seen items that a user may be offered again, list by list: repeat_after.
Dismissals that were read: dismissed.
Items in a list that the score alone would not have put there: diversity, new_items.
Boosts count the items in lists that they changed, pins the lists that they are in.
"""
