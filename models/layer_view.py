"""The layers as a reader has them: from records, for the ranker."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidEvent
from models.feature_loops import weighed
from models.features import popularity_forms
from models.items import ItemStore
from models.layer_membership import Membership, nobody, within
from models.popularity import HALF_LIVES
from models.records import LayerInfo, LayerTree

_SMOOTHING: Final = 20.0  # clicks' worth of the layer above that every layer begins with (m of design §6)


class _Layer(NamedTuple):
    epoch: int
    label: str
    size: float
    rows: NDArray[np.int64]
    counts: NDArray[np.float32]
    """[rows, half-lives]"""
    totals: tuple[float, ...]
    half_lives: tuple[float, ...]


class LayerView:
    """What the records of the topic ``layers`` say, ready to be asked.

    Works from the root alone: before layers exist, and for a user of whom nothing is known, everything is the root's.
    Some thousands of items are in any record, whatever the catalogue holds: each of them has a *place*, and what is
    worked out of the records is by place. Place 0 is that of all others, of whom nobody says anything.

    Parameters
    ----------
    items
        The reader's catalogue.
    half_life
        Of the counts that :meth:`scores` and :meth:`top` go by, clicks.
    """

    def __init__(self, items: ItemStore, half_life: float = 10_000) -> None:
        self.items = items
        self.half_life = half_life
        self.version = 0
        self._basis: NDArray[np.float32] | None = None
        self._coarse: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._fine: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._spread = 1.0
        self._epochs: tuple[int, ...] = ()
        self._ids: list[str] = []
        self._layers: dict[str, _Layer] = {}
        self._place: NDArray[np.int32] = np.zeros(0, np.int32)
        self._listed: NDArray[np.int64] = np.array([-1])  # place → row
        self._shares: dict[str, NDArray[np.float32]] = {}
        self._popularity: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self._tops: dict[tuple[str, int], NDArray[np.int64]] = {}
        # side by side: the root last, where a layer of -1 finds it; and which layers stand there as they are now
        self._share_table: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._top_table: NDArray[np.int64] = np.zeros((0, 0), np.int64)
        self._shared: set[int] = set()
        self._topped: set[int] = set()

    @property
    def ready(self) -> bool:
        """Whether there are layers, not the root alone."""
        return self._basis is not None

    def put_tree(self, tree: LayerTree) -> None:
        """Take in the record ``tree``; whole, or not at all.

        Raises
        ------
        InvalidEvent, ValueError
            If its arrays do not fit together.
        """
        r, d = tree.dimensions
        basis = np.frombuffer(tree.basis, "<f4").reshape(r, d).astype(np.float32)
        coarse, fine = (
            np.frombuffer(centres, "<f4").reshape(-1, r).astype(np.float32) for centres in (tree.coarse, tree.fine)
        )
        if d != self.items.dimension or not len(coarse) or len(fine) % len(coarse):
            raise InvalidEvent(f"layers: {len(fine)} fine centres under {len(coarse)}, in {d} dimensions")
        self._basis, self._coarse, self._fine = basis, coarse, fine
        self._spread = max(tree.spread, 1e-9)
        width = len(self._fine) // len(self._coarse)
        self._ids = [f"{leaf // width}.{leaf % width}" for leaf in range(len(self._fine))]
        self._epochs = tree.epochs
        self._forget_tables()
        self.version = tree.version

    def put_layer(self, info: LayerInfo) -> None:
        """Take in a record ``layer/<id>``."""
        rows = np.fromiter(map(self.items.mention, info.items), np.int64, len(info.items))
        counts = np.frombuffer(info.counts, "<f4").reshape(len(rows), len(info.half_lives))
        if self.items.nowhere >= 0:
            placed = rows != self.items.nowhere
            rows, counts = rows[placed], counts[placed]
        self._layers[info.id] = _Layer(info.epoch, info.label, info.size, rows, counts, info.totals, info.half_lives)
        self._forget_tables()
        if info.id == "root":
            self._shares.clear()
            self._tops.clear()
            self._popularity = None
            self._place_all()
            return
        self._extend(rows)
        for stale in [i for i in self._shares if i == info.id or i.startswith(f"{info.id}.")]:
            del self._shares[stale]
        for key in [k for k in self._tops if k[0] == info.id or k[0].startswith(f"{info.id}.")]:
            del self._tops[key]

    def membership(self, vectors: NDArray[np.float32]) -> Membership:
        """Layers of users, from their vectors float32 [b, d].

        See :func:`~models.layer_membership.within`; a zero vector, or one that is not finite, is in the root alone.
        """
        if self._basis is None:
            return nobody(len(vectors))
        return within(vectors, self._basis, self._coarse, self._fine, self._spread)

    def layer_id(self, layer: int) -> str:
        """Id of a fine layer: ``3.5``; the root's for -1."""
        return "root" if layer < 0 else self._ids[layer]

    def label(self, layer_id: str) -> str:
        """Label of a layer, its id until it has one."""
        layer = self._layers.get(layer_id)
        return (layer.label if layer else "") or layer_id

    def scores(self, membership: Membership, user: int, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """How often the user's layers click these items, as shares of all clicks, float32 [rows].

        Σ over the layers of weight · p, where p of a fine layer = (count + m · p of its coarse layer) / (total + m),
        and that one's of the root in the same way, m = 20.
        """
        score, places = np.zeros(len(rows), np.float32), self.places(rows)
        for layer, weight in zip(membership.layers[user].tolist(), membership.weights[user].tolist(), strict=True):
            if weight:
                score += weight * self.shares(layer)[places]
        return score

    def candidate_scores(self, membership: Membership, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """:meth:`scores` of each user's own items, int64 [b, m]: float32 [b, m]."""
        shape = len(self._ids) + 1, len(self._listed)
        if self._share_table.shape != shape:
            self._share_table = np.zeros(shape, np.float32)
            self._shared.clear()
        for layer in {*membership.layers.ravel().tolist()} - self._shared:
            self._share_table[layer] = self.shares(layer)[: shape[1]]
            self._shared.add(layer)
        return weighed(self._share_table, membership.layers, membership.weights, self.places(rows))

    def places(self, rows: NDArray[np.integer]) -> NDArray[np.int32]:
        """The places of items, int32 [...]; 0 for those that are in no record."""
        self._reach()
        places: NDArray[np.int32] = self._place[rows]
        return places

    def shares(self, layer: int) -> NDArray[np.float32]:
        """p of :meth:`scores` in one fine layer (-1: the root), by place, float32 [places]."""
        return self._shares_of(self.layer_id(layer))

    def top(self, layer: int, n: int) -> NDArray[np.int64]:
        """Top items of one fine layer (-1: the root), int64 rows, at most n."""
        return self._top(self.layer_id(layer), n)

    def tops(self, layers: NDArray[np.intp], n: int) -> NDArray[np.int64]:
        """Top items of these layers in a table of all, the root's last: int64 [layers + 1, n].

        -1 where there are fewer.
        """
        if self._top_table.shape != (len(self._ids) + 1, n):
            self._top_table = np.full((len(self._ids) + 1, n), -1)
            self._topped.clear()
        for layer in {*layers.ravel().tolist()} - self._topped:
            top = self.top(layer, n)
            self._top_table[layer] = np.pad(top, (0, n - len(top)), constant_values=-1)
            self._topped.add(layer)
        return self._top_table

    def popularity(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Decayed counts among everybody, float32 [rows, half-lives]."""
        counts: NDArray[np.float32] = self._everybody()[0][self.places(rows)]
        return counts

    @property
    def popularity_forms(self) -> NDArray[np.float32]:
        """:func:`~models.features.popularity_forms` by place, float32 [places, 2 · half-lives]."""
        return self._everybody()[1]

    def popular(self, n: int) -> NDArray[np.int64]:
        """Top items of everybody, the union over the half-lives, each giving its share of n."""
        root = self._layers.get("root")
        if root is None or not len(root.rows):
            return np.empty(0, np.int64)
        key = ("root*", n)
        if key not in self._tops:
            by_rank = np.argsort(-root.counts, axis=0, kind="stable")  # best of every half-life, then all second ones
            _, first = np.unique(by_rank.ravel(), return_index=True)
            self._tops[key] = root.rows[by_rank.ravel()[np.sort(first)][:n]]
        return self._tops[key]

    def _forget_tables(self) -> None:
        self._shared.clear()
        self._topped.clear()

    def _everybody(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Counts among everybody and their features, by place; made when first asked for after news."""
        if self._popularity is None or len(self._popularity[0]) < len(self._listed):
            root = self._layers.get("root")
            counts = np.zeros((len(self._listed), len(root.half_lives) if root else len(HALF_LIVES)), np.float32)
            if root:
                counts[self.places(root.rows)] = root.counts
            self._popularity = counts, popularity_forms(counts, counts.max(axis=0))
        return self._popularity

    def _shares_of(self, layer_id: str) -> NDArray[np.float32]:
        """p of every place in a layer, float32 [places]; made when first asked for after news."""
        known = self._shares.get(layer_id)
        if known is not None and len(known) >= len(self._listed):
            return known
        layer = self._layers.get(layer_id)
        if layer_id == "root":
            shares, m = np.zeros(len(self._listed), np.float32), 0.0
        else:
            shares, m = self._shares_of(layer_id.rpartition(".")[0] or "root").copy(), _SMOOTHING
        if layer is not None and self._current(layer_id, layer):
            h = int(np.abs(np.log(np.array(layer.half_lives) / self.half_life)).argmin())
            shares *= m
            shares[self.places(layer.rows)] += layer.counts[:, h]
            shares /= max(layer.totals[h] + m, 1e-9)
        self._shares[layer_id] = shares
        return shares

    def _place_all(self) -> None:
        """Give places anew, in the order of the rows: what is in no record any more has none."""
        self._place[self._listed[1:]] = 0
        self._listed = np.array([-1])
        self._extend(np.concatenate([layer.rows for layer in self._layers.values()]))

    def _extend(self, rows: NDArray[np.int64]) -> None:
        """Give places to those of these that have none."""
        self._reach()
        fresh = np.unique(rows[self._place[rows] == 0])
        self._place[fresh] = np.arange(len(self._listed), len(self._listed) + len(fresh))
        self._listed = np.append(self._listed, fresh)

    def _reach(self) -> None:
        """Every row of the catalogue can be asked for its place."""
        if len(self._place) < len(self.items):
            self._place = np.append(self._place, np.zeros(len(self.items.hashes) - len(self._place), np.int32))

    def _current(self, layer_id: str, layer: _Layer) -> bool:
        """False for a fine layer's counts from before it was reseeded."""
        if "." not in layer_id or not self._epochs:
            return True
        return layer.epoch == self._epochs[self._ids.index(layer_id)]

    def _top(self, layer_id: str, n: int) -> NDArray[np.int64]:
        key = (layer_id, n)
        if key not in self._tops:
            if layer_id == "root":
                self._tops[key] = self.popular(n)
            else:
                shares = self._shares_of(layer_id)
                places = np.argpartition(-shares, min(n, len(shares) - 1))[:n]
                places = places[shares[places] > 0]
                self._tops[key] = self._listed[places[np.argsort(-shares[places], kind="stable")]]
        return self._tops[key]
