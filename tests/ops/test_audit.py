"""The audit of what is installed: it fails for a known vulnerability, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

AUDIT = Path(__file__).parents[2] / ".ci" / "audit"

STAND_IN = """
import json, sys
flaw = {"id": "CVE-1", "fix_versions": ["2"], "aliases": [], "description": ""}
known = {"name": "jinja2", "version": "2.4.1", "vulns": [flaw]}
here = [{"name": "old", "version": "1", "vulns": FLAWS}, {"name": "own", "skip_reason": "not on the index"}]
print(json.dumps({"dependencies": [known] if "--requirement" in sys.argv else here, "fixes": []}))
"""


def audit(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, AUDIT], capture_output=True, text=True, timeout=60, check=False, env=os.environ | environment
    )


def stand_in(folder: Path, code: str) -> str:
    (folder / "pip_audit.py").write_text(code)
    return str(folder)


def test_offline_it_is_skipped_and_says_so() -> None:
    done = audit(HTTPS_PROXY="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9", NO_PROXY="", no_proxy="")
    assert done.returncode == 0
    assert done.stdout.startswith("pip-audit: skipped, no service of vulnerabilities answers here")
    assert "Traceback" not in done.stdout + done.stderr


def test_an_index_that_knows_no_vulnerability_calls_nothing_clean(tmp_path: Path) -> None:
    done = audit(PYTHONPATH=stand_in(tmp_path, STAND_IN.replace("[flaw]", "[]").replace("FLAWS", "[]")))
    assert (done.returncode, "so it knows of nothing" in done.stdout) == (0, True)


def test_a_known_vulnerability_is_named_and_fails(tmp_path: Path) -> None:
    done = audit(PYTHONPATH=stand_in(tmp_path, STAND_IN.replace("FLAWS", "[flaw]")))
    assert done.returncode == 1
    assert "old 1: CVE-1, mended in 2" in done.stdout
    assert "1 packages, 1 known vulnerabilities; not known to the index: own" in done.stdout
    assert audit(PYTHONPATH=stand_in(tmp_path, STAND_IN.replace("FLAWS", "[]"))).returncode == 0
