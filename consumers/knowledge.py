"""The tables that ranking reads, fed from their topics: vectors, layers, neighbours, weights, the deep part's net."""

from __future__ import annotations

import logging
from typing import Final

from consumers.client import Record
from consumers.metrics import Metrics
from consumers.ranker import WEIGHTS
from consumers.sequence import Snapshots
from consumers.tables import Handler, OpenTables
from models.errors import DimensionMismatch, InvalidEvent
from models.ranker_records import RankerWeights, read_weights
from models.recommender import Recommender
from models.records import ItemVector, LayerInfo, LayerTree, NeighbourRow, decode
from models.sequence import SequenceScorer
from models.sequence_records import SequenceHead, SequenceLayout, read
from producers.topics import Topics

log = logging.getLogger(__name__)

_EVERY_S: Final = 0.05  # often enough for a page, rarely enough for the hot path


class Knowledge:
    """Keeps a recommender's tables up to date.

    Parameters
    ----------
    recommender
        Its items, layers, neighbours, weights and deep part (if it has one) are fed here.
    model
        Name of the encoder; vectors, layers and nets of another model are told and left out. What else a record of
        another model says of its item (whether it is available, say) holds all the same; without a vector of this model
        it is not on offer until the catalogue has encoded it again.
    open_tables
        Makes the reader.
    """

    def __init__(
        self, recommender: Recommender, model: str, open_tables: OpenTables, topics: Topics, metrics: Metrics
    ) -> None:
        self._recommender = recommender
        self._metrics = metrics
        self._model = model
        self._told = False
        self._next = 0.0
        self._vectors = open_tables({topics.vectors: self._item})
        handlers: dict[str, Handler] = {
            topics.layers: self._layer,
            topics.neighbours: self._neighbour,
            topics.ranker: self._weights,
        }
        if recommender.sequence is not None:
            handlers[topics.sequence] = self._nets(recommender.sequence)
        self._tables = open_tables(handlers)

    def catch_up(self, timeout_s: float) -> None:
        """Read the tables to their ends; blocks.

        Raises
        ------
        CatchUpTimeout
        """
        self._vectors.catch_up(timeout_s)  # first: the others mention items, and those that there are have a row
        self._tables.catch_up(timeout_s)
        self._recommender.follow()
        while self._recommender.sequence is not None and self._recommender.sequence.pending:
            self._follow_net()

    def follow(self, now: float) -> None:
        """Read what is new, if the last look is some time ago. ``now`` is monotonic, s."""
        if now >= self._next:
            self._next = now + _EVERY_S
            self._follow_net()  # first: a net that comes below is read in this step, and used from the next one on
            self._vectors.poll()
            self._tables.poll()

    def close(self) -> None:
        """Stop reading."""
        self._vectors.close()
        self._tables.close()

    def _item(self, record: Record) -> None:
        item_id = _text(record.key)
        if record.value is None:
            self._recommender.items.withdraw(item_id)
            return
        vector = decode(record.value, ItemVector)
        try:
            if vector.model != self._model:
                raise DimensionMismatch(f"vectors of {vector.model} do not fit those of {self._model}")
            self._recommender.items.put(item_id, vector)
        except DimensionMismatch as error:
            self._recommender.items.put_facts(item_id, vector)
            if not self._told:
                self._told = True
                log.warning("updater: %(error)s; the catalogue role encodes such items again", {"error": error})
            raise InvalidEvent("vector: of another model", "validate") from error

    def _layer(self, record: Record) -> None:
        layers, key = self._recommender.layers, _text(record.key)
        if layers is None or record.value is None:
            return
        if key == "tree":
            tree = decode(record.value, LayerTree)
            if tree.model == self._model:
                layers.put_tree(tree)
        elif key.startswith("layer/"):
            layers.put_layer(decode(record.value, LayerInfo))

    def _neighbour(self, record: Record) -> None:
        row = None if record.value is None else decode(record.value, NeighbourRow)
        self._recommender.neighbours.put(_text(record.key), row)

    def _nets(self, scorer: SequenceScorer) -> Snapshots:
        layout = SequenceLayout.of(self._model, scorer.items.dimension, scorer.config)

        def put(head: SequenceHead, data: bytes) -> None:
            scorer.put(read(data, layout), head.version)

        return Snapshots(layout, put)

    def _follow_net(self) -> None:
        """Work out a few thousand items with a net that came, whether or not somebody clicks."""
        scorer = self._recommender.sequence
        if scorer is not None:
            scorer.follow()
            self._metrics.sequence_applied.set(scorer.version)

    def _weights(self, record: Record) -> None:
        if record.key == WEIGHTS and record.value is not None:
            weights = decode(record.value, RankerWeights)
            self._recommender.weights, self._recommender.learned = read_weights(weights)
            self._recommender.weights_version, self._recommender.young = weights.version, weights.young
            self._recommender.neighbours.forget(weights.breaks)


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
