"""Data sets that strata makes for itself."""

from itertools import pairwise
from pathlib import Path

import pytest

from models.errors import ConfigurationError
from ops import datasets
from ops.datasets import dataset
from producers.dataset import Dataset, write


def test_a_name_that_is_neither_folder_nor_known_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="completejourney"):
        dataset("no such thing", tmp_path)


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    made = write(tmp_path / "mine", [{"item_id": "1", "title": "T"}], [])
    assert dataset(str(made.folder)) == made


@pytest.mark.slow
def test_the_grocery_panel_is_readable_sorted_and_its_baskets_are_spread(tmp_path: Path) -> None:
    data = dataset("completejourney", tmp_path)
    items = list(data.items())
    assert len(items) > 60_000
    assert all(item.title and item.title[0].upper() == item.title[0] for item in items)
    assert len({item.category for item in items}) < 40
    clicks = list(data.clicks(20_000))
    times = [click.ts for click in clicks]
    assert times == sorted(times)
    assert {click.event for click in clicks} == {"purchase"}
    same = sum(a.ts == b.ts and a.user_id == b.user_id for a, b in pairwise(clicks))
    assert same < 0.05 * len(clicks)
    before = (data.folder / "clicks.jsonl.gz").stat().st_mtime_ns
    dataset("completejourney", tmp_path)
    assert (data.folder / "clicks.jsonl.gz").stat().st_mtime_ns == before  # kept, not built again


def test_shouted_names_are_made_readable() -> None:
    waffles = ("DRUG GM", "Private", "FRZN BREAKFAST FOODS", "WAFFLES/PANCAKES/FRENCH TOAST", "19.8 OZ")
    item = datasets._grocery(7, *waffles)
    assert item["title"] == "Waffles/Pancakes/French Toast · 19.8 oz (store brand)"
    assert item["category"] == "Drug & General Merchandise"
    assert item["tags"] == ["Frozen Breakfast Foods", "Waffles/Pancakes/French Toast"]
    assert datasets._words("CANDY BARS (SINGLES)(INCLUDING") == "Candy Bars (Singles) (Including"
    assert datasets._grocery(8, "GROCERY", "National", "", "", "")["title"] == "Grocery"
    assert datasets._film("Net, The (1995)") == "The Net (1995)"


def test_mostly_new_users_keep_their_first_three_clicks(tmp_path: Path) -> None:
    users = [f"u{i}" for i in range(50)]
    clicks = [
        {"user_id": user, "item_id": str(i), "ts": 1000 * i + n, "event": "rating", "value": 4.0}
        for i in range(9)
        for n, user in enumerate(users)
    ]
    write(tmp_path / "movielens-100k", [{"item_id": str(i), "title": f"T{i}"} for i in range(9)], clicks)
    new: Dataset = dataset("movielens-100k-new", tmp_path)
    counts: dict[str, list[str]] = {}
    for click in new.clicks():
        counts.setdefault(click.user_id, []).append(click.item_id)
    assert sorted(map(len, counts.values())) == [3] * 40 + [9] * 10
    assert all(items == [str(i) for i in range(len(items))] for items in counts.values())
