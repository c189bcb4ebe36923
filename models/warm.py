"""The compiled loops, compiled before the first click waits for them."""

from __future__ import annotations

from functools import cache

import numpy as np

from models.index import ItemIndex
from models.items import ItemStore
from models.layer_membership import soft, within
from models.layer_view import LayerView
from models.neighbours import Neighbours
from models.product import quantised, scaled
from models.profile import Profile
from models.ranker import RankingConfig
from models.recommender import Recommender
from models.records import ItemVector, half
from models.sequence import SequenceConfig, SequenceNet, SequenceScorer

_DIMENSION = 8
_ITEMS = 24


@cache  # one process may hold several that rank
def warm() -> None:
    """Make lists in a shop that does not exist: most of a minute where nothing is on disk yet, else under a second."""
    draw, items = np.random.default_rng(0), ItemStore(_DIMENSION)
    for item in range(_ITEMS):
        vector = draw.normal(size=_DIMENSION)
        vector /= np.linalg.norm(vector)
        made = ItemVector(model="", text_hash=b"", tokens=b"", vector=half(vector.astype(np.float32)), title="")
        items.put(str(item), made)
    size = SequenceConfig(dimension=_DIMENSION, slots=_ITEMS)
    sequence, neighbours = SequenceScorer(items, size), Neighbours(items)
    sequence.put(SequenceNet(_DIMENSION, size), 1)
    neighbours.grow()
    neighbours.counts[:_ITEMS] = 20
    neighbours.counts[_ITEMS - 1] = 0  # one is new
    # loops of their own tell what follows from text, and what layers say
    config = RankingConfig(weights={"text.ratio": (1.0,) * 6, "layer.ratio": (0.1,) * 6}, without=frozenset())
    seen = {int(items.hashes[0]): (0, "")}
    indexes = (
        ItemIndex(items, precision="bf16"),
        ItemIndex(items, precision="fp32"),
        ItemIndex(items, exact_below=0),
    )
    for index in indexes:
        recommender = Recommender(items, neighbours, index, LayerView(items), config, sequence)
        user = Profile("", clicks=1, rows=[0], times=[0], events=[""], event_hashes=[0], seen=seen)
        user.vector = recommender.user_vectors([user])[0]
        recommender.recommend([user] * 16, 0)  # of few the product with all items is another
    some = np.zeros((1, 2), np.float32)  # there are no layers above
    within(some, some, some[:, :1].copy(), some[:, :1].copy(), 1.0)
    soft(np.zeros((1, 2)), np.zeros(1, np.intp), 1.0)
    scaled(np.zeros((1, 1), np.int32), quantised(some)[1], some[0])  # the product in int8 is not torch's everywhere
