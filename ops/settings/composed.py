"""All sections as one class, and the structs that several of them make together."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ops.settings.encoder import EncoderSettings
from ops.settings.feed import FeedSettings
from ops.settings.kafka import KafkaSettings
from ops.settings.learning import LearningSettings
from ops.settings.limits import LimitSettings
from ops.settings.lists import ListSettings
from ops.settings.operations import OperationSettings
from ops.settings.privacy import PrivacySettings
from ops.settings.topics import TopicSettings
from ops.settings.users import UserSettings
from ops.settings.words import meaning, written
from producers.topics import Topics

if TYPE_CHECKING:  # torch, River and FAISS stand behind these: 3 s that `strata config` can do without
    from consumers.erasure import ErasureConfig
    from consumers.feed.config import FeedConfig
    from consumers.neighbours import NeighboursConfig
    from consumers.updater_config import UpdaterConfig
    from models.ranker import RankingConfig

PREFIX: Final = "STRATA_"
FILE: Final = "STRATA_CONFIG"
"""Names the TOML file."""


class Settings(  # the last of the bases has the first fields
    OperationSettings,
    FeedSettings,
    LimitSettings,
    PrivacySettings,
    LearningSettings,
    ListSettings,
    UserSettings,
    EncoderSettings,
    TopicSettings,
    KafkaSettings,
):
    """All settings, with their defaults."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _empty(cls, value: object, info: ValidationInfo) -> object:
        """``STRATA_THREADS=`` leaves it open, as the description of such a setting says."""
        name = info.field_name
        return None if value == "" and name and cls.model_fields[name].default is None else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What was given by hand, then the environment, then the file."""
        file = os.environ.get(FILE)
        return init_settings, env_settings, *([TomlConfigSettingsSource(settings_cls, Path(file))] if file else [])

    @cached_property
    def topics(self) -> Topics:
        """Names and shapes of the topics."""
        days = self.dead_letter_retention_days
        return Topics(
            prefix=self.topic_prefix,
            items=self.topic_items,
            clicks=self.topic_clicks,
            impressions=self.topic_impressions,
            recommendations=self.topic_recommendations,
            erasures=self.topic_erasures,
            dead_letters=self.topic_dead_letters,
            partitions=self.partitions,
            item_partitions=self.item_partitions,
            replication=self.replication,
            dead_letter_retention_ms=None if days is None else int(days * 86_400_000),
        )

    @property
    def updater(self) -> UpdaterConfig:
        """How the updater works."""
        from consumers.updater_config import UpdaterConfig
        from models.pace import Pace
        from models.profile import ProfileLimits

        return UpdaterConfig(
            list_length=self.list_length,
            encoded_clicks=self.encoded_clicks,
            deadline_s=self.deadline_ms / 1000,
            batch_users=self.batch,
            in_flight_bytes=int(self.in_flight_mb * 1e6),
            profile=ProfileLimits(
                history=self.history,
                seen=self.seen,
                negative_events=tuple(sorted(self.negative_events)),
                pace=Pace(self.teach_clicks_per_minute),
            ),
            retention_s=self.profile_retention_s,
            learning=self.ranker_learning,
            limits=self.limits,
        )

    @property
    def neighbours_config(self) -> NeighboursConfig:
        """How neighbours are published, and the linear part is solved for."""
        from consumers.neighbours import NeighboursConfig
        from consumers.together import LinearConfig

        linear = LinearConfig(
            items=self.linear_items, l2=self.linear_l2, negative_events=tuple(sorted(self.negative_events))
        )
        return NeighboursConfig(
            publish_s=self.neighbours_publish_s, publish_rows=self.neighbours_publish_rows, linear=linear
        )

    @property
    def erasure(self) -> ErasureConfig:
        """How receipts of erasures are given."""
        from consumers.erasure import ErasureConfig

        return ErasureConfig(receipt_s=self.erasure_receipt_s, limits=self.limits)

    @property
    def ranking(self) -> RankingConfig:
        """How lists are made."""
        from models.ranker import RankingConfig

        return RankingConfig(
            mix=self.mix,
            text_candidates=self.text_candidates,
            co_candidates=self.co_candidates,
            layer_candidates=self.layer_candidates,
            new_items=self.new_items,
            new_within=self.new_items_within,
            diversity=self.diversity,
            repeat_after_s=self.repeat_after,
            arms=self.arms,
            without=self.ranker_without,
            blocked_categories=self.blocked_categories,
            blocked_labels=self.blocked_labels,
        )

    @property
    def feed(self) -> FeedConfig:
        """What the feed allows."""
        from consumers.feed.config import FeedConfig

        local = self.feed_is_local
        return FeedConfig(
            token=None if self.http_token is None else self.http_token.get_secret_value(),
            clicks=local if self.feed_clicks is None else self.feed_clicks,
            page=local if self.feed_page is None else self.feed_page,
            origins=self.feed_origins,
            loopback=local,
            streams=self.feed_streams,
            streams_per_client=self.feed_streams_per_client,
            heartbeat_s=self.feed_heartbeat_s,
            requests_per_second=self.feed_requests_per_second,
            clicks_per_second=self.feed_clicks_per_second,
            limits=self.limits,
        )

    def shown(self) -> list[tuple[str, str, str]]:
        """Name, value (secrets masked) and meaning of each setting, in order."""
        fields = type(self).model_fields
        return [(PREFIX + name.upper(), written(getattr(self, name)), meaning(fields[name])) for name in fields]

    @classmethod
    def table(cls) -> str:
        """The settings as the README has them: Markdown, a row each."""
        rows = [
            f"| `{PREFIX}{name.upper()}` | {f'`{default}`' if (default := written(field.default)) else ''} |"
            f" {meaning(field)} |"
            for name, field in cls.model_fields.items()
        ]
        return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])
