"""Several updaters that teach one ranker, each with weights of another age."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models.events import Click
from models.lessons import Question, Teacher
from models.profile import Profile
from ops.prequential import System, Weights

AGES: Final = (4, 16)
"""Blocks of :data:`~ops.prequential.BLOCK` clicks: weights a second old at 256 and at a thousand clicks a second."""


@dataclass(slots=True)
class Updater:
    """What an updater has for itself; tables and profiles are those of the system.

    Attributes
    ----------
    age
        Blocks by which its weights are older than what is known.
    held
        Its weights.
    coming
        Those that the ranker has published since, oldest first.
    """

    teacher: Teacher
    age: int
    held: Weights
    coming: deque[Weights] = field(default_factory=deque)


class Several(System):
    """A user's clicks all go to one of two updaters, by a hash of his name, as a topic's partitions have it.

    Each serves its users with its own weights, and its lessons are taken at them: the ranker learns from both, and
    slows down what comes late. The recommender holds the weights of whose turn it is. Of a stream the same clicks are
    looked at as by one updater, but for how long the weights seem young to each.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        first = Weights.of(self.ranker)
        self._updaters = [Updater(Teacher(self.recommender, self.learning), age, first) for age in AGES]

    def turns(self, user_ids: Sequence[str]) -> Iterator[NDArray[np.int64]]:
        """The places of each updater's users, if it has any, while the recommender holds its weights."""
        whose = np.array([_number(user_id) for user_id in user_ids])
        for number, updater in enumerate(self._updaters):
            places = np.flatnonzero(whose == number)
            if len(places):
                self.hold(updater.held)
                yield places

    def question(self, profile: Profile, click: Click, at: int) -> Question | None:
        """Asked by the updater that the click goes to."""
        updater = self._updaters[_number(click.user_id)]
        self.hold(updater.held)
        return updater.teacher.question(profile, self.items.row(click.item_id), 0, at, click.ts)

    def teach(self, questions: Sequence[Question], now: int) -> None:
        """A lesson from each updater, one after the other; the tables learn of a break with the first that does."""
        lessons = []
        for places in self.turns([question.profile.user_id for question in questions]):
            asked = [questions[place] for place in places.tolist()]
            lessons.append(self._updaters[_number(asked[0].profile.user_id)].teacher.lesson(asked, now))
        for lesson in lessons:
            self.ranker.learn(lesson)
        published = Weights.of(self.ranker)
        for updater in self._updaters:
            updater.coming.append(published)
            if len(updater.coming) > updater.age:
                updater.held = updater.coming.popleft()
                self.forget(updater.held.breaks)


def _number(user_id: str) -> int:
    return crc32(user_id.encode()) % len(AGES)
