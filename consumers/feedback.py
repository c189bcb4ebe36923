"""How good the lists are, seen live: what users do with what they are offered, counted by arm.

A click is judged before it is learned from, against the list that is published at that moment (prequential): no click
helps to predict itself.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from consumers.metrics import Metrics
from consumers.shard import Shard
from models.events import Click
from models.profile import Profile
from models.recommender import Recommender

NEW_CLICKS: Final = 5
"""An item with fewer clicks counts as new."""
ATTRIBUTED_S: Final = 3_600
"""A click is a click on what was shown if the item was shown so lately, s."""


class Judged(NamedTuple):
    """A click beside what its user was offered."""

    arm: str
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
        for arm in recommender.arms.names:
            for counter in (
                metrics.hits,
                metrics.hit_attempts,
                metrics.reciprocal_ranks,
                metrics.new_hits,
                metrics.new_hit_attempts,
                metrics.impressions,
                metrics.impression_clicks,
            ):
                counter.labels(arm)

    def judge(self, shard: Shard, profile: Profile, click: Click) -> Judged | None:
        """What there is to say of a click that is about to be applied; None of a dismissal."""
        if click.event in self._negative:
            return None
        recommender, row = self._recommender, self._items.find(click.item_id)
        counts = recommender.neighbours.counts
        return Judged(
            arm=recommender.arms.of(click.user_id),
            place=shard.served.place(click.user_id, row),
            new=not 0 <= row < len(counts) or float(counts[row]) < NEW_CLICKS,
            shown=self._was_shown(profile, click),
        )

    def _was_shown(self, profile: Profile, click: Click) -> bool:
        item, at = self._items.hash_of(click.item_id), click.ts // 1000
        times = self._recommender.shown.times(click.user_id, item)
        last = profile.seen.get(item, (0, ""))[0]
        return bool(((times <= at) & (times > max(last, at - ATTRIBUTED_S))).any())

    def count(self, judged: Judged | None) -> None:
        """The click has been applied, for the first time."""
        if judged is None:
            self._recommender.counts["dismissed"] += 1
            return
        metrics, arm, place = self._metrics, judged.arm, judged.place
        metrics.impression_clicks.labels(arm).inc(judged.shown)
        if place is None:
            return
        metrics.hit_attempts.labels(arm).inc()
        metrics.new_hit_attempts.labels(arm).inc(judged.new)
        if place:
            metrics.hits.labels(arm).inc()
            metrics.new_hits.labels(arm).inc(judged.new)
            metrics.reciprocal_ranks.labels(arm).inc(1 / place)
