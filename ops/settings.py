"""Every setting of Strata, and the one place that reads the environment.

A setting ``kafka_bootstrap`` is the variable ``STRATA_KAFKA_BOOTSTRAP``, or the key ``kafka_bootstrap`` in the TOML
file that ``STRATA_CONFIG`` names; the variable wins. Each room defines the small structs that it needs; here they
are composed.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, get_args

from pydantic import (
    Field,
    FilePath,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from models.errors import ConfigurationError
from models.events import Limits
from models.text import ItemText
from models.weights import DEFAULT_MODEL
from producers.connection import Connection, Mechanism, Protocol
from producers.dead_letters import DeadLetterLimits
from producers.token_file import TokenFile
from producers.topics import Topics

if TYPE_CHECKING:  # torch, River and FAISS stand behind these: 3 s that `strata config` can do without
    from consumers.catalogue import CatalogueConfig
    from consumers.client import GroupConfig
    from consumers.layers import LayersConfig
    from consumers.neighbours import NeighboursConfig
    from consumers.updater_config import UpdaterConfig
    from models.layers import LayerSettings
    from models.ranker import RankingConfig

PREFIX: Final = "STRATA_"
FILE: Final = "STRATA_CONFIG"
"""Names the TOML file."""

Names = Annotated[frozenset[str], NoDecode]


class Settings(BaseSettings):
    """All settings, with their defaults."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    # Kafka
    kafka_bootstrap: str = Field(
        "", description="Brokers, host:port with commas between; empty starts the embedded broker"
    )
    kafka_security: Protocol = Field("PLAINTEXT", description="Security protocol of the brokers")
    kafka_sasl: Mechanism | None = Field(None, description="SASL mechanism, with a SASL security protocol")
    kafka_username: str | None = Field(None, description="SASL user name")
    kafka_password: SecretStr | None = Field(None, description="SASL password")
    kafka_token_file: FilePath | None = Field(
        None, description="File with the token for OAUTHBEARER, read anew for each connection"
    )
    kafka_ca: FilePath | None = Field(
        None, description="PEM file of the certificate authorities to trust; empty: the system's"
    )
    kafka_certificate: FilePath | None = Field(None, description="PEM file of the client's certificate, for mutual TLS")
    kafka_key: FilePath | None = Field(None, description="PEM file of the client's key")
    kafka_key_password: SecretStr | None = Field(None, description="Password of the client's key")
    kafka_attempts: PositiveInt = Field(6, description="Attempts to reach the brokers before giving up")
    group: str = Field("strata", min_length=1, description="Consumer group of the updater")
    instance: str | None = Field(None, description="Static group member name: a quick restart makes no rebalance")
    session_timeout_s: PositiveFloat = Field(
        6.0, description="Silence after which a worker's partitions go to others, s"
    )
    assignment: Literal["cooperative-sticky", "range"] = Field(
        "cooperative-sticky", description="How workers share partitions; with the first they keep what they can"
    )
    delivery: Literal["auto", "exactly-once", "at-least-once"] = Field(
        "auto", description="Transactions; auto takes exactly-once where the broker hides what was aborted"
    )
    transaction_timeout_s: float = Field(
        10.0, ge=1, le=900, description="Longest transaction; readers wait so long for a worker that died in one, s"
    )
    first_start: Literal["earliest", "latest"] = Field(
        "earliest", description="Where the updater begins in clicks when the group has never committed"
    )
    broker_port: int = Field(0, ge=0, le=65_535, description="Port of the embedded broker; 0: any free one")

    # topics
    topic_prefix: str = Field("", description="Put before the name of every topic that has no name of its own below")
    topic_items: str = Field("", description="Name of your items topic; empty: prefix + items")
    topic_clicks: str = Field("", description="Name of your clicks topic; empty: prefix + clicks")
    topic_recommendations: str = Field("", description="Name of the output topic; empty: prefix + recommendations")
    topic_dead_letters: str = Field("", description="Name of the dead-letter topic; empty: prefix + dead-letters")
    create_topics: bool = Field(True, description="Create missing topics at start")
    partitions: PositiveInt = Field(6, description="Partitions of clicks where Strata creates it: updaters at most")
    item_partitions: PositiveInt = Field(3, description="Partitions of items where Strata creates it")
    replication: int = Field(-1, ge=-1, description="Copies of each partition; -1: the broker's default")

    # the encoder
    model: str = Field(DEFAULT_MODEL, description="BERT: the packaged default, a folder, or a Hugging Face id")
    model_sha256: str | None = Field(None, description="What the weights must be (the default's are always checked)")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Arithmetic; auto measures and takes the faster"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes CUDA where there is one")
    threads: PositiveInt | None = Field(None, description="Threads of torch; empty: one for each core")
    max_tokens: PositiveInt = Field(256, description="Longest input of the model, tokens")
    token_budget: PositiveInt | None = Field(
        None, description="Tokens in a batch; empty: 2,048 on a CPU, 32,768 on CUDA"
    )
    encoder_queue: PositiveInt = Field(
        512, description="Inputs that may wait for the encoder, of users and of items each"
    )
    catalogue_share: float = Field(
        0.3, gt=0, lt=1, description="Share of the encoder that a catalogue may take while users wait"
    )

    # items and users
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

    # lists
    list_length: PositiveInt = Field(10, description="Items in a list")
    repeat_after: dict[str, NonNegativeFloat] = Field(
        {}, description='Seconds after which a seen item may come again, by event kind (JSON: {"purchase": 86400})'
    )
    blocked_categories: Names = Field(frozenset(), description="Categories never offered, with commas between")
    blocked_labels: Names = Field(frozenset(), description="Safety labels never offered, with commas between")
    diversity: float = Field(0.15, ge=0, le=1, description="Maximal marginal relevance: 0 by score alone")
    text_candidates: PositiveInt = Field(200, description="Nearest items by vector that are looked at")
    co_candidates: PositiveInt = Field(200, description="Co-clicked items that are looked at")
    layer_candidates: PositiveInt = Field(100, description="Top items of the user's layers that are looked at")
    index_exact_below: int = Field(20_000, ge=0, description="Items up to which the vector search is exact")
    index: Literal["ivf", "hnsw"] = Field("ivf", description="FAISS index above that")

    # layers and neighbours
    layers: int = Field(8, ge=2, le=64, description="Coarse interest layers")
    layers_fine: int = Field(8, ge=2, le=64, description="Fine layers in each")
    layers_publish_s: PositiveFloat = Field(1.0, description="Least time between two snapshots of the layers, s")
    layers_checkpoint_s: PositiveFloat = Field(10.0, description="Time between two checkpoints of the layers, s")
    neighbours_publish_s: PositiveFloat = Field(
        1.0, description="A row of neighbours is published once in this time, s"
    )
    neighbours_publish_rows: PositiveInt = Field(500, description="Rows published at a time")

    # limits
    payload_bytes: PositiveInt = Field(262_144, description="Longest accepted message, bytes")
    future_s: PositiveFloat = Field(300.0, description="How far ahead a click's time may be before it is counted, s")
    dead_letter_share: float = Field(0.5, gt=0, le=1, description="Share of dead letters at which a role stops")
    dead_letters_in_a_row: PositiveInt = Field(500, description="Dead letters in a row at which a role stops")

    # operations
    http_host: str = Field("127.0.0.1", description="Address of metrics and health; loopback unless told otherwise")
    http_port: int = Field(9464, ge=0, le=65_535, description="Port of metrics and health; 0: any free one")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity that is logged")
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else json")

    @field_validator("negative_events", "blocked_categories", "blocked_labels", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return frozenset(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("*", mode="before")
    @classmethod
    def _empty(cls, value: object, info: ValidationInfo) -> object:
        """``STRATA_THREADS=`` leaves it open, as the description of such a setting says."""
        name = info.field_name
        return None if value == "" and name and cls.model_fields[name].default is None else value

    @field_validator("item_text", "history_text")
    @classmethod
    def _template(cls, value: str) -> str:
        try:
            ItemText(value)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _security(self) -> Self:
        """Half of a login would be a connection without one, and nobody would notice."""
        sasl, named = "SASL" in self.kafka_security, bool(self.kafka_sasl or self.kafka_username)
        if named and not sasl:
            raise ValueError(f"a SASL login is set, but STRATA_KAFKA_SECURITY={self.kafka_security} uses none")
        if sasl and self.kafka_sasl == "OAUTHBEARER" and self.kafka_token_file is None:
            raise ValueError("OAUTHBEARER needs STRATA_KAFKA_TOKEN_FILE")
        if sasl and self.kafka_sasl != "OAUTHBEARER" and not (self.kafka_username and self.kafka_password):
            raise ValueError("SASL needs STRATA_KAFKA_USERNAME and STRATA_KAFKA_PASSWORD")
        return self

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
        return Topics(
            prefix=self.topic_prefix,
            items=self.topic_items,
            clicks=self.topic_clicks,
            recommendations=self.topic_recommendations,
            dead_letters=self.topic_dead_letters,
            partitions=self.partitions,
            item_partitions=self.item_partitions,
            replication=self.replication,
        )

    def connection(self, bootstrap: str | None = None) -> Connection:
        """The cluster; ``bootstrap`` where the embedded broker runs."""

        def secret(value: SecretStr | None) -> str | None:
            return None if value is None else value.get_secret_value()

        def file(path: Path | None) -> str | None:
            return None if path is None else str(path)

        return Connection(
            bootstrap=bootstrap or self.kafka_bootstrap,
            security_protocol=self.kafka_security,
            sasl_mechanism=self.kafka_sasl,
            username=self.kafka_username,
            password=secret(self.kafka_password),
            token_provider=TokenFile(self.kafka_token_file) if self.kafka_token_file else None,
            ssl_ca=file(self.kafka_ca),
            ssl_certificate=file(self.kafka_certificate),
            ssl_key=file(self.kafka_key),
            ssl_key_password=secret(self.kafka_key_password),
            attempts=self.kafka_attempts,
        )

    @property
    def limits(self) -> Limits:
        """What a message may measure."""
        return Limits(payload_bytes=self.payload_bytes, future_ms=int(self.future_s * 1000))

    @property
    def updater_group(self) -> GroupConfig:
        """The updater's place in its consumer group."""
        from consumers.client import GroupConfig

        return GroupConfig(
            group=self.group,
            instance=self.instance,
            session_timeout_s=self.session_timeout_s,
            heartbeat_s=self.session_timeout_s / 4,
            first_start=self.first_start,
            assignment=self.assignment,
        )

    @property
    def catalogue(self) -> CatalogueConfig:
        """How items are read."""
        from consumers.catalogue import CatalogueConfig

        return CatalogueConfig(text=self.item_text, history_text=self.history_text)

    @property
    def updater(self) -> UpdaterConfig:
        """How the updater works."""
        from consumers.updater_config import UpdaterConfig
        from models.profile import ProfileLimits

        return UpdaterConfig(
            list_length=self.list_length,
            encoded_clicks=self.encoded_clicks,
            deadline_s=self.deadline_ms / 1000,
            profile=ProfileLimits(
                history=self.history, seen=self.seen, negative_events=tuple(sorted(self.negative_events))
            ),
            limits=self.limits,
        )

    @property
    def ranking(self) -> RankingConfig:
        """How lists are made."""
        from models.ranker import RankingConfig

        return RankingConfig(
            mix=self.mix,
            text_candidates=self.text_candidates,
            co_candidates=self.co_candidates,
            layer_candidates=self.layer_candidates,
            diversity=self.diversity,
            repeat_after_s=self.repeat_after,
            blocked_categories=self.blocked_categories,
            blocked_labels=self.blocked_labels,
        )

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

    @property
    def neighbours_config(self) -> NeighboursConfig:
        """How neighbours are published."""
        from consumers.neighbours import NeighboursConfig

        return NeighboursConfig(publish_s=self.neighbours_publish_s, publish_rows=self.neighbours_publish_rows)

    @property
    def dead_letter_limits(self) -> DeadLetterLimits:
        """When a role stops diverting."""
        return DeadLetterLimits(share=self.dead_letter_share, consecutive=self.dead_letters_in_a_row)

    def shown(self) -> list[tuple[str, str, str]]:
        """Name, value (secrets masked) and meaning of each setting, in order."""
        fields = type(self).model_fields
        return [(PREFIX + name.upper(), _written(getattr(self, name)), _meaning(fields[name])) for name in fields]

    @classmethod
    def table(cls) -> str:
        """The settings as the README has them: Markdown, a row each."""
        rows = [
            f"| `{PREFIX}{name.upper()}` | {f'`{default}`' if (default := _written(field.default)) else ''} |"
            f" {_meaning(field)} |"
            for name, field in cls.model_fields.items()
        ]
        return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def load(**given: Any) -> Settings:
    """The effective settings.

    Parameters
    ----------
    given
        What a command line option overrides.

    Raises
    ------
    ConfigurationError
        With each wrong setting, what is wrong with it, and for an unknown one the nearest known.
    """
    file = os.environ.get(FILE)
    if file and not Path(file).is_file():
        raise ConfigurationError(f"{FILE}={file}: there is no such file")
    _refuse_unknown(name for name in os.environ if name.startswith(PREFIX) and name != FILE)
    try:
        return Settings(**given)
    except ValidationError as error:
        # keys of the file may be anything; the environment's were looked at before
        _refuse_unknown(_name(e["loc"]) for e in error.errors() if e["type"] == "extra_forbidden")
        wrong = "; ".join(_wrong(_name(e["loc"]), e["msg"]) for e in error.errors())
        raise ConfigurationError(f"wrong settings: {wrong}. `strata config --markdown` explains them all") from None
    except SettingsError:
        # pydantic tells the field in words alone; the only settings that it parses are those of a dict
        raise ConfigurationError(
            f'wrong settings: {PREFIX}REPEAT_AFTER: must be JSON, such as {{"purchase": 86400}}'
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{FILE}={file}: not TOML: {error}") from None


def _refuse_unknown(names: Iterable[str]) -> None:
    """A misspelt setting is otherwise one that silently does nothing."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    unknown = []
    for name in sorted(set(names).difference(known)):
        near = difflib.get_close_matches(name, known, 1, 0.8)
        unknown.append(f"{name} (did you mean {near[0]}?)" if near else name)
    if unknown:
        raise ConfigurationError(f"unknown settings: {', '.join(unknown)}. `strata config --markdown` lists them all")


def _name(location: tuple[int | str, ...]) -> str:
    return PREFIX + str(location[0]).upper() if location else ""


def _wrong(name: str, message: str) -> str:
    said = message.removeprefix("Value error, ")
    return f"{name}: {said}" if name else said


def _meaning(field: FieldInfo) -> str:
    """The description, and the choices where there are only so many."""
    choices = ", ".join(_literals(field.annotation))
    return f"{field.description or ''} ({choices})" if choices else field.description or ""


def _literals(annotation: Any) -> list[str]:
    """The strings of every Literal in a type."""
    found: list[str] = []
    for part in get_args(annotation):
        found += [part] if isinstance(part, str) else _literals(part)
    return found


def _written(value: object) -> str:
    if value is None or value == {}:
        return ""
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value)
