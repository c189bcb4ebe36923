"""Dockerfile and compose.yaml, as far as they can be checked without Docker: by schema, linter, and against the code.

What is not run here: the build of the image and the containers themselves.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ops.cli import app
from ops.roles import ROLES, chosen
from ops.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
COMPOSE = yaml.safe_load((OPS / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("strata:")}


def dockerfile() -> str:
    return (OPS / "Dockerfile").read_text()


# -- compose ---------------------------------------------------------------------------------------------------


def test_compose_fits_the_specification() -> None:
    schema = json.loads((resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [f"{e.json_path}: {e.message[:200]}" for e in validator.iter_errors(COMPOSE)] == []
    assert not validator.is_valid({"services": {"a": {"image": 3}}})


def test_every_role_has_a_service() -> None:
    run = [role for service in OURS.values() if service["command"][0] == "run" for role in service["command"][1:]]
    assert set(run) == set(chosen(run)) == set(ROLES), "add a service for the role to ops/compose.yaml"


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_with_each_profile_every_role_runs_once_under_its_own_name(profile: str) -> None:
    running = [s for s in OURS.items() if profile in s[1].get("profiles", [profile])]
    assert sorted(s["command"][1] for _, s in running if s["command"][0] == "run") == sorted(ROLES)
    for name, service in running:
        if service["command"][0] == "run":  # what Prometheus finds by DNS
            aliases = service.get("networks", {}).get("default", {}).get("aliases", [])
            assert service["command"][1] in {name, *aliases}
    assert (OPS / ".env").read_text().splitlines()[-1] == "COMPOSE_PROFILES=cpu"


@pytest.mark.parametrize("name", OURS)
def test_a_container_of_ours_has_known_settings_and_no_rights(name: str) -> None:
    service = OURS[name]
    settings = {PREFIX + field.upper() for field in Settings.model_fields}
    assert {key for key in service["environment"] if key.startswith(PREFIX)} <= settings
    Settings(**{key.removeprefix(PREFIX).lower(): value for key, value in service["environment"].items()})
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["command"][0] in {group.name for group in app.registered_groups} | {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }


def test_what_others_wait_for_says_when_it_is_healthy() -> None:
    waits = [
        (name, on, how["condition"]) for name, s in SERVICES.items() for on, how in s.get("depends_on", {}).items()
    ]
    assert ("topics", "kafka", "service_healthy") in waits
    for name, on, condition in waits:
        assert on in SERVICES, f"{name} waits for {on}"
        if condition == "service_healthy":
            assert "test" in SERVICES[on]["healthcheck"]
        if condition == "service_completed_successfully":
            assert SERVICES[on]["restart"] == "no"
    for name, service in OURS.items():
        assert name == "topics" or service["depends_on"]["topics"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_mounts_what_exists_and_listens_on_loopback(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-\w+)?", service["image"])
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (OPS / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"]


def test_prometheus_and_grafana_find_their_files() -> None:
    (config,) = (a for a in SERVICES["prometheus"]["command"] if a.startswith("--config.file="))
    assert (OPS / "prometheus" / config.rpartition("/")[2]).is_file()
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (OPS / "grafana" / "dashboards" / home.rpartition("/")[2]).is_file()
    config_text = (OPS / "prometheus" / "prometheus.yaml").read_text()
    assert {role for role in ROLES if role not in config_text} == set()


# -- Dockerfile ------------------------------------------------------------------------------------------------


def test_hadolint_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, OPS / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_without_rights_and_looks_at_its_own_health() -> None:
    final = dockerfile().rpartition("FROM ")[2]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*\\\n\s+CMD .*:9464/livez", final, re.MULTILINE)
    assert Settings.model_fields["http_port"].default == 9464
    assert "STRATA_HTTP_HOST=0.0.0.0" in final
    for argument in re.findall(r"build-arg (\w+)=", dockerfile()):
        assert f"ARG {argument}=" in dockerfile()


def test_the_torch_of_the_image_is_the_torch_of_the_tests() -> None:
    (pinned,) = re.findall(r"^TORCH\s+\?= torch==(\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"ARG TORCH={pinned}\n" in dockerfile()


def test_what_the_dockerfile_copies_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (OPS / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile(), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert set(copied) == kept
    assert all((ROOT / source).exists() for source in copied)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install .` in the Dockerfile builds, from what the Dockerfile copies."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "src"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "models", "producers", "consumers", "ops"):
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, "."]
    subprocess.run(command, cwd=source, check=True, timeout=120, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_module(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        str(p.relative_to(ROOT))
        for room in ("models", "producers", "consumers", "ops")
        for p in (ROOT / room).rglob("*.py")
    }
    assert modules - held == set()
    assert not any(name.startswith("tests") for name in held)


READ_ONLY = """
import os, sys

def refuse(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path, mode, flags = os.fsdecode(arguments[0]), arguments[1] or "", arguments[2] or 0
        if (set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR)) and not path.startswith(("/tmp/", "/dev/")):
            raise OSError(30, "Read-only file system", path)
    elif event in {"os.mkdir", "os.rename"} and not os.fsdecode(arguments[0]).startswith("/tmp/"):
        raise OSError(30, "Read-only file system", os.fsdecode(arguments[0]))

sys.addaudithook(refuse)
from models.encoder import Encoder
from ops.process import Process
from ops.settings import load

print(load().http_host, Encoder.load(precision="fp32", device="cpu").dimension)
try:
    open("/var/strata", "w")
except OSError as error:
    print(error.strerror)
"""


def test_strata_writes_nothing_where_the_image_is_read_only(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {
        "PYTHONPATH": str(tmp_path / "site"), "STRATA_HTTP_HOST": "0.0.0.0", "HOME": "/nowhere",
        "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ_ONLY], cwd="/", env=environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "0.0.0.0 384\nRead-only file system\n"), done.stderr
