"""Which lists are the first to contain their click: one made again says nothing of how soon a click is answered."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from models.records import Source

_USERS: Final = 20_000


class FirstLists:
    """The newest source offset of each user, of so many users.

    Whoever is forgotten leaves the highest offset of the forgotten ones of his partition: at or below it, nobody who is
    not remembered can be told from one whose list comes again, and counts as that.

    Examples
    --------
    >>> lists = FirstLists(users=1)
    >>> [lists.first("ann", Source("clicks", 0, offset)) for offset in (5, 5, 6)]
    [True, False, True]
    >>> [lists.first(user, Source("clicks", 0, offset)) for user, offset in (("bob", 9), ("ann", 6), ("ann", 10))]
    [True, False, True]
    """

    def __init__(self, users: int = _USERS) -> None:
        self._most = users
        self._newest: OrderedDict[str, Source] = OrderedDict()
        self._floor: dict[int, int] = {}

    def first(self, user_id: str, source: Source) -> bool:
        """Whether no list that came before contains the click that this one follows from."""
        known = self._newest.pop(user_id, None)
        before = self._floor.get(source.partition, -1) if known is None else known.offset
        self._newest[user_id] = source if known is None or source.offset > known.offset else known
        if len(self._newest) > self._most:
            _, gone = self._newest.popitem(last=False)
            self._floor[gone.partition] = max(gone.offset, self._floor.get(gone.partition, -1))
        return source.offset > before
