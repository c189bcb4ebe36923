"""A shop small enough to reason about: groups of items that are alike, and customers who keep to a group or two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from models.events import Click
from models.index import ItemIndex
from models.items import ItemStore
from models.layer_view import LayerView
from models.layers import LayerLearner
from models.neighbours import Neighbours
from models.profile import Profile
from models.ranker import RankingConfig
from models.recommender import Recommender
from models.records import ItemVector, half

DIMENSION = 32
GROUPS = ("tea", "rope", "lamps", "boots", "seeds", "paint")
NOW = 1_700_000_000_000


def vector(group: int, seed: int) -> np.ndarray:
    centre = np.random.default_rng(900 + group).normal(size=DIMENSION)
    v = centre / np.linalg.norm(centre) + np.random.default_rng(seed).normal(size=DIMENSION) * 0.12 + 0.3
    return (v / np.linalg.norm(v)).astype(np.float32)


def record(group: int, seed: int, **fields: object) -> ItemVector:
    name = GROUPS[group]
    known = {"title": f"{name.capitalize()} number {seed}", "category": name, "tags": (name, "shop")}
    return ItemVector(model="m", text_hash=b"", tokens=b"", vector=half(vector(group, seed)), **(known | fields))  # type: ignore[arg-type]


class Shop:
    """The tables, their learners and a recommender over them."""

    def __init__(self, each: int = 20, config: RankingConfig | None = None, layers: bool = True) -> None:
        self.items = ItemStore(DIMENSION)
        for group, name in enumerate(GROUPS):
            for i in range(each):
                self.items.put(f"{name}-{i}", record(group, group * 1000 + i))
        self.neighbours = Neighbours(self.items)
        self.learner = LayerLearner(self.items)
        self.view = LayerView(self.items)
        self.recommender = Recommender(
            self.items, self.neighbours, ItemIndex(self.items), self.view if layers else None, config
        )
        self.profiles: dict[str, Profile] = {}

    def click(self, user: str, *item_ids: str, event: str = "purchase", ts: int = NOW) -> Profile:
        profile = self.profiles.setdefault(user, Profile(user))
        for item_id in item_ids:
            before = profile.rows[::-1]
            click = Click(user_id=user, item_id=item_id, ts=ts, event=event)
            if profile.apply(click, profile.applied + 1, self.items) and event != "dismiss":
                self.neighbours.learn(profile.rows[-1], before)
        self.recommender.follow()
        self.place([profile])
        if profile.vector is not None and profile.fresh:
            self.learner.learn(profile.vector[None], [profile.rows[-profile.fresh :]])
            profile.fresh = 0
        return profile

    def place(self, profiles: Sequence[Profile]) -> None:
        for profile, own in zip(profiles, self.recommender.user_vectors(profiles), strict=True):
            profile.vector = own if profile.rows else None

    def read_layers(self) -> None:
        tree, infos = self.learner.snapshot(NOW)
        if tree is not None:
            self.view.put_tree(tree)
        for info in infos:
            self.view.put_layer(info)

    def populate(self, users: int = 60, clicks: int = 8, seed: int = 1) -> None:
        """Customers who each keep to one group."""
        draw = np.random.default_rng(seed)
        each = len(self.items) // len(GROUPS)
        for user in range(users):
            name = GROUPS[user % len(GROUPS)]
            self.click(f"u{user}", *(f"{name}-{i}" for i in draw.choice(each, min(clicks, each), replace=False)))
        self.read_layers()

    def ids(self, rows: Iterable[int]) -> list[str]:
        return [self.items.ids[row] for row in rows]
