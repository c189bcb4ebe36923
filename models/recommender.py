"""From profiles to lists: candidates → features → score → filters → diversity → reasons."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.diversity import diversify
from models.features import PARTS, SCORERS, TO_PARTS, personal, shared
from models.histories import Histories
from models.index import ItemIndex
from models.items import ItemStore
from models.neighbours import Neighbours
from models.popularity import HALF_LIVES
from models.profile import Profile
from models.ranker import RankingConfig, as_weights, score
from models.reasons import sentence
from models.records import RankedItem, Reason

if TYPE_CHECKING:
    from models.layer_view import LayerView, Membership

_CHUNK: Final = 64  # users at a time: their working arrays stay in the processor's cache
_BECAUSE: Final = 3  # clicks named as the cause of an item


@dataclass(slots=True)
class RankedList:
    """One user's list.

    Attributes
    ----------
    rows : int64 [n]
        Item rows, best first; shorter than asked where little is on offer.
    scores : float32 [n]
        features · weights; not always falling, since diversity reorders.
    parts : float32 [n, len(PARTS)]
        What each scorer adds; a row sums up to the score.
    because : list[list[int]]
        For each item the rows of the clicks that raise it, the strongest first.
    layer, label : str
        The user's layer, empty before there is one.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    parts: NDArray[np.float32]
    because: list[list[int]]
    layer: str
    label: str


