"""The embedded broker comes up, tells what is wrong, and never outlives the process that started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.errors import ConfigurationError
from ops.broker import EmbeddedBroker
from producers.errors import BrokerUnavailable

ROOT = Path(__file__).parent.parent.parent


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False


def wait_until_gone(port: int, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while answers(port):
        assert time.monotonic() < deadline, "the broker outlived its parent"
        time.sleep(0.05)


def test_it_runs_in_a_session_of_its_own_and_stops() -> None:
    with EmbeddedBroker() as broker:
        assert answers(broker.port)
        assert broker.pid is not None
        assert os.getsid(broker.pid) != os.getsid(0)
    assert not answers(broker.port)
    broker.stop()  # twice is once


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 is in use"):
            EmbeddedBroker(port).start()


def test_a_broker_that_does_not_come_up_is_told_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "tansu"
    fake.write_text("#!/bin/sh\necho out of luck\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(fake))
    with pytest.raises(BrokerUnavailable, match="out of luck"):
        EmbeddedBroker().start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_stops_when_its_parent_is_killed(number: signal.Signals) -> None:
    program = (
        "from ops.broker import EmbeddedBroker\nimport time\n"
        "broker = EmbeddedBroker().start()\nprint(broker.port, flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    try:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert answers(port)
        parent.send_signal(number)
        parent.wait(10)
        wait_until_gone(port)
    finally:
        parent.kill()
        parent.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_it_stops_when_its_watcher_is_killed() -> None:
    broker = EmbeddedBroker().start()
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)
    wait_until_gone(broker.port)
    broker.stop()
