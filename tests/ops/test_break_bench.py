"""The benchmark of breaks: what becomes of the stream, and whom it compares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.events import Click
from ops.bench.breaks import Keeping, compared, exchanged
from ops.bench.following import follow, named
from ops.prequential import System
from producers.dataset import write

N = 900


def clicks() -> list[Click]:
    draw = np.random.default_rng(4)
    made = []
    for number in range(N):
        user = int(draw.integers(20))
        item = f"i{user % 4 * 60 + draw.integers(60)}"  # users of a kind click items of a kind
        made.append(Click(user_id=f"u{user}", item_id=item, ts=1_700_000_000_000 + 1_000 * number, event="click"))
    return made


def test_from_the_half_on_each_item_stands_for_another_and_nothing_else_changes() -> None:
    before, after = clicks(), exchanged(clicks()[::-1])
    assert after[: N // 2] == before[: N // 2]
    became: dict[str, set[str]] = {}
    for one, other in zip(before[N // 2 :], after[N // 2 :], strict=True):
        assert (one.user_id, one.ts) == (other.user_id, other.ts)
        became.setdefault(one.item_id, set()).add(other.item_id)
    assert all(len(items) == 1 for items in became.values())
    assert len(set.union(*became.values())) == len(became)
    assert sum(items != {item} for item, items in became.items()) > len(became) / 2


def test_told_of_a_break_one_forgets_and_the_other_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = clicks()
    items = sorted({click.item_id for click in made})
    write(
        tmp_path / "toy",
        [{"item_id": item, "title": item} for item in items],
        [{"user_id": c.user_id, "item_id": c.item_id, "ts": c.ts, "event": c.event} for c in made],
    )
    systems: list[System] = []

    def watched(make: type[System]) -> type[System]:
        class Watched(make):  # type: ignore[misc, valid-type]
            def __post_init__(self) -> None:
                super().__post_init__()
                systems.append(self)

        return Watched

    found = [
        follow(named(str(tmp_path / "toy")), start=0.5, most=60, make=watched(make), told=0.5)
        for make in (System, Keeping)
    ]
    assert [len(each.hits) >= 60 for each in found] == [True, True]
    assert all((each.at >= 0.5).all() for each in found)
    forgot, kept = (system.neighbours for system in systems)
    assert (len(forgot.breaks.times), len(kept.breaks.times)) == (1, 0)
    np.testing.assert_array_equal(forgot.counts, kept.counts)
    assert forgot.effective.sum() < 0.6 * kept.effective.sum()
    one, other, _ = compared(found[0], found[1], 50)
    assert [float(one), float(other)] == [float(f"{each.hits[:50, -1].mean():.4f}") for each in found]
