"""What the updater's clicks teach the ranker: questions before a click is applied, a lesson with the list after it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from consumers.metrics import Metrics
from models.lessons import Question, Teacher
from models.ranker_learning import LearningConfig
from models.ranker_records import update_of
from models.recommender import Recommender
from models.records import encode
from producers.publisher import Message
from producers.topics import Topics

LESSON: Final = b"lesson"
"""Key of every message on the topic ``ranker-updates``."""

log = logging.getLogger(__name__)


class Teaching:
    """Turns the questions of a batch of lists into a message for the ranker role.

    It travels in the same Work as their profiles: what a transaction takes back it takes back together.

    Parameters
    ----------
    recommender
        Ranks, and holds the weights.
    config
        Which share of the clicks is looked at.
    """

    def __init__(self, recommender: Recommender, config: LearningConfig, topics: Topics, metrics: Metrics) -> None:
        self._teacher = Teacher(recommender, config)
        self._topics = topics
        self._metrics = metrics
        self.question = self._teacher.question
        self._waiting: list[Question] = []

    def add(self, questions: Sequence[Question]) -> None:
        """These users' lists go out with the next message."""
        self._waiting += questions

    def take(self, below: Mapping[int, int], now_ms: int) -> list[Message]:
        """The lesson of what was added since, if there is any.

        A lesson that cannot be worked out is told and left out: lists do not wait for the learning.

        Parameters
        ----------
        below
            Partition of ``clicks`` → offset below which every click is done with.
        """
        questions, self._waiting = self._waiting, []
        if not questions:
            return []
        try:
            lesson = self._teacher.lesson(questions, now_ms)
        except Exception:
            log.exception("updater: a lesson of %(clicks)d clicks for the ranker failed", {"clicks": len(questions)})
            self._metrics.lessons_failed.inc()
            return []
        taught: defaultdict[int, list[int]] = defaultdict(list)
        for question in questions:
            taught[question.partition].append(question.offset)
        offsets = {partition: tuple(found) for partition, found in taught.items()}
        update = update_of(lesson, offsets, {partition: below[partition] for partition in taught if partition in below})
        return [Message(self._topics.ranker_updates, LESSON, encode(update), 0)]
