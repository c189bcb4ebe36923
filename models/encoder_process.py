"""The encoder in a process of its own.

A forward of a BERT is a few hundred calls from Python, each of which gives the interpreter's lock away and must get it
back from roles that are busy in Python. Here a batch costs the roles two system calls. With all roles on two cores at
half load, ``python -m ops.bench.end_to_end`` read 292 ms and 94 % of the lists encoded in time, and with
``STRATA_ENCODER_PROCESS=false``, in a thread, 344 ms and 79 %.

The two processes speak over a pipe, a request and its answer at a time; the child ends when its side closes, by
whatever means the parent went. Interrupts are for the parent: it drains its lists, and needs the encoder for it.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.encoder import Encoder, Tokenises
from models.errors import ChecksumMismatch, EncoderDied, ModelError, ModelNotFound
from models.kernels import Device, Precision
from models.tokens import Tokenizer, Tokens
from models.weights import DEFAULT_MODEL

_END_S: Final = 5.0
"""Longest wait for the child to end by itself."""
_ERRORS: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind for kind in (ModelError, ModelNotFound, ChecksumMismatch, ValueError, MemoryError)
}


class Loaded(msgspec.Struct, tag=True):
    """The child's first word: what it has loaded."""

    name: str
    dimension: int
    max_tokens: int
    token_budget: int
    precision: Precision
    device: Device
    path: str
    """Where the model's files are; the parent reads the tokenizer."""


class Vectors(msgspec.Struct, tag=True):
    """float32 [inputs, dimension], row by row."""

    vectors: bytes


class Failed(msgspec.Struct, tag=True):
    """What went wrong, at loading or at a batch."""

    kind: str
    message: str


Answer = Loaded | Vectors | Failed


class Inputs(msgspec.Struct):
    """A batch."""

    lengths: list[int]
    ids: bytes
    """int32, one input after the other."""


class EncoderProcess(Tokenises):
    """An :class:`~models.encoder.Encoder` that encodes in a process of its own; :meth:`tokenise` stays in this one.

    Made by :meth:`load`; the attributes are the encoder's.
    """

    def __init__(self, child: subprocess.Popen[bytes], pipe: Connection, loaded: Loaded) -> None:
        self.name = loaded.name
        self.dimension = loaded.dimension
        self.max_tokens = loaded.max_tokens
        self.token_budget = loaded.token_budget
        self.precision: Precision = loaded.precision
        self.device: Device = loaded.device
        self.tokenizer = Tokenizer(Path(loaded.path), loaded.max_tokens)
        self._child = child
        self._pipe = pipe
        self._one_at_a_time = threading.Lock()

    @classmethod
    def load(cls, model: str = DEFAULT_MODEL, **options: Any) -> EncoderProcess:
        """Start the child and wait until it has loaded the model; parameters and errors are those of
        :meth:`Encoder.load <models.encoder.Encoder.load>`.

        Raises
        ------
        EncoderDied
            If the child ends before it has loaded: killed for memory, say.
        """
        ours, its = Pipe()
        with its:
            child = subprocess.Popen(  # noqa: S603
                # -P: a folder "models" where somebody happens to stand is not ours
                [sys.executable, "-P", "-m", "models.encoder_process", str(its.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
            )
        try:
            _send(ours, {"model": model} | options)
            loaded = _answer(ours, child)
            if not isinstance(loaded, Loaded):
                raise ModelError(f"the encoder's process speaks another version's language: {type(loaded).__name__}")
            return cls(child, ours, loaded)
        except BaseException:
            _end(child, ours)
            raise

    def encode(self, inputs: Sequence[Tokens]) -> NDArray[np.float32]:
        """See :meth:`Encoder.encode <models.encoder.Encoder.encode>`. Waits for the child; holds no lock of Python.

        Raises
        ------
        EncoderDied
            If the child is gone.
        """
        if len(inputs) == 0:
            return np.empty((0, self.dimension), np.float32)
        ids = np.concatenate(inputs).astype("<i4", copy=False)
        with self._one_at_a_time:
            with contextlib.suppress(OSError):  # what is read next says why
                _send(self._pipe, Inputs([len(one) for one in inputs], ids.tobytes()))
            answer = _answer(self._pipe, self._child)
        if not isinstance(answer, Vectors):
            raise ModelError(f"the encoder's process answers a batch with {type(answer).__name__}")
        return np.frombuffer(answer.vectors, "<f4").reshape(len(inputs), self.dimension)

    def close(self) -> None:
        """End the child."""
        _end(self._child, self._pipe)


def _send(pipe: Connection, message: Any) -> None:
    pipe.send_bytes(msgspec.msgpack.encode(message))


def _answer(pipe: Connection, child: subprocess.Popen[bytes]) -> Loaded | Vectors:
    try:
        answer: Answer = msgspec.msgpack.decode(pipe.recv_bytes(), type=Answer)
    except (EOFError, OSError) as error:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_END_S)
        raise EncoderDied(
            f"the encoder's process has ended (exit status {child.returncode}; -9: killed, mostly for memory). "
            "A restart loads it again; STRATA_TOKEN_BUDGET makes its batches smaller"
        ) from error
    if isinstance(answer, Failed):
        raise _ERRORS.get(answer.kind, RuntimeError)(answer.message)
    return answer


def _end(child: subprocess.Popen[bytes], pipe: Connection) -> None:
    pipe.close()
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:  # in a batch
        child.kill()
        child.wait()


# -- the child ------------------------------------------------------------------------------------------------------


def serve(pipe: Connection) -> None:
    """Load what the first message says, then answer batches until the pipe closes."""
    try:
        encoder = Encoder.load(**msgspec.msgpack.decode(pipe.recv_bytes()))
    except Exception as error:
        _send(pipe, Failed(type(error).__name__, str(error)))
        return
    _send(
        pipe,
        Loaded(
            name=encoder.name,
            dimension=encoder.dimension,
            max_tokens=encoder.max_tokens,
            token_budget=encoder.token_budget,
            precision=encoder.precision,
            device=encoder.device,
            path=str(encoder.path),
        ),
    )
    while True:
        try:
            batch = msgspec.msgpack.decode(pipe.recv_bytes(), type=Inputs)
        except (EOFError, OSError):
            return
        try:
            ids = np.split(np.frombuffer(batch.ids, "<i4"), np.cumsum(batch.lengths)[:-1])
            answer: Answer = Vectors(encoder.encode(ids).astype("<f4", copy=False).tobytes())
        except Exception as error:  # too much for the memory, or an input that no model could read: the parent halves
            answer = Failed(type(error).__name__, str(error))
        with contextlib.suppress(BrokenPipeError):
            _send(pipe, answer)


def main() -> None:
    """The child: ``python -m models.encoder_process FD``."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
