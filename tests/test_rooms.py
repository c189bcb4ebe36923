"""Imports between the rooms run one way: ops → consumers → producers → models."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "producers", "consumers", "ops")
"""Lowest first: a room may import itself and what stands before it."""

FOREIGN_TO_MODELS = {"kafka", "prometheus_client", "http", "socket", "starlette", "uvicorn", "urllib", "requests"}


def imports(source: str) -> Iterator[str]:
    """First names of everything that is imported, inside functions and type checks too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "rooms are imported by their names, not relatively"
            yield (node.module or "").split(".")[0]


def files() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_what_stands_below_it(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    above = set(ROOMS[ROOMS.index(room) + 1 :]) | {"tests"}
    assert not above & set(imports(path.read_text()))


@pytest.mark.parametrize("path", sorted((ROOT / "models").rglob("*.py")), ids=lambda path: path.name)
def test_models_know_neither_kafka_nor_http_nor_prometheus(path: Path) -> None:
    assert not FOREIGN_TO_MODELS & set(imports(path.read_text()))


def test_the_check_sees_every_form_of_import() -> None:
    source = "import a.b\ndef f():\n    from c.d import e\n    import g as h"
    assert set(imports(source)) == {"a", "c", "g"}


def test_every_room_is_packaged() -> None:
    configured = (ROOT / "pyproject.toml").read_text()
    for path in files():
        package = ".".join(path.parent.relative_to(ROOT).parts)
        assert f'"{package}"' in configured, f"{package} is not listed in pyproject.toml"
