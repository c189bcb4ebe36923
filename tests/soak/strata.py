"""`strata run` as a process to be killed, frozen and started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


class Strata:
    """The command in a session of its own, its log in a file.

    Parameters
    ----------
    settings
        By field name; they become the environment.
    """

    def __init__(self, name: str, roles: list[str], settings: dict[str, Any], log: Path) -> None:
        self.name = name
        self.log = log
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STRATA_")}
        environment |= {f"STRATA_{field.upper()}": str(value) for field, value in settings.items()}
        self.started_at = time.monotonic()
        with log.open("ab") as output:
            self._said_before = output.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from ops.cli import main; main()", "run", *roles],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=ROOT,
                env=environment | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        """What this process has logged."""
        with self.log.open("rb") as log:
            log.seek(self._said_before)
            return log.read().decode(errors="replace")

    @property
    def ready(self) -> bool:
        """Whether /readyz says so, and it has partitions or is known to have none."""
        url = re.search(r"(http://127\.0\.0\.1:\d+)", self.said())
        if url is None:
            return False
        try:
            with urllib.request.urlopen(f"{url[1]}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    def await_ready(self, timeout_s: float) -> float:
        """Seconds from the start of the process until it is ready."""
        while not self.ready:
            taken = time.monotonic() - self.started_at
            if not self.alive or taken > timeout_s:
                raise RuntimeError(f"{self.name} is not ready after {taken:.0f} s:\n{self.said()[-3000:]}")
            time.sleep(0.05)
        return time.monotonic() - self.started_at

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self._process.terminate()
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL
