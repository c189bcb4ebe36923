"""How good the lists are, seen live: what users do with what they are offered, counted by arm.

A click is judged before it is learned from, against the list that is published at that moment (prequential): no click
helps to predict itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from consumers.metrics import Metrics
from consumers.shard import Shard
from models.arms import GROUPS, group_of
from models.cotext import FEW
from models.events import Click
from models.fatigue import KEEP_S
from models.profile import Profile
from models.recommender import Recommender

_SURVEY_S: Final = 30.0
"""Time between two looks at all lists, s: of a million it takes some 30 ms."""


class Judged(NamedTuple):
    """A click beside what its user was offered."""

    arm: str
    group: int
    """Of users, of the :data:`~models.arms.GROUPS`."""
    place: int | None
    """Of the item in the user's list, from 1; 0: it is not in there; None: he has no list."""
    new: bool
    """Few have clicked the item."""
    shown: bool
    """He was shown the item lately, and since his last click on it."""


class Feedback:
    """Judges clicks.

    Parameters
    ----------
    recommender
        Knows arms, clicks of items, and what was shown.
    negative_events
        Kinds of events that say no: a rule's work, and no hit.
    """

    def __init__(self, recommender: Recommender, metrics: Metrics, negative_events: tuple[str, ...]) -> None:
        self._recommender = recommender
        self._items = recommender.items
        self._metrics = metrics
        self._negative = negative_events
        self._next_survey = 0.0
        for arm in recommender.arms.names:
            for counter in (metrics.reciprocal_ranks, metrics.new_hits, metrics.new_hit_attempts):
                counter.labels(arm)
            for counter in (metrics.hits, metrics.hit_attempts, metrics.impressions, metrics.impression_clicks):
                for group in range(GROUPS):
                    counter.labels(arm, group)

    def judge(self, shard: Shard, profile: Profile, click: Click) -> Judged | None:
        """What there is to say of a click that is about to be applied; None of a dismissal."""
        if click.event in self._negative:
            return None
        recommender, row = self._recommender, self._items.find(click.item_id)
        counts = recommender.neighbours.counts
        return Judged(
            arm=recommender.arms.of(click.user_id),
            group=group_of(click.user_id),
            place=shard.served.place(click.user_id, row),
            new=not 0 <= row < len(counts) or float(counts[row]) < FEW,
            shown=self._was_shown(profile, click),
        )

    def _was_shown(self, profile: Profile, click: Click) -> bool:
        item, at = self._items.hash_of(click.item_id), click.ts // 1000
        times = self._recommender.shown.times(click.user_id, item)
        last = profile.seen.get(item, (0, ""))[0]
        return any(max(last, at - KEEP_S) < shown <= at for shown in times)

    def count(self, judged: Judged | None) -> None:
        """The click has been applied, for the first time."""
        if judged is None:
            self._recommender.counts["dismissed"] += 1
            return
        metrics, arm, group, place = self._metrics, judged.arm, judged.group, judged.place
        metrics.impression_clicks.labels(arm, group).inc(judged.shown)
        if place is None:
            return
        metrics.hit_attempts.labels(arm, group).inc()
        metrics.new_hit_attempts.labels(arm).inc(judged.new)
        if place:
            metrics.hits.labels(arm, group).inc()
            metrics.new_hits.labels(arm).inc(judged.new)
            metrics.reciprocal_ranks.labels(arm).inc(1 / place)

    def survey(self, now: float, wall_ms: int, shards: Mapping[int, Shard]) -> None:
        """Look who is served with what, if the last look is some time ago. ``now`` is monotonic, s."""
        if now < self._next_survey:
            return
        self._next_survey = now + _SURVEY_S
        listed = np.zeros(len(self._items), np.bool_)
        for shard in shards.values():
            shard.served.mark(listed)
        self._metrics.served_users.set(sum(len(shard.served) for shard in shards.values()))
        self._metrics.served_items.set(int(listed.sum()))
        self._metrics.offered_items.set(int(self._recommender.filters.offered(wall_ms).sum()))
