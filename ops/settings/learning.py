"""Settings of the roles that learn: layers, neighbours, ranker, sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from pydantic_settings import BaseSettings

from models.features import OFF, PARTS
from ops.settings.words import Names, split

if TYPE_CHECKING:
    from consumers.layers import LayersConfig
    from consumers.ranker import RankerRoleConfig
    from consumers.sequence import SequenceRoleConfig
    from models.layers import LayerSettings
    from models.ranker_learning import LearningConfig


class LearningSettings(BaseSettings):
    """How layers, neighbours, the ranker's weights and the deep part are learned and published."""

    layers: int = Field(8, ge=2, le=64, description="Coarse interest layers")
    layers_fine: int = Field(8, ge=2, le=64, description="Fine layers in each")
    layers_publish_s: PositiveFloat = Field(1.0, description="Least time between two snapshots of the layers, s")
    layers_checkpoint_s: PositiveFloat = Field(10.0, description="Time between two checkpoints of the layers, s")
    neighbours_publish_s: PositiveFloat = Field(
        1.0, description="A row of neighbours is published once in this time, s"
    )
    neighbours_publish_rows: PositiveInt = Field(500, description="Rows published at a time")
    linear_items: int = Field(
        4_000,
        ge=0,
        le=20_000,
        description="Items in the linear part, those clicked most; its solution takes their cube in time, and in memory"
        " 20 bytes for each pair at most; 0: there is none",
    )
    linear_l2: PositiveFloat = Field(
        100.0, description="λ of the linear part, in users: the higher, the less pairs count that few have clicked"
    )
    teach_clicks_per_minute: int = Field(
        60,
        ge=0,
        le=60_000,
        description="Clicks of one user in a minute that teach neighbours, layers and the deep part; 0: all",
    )

    ranker_sample: float = Field(
        0.25, ge=0, le=1, description="Share of the clicks that the ranker learns from; 0: none"
    )
    ranker_young: int = Field(
        10_000,
        ge=0,
        description="Clicks that it has learned from, or has since a break of the stream, below which it learns from every one",
    )
    ranker_step: float = Field(0.1, gt=0, le=1, description="How far it moves at a click (AdaGrad's step size)")
    ranker_half_life: PositiveFloat = Field(
        1_000, description="Clicks learned from, by length of history, after which an expert's hit counts half"
    )
    ranker_caution: float = Field(
        1, ge=0, le=10, description="Standard errors by which an expert must lead before it serves"
    )
    ranker_forget: bool = Field(
        True,
        description="Whether co-occurrence and regression forget most of what was before, when the stream breaks",
    )
    ranker_publish_s: PositiveFloat = Field(1.0, description="Least time between two publications of the weights, s")

    ranker_without: Names = Field(
        OFF,
        description="Parts of a score that weigh nothing and learn nothing, with commas between"
        f" ({', '.join(PARTS)}); empty: none",
    )

    sequence: bool = Field(
        True, description="The deep part: self-attention over a user's last clicks, trained by the role sequence"
    )
    sequence_share: float = Field(0.25, gt=0, le=1, description="Share of one core that its training takes, at most")
    sequence_publish_s: PositiveFloat = Field(10.0, description="Least time between two snapshots of it, s")

    @field_validator("ranker_without", mode="before")
    @classmethod
    def _parts(cls, value: object) -> object:
        return split(value)

    @field_validator("ranker_without")
    @classmethod
    def _known_parts(cls, value: frozenset[str]) -> frozenset[str]:
        if unknown := value - set(PARTS):
            raise ValueError(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        return value

    @property
    def ranker_learning(self) -> LearningConfig:
        """How the ranker learns."""
        from models.ranker_learning import LearningConfig

        return LearningConfig(
            sample=self.ranker_sample,
            young=self.ranker_young,
            step=self.ranker_step,
            half_life=self.ranker_half_life,
            caution=self.ranker_caution,
            without=self.ranker_without,
        )

    @property
    def ranker_config(self) -> RankerRoleConfig:
        """What it publishes, and when."""
        from consumers.ranker import RankerRoleConfig

        return RankerRoleConfig(publish_s=self.ranker_publish_s, forget=self.ranker_forget)

    @property
    def sequence_config(self) -> SequenceRoleConfig:
        """How the deep part is trained and published."""
        from consumers.sequence import SequenceRoleConfig

        return SequenceRoleConfig(share=self.sequence_share, publish_s=self.sequence_publish_s)

    @property
    def layer_settings(self) -> LayerSettings:
        """How layers are learned."""
        from models.layers import LayerSettings

        return LayerSettings(width=self.layers, width_fine=self.layers_fine)

    @property
    def layers_config(self) -> LayersConfig:
        """How layers are published."""
        from consumers.layers import LayersConfig

        return LayersConfig(publish_s=self.layers_publish_s, checkpoint_s=self.layers_checkpoint_s)
