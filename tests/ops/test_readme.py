"""The README says what the code does."""

import json
from pathlib import Path

from ops.quality.methods import HOURLY, PEERS, STRATA
from ops.roles import ROLES
from ops.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_setting_stands_in_the_readme_as_it_is() -> None:
    assert Settings.table() in README, "paste the output of `strata config --markdown`"


def test_every_file_that_is_linked_exists() -> None:
    links = [part.split(")")[0] for part in README.split("](")[1:]]
    local = [link for link in links if not link.startswith("http")]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_every_role_is_named() -> None:
    assert [role for role in ROLES if role not in README] == []


def test_the_quality_that_is_told_is_the_one_that_was_measured() -> None:
    told = README.split("| best of six others |")[1].splitlines()[2:8]
    measured = json.loads((ROOT / "ops/bench/quality.json").read_text())["methods"]

    def three(value: float) -> str:
        return f"{value:.3f}".removeprefix("0")

    assert len(told) == len(measured)
    for line, methods in zip(told, measured.values(), strict=True):
        peer = max(PEERS, key=lambda name: methods[name]["hr"])
        strata, best, hourly = (three(methods[name]["hr"]) for name in (STRATA, peer, HOURLY))
        assert line.endswith(f"| **{strata}** | {best} ({peer}) | {hourly} |")
