"""Settings of items and users: what is read of them, and what is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt, field_validator
from pydantic_settings import BaseSettings

from models.errors import ConfigurationError
from models.text import ItemText
from ops.settings.words import Names, split

if TYPE_CHECKING:
    from consumers.catalogue import CatalogueConfig


class UserSettings(BaseSettings):
    """How items and histories become text and vectors, and how much of a user is kept."""

    item_text: str = Field("{title}. {category}. {tags}. {description}", description="What the model reads of an item")
    history_text: str = Field("{title}", description="What it reads of an item in a user's history")
    encoded_clicks: PositiveInt = Field(8, description="Newest clicks that it reads of a user")
    mix: float = Field(0.5, ge=0, le=1, description="Share of BERT's vector in a user's, the rest is his items' mean")
    deadline_ms: PositiveInt = Field(
        500, description="How long a list waits for the encoder before it goes out without it, ms"
    )
    history: PositiveInt = Field(50, description="Clicks kept of a user")
    seen: PositiveInt = Field(5_000, description="Items remembered as seen of a user")
    negative_events: Names = Field(
        frozenset({"dismiss"}), description="Event kinds that say no: never offered again, never learned from"
    )

    @field_validator("item_text", "history_text")
    @classmethod
    def _template(cls, value: str) -> str:
        try:
            ItemText(value)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def catalogue(self) -> CatalogueConfig:
        """How items are read."""
        from consumers.catalogue import CatalogueConfig

        return CatalogueConfig(text=self.item_text, history_text=self.history_text)

    @field_validator("negative_events", mode="before")
    @classmethod
    def _events(cls, value: object) -> object:
        return split(value)
