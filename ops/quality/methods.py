"""What is measured: every peer and Strata, with the values that tuning may choose from."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

from models.errors import ConfigurationError
from models.features import OFF
from ops.peers.protocol import Peer
from ops.quality.sources import Source

TRIALS: Final = 6
"""Settings of each method that are tried, its defaults among them: the budget, the same for all."""

_SEED: Final = 7

Params = tuple[tuple[str, Any], ...]
"""Names and values, sorted by name."""


@dataclass(frozen=True, slots=True)
class Method:
    """A recommender and how it is tuned.

    Parameters
    ----------
    module, factory
        Where it is made; imported when it is needed.
    grid
        Parameter → values, the first being the default.
    vectors
        It is given the catalogue with vectors, not just its size.
    fixed
        Parameters that are not tuned.
    """

    module: str
    factory: str
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    vectors: bool = False
    fixed: Params = ()

    def trials(self) -> list[Params]:
        """The settings to try: the defaults, then others drawn from the grid with a seed."""
        names = sorted(self.grid)
        every = [tuple(zip(names, values, strict=True)) for values in itertools.product(*(self.grid[n] for n in names))]
        default, rest = every[0], every[1:]
        drawn = random.Random(_SEED).sample(rest, min(TRIALS - 1, len(rest)))  # noqa: S311
        return [default, *drawn]

    def make(self, source: Source, items: int, params: Params) -> Peer:
        """A fresh one."""
        factory: Callable[..., Peer] = getattr(import_module(self.module), self.factory)
        return factory(source.store() if self.vectors else items, **dict(self.fixed), **dict(params))


_DECAYS: Final = (0.9, 0.8, 0.95)

PEERS: Final[dict[str, Method]] = {
    "popularity": Method(
        "ops.peers.popularity",
        "Popularity",
        {"half_life": (10_000.0, 300.0, 1_000.0, 3_000.0, 30_000.0, 100_000.0)},
    ),
    "ItemKNN": Method(
        "ops.peers.item_knn",
        "ItemKNN",
        {"decay": _DECAYS, "neighbours": (200, 50, 1_000), "shrink": (10.0, 2.0, 50.0)},
    ),
    "EASE": Method("ops.peers.ease", "EASE", {"decay": _DECAYS, "l2": (200.0, 20.0, 50.0, 500.0, 1_000.0)}),
    "iALS": Method(
        "ops.peers.ials",
        "IALS",
        {
            "alpha": (5.0, 1.0, 20.0),
            "decay": (0.95, 0.9, 0.8),
            "factors": (64, 128),
            "regularization": (1.0, 0.1, 10.0),
        },
    ),
    "SASRec": Method(
        "ops.peers.sasrec",
        "SASRec",
        {"dropout": (0.2, 0.5), "rate": (1e-3, 3e-3), "steps": (100, 400, 200)},
    ),
    "river.reco": Method(
        "ops.peers.river_mf",
        "RiverMF",
        {"factors": (16, 32), "l2": (0.001, 0.01, 0.0), "negatives": (4, 1), "rate": (0.05, 0.02, 0.1)},
    ),
}
"""What a user could run instead."""

STRATA: Final = "Strata"
HOURLY: Final = "Strata, hourly"
"""Not run apart: Strata's own lists, as old as an hourly batch would make them."""

_STRATA: Final = Method(
    "ops.peers.strata",
    "Strata",
    {"diversity": (0.15, 0.0), "l2": (100.0, 30.0, 300.0), "step": (0.1, 0.03)},
    vectors=True,
)

SCORERS: Final[dict[str, Method]] = {
    f"{scorer} alone": Method("ops.peers.strata", "Alone", vectors=True, fixed=(("scorer", scorer),))
    for scorer in ("co", "text", "text.like", "layer", "sequence", "linear")
}
"""Each of Strata's scorers by itself."""

OWN: Final = "own"
"""The component that is judged where items may come again: elsewhere it is silent."""

PARTS: Final = ("text", "layer", "sequence", "linear", "learning", OWN)
"""Components behind the gate."""


def toggled(part: str) -> str:
    """The name of Strata without a component, or with one that is off by default."""
    return f"{STRATA} {'with' if part in OFF else 'without'} {part}"


def _toggling(part: str) -> Params:
    return (("sample", 0.0),) if part == "learning" else (("without", tuple(sorted(OFF ^ {part}))),)


TOGGLED: Final[dict[str, Method]] = {
    toggled(part): Method("ops.peers.strata", "Strata", vectors=True, fixed=_toggling(part))
    for part in PARTS
    if part != OWN
}

PLACES: Final[dict[str, Method]] = {
    f"Strata, {places} for new items": Method("ops.peers.strata", "Strata", vectors=True, fixed=(("new_items", count),))
    for count, places in ((0, "no place"), (2, "two places"))
}
"""What places kept for new items gain them, and what they cost the rest."""

OWN_ITEMS: Final = "own items"

AGAIN: Final[dict[str, Method]] = {
    OWN_ITEMS: Method("ops.peers.own", "OwnItems"),
    toggled(OWN): Method("ops.peers.strata", "Strata", vectors=True, fixed=_toggling(OWN)),
}
"""What is measured beside the others where items may come again."""

METHODS: Final[dict[str, Method]] = {STRATA: _STRATA, **PEERS, **SCORERS, **TOGGLED, **PLACES, **AGAIN}


def allowing_repeats(name: str, params: Params) -> Params:
    """A method's settings where items may come again: Strata is told so by a setting, and no peer need be."""
    return (*params, ("repeats", True)) if METHODS[name].factory == STRATA else params


def method(name: str) -> Method:
    """One by name.

    Raises
    ------
    ConfigurationError
        If there is none of that name.
    """
    if name not in METHODS:
        raise ConfigurationError(f"no method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]
