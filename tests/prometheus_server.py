"""A real Prometheus for the tests: the one that ``.ci/tools`` puts into the virtual environment, or any on the PATH."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from consumers.metrics import Metrics

OPS = Path(__file__).parent.parent / "ops"


def tool(name: str) -> str:
    """The program's path; the test is skipped where there is none."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"{name} is not installed: `.ci/tools .venv` fetches it where apt is at hand")
    return found


def names_in(expression: str) -> set[str]:
    """The metrics that an expression names."""
    return set(re.findall(r"\bstrata[_:][a-z0-9_:]+", expression))


def exported() -> set[str]:
    """Every sample name that Strata can export."""
    found = set()
    for metric in Metrics(CollectorRegistry()).registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "info": ["_info"]}
        found |= {metric.name + suffix for suffix in suffixes.get(metric.type, [""])}
    return found


def dashboard_queries() -> dict[str, list[str]]:
    """The queries of Grafana's dashboards, by the title of their panel."""
    found: dict[str, list[str]] = {}
    for path in sorted((OPS / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                found.setdefault(f"{path.stem}: {panel['title']}", []).append(target["expr"])
    return found


class PrometheusServer:
    """A server in its own session, its data in a folder of the test's, stopped by its own process id."""

    def __init__(self, config: str, folder: Path) -> None:
        self._config = folder / "prometheus.yaml"
        self._config.write_text(config)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 20) -> None:
        program = tool("prometheus")
        output = self._folder / "output.log"
        with output.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program, f"--config.file={self._config}", f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        self.close()
        raise RuntimeError(f"Prometheus did not start:\n{output.read_text(errors='replace')[-2000:]}")

    def close(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def get(self, path: str, **parameters: str) -> Any:
        """``data`` of an answer of the HTTP API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query, now."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}
