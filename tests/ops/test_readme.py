"""The README says what the code does."""

from pathlib import Path

from ops.roles import ROLES
from ops.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_every_setting_stands_in_the_readme_as_it_is() -> None:
    assert Settings.table() in README, "paste the output of `strata config --markdown`"


def test_every_file_that_is_linked_exists() -> None:
    root = Path(__file__).parents[2]
    links = [part.split(")")[0] for part in README.split("](")[1:]]
    local = [link for link in links if not link.startswith("http")]
    assert local
    assert [link for link in local if not (root / link).exists()] == []


def test_every_role_is_named() -> None:
    assert [role for role in ROLES if role not in README] == []
