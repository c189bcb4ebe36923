"""What a click changes: its user's profile, and what he is owed."""

from __future__ import annotations

from consumers.client import Record
from consumers.due import Due
from consumers.feedback import Feedback
from consumers.lists import Ready
from consumers.metrics import Metrics
from consumers.shard import Owed, Shard
from consumers.teaching import Teaching
from consumers.updater_config import UpdaterConfig
from models.events import Click
from models.items import ItemStore
from models.lessons import Question
from models.profile import Profile


class Applying:
    """Applies clicks that were admitted; each owes its user a list.

    Parameters
    ----------
    items
        Which the clicks are on.
    due
        Whose list is due.
    feedback
        Judges a click before it is applied, by the list that is published.
    teaching
        Asks about a click before it is applied what the ranker would have said.
    config
        What a profile holds, and whether it is published together with its list.
    """

    def __init__(
        self,
        items: ItemStore,
        due: Due,
        feedback: Feedback,
        teaching: Teaching,
        metrics: Metrics,
        config: UpdaterConfig,
    ) -> None:
        self._items = items
        self._due = due
        self._feedback = feedback
        self._teaching = teaching
        self._metrics = metrics
        self._config = config

    def full(self, shard: Shard, click: Click, offset: int) -> bool:
        """Whether a user's profile must be published first: it would forget clicks that no learner has seen yet.

        His list is due then, and the click is to come again.
        """
        profile = shard.profile(click.user_id)
        if profile.fresh < self._config.profile.history or offset <= profile.applied:
            return False
        self._due.add(Ready(shard, click.user_id))
        return True

    def apply(self, shard: Shard, click: Click, record: Record, now: float) -> None:
        """Apply a click, and owe its user a list. One that is read again changes nothing, and owes him the same list.

        Parameters
        ----------
        record
            The click as it was read, for its dead letter.
        now
            Monotonic, s.
        """
        user_id = click.user_id
        profile = shard.profile(user_id)
        if self._config.atomic and record.offset <= profile.applied:
            return  # read again; the list that contains it became visible together with the profile
        before, clicks = profile.applied, profile.clicks
        question, judged = self._question(profile, click, record), self._feedback.judge(shard, profile, click)
        if profile.apply(click, record.offset, self._items, self._config.profile):
            self._feedback.count(judged)
            if profile.damped and profile.damped[-1] == profile.clicks > clicks:
                self._metrics.damped.inc()
                question = None
        else:
            question = None
        owed = shard.owed.get(user_id)
        if owed is None:
            owed = shard.owed[user_id] = Owed(record, now, click.ts)
        else:
            owed.records.append(record)
        if question is not None:
            owed.questions.append(question)
        owed.event_ts = max(owed.event_ts, click.ts)
        owed.changed |= profile.applied > before
        if profile.clicks > clicks:
            self._due.clicked((shard.partition, user_id))
        else:
            self._due.unchanged(shard, profile)

    def _question(self, profile: Profile, click: Click, record: Record) -> Question | None:
        """What the ranker will be asked about a click that is about to be applied."""
        if record.offset <= profile.applied or click.event in self._config.profile.negative_events:
            return None
        row = self._items.find(click.item_id)
        return self._teaching.question(profile, row, record.partition, record.offset, click.ts) if row >= 0 else None
