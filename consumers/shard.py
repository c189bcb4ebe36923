"""The users of one partition of ``clicks``: their profiles, and what is still owed to them."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from consumers.client import Record
from consumers.served import ServedLists
from models.errors import InvalidEvent
from models.items import ItemStore
from models.lessons import Question
from models.profile import Profile
from models.records import ApplyMark, ProfileRecord, decode
from producers.sender import Headers

UserKey = tuple[int, str]
"""Partition and user: what a user is known by in a process that has several partitions."""

log = logging.getLogger(__name__)

_TRACED: Final = 2_000
"""Traces remembered of a partition's users: 0.2 KB each, 0.8 KB with the longest state."""


@dataclass(slots=True)
class Owed:
    """A user whose list does not contain his newest clicks yet.

    Attributes
    ----------
    record
        The oldest click, as it was read.
    records
        All of them in order; kept for the dead letters.
    questions
        Those of them that the ranker learns from, with the user as he was before each.
    since
        When it was read, monotonic s: the deadline counts from here.
    event_ts
        Time of the newest click, ms since the epoch: freshness counts from here.
    changed
        Whether the profile changed; a replayed click only makes the same list go out again.
    """

    record: Record
    since: float
    event_ts: int
    changed: bool = False
    records: list[Record] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.records.append(self.record)

    @property
    def first(self) -> int:
        """Offset of the oldest click that no published list contains: nothing from here on may be committed."""
        return self.record.offset


