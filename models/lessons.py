"""From clicks to lessons for the ranker: which clicks are looked at, and the lists they are looked for in."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

from models.experts import Rankings
from models.neighbours import WINDOW
from models.profile import Profile
from models.ranker_learning import LearningConfig, Lesson, teach
from models.recommender import Recommender

_GOLDEN: Final = 0x9E3779B97F4A7C15  # 2⁶⁴ / φ: neighbouring offsets fall far apart (Knuth, multiplicative hashing)
_CHUNK: Final = 32  # clicks at a time: more would push their features out of the processor's cache


class Question(NamedTuple):
    """A click that the ranker will learn from, and its user as he was just before it.

    What he clicks between the question and the lesson must still be a candidate (the strongest rivals there are): hence
    a copy of what he had seen.
    """

    profile: Profile
    row: int
    partition: int
    offset: int
    clicked_ms: int


def _scattered(partition: int, offset: int) -> int:
    """A number below 2⁶⁴ that says nothing about its neighbours'."""
    return ((offset * _GOLDEN) ^ (partition * _GOLDEN >> 7)) % 2**64


class Teacher:
    """Looks at a share of the clicks, and at all of them while the weights are young or the stream has just broken.

    Which ones depends on partition and offset alone but for that, so a click that is read again is looked at again or
    is not, as the first time.

    Parameters
    ----------
    recommender
        Finds the candidates; its prior weights are an expert.
    config
        The share, and how long the weights are young.
    """

    def __init__(self, recommender: Recommender, config: LearningConfig) -> None:
        self._recommender = recommender
        self._most = int(config.sample * 2**64)
        self._young = config.young
        self.rankings = Rankings(recommender.config.prior)

    def question(self, profile: Profile, row: int, partition: int, offset: int, now_ms: int) -> Question | None:
        """The question that a click poses, to be asked for before it is applied; None for most clicks.

        Of clicks of one moment, as a shop's till tells of a whole basket, nobody knows which came first, and no list
        came in between: each is asked of what was known before that moment.

        Parameters
        ----------
        row, now_ms
            What is clicked, and when, ms since the epoch.
        partition, offset
            Where the click stands.

        Returns
        -------
        Question, optional
            None also where the item could not have been in the user's list.
        """
        recommender = self._recommender
        young = recommender.weights_version < max(self._young, recommender.young)
        if not (young and self._most) and _scattered(partition, offset) >= self._most:
            return None
        filters = recommender.filters
        if not filters.is_offered(row, now_ms) or not filters.may_repeat(profile, row, now_ms):
            return None
        end = len(profile.times)
        while end and profile.times[end - 1] == now_ms:
            end -= 1
        seen = profile.seen.copy()
        often: dict[int, int] = {}
        if filters.repeating:  # elsewhere nobody asks how often
            often = profile.often.copy()
            for item in map(recommender.items.hash_of, profile.names[end:]):
                often[item] = often.get(item, 1) - 1
        for other in set(profile.names[end:]).difference(profile.names[:end]):
            seen.pop(recommender.items.hash_of(other), None)
        before = Profile(
            profile.user_id,
            clicks=profile.clicks - (len(profile.rows) - end),
            rows=profile.rows[max(0, end - WINDOW) : end],
            seen=seen,
            often=often,
            # with clicks that no list has followed yet, the vector is of before them
            vector=None if profile.fresh or end < len(profile.rows) else profile.vector,
        )
        return Question(before, row, partition, offset, now_ms)

    def lesson(self, questions: Sequence[Question], now_ms: int) -> Lesson:
        """What the clicks teach."""
        lesson = Lesson.empty()
        lesson.version = self._recommender.weights_version
        lesson.clicked_ms = int(median(question.clicked_ms for question in questions)) if questions else 0
        profiles = [question.profile for question in questions]
        late = [profile for profile in profiles if profile.vector is None and profile.rows]
        for profile, vector in zip(late, self._recommender.user_vectors(late) if late else (), strict=True):
            profile.vector = vector
        for start in range(0, len(questions), _CHUNK):
            targets = [question.row for question in questions[start : start + _CHUNK]]
            scored = self._recommender.score(profiles[start : start + _CHUNK], now_ms)
            lesson.add(teach(scored, targets, self._recommender.learned, self.rankings))
        return lesson
