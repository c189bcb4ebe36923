"""What the ranker's roles write to one another: lessons, weights, and the state between two lives."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.errors import InvalidEvent
from models.experts import EXPERTS
from models.features import FEATURES
from models.histories import BUCKETS
from models.ranker_learning import Lesson, RankerLearner

LAYOUT: Final = hashlib.blake2b(repr((FEATURES, EXPERTS, BUCKETS)).encode(), digest_size=8).digest()
"""What the numbers of a record stand for: records of another layout are not continued."""

_BY_FEATURE: Final = (len(BUCKETS), len(FEATURES))
_BY_EXPERT: Final = (len(BUCKETS), len(EXPERTS))


class RankerUpdate(Struct, frozen=True, array_like=True, kw_only=True):
    """What one batch of an updater teaches (topic ``ranker-updates``): sums, nothing of any user."""

    layout: bytes
    taught: dict[int, tuple[int, ...]]
    """Partition of ``clicks`` → offsets of the clicks in it: a batch that repeats one of them is left out."""
    below: dict[int, int]
    """Partition of ``clicks`` → offset below which nothing can come again."""
    clicks: bytes
    """float64 [buckets]."""
    gradients: bytes
    """float32 [buckets, features]."""
    squares: bytes
    """float32 [buckets, features]."""
    hits: bytes
    """float64 [buckets, experts]."""
    version: int = -1
    """``version`` of the :class:`RankerWeights` that the gradients were taken at; -1: not known."""
    clicked_ms: int = 0
    """When the clicks were made, ms since the epoch: their median."""


class RankerWeights(Struct, frozen=True, kw_only=True):
    """The weights that lists are made with (topic ``ranker``, key ``weights``)."""

    version: int
    """Clicks learned from: of two records the one with more is the newer."""
    created_ms: int
    features: tuple[str, ...]
    """A reader takes the weights by name, and leaves out what it does not know."""
    experts: tuple[str, ...]
    buckets: tuple[int, ...]
    serving: tuple[int, ...]
    """For each bucket the expert that serves."""
    weights: bytes
    """float32 [buckets, features]: of those that serve."""
    learned: bytes
    """float32 [buckets, features]: the learned ones, whoever serves."""
    clicks: bytes
    """float64 [buckets]: decayed clicks looked at."""
    hits: bytes
    """float64 [buckets, experts]: decayed hits."""
    young: int = 0
    """Clicks learned from below which every click is to be looked at, since the stream has just broken."""
    breaks: tuple[int, ...] = ()
    """When it broke (:mod:`models.breaks`), ms since the epoch: most of what was counted before is forgotten."""


class RankerState(Struct, frozen=True, array_like=True, kw_only=True):
    """All that the ranker role knows (inside a Checkpoint, topic ``ranker``, key ``state``)."""

    layout: bytes
    version: int
    shared: bytes
    """float64 [features]."""
    own: bytes
    """float64 [buckets, features]."""
    shared_squares: bytes
    own_squares: bytes
    clicks: bytes
    hits: bytes
    serving: tuple[int, ...]
    taught: dict[int, tuple[int, ...]]
    """Partition of ``clicks`` → offsets learned from that could come again."""
    recent_clicks: bytes = b""
    """float64 [buckets]; empty, and ``recent_hits`` with it, in a state of before breaks were watched for."""
    recent_hits: bytes = b""
    """float64 [buckets, experts]."""
    since: float = 0
    """Clicks looked at since the last break."""
    young: int = 0
    breaks: tuple[int, ...] = ()
    slump: float = 0
    steady: int = 0
    """When the slump began, ms since the epoch."""


def update_of(lesson: Lesson, taught: dict[int, tuple[int, ...]], below: dict[int, int]) -> RankerUpdate:
    """A lesson as it is sent."""
    return RankerUpdate(
        layout=LAYOUT,
        taught=taught,
        below=below,
        clicks=lesson.clicks.astype("<f8").tobytes(),
        gradients=lesson.gradients.astype("<f4").tobytes(),
        squares=lesson.squares.astype("<f4").tobytes(),
        hits=lesson.hits.astype("<f8").tobytes(),
        version=-1 if lesson.version is None else lesson.version,
        clicked_ms=lesson.clicked_ms,
    )


def lesson_of(update: RankerUpdate) -> Lesson:
    """The lesson that was sent, with this version's :data:`LAYOUT`.

    Raises
    ------
    InvalidEvent
        If its numbers are not as many as they must be, or not finite.
    """
    lesson = Lesson(
        _numbers(update.clicks, "<f8", (len(BUCKETS),)),
        _numbers(update.gradients, "<f4", _BY_FEATURE),
        _numbers(update.squares, "<f4", _BY_FEATURE),
        _numbers(update.hits, "<f8", _BY_EXPERT),
        None if update.version < 0 else update.version,
        update.clicked_ms,
    )
    if (lesson.squares < 0).any() or (lesson.clicks < 0).any():
        raise InvalidEvent("lesson: sums of squares or clicks below 0", "validate")
    return lesson


def weights_of(ranker: RankerLearner, now_ms: int) -> RankerWeights:
    """What readers need of a learner."""
    return RankerWeights(
        version=ranker.version,
        created_ms=now_ms,
        features=FEATURES,
        experts=EXPERTS,
        buckets=BUCKETS,
        serving=tuple(ranker.choice.serving.tolist()),
        weights=ranker.serving().astype("<f4").tobytes(),
        learned=ranker.learned().astype("<f4").tobytes(),
        clicks=ranker.choice.clicks.astype("<f8").tobytes(),
        hits=ranker.choice.hits.astype("<f8").tobytes(),
        young=ranker.young,
        breaks=ranker.breaks.times,
    )


def read_weights(record: RankerWeights) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(serving, learned), float32 [buckets, features]; features that the record does not name weigh nothing.

    Raises
    ------
    InvalidEvent
        If it has other buckets, or not one finite number for each weight.
    """
    if record.buckets != BUCKETS:
        raise InvalidEvent("weights: of other buckets", "validate")
    shape = (len(BUCKETS), len(record.features))
    at = [i for i, name in enumerate(record.features) if name in FEATURES]
    to = [FEATURES.index(record.features[i]) for i in at]
    both = []
    for data in (record.weights, record.learned):
        weights = np.zeros(_BY_FEATURE, np.float32)
        weights[:, to] = _numbers(data, "<f4", shape)[:, at]
        both.append(weights)
    return both[0], both[1]


