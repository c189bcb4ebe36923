"""Settings of the limits: what a message may measure, and when a role stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings

from models.events import Limits
from producers.dead_letters import DeadLetterLimits

if TYPE_CHECKING:
    from consumers.loop_config import LoopConfig


class LimitSettings(BaseSettings):
    """What is refused, and how much of it is too much."""

    payload_bytes: PositiveInt = Field(262_144, description="Longest accepted message, bytes")
    id_length: int = Field(256, ge=1, le=1_024, description="Longest user, item or event id, characters")
    event_length: int = Field(64, ge=1, le=1_024, description="Longest kind of an event, characters")
    title_length: PositiveInt = Field(2_000, description="Longest title of an item, characters")
    description_length: PositiveInt = Field(20_000, description="Longest description of an item, characters")
    label_length: PositiveInt = Field(256, description="Longest category, tag or safety label, characters")
    labels: PositiveInt = Field(64, description="Tags of an item at most, and safety labels")
    impression_items: PositiveInt = Field(100, description="Items of an impression at most")
    undescribed_items: PositiveInt = Field(
        50_000, description="Items of which only clicks are known, at most; beyond it, their clicks teach nothing"
    )
    poll_records: PositiveInt = Field(500, description="Messages that a role takes at a time")
    batch: PositiveInt = Field(256, description="Lists that are made and published at a time")
    in_flight_mb: PositiveFloat = Field(
        64.0, description="Clicks that may wait for their list or dead letter, MB; beyond it, reading pauses"
    )
    future_s: PositiveFloat = Field(300.0, description="How far ahead a click's time may be before it is counted, s")
    dead_letter_share: float = Field(0.5, gt=0, le=1, description="Share of dead letters at which a role stops")
    dead_letters_in_a_row: PositiveInt = Field(500, description="Dead letters in a row at which a role stops")

    @property
    def limits(self) -> Limits:
        """What a message may measure."""
        return Limits(
            payload_bytes=self.payload_bytes,
            id_length=self.id_length,
            event_length=self.event_length,
            title_length=self.title_length,
            description_length=self.description_length,
            label_length=self.label_length,
            labels=self.labels,
            impression_items=self.impression_items,
            future_ms=int(self.future_s * 1000),
        )

    @property
    def loop(self) -> LoopConfig:
        """How much a role takes at a time."""
        from consumers.loop_config import LoopConfig

        return LoopConfig(max_records=self.poll_records)

    @property
    def dead_letter_limits(self) -> DeadLetterLimits:
        """When a role stops diverting."""
        return DeadLetterLimits(share=self.dead_letter_share, consecutive=self.dead_letters_in_a_row)
