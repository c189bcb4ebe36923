"""Settings of the encoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt
from pydantic_settings import BaseSettings

from models.weights import DEFAULT_MODEL


class EncoderSettings(BaseSettings):
    """Which BERT, on what, in which precision."""

    model: str = Field(DEFAULT_MODEL, description="BERT: the packaged default, a folder, or a Hugging Face id")
    model_sha256: str | None = Field(None, description="What the weights must be (the default's are always checked)")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Arithmetic; auto measures and takes the fastest: of BERT fp32 or bf16, of users with items int8, too",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes CUDA where there is one")
    encoder_process: bool = Field(
        True, description="BERT in a process of its own, where the Python of the roles does not hold it up"
    )
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
