"""The system under test behind the peers' protocol, whole, without some of its parts, or one of its scorers alone."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigurationError
from models.events import Click
from models.features import OFF, PARTS
from models.histories import Histories
from models.items import ItemStore
from models.linear import L2
from models.neighbours import WINDOW
from models.profile import Profile
from models.ranker import RankingConfig
from models.ranker_learning import LearningConfig
from models.sequence_learning import SequenceLearning
from ops.peers.protocol import Clicks, Questions, top, within
from ops.prequential import System

SCORERS: Final = ("co", "text", "text.like", "layer", "sequence", "linear")
"""What can also rank alone (popularity alone is a peer of its own)."""

EVENT: Final = "click"


class Strata:
    """The live system without Kafka, users' vectors from cached item vectors (no BERT on the user's side).

    Parameters
    ----------
    items
        The catalogue with its vectors, its rows those of the questions.
    diversity
        λ of maximal marginal relevance.
    step, sample
        Of the ranker's learning: see :class:`~models.ranker_learning.LearningConfig`. A sample of 0 learns nothing.
    new_items
        Places of a list that are kept for new items.
    repeats
        What a user has clicked may be offered to him again at once.
    without
        Parts (of :data:`~models.features.PARTS`) whose features weigh nothing.
    """

    def __init__(
        self,
        items: ItemStore,
        *,
        diversity: float = 0.15,
        step: float = LearningConfig.step,
        sample: float = LearningConfig.sample,
        without: Collection[str] = OFF,
        new_items: int = 1,
        l2: float = L2,
        repeats: bool = False,
    ) -> None:
        unknown = set(without) - set(PARTS)
        if unknown:
            raise ConfigurationError(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        off = frozenset(without)
        learning = LearningConfig(step=step, sample=sample, without=off)
        again = {EVENT: 0.0} if repeats else {}
        config = RankingConfig(mix=0.0, diversity=diversity, without=off, new_items=new_items, repeat_after_s=again)
        deep = None if "sequence" in without else SequenceLearning()
        l2 = 0.0 if "linear" in without else l2
        self.system = System(items, config, learning=learning, sequence=deep, l2=l2)
        self._repeats = repeats
        self._offset = 0

    def recommend(self, questions: Questions, n: int) -> NDArray[np.int64]:
        """The lists that it would publish."""
        made = self.system.recommender.recommend(self.profiles(questions), questions.now, n)
        lists = np.full((len(questions), n), -1, np.int64)
        for place, ranked in enumerate(made):
            lists[place, : len(ranked.rows)] = ranked.rows
        return lists

    def profiles(self, questions: Questions) -> list[Profile]:
        """The users as the updater would know them, with their vectors."""
        hashes = self.system.items.hashes
        place, row = np.divmod(questions.seen, questions.items)
        seen: list[dict[int, tuple[int, str]]] = [{} for _ in range(len(questions))]
        for user, key in zip(place.tolist(), hashes[row].tolist(), strict=True):
            seen[user][key] = (0, EVENT)
        profiles = []
        for i, (user, length) in enumerate(zip(questions.users.tolist(), questions.lengths.tolist(), strict=True)):
            rows = questions.histories[i]
            known = rows[rows >= 0][::-1].tolist()
            k = len(known)
            profile = Profile(str(user), clicks=length, rows=known, seen=seen[i])
            profile.times, profile.events, profile.event_hashes = [questions.now] * k, [EVENT] * k, [0] * k
            if self._repeats:
                self._remember(profile, questions.now)
            profiles.append(profile)
        self.system.place(profiles)
        return profiles

    def _remember(self, profile: Profile, now: int) -> None:
        """Give a user what he has met: as the system knows it, and his clicks since."""
        known, hashes = self.system.profile(profile.user_id), self.system.items.hashes
        since = profile.clicks - known.clicks
        profile.seen, profile.often = known.seen.copy(), known.often.copy()
        for item in hashes[profile.rows[max(0, len(profile.rows) - since) :]].tolist():
            if item in profile.seen:
                profile.often[item] = profile.often.get(item, 1) + 1
            profile.seen[item] = (now // 1000, EVENT)

    def learn(self, clicks: Clicks) -> None:
        """Teach all its learners."""
        within(clicks, len(self.system.items))
        ids = self.system.items.ids
        block = [
            Click(user_id=str(user), item_id=ids[row], ts=ts, event=EVENT)
            for user, row, ts in zip(clicks.users.tolist(), clicks.rows.tolist(), clicks.times.tolist(), strict=True)
        ]
        self.system.learn(block, self._offset)
        self._offset += len(block)


class Alone(Strata):
    """One of Strata's scorers by itself, over all items, exactly.

    Parameters
    ----------
    scorer
        One of :data:`SCORERS`.
    """

    def __init__(self, items: ItemStore, *, scorer: str) -> None:
        if scorer not in SCORERS:
            raise ConfigurationError(f"no scorer {scorer!r}; there are {', '.join(SCORERS)}")
        super().__init__(items, sample=0.0, without={"sequence", "linear"} - {scorer})
        self.scorer = scorer
        if scorer == "text.like":
            self._look_everything_up()
        self._last: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._met: defaultdict[int, set[int]] = defaultdict(set)

    def recommend(self, questions: Questions, n: int) -> NDArray[np.int64]:
        """The highest values; what has none is not listed."""
        scores = self._values(self.profiles(questions)).astype(np.float32)
        scores[scores <= 0] = -np.inf
        return top(scores, questions, n)

    def learn(self, clicks: Clicks) -> None:
        """Teach what the scorer reads, and nothing else: both by text read nothing but vectors."""
        if self.scorer == "layer":
            super().learn(clicks)
            return
        within(clicks, len(self.system.items))
        if self.scorer in ("text", "text.like"):
            return
        if self.scorer == "linear":
            self._learn_together(clicks)
            return
        learned = []
        for user, row in zip(clicks.users.tolist(), clicks.rows.tolist(), strict=True):
            before = self._last[user]
            learned.append((row, list(before)))
            before.appendleft(row)
            self.system.neighbours.learn(*learned[-1])
        if self.scorer == "sequence":
            self.system.train(learned)
            self.system.recommender.follow()

    def _learn_together(self, clicks: Clicks) -> None:
        system = self.system
        hashes = system.items.hashes[clicks.rows].tolist()
        for user, row, item in zip(clicks.users.tolist(), clicks.rows.tolist(), hashes, strict=True):
            met = self._met[user]
            if item not in met and system.linear is not None:
                system.linear.learn(row, np.fromiter(met, np.uint64, len(met)))
            met.add(item)
        system.solve()

    def _look_everything_up(self) -> None:
        likeness, every = self.system.recommender.sources.likeness, np.arange(len(self.system.items))
        while len(rows := every[self.system.items.encoded[every] & ~likeness.known(every)]):
            likeness.look_up(rows)

    def _values(self, profiles: list[Profile]) -> NDArray[np.float32]:
        system = self.system
        if self.scorer == "co":
            histories = Histories.of(profiles)
            return system.neighbours.co(histories.rows, histories.decay)
        if self.scorer == "linear":
            histories = Histories.of(profiles)
            return system.neighbours.linear.scores(histories.rows, histories.long)
        if self.scorer == "text.like":
            histories = Histories.of(profiles)
            return system.recommender.sources.likeness.scores(histories.rows, histories.decay)
        every = np.arange(len(system.items))
        if self.scorer == "sequence" and (scorer := system.recommender.sequence) is not None:
            shape = len(profiles), len(every)
            clicked = system.neighbours.counts[: len(every)] > 0
            rows, valid = np.broadcast_to(every, shape), np.broadcast_to(clicked, shape)
            return scorer.scores(Histories.of(profiles), rows, valid)
        zero = np.zeros(system.items.dimension, np.float32)
        vectors = np.stack([zero if profile.vector is None else profile.vector for profile in profiles])
        if self.scorer == "text":
            return system.recommender.index.scores(vectors)
        membership = system.view.membership(vectors)
        return np.stack([system.view.scores(membership, user, every) for user in range(len(profiles))])
