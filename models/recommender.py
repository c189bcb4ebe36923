"""From profiles to lists: candidates → features → score → diversity → reasons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.arms import Arms
from models.candidates import CandidateSources
from models.choosing import parts_of, summed
from models.diversity import diversified
from models.experts import Rankings
from models.fatigue import Fatigue
from models.features import FORMS, PARTS, SCORERS, TO_PARTS, Matters, features_of, part_of, weighed
from models.filters import Filters
from models.finding_arrays import Quota
from models.histories import Histories
from models.index import ItemIndex
from models.items import ItemStore
from models.neighbours import Neighbours
from models.own import Own
from models.policy import Policy
from models.popularity import HALF_LIVES
from models.profile import Profile
from models.promotion import Promotion
from models.ranked_list import RankedList, lists_of, published
from models.ranker import RankingConfig, Scored, score
from models.reasons import Clicks, because
from models.records import RankedItem
from models.shown import Shown

if TYPE_CHECKING:
    from models.layer_membership import Membership
    from models.layer_view import LayerView
    from models.sequence import SequenceScorer

_UNKNOWN: Final = np.zeros((1, 2 * len(HALF_LIVES)), np.float32)
_LAYER, _SEQUENCE, _OWN = (SCORERS.index(scorer) for scorer in ("layer", "sequence", "own"))
_PART: Final = TO_PARTS.argmax(axis=1)  # which of PARTS a feature counts towards
_CHUNK: Final = 64  # users at a time: more would push their features out of the processor's cache


class Recommender:
    """Ranks items for users.

    Parameters
    ----------
    items, neighbours, index, layers
        The tables it reads; without ``layers`` nothing is known of popularity either.
    config
        Its settings.
    sequence
        The deep part, if there is one.
    clock
        Times the stages, s.

    Attributes
    ----------
    weights : float32 [buckets, features]
        Lists are made with these. May be replaced between two calls.
    learned : float32 [buckets, features]
        The learned weights, whoever serves: what the ranker's gradient is taken at.
    weights_version : int
        Clicks in them; 0: the configured ones.
    young : int
        Clicks in them below which every click is learned from: see :class:`~models.ranker_learning.RankerLearner`.
    timings : dict[str, float]
        Seconds spent by stage since it was last emptied.
    counts : dict[str, int]
        What the rules did since it was last emptied: see :data:`~models.policy.RULES`.
    shown : Shown
        What users were shown lately; whoever knows puts it there.
    """

    def __init__(
        self,
        items: ItemStore,
        neighbours: Neighbours,
        index: ItemIndex,
        layers: LayerView | None = None,
        config: RankingConfig | None = None,
        sequence: SequenceScorer | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.items = items
        self.neighbours = neighbours
        self.index = index
        self.layers = layers
        self.sequence = sequence
        self.config = config = config or RankingConfig()
        self.weights = self.learned = config.prior
        self.weights_version = 0
        self.young = 0
        self.arms = Arms(config.arms)
        self._rankings = Rankings(self.weights)
        # a lesson compares the experts, which go by the ratios, and teaches whatever is on
        taught = np.ones((len(SCORERS), len(FORMS)), np.bool_)
        taught[:, 1:] = [[part_of(scorer) not in config.without] for scorer in SCORERS]
        self._taught = Matters.of(taught)
        self.timings: dict[str, float] = defaultdict(float)
        self._clock = clock
        self.counts: dict[str, int] = defaultdict(int)
        self.filters = Filters(
            items, config.repeat_after_s, config.blocked_categories, config.blocked_labels, self.counts
        )
        self.promotion = Promotion(items, self.counts)
        self._clicks = Clicks(items)
        self.shown = Shown()
        self.fatigue = Fatigue(self.shown, self.filters, self.counts)
        self._diversity = config.diversity
        quota = Quota(
            text=config.text_candidates,
            like=config.like_candidates,
            co=config.co_candidates,
            linear=config.linear_candidates,
            layer=config.layer_candidates,
            popular=config.popular_candidates,
            new=config.new_candidates if config.new_items else 0,
        )
        self.sources = CandidateSources(neighbours, index, layers, quota)
        self.follow()

    def follow(self) -> None:
        """Follow the catalogue: call it after items changed, before the next :meth:`recommend`."""
        self._follow(again=False)

    def apply(self, policy: Policy) -> None:
        """Follow these rules from the next list on."""
        self.filters.apply(policy)
        self.promotion.apply(policy)
        self.fatigue.apply(policy)
        self._diversity = self.config.diversity if policy.diversity is None else policy.diversity
        self._follow(again=True)

    def _follow(self, again: bool) -> None:
        self._clicks.clear()
        self.items.recentre()
        self.filters.follow(again)
        self.promotion.follow(range(len(self.items)) if again else self.items.changed)
        if self.sequence is not None:
            self.sequence.changed(self.items.changed)
            self.sequence.follow()
        changed = self.items.changed.copy()
        self.index.sync()
        self.sources.likeness.follow(changed)
        self.neighbours.grow()
        if self.config.new_items:
            n = len(self.items)
            self.sources.new.follow(self.items.encoded[:n] & self.items.available[:n])

    def user_vectors(
        self, profiles: Sequence[Profile], encoded: NDArray[np.float32] | None = None, mix: float | None = None
    ) -> NDArray[np.float32]:
        """normalise(a · centred BERT(history) + (1 − a) · decayed mean of the centred items of the history).

        Parameters
        ----------
        encoded : float32 [b, d], optional
            The re-encoded histories as BERT gives them; a row of zeros where a user has none.
        mix
            a; the setting's where not given. Without an encoded history it is 0.

        Returns
        -------
        float32 [b, d]
            Unit length; zeros for a user of whom nothing is known.
        """
        with self._timed("user vectors"):
            items, histories = self.items, Histories.of(profiles)
            weight = histories.decay * items.centred_scale[histories.rows]
            sums = summed(items.vectors, histories.rows, weight)
            sums -= weight.sum(axis=1, keepdims=True) * items.mean
            mean = _unit(sums)
            a = self.config.mix if mix is None else mix
            if encoded is None or a == 0:
                return mean
            has = np.linalg.norm(encoded, axis=1, keepdims=True) > 0.5
            return np.where(has, _unit(a * _unit(encoded - items.mean) + (1 - a) * mean), mean)

    def recommend(self, profiles: Sequence[Profile], now_ms: int, n: int = 10) -> list[RankedList]:
        """Each user's list; sets ``profile.layer``.

        Parameters
        ----------
        profiles
            With ``vector`` set (:meth:`user_vectors`), or None where nothing is known.
        now_ms
            Time of the lists, ms since the epoch: what expires, what may be repeated.
        n
            Items in a list.
        """
        if self.filters.known < len(self.items):
            self.follow()  # a row given since then would lie outside the working arrays
        if not len(self.items):
            return [RankedList([], [], [], [], "", "") for _ in profiles]
        lists: list[RankedList] = []
        weights = self.arms.weights(self._rankings, self.weights, self.learned)
        matters = Matters.of(weighed(weights))
        offered = self.filters.offered(now_ms)
        for start in range(0, len(profiles), _CHUNK):
            lists.extend(self._chunk(profiles[start : start + _CHUNK], weights, matters, offered, now_ms, n))
        return lists

    def score(self, profiles: Sequence[Profile], now_ms: int, n: int = 10) -> Scored:
        """Candidates, features and scores of users, as :meth:`recommend` works them out (a chunk of users at most)."""
        if self.filters.known < len(self.items):
            self.follow()
        histories = Histories.of(profiles)
        weights, offered = self.weights[histories.buckets], self.filters.offered(now_ms)
        places = self._places(profiles)
        return self._score(profiles, histories, *places, weights, self._taught, offered, now_ms, n)

    def ranked_items(self, ranked: RankedList, profile: Profile) -> tuple[RankedItem, ...]:
        """A list as it is published: titles, and each item's reason."""
        return published(ranked, profile, self.items, self._clicks)

    def _chunk(
        self,
        profiles: Sequence[Profile],
        by_arm: NDArray[np.float32],
        matters: Matters,
        offered: NDArray[np.bool_],
        now_ms: int,
        n: int,
    ) -> list[RankedList]:
        histories = Histories.of(profiles)
        weights = by_arm[[self.arms.number(profile.user_id) for profile in profiles], histories.buckets]
        vectors, membership = self._places(profiles)
        scored = self._score(
            profiles, histories, vectors, membership, weights, matters, offered, now_ms, n, rested=True
        )
        rows, scores = scored.candidates.rows, scored.scores
        promotion, strength = self.promotion, float(self._diversity)
        with self._timed("diversity"):
            if promotion.boosted:
                scores = scores + (added := promotion.boosts(rows, now_ms))
            pins = promotion.pins(rows, scored.candidates.valid, now_ms) if promotion.pinning else []
            free = scores
            if pins or promotion.capped:
                pinned = np.logical_or.reduce([where for _, _, where in pins]) if pins else None
                free = scores.copy() if pinned is None else np.where(pinned, np.float32(-np.inf), scores)
                if promotion.capped:
                    promotion.cap(rows, free, pinned)
            length, n = n, min(n, rows.shape[1])
            pool = min(max(self.config.diversity_pool, n), rows.shape[1])
            items = self.items
            chosen, order = diversified(free, rows, items.vectors, items.mean, items.centred_scale, pool, n, strength)
            if scored.candidates.cotext is not None:
                places, within = self.config.new_items, self.config.new_within
                chosen, came = self.sources.new.placed(chosen, rows, scored.candidates.cotext, free, places, within)
                self.counts["new_items"] += came
            users = np.arange(len(rows))[:, None]
            listed = free[users, chosen]
            self.counts["diversity"] += int((np.isfinite(listed) & (order >= n)).sum())
            featured: list[list[int]] = []
            if pins:
                chosen, featured = promotion.pin(pins, chosen, free, length)
                listed = np.where(chosen < 0, np.float32(-np.inf), scores[users, chosen])
        with self._timed("reasons"):
            picked = rows[users, chosen]
            parts = parts_of(scored.features, weights, chosen, _PART, len(PARTS))
            if promotion.boosted:
                promotion.count_boosts(picked[np.isfinite(listed)])
                parts = np.concatenate([parts, added[users, chosen, None]], axis=2)
            tables, clicks = self.sources.tables, self.sources.clicks(histories)
            causes = because(self.items, tables, clicks, vectors, picked, parts)
            lists = lists_of(profiles, self.layers, membership, picked, listed, parts, causes)
        for user, columns in enumerate(featured):
            lists[user].pinned = frozenset(rows[user, columns].tolist())
        return lists

    def _places(self, profiles: Sequence[Profile]) -> tuple[NDArray[np.float32], Membership | None]:
        """Vectors and layers of users."""
        with self._timed("layers"):
            zero = np.zeros(self.items.dimension, np.float32)
            each = [zero if profile.vector is None else profile.vector for profile in profiles]
            vectors = np.concatenate(each).reshape(len(each), -1)  # of many, quicker than to stack them
            return vectors, None if self.layers is None else self.layers.membership(vectors)

    def _score(
        self,
        profiles: Sequence[Profile],
        histories: Histories,
        vectors: NDArray[np.float32],
        membership: Membership | None,
        weights: NDArray[np.float32],
        matters: Matters,
        offered: NDArray[np.bool_],
        now_ms: int,
        least: int,
        *,
        rested: bool = False,
    ) -> Scored:
        """As :meth:`score`.

        Parameters
        ----------
        matters
            Of a scorer that does not, little is worked out.
        rested
            Without what users were shown too often, which is no reason not to learn from a click on it.
        """
        with self._timed("filters"):
            withheld = self.filters.withheld(profiles, now_ms)
            if rested and self.fatigue:
                withheld = self.fatigue.withheld(profiles, withheld, offered, least, now_ms)
            self.sources.wanted = self.promotion.wanted(now_ms)
        with self._timed("candidates"):
            own = Own.of(profiles, self.filters, now_ms) if self.filters.repeating else None
            mine = None if own is None else own.most(self.config.own_candidates)
            found = self.sources.find(histories, vectors, membership, withheld, offered, least, mine)
        with self._timed("features"):
            rows, said, ago = found.rows, found.said, None
            if "layer" in matters.any_of and self.layers is not None and membership is not None:
                np.multiply(self.layers.candidate_scores(membership, rows), found.valid, out=said[_LAYER])
            if own is not None:
                said[_OWN] = own.of_candidates(rows, found.valid, len(self.items))
                ago = own.rested(histories, rows, said[_OWN])
            counts = self.neighbours.counts[rows]
            if self.sequence is not None and self.sequence.version:  # it has not met what nobody has clicked
                said[_SEQUENCE] = self.sequence.scores(histories, rows, found.valid & (counts > 0))
            formed = matters.formed if own is not None else matters.formed[matters.formed != _OWN]
            made = features_of(said, *self._popularity(rows), counts, formed, ago)
        with self._timed("score"):
            scores = score(weights, made, found.valid)
        return Scored(found, made, histories.buckets, scores)

    def _popularity(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """:func:`~models.features.popularity_forms`, and the places of items in it."""
        if self.layers is None:
            return _UNKNOWN, np.zeros(rows.shape, np.int32)
        return self.layers.popularity_forms, self.layers.places(rows)

    def _timed(self, stage: str) -> _Timed:
        return _Timed(self.timings, stage, self._clock)


class _Timed:
    """Adds the seconds that it is entered for to a stage's; made as a generator it would take thrice as long."""

    __slots__ = ("_clock", "_stage", "_start", "_timings")

    def __init__(self, timings: dict[str, float], stage: str, clock: Callable[[], float]) -> None:
        self._timings, self._stage, self._clock = timings, stage, clock

    def __enter__(self) -> None:
        self._start = self._clock()

    def __exit__(self, *_: object) -> None:
        self._timings[self._stage] += self._clock() - self._start


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit
