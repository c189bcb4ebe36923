"""RUNBOOK.md and DEPLOY.md name what there is: files, sections, settings, metrics, roles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_server import OPS, exported

from ops.roles import ROLES
from ops.settings import PREFIX, Settings

DOCUMENTS = {name: (OPS / name).read_text() for name in ("RUNBOOK.md", "DEPLOY.md")}


def sections(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", DOCUMENTS[name])
    assert links
    for link in links:
        file, _, section = link.partition("#")
        target = OPS / (file or name)
        assert target.exists(), link
        assert not section or section in sections(target), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_setting_that_is_named_exists(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    named = set(re.findall(r"\bSTRATA_[A-Z0-9_]*[A-Z0-9]", DOCUMENTS[name]))
    assert named
    assert named - known == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_metric_that_is_named_is_exported(name: str) -> None:
    recorded = set(re.findall(r"record: (\S+)", (OPS / "prometheus" / "recording.yaml").read_text()))
    named = set(re.findall(r"\bstrata[_:][a-z][a-z0-9_:]*[a-z0-9]", DOCUMENTS[name]))
    families = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in exported()}
    assert named
    assert named - exported() - families - recorded == set()


def test_every_role_has_its_place() -> None:
    assert [role for role in ROLES if f"`{role}`" not in DOCUMENTS["DEPLOY.md"]] == []
    missing = DOCUMENTS["RUNBOOK.md"].partition("## StrataRoleMissing")[2].partition("## ")[0]
    assert [role for role in ROLES if f"`{role}`" not in missing] == []


def test_every_command_of_a_benchmark_exists() -> None:
    for module in re.findall(r"python -m (ops\.[a-z_.]+)", DOCUMENTS["DEPLOY.md"]):
        assert (OPS.parent / f"{module.replace('.', '/')}.py").is_file()
