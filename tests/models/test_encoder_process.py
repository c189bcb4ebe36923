"""The encoder in a process of its own: the same vectors, the same errors, and an end that nobody can miss."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.encoder import Encoder
from models.encoder_process import EncoderProcess
from models.errors import EncoderDied, ModelNotFound

TEXTS = ["Wool socks", "Whole milk", "Crème brûlée", ""]


@pytest.fixture(scope="module")
def child() -> Iterator[EncoderProcess]:
    encoder = EncoderProcess.load(precision="fp32", device="cpu", token_budget=40, threads=1)
    yield encoder
    encoder.close()


def test_it_gives_what_the_encoder_gives(child: EncoderProcess) -> None:
    here = Encoder.load(precision="fp32", device="cpu", token_budget=40)
    assert (child.name, child.dimension, child.max_tokens, child.token_budget, child.precision, child.device) == (
        here.name, here.dimension, here.max_tokens, here.token_budget, here.precision, here.device,
    )  # fmt: skip
    tokens = child.tokenise(TEXTS)
    assert all(map(np.array_equal, tokens, here.tokenise(TEXTS)))
    inputs = child.inputs([[ids] for ids in tokens] + [tokens])
    np.testing.assert_allclose(child.encode(inputs), here.encode(inputs), rtol=0, atol=2e-6)
    assert child.encode([]).shape == (0, 384)


def test_an_input_that_cannot_be_read_is_said_to_be_so_and_the_next_is_read(child: EncoderProcess) -> None:
    good = child.inputs([child.tokenise(["milk"])])
    with pytest.raises(ValueError, match="an input has 0"):
        child.encode([np.array([], np.int32)])
    with pytest.raises(ValueError, match="a token id is outside"):
        child.encode([np.array([101, 10**9], np.int32)])
    assert child.encode(good).shape == (1, 384)


def test_a_wrong_model_is_the_same_error_as_in_one_process() -> None:
    with pytest.raises(ModelNotFound, match="name an existing folder"):
        EncoderProcess.load("./nowhere")


def test_a_child_that_is_killed_is_told_with_what_to_do() -> None:
    encoder = EncoderProcess.load(precision="fp32", device="cpu", threads=1)
    try:
        inputs = encoder.inputs([encoder.tokenise(["milk"])])
        os.kill(encoder._child.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(EncoderDied, match=r"exit status -9.*STRATA_TOKEN_BUDGET"):
                encoder.encode(inputs)
    finally:
        encoder.close()


def test_an_interrupt_is_the_parents_and_its_death_ends_the_child(tmp_path: Path) -> None:
    program = """
import sys, time
from models.encoder_process import EncoderProcess
encoder = EncoderProcess.load(precision="fp32", device="cpu", threads=1)
print(encoder._child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(child, number)
        time.sleep(0.3)
        assert running(child)
    finally:
        parent.kill()
        parent.communicate()
    deadline = time.monotonic() + 30
    while running(child):
        assert time.monotonic() < deadline, "it has outlived its parent"
        time.sleep(0.05)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
