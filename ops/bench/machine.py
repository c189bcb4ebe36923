"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

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