class Shard:
    """One partition's users.

    A profile is kept as the bytes of its record and becomes an object when its user clicks; at most ``hot`` stay
    objects. So a restore is a copy, and a million idle users cost what their records measure.

    Parameters
    ----------
    partition
        Of ``clicks``, and so of ``profiles`` and ``recommendations``.
    hot
        Profiles kept as objects at most, besides those that are owed a list.
    list_length
        Items in a list at most.

    Attributes
    ----------
    owed : dict[str, Owed]
        In the order of ``first``, so the first one bounds the commit.
    behind : dict[str, None]
        Users whose newest clicks BERT has not seen and who are not in ``owed``: encoded when there is room.
    served : ServedLists
        The newest published lists.
    next_offset : int | None
        Of the next click to read; None before the first.
    """

    def __init__(self, partition: int, items: ItemStore, hot: int, list_length: int = 10) -> None:
        self.partition = partition
        self.owed: dict[str, Owed] = {}
        self.behind: dict[str, None] = {}
        self._traces: OrderedDict[str, Headers] = OrderedDict()
        self.served = ServedLists(list_length)
        self.next_offset: int | None = None
        self.applied = -1
        self._items = items
        self._hot_limit = hot
        self._hot: OrderedDict[str, Profile] = OrderedDict()
        self._stored: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._stored)

    def restore(self, user_id: str, value: bytes | None) -> None:
        """Take in a record of the topic ``profiles``; of several of a user the one with the most clicks counts.

        Raises
        ------
        InvalidEvent
            If the bytes are no profile.
        """
        if value is None:
            self._stored.pop(user_id, None)
            self.behind.pop(user_id, None)
            return
        mark = decode(value, ApplyMark)
        known = self._stored.get(user_id)
        if known is not None and decode(known, ApplyMark).applied > mark.applied:
            return  # a worker that had lost the partition wrote late
        self._stored[user_id] = value
        self.applied = max(self.applied, mark.applied)
        if mark.encoded < mark.applied:
            self.behind[user_id] = None
        else:
            self.behind.pop(user_id, None)

    def profile(self, user_id: str) -> Profile:
        """The user's profile, a new one for a new user."""
        profile = self._hot.get(user_id)
        if profile is None:
            stored = self._stored.get(user_id)
            profile = Profile(user_id) if stored is None else self._restored(user_id, stored)
            self._hot[user_id] = profile
            if len(self._hot) > self._hot_limit:
                self._cool()
        else:
            profile.place(self._items)
        self._hot.move_to_end(user_id)
        return profile

    def _restored(self, user_id: str, stored: bytes) -> Profile:
        """The profile in a record. One that cannot be read is not the click's fault: its user starts fresh."""
        try:
            return Profile.restore(user_id, decode(stored, ProfileRecord), self._items)
        except (InvalidEvent, ValueError, LookupError) as error:
            log.error(
                "updater: a profile of partition %(partition)d cannot be read and starts fresh: %(error)s",
                {"partition": self.partition, "error": error},
            )
            applied = decode(stored, ApplyMark).applied
            return Profile(user_id, applied=applied, encoded=applied)

    def answered(self, user_id: str, headers: Headers | None, *, encoded: bool) -> None:
        """A list is about to be published with this trace context, None where it has none; until BERT has read all that
        is in it, the context waits for the list that says so."""
        if encoded:
            self._traces.pop(user_id, None)
        elif headers:
            self._traces.pop(user_id, None)
            self._traces[user_id] = headers
            if len(self._traces) > _TRACED:
                self._traces.popitem(last=False)

    def trace(self, user_id: str) -> Headers | None:
        """The trace context of the list that the user's next encoded one follows from; None: there is none."""
        return self._traces.get(user_id)

    def stored(self, user_id: str, record: bytes) -> None:
        """A profile's record is about to be published: from now on it stands for the profile."""
        self._stored[user_id] = record

    def published(self, user_id: str) -> bytes | None:
        """The user's record as it was last published or restored; None: there is none."""
        return self._stored.get(user_id)

    def go_back(self, user_id: str, record: bytes | None) -> None:
        """What came after this record will never be published: the user is as he was then."""
        self._hot.pop(user_id, None)
        self.behind.pop(user_id, None)
        self._traces.pop(user_id, None)
        if record is None:
            self._stored.pop(user_id, None)
        else:
            self._stored[user_id] = record

    def knows(self, user_id: str) -> bool:
        """Whether there is anything of this user."""
        return user_id in self._hot or user_id in self._stored

    def users(self) -> list[str]:
        """All users who have a published profile."""
        return list(self._stored)

    def forget(self, user_id: str) -> None:
        """Nothing is left of this user, not even what he was owed: it need not be made any more."""
        self._stored.pop(user_id, None)
        self._hot.pop(user_id, None)
        self.owed.pop(user_id, None)
        self.behind.pop(user_id, None)
        self._traces.pop(user_id, None)
        self.served.forget(user_id)

    def erase(self, user_id: str, until: int) -> bool:
        """Forget what a user did up to this moment, ms since the epoch; False if nothing is left of him."""
        profile = self.profile(user_id)
        if not profile.erase(until, self._items):
            self.forget(user_id)
            return False
        # it stands for him from now on: a hot profile that nothing is owed to may be dropped at any time
        self._stored[user_id] = profile.record(self._items, until)
        return True

    def idle_since(self, user_id: str, moment: int) -> bool:
        """Whether a user did nothing since this moment, ms since the epoch, and nothing is in flight for him.

        Of a profile that cannot be read nothing is known: it is of nobody who was here.
        """
        stored = self._stored.get(user_id)
        if stored is None or user_id in self.owed or user_id in self.behind:
            return False
        if (hot := self._hot.get(user_id)) is not None:
            return hot.last_ms < moment
        try:
            return decode(stored, ProfileRecord).last_ms < moment
        except (InvalidEvent, ValueError):
            return True

    def committable(self) -> int | None:
        """The next offset that may be committed: everything below it is in a published list."""
        return next((owed.first for owed in self.owed.values()), self.next_offset)

    def _cool(self) -> None:
        for user_id in list(self._hot)[: max(1, self._hot_limit // 10)]:
            if user_id not in self.owed:  # what is owed is not in its record yet
                del self._hot[user_id]
