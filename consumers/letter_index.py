"""Whose dead letters there are: found again by their users, so that an erasure reaches them too."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Final

from consumers.client import Record
from consumers.letters import Letter, read_letter
from producers.topics import Topics

_USER: Final = re.compile(rb'"user_id"\s*:\s*("(?:[^"\\]|\\.)*")')
"""Not by a parser: most letters are here because none could read them."""


class LetterIndex:
    """The topic of dead letters as a table of users.

    Only letters of clicks, profiles and erasures are a user's; the key of an item may look like one.
    """

    def __init__(self, topics: Topics) -> None:
        self._of_users = (topics.clicks, topics.profiles, topics.erasures)
        self._letters: dict[str, dict[bytes, int]] = defaultdict(dict)
        self._users: dict[bytes, set[str]] = {}

    def take(self, record: Record) -> set[str]:
        """Take in a record of the topic; the users whose letter it is."""
        key = record.key or b""
        for user_id in self._users.pop(key, ()):
            self._letters[user_id].pop(key, None)
            if not self._letters[user_id]:
                del self._letters[user_id]
        letter = read_letter(record)
        # one of an older version shares its key with others: it cannot be deleted alone
        if letter is None or letter.topic not in self._of_users or not letter.keyed:
            return set()
        users = users_of(letter)
        self._users[key] = users
        for user_id in users:
            self._letters[user_id][key] = letter.timestamp
        return users

    def of(self, user_id: str, until: int) -> list[bytes]:
        """Keys of a user's letters about messages of up to this moment, ms since the epoch."""
        return [key for key, at in self._letters.get(user_id, {}).items() if at <= until]


def users_of(letter: Letter) -> set[str]:
    """Every user that a letter names: by the message's key, and by each ``user_id`` in its value, readable or not."""
    found = {letter.key.decode(errors="replace")} if letter.key else set()
    for literal in _USER.findall(letter.value or b""):
        try:
            found.add(json.loads(literal.decode(errors="replace"), strict=False))
        except ValueError:
            continue
    return found
