"""Prequential evaluation: every click is first asked for, then learned, by the same models that serve.

Clicks go through in blocks of :data:`BLOCK`. A user's own history is always up to date; what the learners make of
clicks (neighbours, layers, popularity) reaches the lists with the next block, as it reaches the live updater through
its topics a moment later.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from consumers.updater_config import UpdaterConfig
from models.encoder import Encoder
from models.events import Click
from models.histories import Histories
from models.index import ItemIndex
from models.items import ItemStore
from models.kernels import Product
from models.layer_view import LayerView
from models.layers import LayerLearner
from models.lessons import Question, Teacher
from models.linear import L2, CoClicks
from models.neighbours import Neighbours
from models.popularity import HALF_LIVES, DecayedCounts
from models.profile import Profile
from models.ranker import RankingConfig
from models.ranker_learning import LearningConfig, RankerLearner
from models.recommender import Recommender
from models.sequence import SequenceScorer
from models.sequence_learning import SequenceLearner, SequenceLearning
from ops.measures import CUTOFF, MISS, Evaluation, Measures

BLOCK: Final = 64
"""Clicks between two updates of the tables that lists are made from."""

SNAPSHOT: Final = 16
"""Blocks between two snapshots of the deep part: a service publishes it every few seconds."""

_COVERAGE_EVERY: Final = 8  # blocks whose whole lists are looked at for coverage, of every method alike

BLEND: Final = "blend"
CO: Final = "co alone"
LAYERS: Final = "layers alone"
TEXT: Final = "text alone"


def popularity(half_life: float) -> str:
    """The name of decayed popularity with this half-life."""
    return f"popularity, half-life {half_life:,.0f}"


class Weights(NamedTuple):
    """What the ranker publishes: see :class:`~models.ranker_learning.RankerLearner`."""

    learned: NDArray[np.float32]
    serving: NDArray[np.float32]
    version: int
    young: int
    breaks: tuple[int, ...]

    @classmethod
    def of(cls, ranker: RankerLearner) -> Weights:
        """As they are now."""
        return cls(ranker.learned(), ranker.serving(), ranker.version, ranker.young, ranker.breaks.times)


@dataclass(slots=True)
class System:
    """The live system without Kafka: the tables, their learners and the recommender that reads them."""

    items: ItemStore
    config: RankingConfig = field(default_factory=RankingConfig)
    encoder: Encoder | None = None
    """Where given, users are re-encoded through BERT; else their vector is the decayed mean of their items'."""
    learning: LearningConfig = field(default_factory=LearningConfig)
    """How the ranker's weights learn; a sample of 0 leaves them as they are set."""
    weights_age: int = 0
    """Blocks by which the weights that serve and teach are older than what is known: a service's are a second old."""
    precision: Product = "fp32"
    """Of the product of users and items."""
    sequence: SequenceLearning | None = field(default_factory=SequenceLearning)
    """How the deep part is trained; None: there is none."""
    l2: float = L2
    """λ of the linear part; 0: there is none."""
    linear: CoClicks | None = field(init=False, default=None)
    neighbours: Neighbours = field(init=False)
    learner: LayerLearner = field(init=False)
    view: LayerView = field(init=False)
    recommender: Recommender = field(init=False)
    ranker: RankerLearner = field(init=False)
    teacher: Teacher = field(init=False)
    deep: SequenceLearner | None = field(init=False, default=None)
    _blocks: int = field(init=False, default=0)
    profiles: dict[str, Profile] = field(init=False, default_factory=dict)
    _weights: deque[Weights] = field(init=False, default_factory=deque)

    def __post_init__(self) -> None:
        self.neighbours = Neighbours(self.items)
        self.learner = LayerLearner(self.items)
        self.view = LayerView(self.items)
        index = ItemIndex(self.items, precision=self.precision)
        scorer = None
        if self.sequence is not None:
            self.deep, scorer = SequenceLearner(self.items, learning=self.sequence), SequenceScorer(self.items)
        if self.l2:
            self.linear = CoClicks(self.items)
        self.recommender = Recommender(self.items, self.neighbours, index, self.view, self.config, scorer)
        self.recommender.follow()
        self.ranker = RankerLearner(self.recommender.weights.copy(), self.learning)
        self.teacher = Teacher(self.recommender, self.learning)

    def profile(self, user_id: str) -> Profile:
        """The user's profile, an empty one at first."""
        found = self.profiles.get(user_id)
        if found is None:
            found = self.profiles[user_id] = Profile(user_id)
        return found

    def place(self, profiles: Sequence[Profile]) -> None:
        """Give profiles their vectors."""
        encoded = None if self.encoder is None else self.encoded(profiles, self.encoder)
        vectors = self.recommender.user_vectors(profiles, encoded)
        for profile, vector in zip(profiles, vectors, strict=True):
            profile.vector = vector if profile.rows else None

    def learn(self, block: Sequence[Click], offset: int) -> None:
        """Apply clicks to their profiles and teach the learners; readers follow."""
        touched: dict[str, Profile] = {}
        questions: list[Question] = []
        learned: list[tuple[int, list[int]]] = []
        moments: list[int] = []
        now = block[-1].ts
        for at, click in enumerate(block, offset):
            profile = touched.setdefault(click.user_id, self.profile(click.user_id))
            before = profile.rows[::-1]
            question = self.question(profile, click, at)
            if question is not None:
                questions.append(question)
            if profile.apply(click, at, self.items):
                learned.append((profile.rows[-1], before))
                moments.append(click.ts)
                if self.linear is not None:
                    *others, _ = profile.seen.items()  # the newest is what was clicked
                    items = np.fromiter((item for item, _ in others), np.uint64, len(others))
                    seconds = np.fromiter((at for _, (at, _) in others), np.int64, len(others))
                    met = profile.again.get(profile.clicks)
                    again = None if met is None else 1000 * met
                    self.linear.learn(profile.rows[-1], items, click.ts // 1000 * 1000, 1000 * seconds, again)
        if questions:  # asked of the tables as they stand before these clicks
            self.teach(questions, now)
        for (row, history), moment in zip(learned, moments, strict=True):
            self.neighbours.learn(row, history, moment=moment)
        self.train(learned)
        self.solve()
        self.place(list(touched.values()))
        known = [profile for profile in touched.values() if profile.vector is not None]
        if known:
            vectors = np.stack([profile.vector for profile in known if profile.vector is not None])
            self.learner.learn(vectors, [profile.rows[-profile.fresh :] for profile in known])
        for profile in touched.values():
            profile.fresh = 0
        tree, infos = self.learner.snapshot(block[-1].ts)
        if tree is not None:
            self.view.put_tree(tree)
        for info in infos:
            self.view.put_layer(info)
        self.recommender.follow()

    def question(self, profile: Profile, click: Click, at: int) -> Question | None:
        """What the ranker is to learn from a click that stands at an offset, before it is applied."""
        return self.teacher.question(profile, self.items.row(click.item_id), 0, at, click.ts)

    def teach(self, questions: Sequence[Question], now: int) -> None:
        """Teach the ranker; lists and lessons follow its weights :attr:`weights_age` blocks later."""
        self.ranker.learn(self.teacher.lesson(questions, now))
        self._weights.append(Weights.of(self.ranker))
        if len(self._weights) > self.weights_age:
            weights = self._weights.popleft()
            self.hold(weights)
            self.forget(weights.breaks)

    def hold(self, weights: Weights) -> None:
        """Lists and lessons are made with these from now on."""
        recommender = self.recommender
        recommender.learned, recommender.weights = weights.learned, weights.serving
        recommender.weights_version, recommender.young = weights.version, weights.young

    def forget(self, breaks: Sequence[int]) -> None:
        """Learn of breaks of the stream, ms since the epoch."""
        self.neighbours.forget(breaks)
        if self.linear is not None:
            self.linear.forget(breaks)

    def train(self, learned: Sequence[tuple[int, list[int]]]) -> None:
        """Teach the deep part a block's clicks, (row, the rows before it): a step whenever a batch waits.

        Readers take over a snapshot every :data:`SNAPSHOT` blocks.
        """
        if self.deep is None or self.sequence is None:
            return
        for row, history in learned:
            self.deep.add(row, history)
        while self.deep.waiting >= self.sequence.batch:
            self.deep.step()
        self._blocks += 1
        scorer = self.recommender.sequence
        if scorer is not None and self._blocks % SNAPSHOT == 0 and self.deep.clicks:
            scorer.put(self.deep.snapshot(), self.deep.clicks)

    def solve(self) -> None:
        """Solve for the linear part, if it is time."""
        if self.linear is not None and self.linear.due:
            self.neighbours.take(self.linear.snapshot().solve(self.l2))

    def encoded(self, profiles: Sequence[Profile], encoder: Encoder) -> NDArray[np.float32]:
        """Their last clicks as BERT reads them, float32 [b, d]; zeros for who has none."""
        tokens = self.items.tokens
        encoded = np.zeros((len(profiles), encoder.dimension), np.float32)
        last = UpdaterConfig().encoded_clicks
        some = [i for i, profile in enumerate(profiles) if profile.rows]
        if some:
            inputs = encoder.inputs([[tokens[row] for row in profiles[i].rows[: -last - 1 : -1]] for i in some])
            encoded[some] = encoder.encode(inputs)
        return encoded


def ordered(clicks: Sequence[Click], ties: Literal["shuffle", "keep"], seed: int) -> list[list[Click]]:
    """The clicks by time, as groups that are asked for before any of the group is learned.

    ``shuffle``: clicks of the same millisecond are drawn in an order by seed, each a group of its own, and at least a
    millisecond after the last: who learns from them sees by their times whether a list could have come in between.
    ``keep``: clicks of one user in the same millisecond are one group, since nobody knows which came first.
    """
    by_time = sorted(clicks, key=lambda click: click.ts)
    if ties == "shuffle":
        draw = random.Random(seed)  # noqa: S311 - an order, not a secret
        keyed = sorted(by_time, key=lambda click: (click.ts, draw.random()))
        last, alone = -1, []
        for click in keyed:
            last = max(click.ts, last + 1)
            alone.append([msgspec.structs.replace(click, ts=last)])
        return alone
    groups: dict[tuple[int, str], list[Click]] = {}
    for click in by_time:
        groups.setdefault((click.ts, click.user_id), []).append(click)
    return list(groups.values())


def blocks(groups: Sequence[list[Click]]) -> Iterator[list[list[Click]]]:
    """Whole groups, at least :data:`BLOCK` clicks at a time (but for the last)."""
    block: list[list[Click]] = []
    size = 0
    for group in groups:
        block.append(group)
        size += len(group)
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def run(
    system: System,
    name: str,
    clicks: Sequence[Click],
    *,
    warm_up: float,
    ties: Literal["shuffle", "keep"],
    seed: int,
    alone: bool = True,
) -> Evaluation:
    """Ask and learn through all clicks.

    Parameters
    ----------
    warm_up
        Share of the clicks, from the first, that are learned without being asked for.
    alone
        Also rank by each scorer alone (over all items, exactly): the peers of the blend.
    """
    groups = ordered(clicks, ties, seed)
    total = sum(map(len, groups))
    outcome = Evaluation(data=name, clicks=total, warm_up=int(warm_up * total), items=len(system.items))
    counts = DecayedCounts([len(system.items)])
    numbers: dict[str, int] = {}
    done = 0
    for number, block in enumerate(blocks(groups)):
        flat = [click for group in block for click in group]
        if done >= outcome.warm_up:
            _ask(system, block, outcome, counts if alone else None, done, numbers, whole=number % _COVERAGE_EVERY == 0)
        start = perf_counter()
        system.learn(flat, done)
        outcome.seconds["learn"] += perf_counter() - start
        rows = [system.items.row(click.item_id) for click in flat]
        counts.add([0] * len(rows), rows, list(range(done, done + len(rows))))
        done += len(flat)
    for stage, seconds in system.recommender.timings.items():
        outcome.seconds[stage] += seconds
    return outcome


def asked(system: System, block: Sequence[list[Click]]) -> tuple[list[Profile], list[int]]:
    """The clicks of a block whose item may be offered to its user: the profile as it stands before each, and the row.

    That is, unless the system lets items come again, whose item is new to its user.
    """
    may_repeat = system.recommender.filters.may_repeat
    scratch: dict[str, Profile] = {}
    profiles: list[Profile] = []
    targets: list[int] = []
    for group in block:
        for click in group:
            profile = scratch.get(click.user_id)
            if profile is None:
                profile = scratch[click.user_id] = _copy(system.profile(click.user_id))
            row = system.items.row(click.item_id)
            if system.items.encoded[row] and may_repeat(profile, row, click.ts):
                profiles.append(_copy(profile))
                targets.append(row)
        for click in group:
            profile = scratch[click.user_id]
            profile.apply(click, profile.applied + 1, system.items)
    if profiles:
        system.place(profiles)
    return profiles, targets


def _ask(
    system: System,
    block: Sequence[list[Click]],
    outcome: Evaluation,
    counts: DecayedCounts | None,
    done: int,
    numbers: dict[str, int],
    *,
    whole: bool,
) -> None:
    """Look for each click of a block, if its item is new to its user, in the lists made just before it."""
    profiles, targets = asked(system, block)
    if not profiles:
        return
    outcome.users.extend(numbers.setdefault(profile.user_id, len(numbers)) for profile in profiles)
    now = block[-1][-1].ts
    lists = system.recommender.recommend(profiles, now, CUTOFF)
    blend = outcome.methods[BLEND]
    for ranked, target in zip(lists, targets, strict=True):
        blend.ranks.append(ranked.rows.index(target) if target in ranked.rows else MISS)
        if whole:
            blend.shown.update(ranked.rows)
    histories = Histories.of(profiles)
    outcome.buckets.extend(histories.buckets.tolist())
    if counts is None:
        return
    filters = system.recommender.filters
    blocked = np.tile(~filters.offered(now), (len(profiles), 1))
    blocked.ravel()[filters.withheld(profiles, now)] = True
    for name, values in _alone(system, profiles, histories, counts, done):
        scores = np.where(blocked, -np.inf, values)
        _rank(outcome.methods[name], scores, np.array(targets), whole)


def _alone(
    system: System, profiles: Sequence[Profile], histories: Histories, counts: DecayedCounts, done: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Each scorer's value of every item, [b, n] or [n]."""
    rec, n = system.recommender, len(system.items)
    vectors = np.stack(
        [np.zeros(system.items.dimension, np.float32) if p.vector is None else p.vector for p in profiles]
    )
    yield CO, system.neighbours.co(histories.rows, histories.decay)
    membership = system.view.membership(vectors)
    every = np.arange(n)
    yield LAYERS, np.stack([system.view.scores(membership, user, every) for user in range(len(profiles))])
    yield TEXT, rec.index.scores(vectors)
    rows, decayed, _ = counts.group(0, done)
    for half_life, column in zip(HALF_LIVES, decayed, strict=True):
        values = np.zeros(n, np.float32)
        values[rows] = column
        yield popularity(half_life), np.broadcast_to(values, (len(profiles), n))


def _rank(measures: Measures, scores: NDArray[np.float32], targets: NDArray[np.int64], whole: bool) -> None:
    """Exact ranks over all items; of equals the one known longer stands first, and nothing is listed at 0 or below."""
    own = scores[np.arange(len(targets)), targets][:, None]
    earlier = np.arange(scores.shape[1]) < targets[:, None]
    ranks = (scores > own).sum(axis=1) + ((scores == own) & earlier).sum(axis=1)
    measures.ranks.extend(np.where(own[:, 0] > 0, ranks, MISS).tolist())
    if whole:
        k = min(CUTOFF, scores.shape[1])
        top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        measures.shown.update(top[np.take_along_axis(scores, top, axis=1) > 0].tolist())


def _copy(profile: Profile) -> Profile:
    """A profile as it stands now."""
    return Profile(
        user_id=profile.user_id,
        applied=profile.applied,
        clicks=profile.clicks,
        rows=profile.rows.copy(),
        names=profile.names.copy(),
        times=profile.times.copy(),
        events=profile.events.copy(),
        event_hashes=profile.event_hashes.copy(),
        seen=profile.seen.copy(),
        often=profile.often.copy(),
    )