def state_of(ranker: RankerLearner, taught: dict[int, tuple[int, ...]]) -> RankerState:
    """All of a learner."""
    arrays = {
        "shared": ranker.shared,
        "own": ranker.own,
        "shared_squares": ranker.shared_squares,
        "own_squares": ranker.own_squares,
        "clicks": ranker.choice.clicks,
        "hits": ranker.choice.hits,
        "recent_clicks": ranker.choice.recent_clicks,
        "recent_hits": ranker.choice.recent_hits,
    }
    return RankerState(
        layout=LAYOUT,
        version=ranker.version,
        serving=tuple(ranker.choice.serving.tolist()),
        taught=taught,
        since=ranker.choice.since,
        young=ranker.young,
        breaks=ranker.breaks.times,
        slump=ranker.choice.slump,
        steady=ranker.choice.steady,
        **{name: array.astype("<f8").tobytes() for name, array in arrays.items()},
    )


def restore(ranker: RankerLearner, state: RankerState) -> None:
    """Continue from a state.

    Raises
    ------
    InvalidEvent
        If it is of another version of Strata, or broken; the learner is then as it was.
    """
    if state.layout != LAYOUT:
        raise InvalidEvent("state: of another version's features", "validate")
    features, buckets = (len(FEATURES),), (len(BUCKETS),)
    shared, squares = _numbers(state.shared, "<f8", features), _numbers(state.shared_squares, "<f8", features)
    own, own_squares = _numbers(state.own, "<f8", _BY_FEATURE), _numbers(state.own_squares, "<f8", _BY_FEATURE)
    clicks, hits = _numbers(state.clicks, "<f8", buckets), _numbers(state.hits, "<f8", _BY_EXPERT)
    recent = (ranker.choice.recent_clicks, ranker.choice.recent_hits, ranker.choice.since)
    if state.recent_clicks:
        recent = (
            _numbers(state.recent_clicks, "<f8", buckets),
            _numbers(state.recent_hits, "<f8", _BY_EXPERT),
            state.since,
        )
        if not 0 <= state.since < np.inf:
            raise InvalidEvent(f"state: {state.since} clicks since a break", "validate")
    if not 0 <= state.slump < np.inf:
        raise InvalidEvent(f"state: a slump of {state.slump}", "validate")
    serving = np.array(state.serving, np.int64)
    if serving.shape != buckets or not ((serving >= 0) & (serving < len(EXPERTS))).all():
        raise InvalidEvent("state: experts that there are not", "validate")
    ranker.shared, ranker.shared_squares, ranker.own, ranker.own_squares = shared, squares, own, own_squares
    ranker.choice.clicks, ranker.choice.hits, ranker.choice.serving = clicks, hits, serving
    ranker.choice.recent_clicks, ranker.choice.recent_hits, ranker.choice.since = recent
    ranker.choice.slump, ranker.choice.steady = state.slump, state.steady
    ranker.version, ranker.young = state.version, state.young
    ranker.breaks.add(state.breaks)


def _numbers(data: bytes, kind: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if len(data) != np.dtype(kind).itemsize * int(np.prod(shape)):
        raise InvalidEvent(f"ranker: {len(data)} bytes do not hold {shape} numbers", "validate")
    numbers = np.frombuffer(data, kind).reshape(shape).astype(np.float64)
    if not np.isfinite(numbers).all():
        raise InvalidEvent("ranker: a number that is not finite", "validate")
    return numbers
