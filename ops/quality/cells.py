"""One method on one data set under one protocol, computed once: results are kept on disk until code or data change.

The whole evaluation is some hundred such cells; one that is cut off goes on where it was.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import Final

import numpy as np

from ops import catalogue
from ops.quality.methods import Params, method
from ops.quality.outcome import Asked, Outcome
from ops.quality.replay import Protocol, Replayed, replay
from ops.quality.sources import Source, fingerprint
from ops.quality.stream import Stream

CACHE: Final = Path(".cache/quality")

_ROOT: Final = Path(__file__).parents[2]
_COMMON: Final = ("ops/quality/replay.py", "ops/quality/stream.py", "ops/peers/protocol.py", "ops/peers/popularity.py")
_BATCH: Final = ("ops/peers/refitted.py",)


@dataclass(frozen=True, slots=True)
class Cell:
    """What is computed once."""

    source: Source
    method: str
    params: Params
    protocol: Protocol

    @property
    def path(self) -> Path:
        """Where its result is kept: the name is a hash of all that it depends on."""
        made = hashlib.blake2b(digest_size=12)
        made_by = method(self.method)
        for part in (
            (made_by.module, made_by.factory, made_by.fixed),
            self.params,
            self.protocol,
            _data(self.source),
            _code(self.method),
        ):
            made.update(repr(part).encode())
        return CACHE / f"{made.hexdigest()}.npz"

    def result(self) -> Replayed | None:
        """The kept result, if there is one."""
        path = self.path
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as kept:
            return Replayed(
                kept["at"], kept["lists"], float(kept["ask_s"]), float(kept["learn_s"]), int(kept["clicks"])
            )

    def outcome(self) -> Outcome | None:
        """The kept result beside what was clicked."""
        made = self.result()
        return None if made is None else Outcome(_asked(self.source, self.protocol, made.at.tobytes()), made)

    @property
    def stream(self) -> Stream:
        """The clicks, not yet ordered."""
        return _stream(self.source)

    def compute(self) -> None:
        """Run it and keep the result."""
        stream = _stream(self.source)
        peer = method(self.method).make(self.source, stream.items, self.params)
        if self.protocol.ties == "shuffle":
            stream = one_by_one(stream, self.protocol.seed)
        made = replay(peer, stream, self.protocol)
        path = self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(
            partial, at=made.at, lists=made.lists, ask_s=made.ask_s, learn_s=made.learn_s, clicks=made.clicks
        )
        partial.replace(path)


def one_by_one(stream: Stream, seed: int) -> Stream:
    """Its clicks as they are asked where ties are shuffled, each at least a ms after the one before it.

    Who learns from clicks sees by their times whether a list could have come in between.
    """
    ordered, _ = stream.ordered("shuffle", seed)
    at = np.arange(len(ordered))
    return replace(ordered, times=at + np.maximum.accumulate(ordered.times - at))


def compute(cells: Sequence[Cell], jobs: int, until: float) -> Iterator[tuple[Cell, float]]:
    """Compute those that have no result yet, several at a time; yields each with the seconds it took.

    Parameters
    ----------
    jobs
        Processes, each of one thread.
    until
        On the monotonic clock: no cell is begun after it.
    """
    todo = [cell for cell in dict.fromkeys(cells) if not cell.path.is_file()]
    if not todo:
        return
    if jobs == 1:
        _one_thread()
        for cell in todo:
            if monotonic() < until:
                yield cell, _timed(cell)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), _one_thread) as pool:
        running: dict[Future[float], Cell] = {}
        waiting = iter(todo)
        while True:
            while len(running) < jobs and monotonic() < until and (one := next(waiting, None)) is not None:
                running[pool.submit(_timed, one)] = one
            if not running:
                return
            done = next(as_completed(running))
            yield running.pop(done), done.result()


def _timed(cell: Cell) -> float:
    began = monotonic()
    cell.compute()
    return monotonic() - began


def _one_thread() -> None:
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)


@lru_cache(maxsize=2)
def _stream(source: Source) -> Stream:
    return source.stream()


@lru_cache(maxsize=16)
def _asked(source: Source, protocol: Protocol, at: bytes) -> Asked:
    return Asked.of(_stream(source), protocol, np.frombuffer(at, np.int64))


@lru_cache(maxsize=32)
def _data(source: Source) -> str:
    return hashlib.blake2b(fingerprint(_stream(source)), digest_size=12).hexdigest()


@lru_cache(maxsize=2)
def _imported(file: str) -> tuple[str, ...]:
    """The modules of ``models`` that a file imports, and those that they import in turn."""
    found, ahead = {file}, [file]
    while ahead:
        for node in ast.walk(ast.parse((_ROOT / ahead.pop()).read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("models."):
                module = f"{(node.module or '').replace('.', '/')}.py"
                if module not in found:
                    found.add(module)
                    ahead.append(module)
    return tuple(sorted(found))


@lru_cache(maxsize=32)
def _code(name: str) -> str:
    """A hash of the code that a method runs; what is only said about it is none of it."""
    made = method(name)
    digest = hashlib.blake2b(digest_size=12)
    files = [*_COMMON, *_BATCH, made.module.replace(".", "/") + ".py"]
    if made.vectors:
        files += _imported("ops/prequential.py")
        digest.update(catalogue.PRECISION.encode())
    for file in files:
        digest.update(_run(file))
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _run(file: str) -> bytes:
    """A file without comments and docstrings."""
    tree = ast.parse((_ROOT / file).read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
    return ast.dump(tree).encode()


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
