"""Settings of operations: HTTP and logs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class OperationSettings(BaseSettings):
    """Where a worker can be looked at, and what it says."""

    http_host: str = Field("127.0.0.1", description="Address of metrics and health; loopback unless told otherwise")
    http_port: int = Field(9464, ge=0, le=65_535, description="Port of metrics and health; 0: any free one")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity that is logged")
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else json")
    tracing: Literal["carry", "otlp"] = Field(
        "carry", description="Traces of clicks: handed on to their lists, or recorded as well and sent by OTLP"
    )
