"""The encoder that the server of the mortal workers loads before it forks them. Imported there, not by the tests."""

from __future__ import annotations

import gc
import os
from typing import Any

import torch

from models.encoder import Encoder

MODEL = os.environ.get("STRATATEST_WARM_MODEL", "")

torch.set_num_threads(1)  # a pool of threads would not survive the fork
ENCODER = Encoder.load(MODEL, precision="fp32", device="cpu", threads=1) if MODEL else None
gc.collect()
gc.freeze()  # the workers' own collections need not walk torch


def loaded(given: dict[str, Any]) -> Encoder | None:
    """The encoder for a worker with these settings, None if it has to load another."""
    wanted = {"model": MODEL, "precision": "fp32", "threads": 1}
    return ENCODER if all(given.get(name) == value for name, value in wanted.items()) else None
