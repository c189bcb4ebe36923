"""Settings of the brokers, and of the updater's place in its consumer group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, FilePath, PositiveFloat, PositiveInt, SecretStr, model_validator
from pydantic_settings import BaseSettings

from producers.connection import Connection, Mechanism, Protocol
from producers.token_file import TokenFile

if TYPE_CHECKING:
    from consumers.client import GroupConfig


class KafkaSettings(BaseSettings):
    """Where the brokers are, how they are spoken to, and how a worker joins the others."""

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
    tables_fetch_wait_ms: PositiveInt = Field(
        500,
        description="How long a broker may hold back its answer to a reader of tables when there is nothing new, ms; "
        "each of a dozen readers asks so often. Apache Kafka answers at once when there is something",
    )
    broker_port: int = Field(0, ge=0, le=65_535, description="Port of the embedded broker; 0: any free one")

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
    def erasure_group(self) -> GroupConfig:
        """The erasure role's: every order counts, so it begins at the first."""
        return replace(self.updater_group, group=f"{self.group}-erasure", first_start="earliest", fetch_wait_s=0.25)
