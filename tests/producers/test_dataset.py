"""Data sets on disk."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import ConfigurationError
from producers.dataset import CLICKS, ITEMS, Dataset, write

ITEM = {"item_id": "1", "title": "Tea", "category": "drinks", "tags": ["hot"]}
CLICK = {"user_id": "u", "item_id": "1", "ts": 1_700_000_000_000, "event": "purchase"}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    data = write(tmp_path / "shop", [ITEM, ITEM | {"item_id": "2", "title": "Käse"}], [CLICK] * 3)
    assert data.name == "shop"
    assert [item.title for item in data.items()] == ["Tea", "Käse"]
    assert [click.item_id for click in data.clicks()] == ["1"] * 3
    assert len(list(data.clicks(limit=2))) == 2
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == [CLICKS, ITEMS]


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write(tmp_path / name, [ITEM], [CLICK]) for name in "ab")
    assert (first.folder / CLICKS).read_bytes() == (second.folder / CLICKS).read_bytes()


def test_writing_again_replaces(tmp_path: Path) -> None:
    write(tmp_path / "shop", [ITEM], [CLICK])
    data = write(tmp_path / "shop", [ITEM], [CLICK, CLICK])
    assert len(list(data.clicks())) == 2


def test_a_folder_without_the_files_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=ITEMS):
        Dataset(tmp_path)


def test_a_broken_line_is_told_by_its_number(tmp_path: Path) -> None:
    data = write(tmp_path / "shop", [ITEM], [CLICK])
    with gzip.open(data.folder / CLICKS, "ab") as file:
        file.write(b'{"user_id": 5}\n')
    with pytest.raises(ConfigurationError, match="line 2"):
        list(data.clicks())


def test_of_two_processes_that_write_the_same_at_once_neither_stumbles(tmp_path: Path) -> None:
    code = (
        "import itertools, sys, pathlib\n"
        "from producers.dataset import write\n"
        f"clicks = itertools.repeat({CLICK!r}, 200_000)\n"
        f"write(pathlib.Path(sys.argv[1]), [{ITEM!r}], clicks)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, str(tmp_path / "shop")]
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert sum(1 for _ in Dataset(tmp_path / "shop").clicks()) == 200_000
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]
