"""Settings of the limits: what a message may measure, and when a role stops."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings

from models.events import Limits
from producers.dead_letters import DeadLetterLimits


class LimitSettings(BaseSettings):
    """What is refused, and how much of it is too much."""

    payload_bytes: PositiveInt = Field(262_144, description="Longest accepted message, bytes")
    future_s: PositiveFloat = Field(300.0, description="How far ahead a click's time may be before it is counted, s")
    dead_letter_share: float = Field(0.5, gt=0, le=1, description="Share of dead letters at which a role stops")
    dead_letters_in_a_row: PositiveInt = Field(500, description="Dead letters in a row at which a role stops")

    @property
    def limits(self) -> Limits:
        """What a message may measure."""
        return Limits(payload_bytes=self.payload_bytes, future_ms=int(self.future_s * 1000))

    @property
    def dead_letter_limits(self) -> DeadLetterLimits:
        """When a role stops diverting."""
        return DeadLetterLimits(share=self.dead_letter_share, consecutive=self.dead_letters_in_a_row)
