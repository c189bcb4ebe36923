"""How layers are learned: every knob with its unit."""

from __future__ import annotations

import msgspec

from models.popularity import HALF_LIVES


class LayerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How layers are learned."""

    width: int = 8
    """Coarse layers."""
    width_fine: int = 8
    """Fine layers in each coarse one."""
    reduced: int = 16
    """Dimensions of the interaction space."""
    seed_at: tuple[int, ...] = (256, 2_000)
    """Vectors after which the centres are placed by batch k-means: a first time, then again from where they are."""
    step: float = 0.002
    """River's ``halflife`` of the coarse centres: the share of the way that one moves towards a vector."""
    step_fine: float = 0.005
    """River's ``halflife`` of the fine centres."""
    block: int = 64
    """Vectors learned at a time."""
    memory: float = 2_000
    """Half-life of a layer's size, vectors."""
    revive_every: int = 8
    """Blocks between two looks for dead centres."""
    dead_share: float = 0.15
    """A centre with less than this share of its family's average is dead."""
    drift_factor: float = 4.0
    """By how much the steps lengthen on drift."""
    drift_vectors: int = 4_000
    """For how many vectors."""
    drift_delta: float = 0.002
    """ADWIN's significance."""
    follow_share: float = 0.01
    """Share of the catalogue that must have changed before the basis is derived again."""
    half_lives: tuple[float, ...] = HALF_LIVES
    """Of the item counts, clicks."""
    capacities: tuple[int, int, int] = (12_288, 1_536, 384)
    """Items counted at most: root, a coarse layer, a fine one."""
    published: tuple[int, int, int] = (5_000, 300, 150)
    """Items in a record at most: root, a coarse layer, a fine one."""
    seed: int = 7
    """Of the batch k-means."""
