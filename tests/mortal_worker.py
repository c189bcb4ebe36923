"""Workers to be killed: the real process of Strata, forked from a server that has imported everything already.

What starts is what `strata run` starts, but for the imports and, with the model that :func:`warm` names, its loading:
half a second instead of five, most of it the broker's.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from producers import failpoints

PRELOAD = [
    "mortal_worker", "ops.process", "ops.settings", "kafka.admin", "kafka.codec",
    "transformers.models.bert.modeling_bert", "transformers.models.bert.configuration_bert",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto", "warm_encoder",
]  # fmt: skip
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(PRELOAD)


def warm(model: str) -> None:
    """Have the server load this model once, for every worker. Before the first worker; later it changes nothing."""
    os.environ.setdefault("STRATATEST_WARM_MODEL", model)


def die_at(point: str, times: int) -> None:
    """Die like a machine that loses power when this point is reached for the given time."""
    left = times

    def hook(name: str) -> None:
        nonlocal left
        left -= name == point
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.arm(hook)


def _run(bootstrap: str, given: dict[str, Any], roles: Sequence[str], die: tuple[str, int] | None, log: str) -> None:
    logging.basicConfig(filename=log, level=logging.INFO, format="%(asctime)s %(process)d %(message)s", force=True)
    logging.getLogger("kafka").setLevel(logging.ERROR)
    logging.info("forked")
    import warm_encoder

    from ops.process import Process
    from ops.settings import Settings
    from producers.connection import Connection

    process = Process(Settings(**given), Connection(bootstrap=bootstrap), roles)
    signal.signal(signal.SIGTERM, lambda *_: process.stop())
    if (encoder := warm_encoder.loaded(given)) is not None:
        process.assembly.encoder = encoder  # as if this process had loaded it
    if die is not None:
        die_at(*die)
    try:
        process.start()
        while not process.wait(0.1):
            pass
    finally:
        process.close()


class Worker:
    """A process of Strata that a test may kill, stop, freeze and wait for."""

    def __init__(
        self,
        bootstrap: str,
        given: dict[str, Any],
        log: Path,
        roles: Sequence[str] = ("updater",),
        die: tuple[str, int] | None = None,
    ) -> None:
        self.log = log
        self._process: BaseProcess = _forks.Process(target=_run, args=(bootstrap, given, roles, die, str(log)))
        self._process.start()

    def signal(self, number: int) -> None:
        """Send a signal, to this process alone."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.join(10)

    def wait(self, timeout_s: float = 60) -> int:
        """The exit status, once it has ended."""
        self._process.join(timeout_s)
        assert self._process.exitcode is not None, f"it still runs after {timeout_s:.0f} s; {self.tail()}"
        return self._process.exitcode

    def stop(self) -> None:
        """SIGTERM, and a clean end in time."""
        self.await_said("running ")
        self._process.terminate()
        assert self.wait(40) == 0, self.tail()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def said(self, text: str) -> bool:
        """Whether its log holds this."""
        return self.log.exists() and text in self.log.read_text()

    def await_said(self, text: str, timeout_s: float = 40) -> None:
        """Until its log holds this."""
        deadline = time.monotonic() + timeout_s
        while not self.said(text):
            assert self.alive, self.tail()
            assert time.monotonic() < deadline, f"never said {text!r}; {self.tail()}"
            time.sleep(0.05)

    def resident_mb(self) -> float:
        """Resident memory, MB."""
        fields = Path(f"/proc/{self._process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def tail(self) -> str:
        return self.log.read_text()[-3000:] if self.log.exists() else "no log"
