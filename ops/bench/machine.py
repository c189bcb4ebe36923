"""What a benchmark ran on, and which code ran."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_INSTRUCTIONS: Final = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def cpu() -> str:
    """The CPU's name and those of its instruction sets that matter here."""
    info = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    if info.is_file():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    found = [name for name in _INSTRUCTIONS if name in fields.get("flags", "").split()]
    return f"{name}, {os.cpu_count()} cores, {' '.join(found) or 'instruction sets unknown'}"


def versions(*packages: str) -> str:
    """Name and version of each package."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def commit(besides: Sequence[str] = (), root: Path = _ROOT) -> str:
    """The short id of the commit that the code is of, ``… + changes`` if it is changed, ``unknown`` outside git.

    Parameters
    ----------
    besides
        Files, from the root, whose changes do not count: a report that is written anew is no change of the code that
        writes it.
    """
    if not (root / ".git").exists():  # it may lie in somebody else's repository
        return "unknown"
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", ".", *(f":(exclude){file}" for file in besides))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} + changes" if changed else head


def _git(root: Path, *given: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *given]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
