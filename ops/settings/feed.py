"""Settings of the role ``feed``: HTTP for pages."""

from __future__ import annotations

import ipaddress

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, field_validator
from pydantic_settings import BaseSettings

from ops.settings.words import Names, split


class FeedSettings(BaseSettings):
    """Where lists can be had over HTTP, and by whom."""

    feed_host: str = Field("127.0.0.1", description="Address of the feed; loopback unless told otherwise")
    feed_port: int = Field(8080, ge=0, le=65_535, description="Port of the feed; 0: any free one")
    feed_page: bool | None = Field(
        None, description="Serve the live page, which shows who is active; empty: only on loopback"
    )
    feed_prometheus: str | None = Field(
        None,
        pattern=r"^https?://[^\s@]+$",
        description="Prometheus that scrapes the updaters (http://host:9090), for their lag and hit rate on the page; empty: of this process only",
    )
    feed_prometheus_labels: str = Field(
        "", pattern=r"^[^{}]*$", description='Which of its series are of this Strata (namespace="shop"); empty: all'
    )
    feed_clicks: bool | None = Field(None, description="Take clicks and impressions over HTTP; empty: only on loopback")
    feed_origins: Names = Field(
        frozenset(), description="Origins of other pages whose scripts may ask the feed (CORS), with commas between"
    )
    feed_store: SecretStr = Field(
        SecretStr("memory"),
        description="Where lists are kept: memory, or a Redis or Valkey for many replicas (redis://host:port/0)",
    )
    feed_streams: PositiveInt = Field(2_000, description="Pages that may wait for lists at a time")
    feed_streams_per_client: PositiveInt = Field(100, description="The same, of one address")
    feed_heartbeat_s: PositiveFloat = Field(15.0, description="Longest silence of a stream, s")
    feed_requests_per_second: float = Field(
        200.0, ge=0, description="Requests of one address, on average; 0: any number"
    )
    feed_clicks_per_second: float = Field(
        20.0, ge=0, description="Clicks of one address over HTTP, on average, and impressions as many; 0: any number"
    )
    http_token: SecretStr | None = Field(
        None, min_length=16, description="What a request that erases a user must bring; empty: none is taken"
    )

    @property
    def feed_is_local(self) -> bool:
        """Whether only this machine can ask."""
        try:
            return ipaddress.ip_address(self.feed_host).is_loopback
        except ValueError:
            return self.feed_host == "localhost"

    @field_validator("feed_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        return split(value)
