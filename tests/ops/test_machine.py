"""What a benchmark says of the code that ran."""

import os
import subprocess
from pathlib import Path

import pytest

from ops.bench.machine import commit


def git(root: Path, *given: str) -> str:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(root), *settings, *given], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # of a hook that runs the tests: all this would go into the repository itself
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("a = 1")
    (tmp_path / "REPORT.md").write_text("old")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_report_names_the_commit_that_made_it(root: Path) -> None:
    assert commit(root=root) == git(root, "rev-parse", "--short", "HEAD")


@pytest.mark.parametrize("file", ["code.py", "new.py"])
def test_code_that_is_not_committed_is_told(root: Path, file: str) -> None:
    (root / file).write_text("a = 2")
    assert commit(root=root) == f"{git(root, 'rev-parse', '--short', 'HEAD')} + changes"


def test_a_report_written_anew_is_no_change_of_the_code(root: Path) -> None:
    (root / "REPORT.md").write_text("new")
    assert commit(root=root).endswith("+ changes")
    assert "changes" not in commit(besides=["REPORT.md"], root=root)


def test_outside_of_git_or_without_a_commit_it_is_unknown(root: Path, tmp_path: Path) -> None:
    inside = tmp_path / "installed"
    inside.mkdir()
    assert commit(root=inside) == "unknown", "the id of the repository around it is that of other code"
    git(inside, "init", "-q")
    assert commit(root=inside) == "unknown"


def test_without_git_it_is_unknown(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit(root=root) == "unknown"
