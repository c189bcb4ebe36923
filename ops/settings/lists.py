"""Settings of the lists."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, FilePath, NonNegativeFloat, PositiveInt, field_validator
from pydantic_settings import BaseSettings

from models.errors import ConfigurationError
from ops.settings.words import Names, split


class ListSettings(BaseSettings):
    """What is offered, how much of it is looked at, and what is never offered."""

    list_length: PositiveInt = Field(10, description="Items in a list")
    repeat_after: dict[str, NonNegativeFloat] = Field(
        {}, description='Seconds after which a seen item may come again, by event kind (JSON: {"purchase": 86400})'
    )
    blocked_categories: Names = Field(frozenset(), description="Categories never offered, with commas between")
    blocked_labels: Names = Field(frozenset(), description="Safety labels never offered, with commas between")
    policy: FilePath | None = Field(
        None, description="TOML file of rules (blocks, caps, boosts, pins), followed while it changes"
    )
    arms: dict[str, float] = Field(
        {}, description='Hold-outs: share of the users whom one expert serves (JSON: {"popularity.3000": 0.05})'
    )
    diversity: float = Field(0.15, ge=0, le=1, description="Maximal marginal relevance: 0 by score alone")
    text_candidates: PositiveInt = Field(80, description="Nearest items by vector that are looked at")
    co_candidates: PositiveInt = Field(120, description="Co-clicked items that are looked at")
    layer_candidates: PositiveInt = Field(45, description="Top items of the user's layers that are looked at")
    new_items: int = Field(
        1,
        ge=0,
        le=10,
        description="Places of a list, the last ones, that are kept for items with fewer than 5 clicks, once most clicks"
        " are on others",
    )
    new_items_within: float = Field(
        2.0, ge=0, description="How far below the item that it displaces the score of such an item may be"
    )
    index_exact_below: int = Field(20_000, ge=0, description="Items up to which the vector search is exact")
    index: Literal["ivf", "hnsw"] = Field("ivf", description="FAISS index above that")

    @field_validator("arms")
    @classmethod
    def _arms(cls, value: dict[str, float]) -> dict[str, float]:
        from models.arms import Arms

        if any(share < 0 for share in value.values()):
            raise ValueError("a share cannot be below 0")
        try:
            Arms(value)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("blocked_categories", "blocked_labels", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return split(value)
