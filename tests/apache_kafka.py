"""One node of Apache Kafka for the tests, from the distribution that KAFKA_HOME names (Java 17)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from producers.connection import Connection

CLUSTER = "c3RyYXRhLXRlc3QtMDAwMQ"

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/logs
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
default.replication.factor=1
min.insync.replicas=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.threads=1
log.cleaner.backoff.ms=500
log.retention.check.interval.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
"""


def home() -> Path | None:
    """The distribution, None where there is none."""
    name = os.environ.get("KAFKA_HOME")
    folder = Path(name) if name else None
    return folder if folder and (folder / "bin" / "kafka-server-start.sh").is_file() else None


class ApacheKafka:
    """A node in its own session, its log in a file, stopped by its own process id.

    Parameters
    ----------
    advertised
        The port that clients are told, where a proxy stands before the node.
    properties
        More of them, with the same fields to fill in; they win over those above.
    format_options, options
        More arguments for the format of the storage, and more options for Java.
    ports
        For clients and for the controllers; free ones where not given.
    heap
        Java's options for its heap; the start script's default where not given.
    """

    def __init__(
        self,
        advertised: int | None = None,
        *,
        properties: str = "",
        format_options: Sequence[str] = (),
        options: str = "",
        ports: tuple[int, int] | None = None,
        heap: str = "",
    ) -> None:
        folder = home()
        assert folder is not None
        self._bin = folder / "bin"
        self._folder = tempfile.TemporaryDirectory(prefix="strata-kafka-")
        self.port, controller = ports or free_ports(2)
        self.advertised = advertised or self.port
        self._properties = Path(self._folder.name) / "server.properties"
        text = (PROPERTIES + properties).format(
            port=self.port, advertised=self.advertised, controller=controller, folder=self._folder.name
        )
        self._properties.write_text(text)
        self._format_options = list(format_options)
        self._environment = os.environ | ({"KAFKA_OPTS": options} if options else {})
        if heap:
            self._environment |= {"KAFKA_HEAP_OPTS": heap}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def connection(self) -> Connection:
        return Connection(bootstrap=f"127.0.0.1:{self.advertised}")

    def start(self, timeout_s: float = 60.0) -> None:
        output = Path(self._folder.name) / "output.log"
        if not (Path(self._folder.name) / "logs").exists():
            storage = ["kafka-storage.sh", "format", "-t", CLUSTER, "-c", str(self._properties)]
            self._run(storage + self._format_options)
        with output.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "kafka-server-start.sh", str(self._properties)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=self._environment,
            )  # fmt: skip
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=0.2):
                    return
            except OSError:
                time.sleep(0.05)
        text = output.read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"Apache Kafka did not start:\n{text}")

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """Stop the node; its data stays, so that it may be started again."""
        if self._process is None:
            return
        # the start script may stand between us and Java: its session is ours alone
        os.killpg(self._process.pid, signal_number)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            [str(self._bin / command[0]), *command[1:]],
            capture_output=True, text=True, timeout=60, check=False, start_new_session=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
