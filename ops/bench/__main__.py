"""``python -m ops.bench``: every benchmark, one after another, into ``ops/bench/RESULTS.md``.

Each section comes from a module of its own and runs in a process of its own, so that none inherits another's threads
or memory. ``python -m ops.bench encoder layers`` prints only these and writes nothing.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ops.bench.machine import cpu, versions

SECTIONS: Final = (
    "encoder", "layers", "updater", "memory", "end_to_end", "ranking", "ranker", "breaks", "mix", "precision", "feed",
)  # fmt: skip
RESULTS: Final = Path(__file__).with_name("RESULTS.md")


def section(name: str) -> str:
    """Run one benchmark; its section, or what it failed with."""
    print(f"{name} …", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", f"ops.bench.{name}"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return f"## {name}\n\n`python -m ops.bench.{name}` failed with exit code {done.returncode}."
    return done.stdout.strip()


def head() -> str:
    """On what, with what, when."""
    return "\n".join(
        [
            "# Results",
            "",
            "Written by `make bench`; nothing here was typed by hand. The machines are shared, so compare figures of"
            " one run with one another (the ratios), not with another run's.",
            "",
            f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            f"- {cpu()}; {platform.system()} {platform.machine()}, Python {platform.python_version()}",
            f"- {versions('torch', 'transformers', 'river', 'faiss-cpu', 'numpy', 'kafka-python')}",
        ]
    )


def main() -> None:
    """All sections into the file, or the named ones to the screen."""
    wanted = sys.argv[1:]
    unknown = set(wanted) - set(SECTIONS)
    if unknown:
        sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if wanted:
        for name in wanted:
            print(section(name))
        return
    RESULTS.write_text("\n\n".join([head(), *map(section, SECTIONS)]) + "\n")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