class Recommender:
    """Ranks items for users.

    Parameters
    ----------
    items, neighbours, index, layers
        The tables it reads; without ``layers`` nothing is known of popularity either.
    config
        Its settings.

    Attributes
    ----------
    timings : dict[str, float]
        Seconds spent by stage since it was last emptied.
    """

    def __init__(
        self,
        items: ItemStore,
        neighbours: Neighbours,
        index: ItemIndex,
        layers: LayerView | None = None,
        config: RankingConfig | None = None,
    ) -> None:
        self.items = items
        self.neighbours = neighbours
        self.index = index
        self.layers = layers
        self.config = config = config or RankingConfig()
        self.weights = as_weights(config.weights)
        self.timings: dict[str, float] = defaultdict(float)
        self._rows_by_hash: dict[int, int] = {}
        self._allowed: NDArray[np.bool_] = np.ones(0, np.bool_)

    def follow(self) -> None:
        """Follow the catalogue: call it after items changed, before the next :meth:`recommend`."""
        items, config = self.items, self.config
        known = len(self._rows_by_hash)
        if known < len(items):
            self._rows_by_hash.update(
                zip(items.hashes[known : len(items)].tolist(), range(known, len(items)), strict=True)
            )
            allowed = np.ones(len(items), np.bool_)
            allowed[: len(self._allowed)] = self._allowed
            self._allowed = allowed
        if config.blocked_categories or config.blocked_labels:
            for row in items.changed:
                self._allowed[row] = items.categories[row] not in config.blocked_categories and not (
                    config.blocked_labels.intersection(items.safety[row])
                )
        items.recentre()
        self.index.sync()

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
        histories = Histories.of(profiles)
        items = self.items
        weight = histories.decay * items.centred_scale[histories.rows]
        sums = np.matmul(weight[:, None, :], items.vectors[histories.rows])[:, 0]
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
        self.neighbours.grow()
        lists: list[RankedList] = []
        for start in range(0, len(profiles), _CHUNK):
            lists.extend(self._chunk(profiles[start : start + _CHUNK], now_ms, n))
        return lists

    def _chunk(self, profiles: Sequence[Profile], now_ms: int, n: int) -> list[RankedList]:
        items, config, b = self.items, self.config, len(profiles)
        catalogue = np.arange(len(items))
        zero = np.zeros(items.dimension, np.float32)
        with self._timed("filters"):
            blocked = self.blocked(profiles, now_ms)
        with self._timed("candidates"):
            histories = Histories.of(profiles)
            vectors = np.stack([zero if profile.vector is None else profile.vector for profile in profiles])
            base = self.neighbours.scores(histories.rows, histories.decay)
            base[blocked] = 0
            co = base * self.neighbours.damping(0.5)
            text = self.index.scores(vectors)
            text[blocked] = 0
            np.maximum(text, 0, out=text)
            wanted = _above(co, config.co_candidates) | _above(text, config.text_candidates)
            membership = None
            popularity = np.zeros((len(items), len(HALF_LIVES)), np.float32)
            if self.layers is not None:
                membership = self.layers.membership(vectors)
                for user, rows in enumerate(self.layers.candidates(membership, config.layer_candidates)):
                    wanted[user, rows] = True
                popularity = self.layers.popularity(catalogue)
                wanted[:, self.layers.popular(config.layer_candidates)] = True
            wanted &= ~blocked
            self._fill(wanted, blocked, n)
            rows, valid = _padded(wanted)
        with self._timed("features"):
            values = np.empty((len(SCORERS), b, rows.shape[1]), np.float32)
            values[0] = np.take_along_axis(co, rows, axis=1)
            values[1] = np.take_along_axis(base, rows, axis=1) * self.neighbours.damping(0.3)[rows]
            values[2] = np.take_along_axis(text, rows, axis=1)
            values[3] = self._layer_scores(membership, rows, valid)
            own = shared(popularity, self.neighbours.counts[: len(items)])
            tops = np.where(valid, values, 0).max(axis=2, initial=0)
            features = personal(values, tops, valid, own[-1][rows])
        with self._timed("score"):
            scores = score(self.weights, histories.buckets, features, own, rows)
            scores[~valid] = -np.inf
        with self._timed("diversity"):
            n = min(n, rows.shape[1])
            pool = min(max(config.diversity_pool, n), rows.shape[1])
            best = np.argsort(-scores, axis=1)[:, :pool]
            near = items.centred(np.take_along_axis(rows, best, axis=1).ravel()).reshape(b, pool, -1)
            chosen = np.take_along_axis(
                best, diversify(np.take_along_axis(scores, best, axis=1), near, n, config.diversity), axis=1
            )
        with self._timed("reasons"):
            picked = np.take_along_axis(rows, chosen, axis=1)
            listed = np.take_along_axis(scores, chosen, axis=1)
            weights = self.weights[histories.buckets][:, None, :]
            mine = np.take_along_axis(features, chosen[:, None, :], axis=2).transpose(0, 2, 1)
            whole = np.concatenate([mine, own.T[picked]], axis=2) * weights
            parts = whole @ TO_PARTS
            because = self._because(histories, picked)
            lists = []
            for user, profile in enumerate(profiles):
                size = int(np.isfinite(listed[user]).sum())
                layer = label = ""
                if (
                    self.layers is not None
                    and membership is not None
                    and self.layers.ready
                    and profile.vector is not None
                ):
                    layer = self.layers.layer_id(int(membership.layers[user, 0]))
                    label = self.layers.label(layer)
                profile.layer = layer
                lists.append(
                    RankedList(
                        picked[user, :size], listed[user, :size], parts[user, :size], because[user][:size], layer, label
                    )
                )
        return lists

    def ranked_items(self, ranked: RankedList, profile: Profile) -> tuple[RankedItem, ...]:
        """A list as it is published: titles, and each item's reason."""
        items = self.items
        ids, titles = items.ids, items.titles
        events = dict(zip(profile.rows, profile.events, strict=True))
        out = []
        for row, values, causes in zip(ranked.rows.tolist(), ranked.parts.tolist(), ranked.because, strict=True):
            parts = {part: round(value, 4) for part, value in zip(PARTS, values, strict=True) if abs(value) >= 5e-5}
            text = sentence(parts, [(titles[cause], events.get(cause, "")) for cause in causes], ranked.label)
            reason = Reason(text, tuple(ids[cause] for cause in causes), parts)
            out.append(RankedItem(ids[row], titles[row], round(math.fsum(parts.values()), 4), reason))
        return tuple(out)

    def blocked(self, profiles: Sequence[Profile], now_ms: int) -> NDArray[np.bool_]:
        """bool [b, n]: what a user may not be offered."""
        items, repeat = self.items, self.config.repeat_after_s
        n = len(items)
        out = np.broadcast_to(~(items.servable(np.arange(n), now_ms) & self._allowed[:n]), (len(profiles), n)).copy()
        find = self._rows_by_hash.get
        now = now_ms // 1000
        for user, profile in enumerate(profiles):
            known: Iterable[int] = profile.seen
            if repeat:
                known = (
                    key for key, (at, event) in profile.seen.items() if event not in repeat or now - at < repeat[event]
                )
            rows = [row for key in known if (row := find(key, -1)) >= 0]
            out[user, rows] = True
        return out

    def _fill(self, wanted: NDArray[np.bool_], blocked: NDArray[np.bool_], n: int) -> None:
        """A list is never short while anything may be offered: the newest items fill what candidates leave open."""
        for user in np.flatnonzero(wanted.sum(axis=1) < n):
            free = np.flatnonzero(~(blocked[user] | wanted[user]))
            wanted[user, free[-n:]] = True

    def _layer_scores(
        self, membership: Membership | None, rows: NDArray[np.int64], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        scores = np.zeros(rows.shape, np.float32)
        if self.layers is None or membership is None:
            return scores
        for user in range(len(rows)):
            some = rows[user, valid[user]]
            scores[user, : len(some)] = self.layers.scores(membership, user, some)
        return scores

    def _because(self, histories: Histories, picked: NDArray[np.int64]) -> list[list[list[int]]]:
        """For each user and item the rows of the clicks that raise it, the strongest first."""
        gains = self.neighbours.between(histories.rows, histories.decay, picked)
        order = np.argsort(-gains, axis=1)[:, :_BECAUSE]
        top = np.take_along_axis(gains, order, axis=1)
        causes = np.take_along_axis(histories.rows[:, :, None], order, axis=1)
        out: list[list[list[int]]] = []
        for user in range(len(picked)):
            mine = []
            for rows, weights in zip(causes[user].T.tolist(), top[user].T.tolist(), strict=True):
                mine.append(list(dict.fromkeys(row for row, weight in zip(rows, weights, strict=True) if weight > 0)))
            out.append(mine)
        return out

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.timings[stage] += perf_counter() - start


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit


def _above(values: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """The ``k`` largest positive values of each row (and what ties with the last of them)."""
    n = values.shape[1]
    if n <= k:
        return values > 0
    threshold = np.partition(values, n - k, axis=1)[:, n - k, None]
    above: NDArray[np.bool_] = (values >= threshold) & (values > 0)
    return above


def _padded(wanted: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The True columns of each row side by side: (int64 [b, m], which of them are meant)."""
    users, columns = np.nonzero(wanted)
    counts = np.bincount(users, minlength=len(wanted))
    starts = np.cumsum(counts) - counts
    places = np.arange(len(users)) - starts[users]
    rows = np.zeros((len(wanted), max(1, int(counts.max(initial=0)))), np.int64)
    rows[users, places] = columns
    valid = np.arange(rows.shape[1]) < counts[:, None]
    return rows, valid
