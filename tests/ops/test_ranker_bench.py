"""The benchmark of the ranker's guard: its streams, its updaters, and what it says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.events import Click
from models.experts import EXPERTS
from models.ranker_learning import Lesson, RankerLearner
from ops.bench.changes import WINDOW, adapted, passers_by, trends
from ops.bench.following import Followed, clicks_of, follow, named
from ops.bench.ranker import aged_row, served_row
from ops.bench.several import AGES, Several
from ops.prequential import BLOCK
from ops.quality.sources import Source
from producers.dataset import write

N = 3_000


def clicks(count: int = N) -> list[Click]:
    draw = np.random.default_rng(4)
    made = []
    for number in range(count):
        user = int(draw.integers(40))
        item = f"i{user % 4 * 60 + draw.integers(60)}"  # users of a kind click items of a kind
        made.append(Click(user_id=f"u{user}", item_id=item, ts=1_700_000_000_000 + 1_000 * number))
    return made


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.chdir(tmp_path)
    made = clicks(2_400)
    write(
        tmp_path / "toy",
        [{"item_id": item, "title": item} for item in sorted({click.item_id for click in made})],
        [{"user_id": c.user_id, "item_id": c.item_id, "ts": c.ts, "event": c.event} for c in made],
    )
    return named(str(tmp_path / "toy"))


@pytest.mark.parametrize("change", [trends, passers_by])
def test_only_the_middle_third_changes(change: Callable[[list[Click]], list[Click]]) -> None:
    before, after = clicks(), change(clicks()[::-1])
    assert after[: N // 3] == before[: N // 3]
    assert after[2 * N // 3 :] == before[2 * N // 3 :]
    assert [click.ts for click in after] == [click.ts for click in before]
    middle = after[N // 3 : 2 * N // 3]
    assert {click.item_id for click in middle} <= {click.item_id for click in before}
    assert sum(one != other for one, other in zip(before[N // 3 : 2 * N // 3], middle, strict=True)) > 0.9 * N / 3


def test_a_passer_by_clicks_twice_and_the_second_time_on_what_is_in_fashion() -> None:
    before, after = clicks(), passers_by(clicks())
    middle = after[N // 3 : 2 * N // 3]
    assert set(Counter(click.user_id for click in middle).values()) == {2}
    assert not {click.user_id for click in middle} & {click.user_id for click in before}
    assert [click.item_id for click in middle[::2]] == [click.item_id for click in before[N // 3 : 2 * N // 3 : 2]]
    fashions = [Counter(click.item_id for click in middle[start + 1 : start + 300 : 2]) for start in (0, 300, 600)]
    assert all(len(fashion) <= 30 for fashion in fashions)
    assert all(sum(count for _, count in fashion.most_common(10)) > 90 for fashion in fashions)  # of 150
    assert len(set.intersection(*(set(fashion) for fashion in fashions))) < 10


def test_the_first_clicks_of_a_data_set_are_its_first_and_no_more_than_it_has(toy: Source) -> None:
    some = named(f"{toy.data}:1000")
    assert clicks_of(some.stream()) == clicks_of(toy.stream())[:1_000]
    assert len(some.store()) == some.stream().items
    assert len(named(f"{toy.data}:9000").stream()) == 2_400
    assert named("movielens-100k-new:500").length == 500
    assert named("completejourney-new:90000").length == 40_000


def test_each_updater_teaches_of_its_own_users_at_weights_of_its_own_age(
    toy: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[tuple[int, int, int]] = []
    learn = RankerLearner.learn

    def watched(self: RankerLearner, lesson: Lesson) -> bool:
        assert lesson.version is not None
        taught.append((self.version, lesson.version, int(lesson.clicks.sum())))
        return learn(self, lesson)

    monkeypatch.setattr(RankerLearner, "learn", watched)
    several = follow(toy, start=0.9, make=Several)
    assert len(taught) == 2 * -(-2_400 // BLOCK)
    versions, at, sizes = np.array(taught).T
    assert versions[-1] + sizes[-1] == sizes.sum()
    of_block = versions[::2]  # what the ranker knew at the start of each block
    for updater, age in enumerate(AGES):
        known = np.concatenate([np.zeros(age, np.int64), of_block])[: len(of_block)]
        np.testing.assert_array_equal(at[updater::2], known)
    assert 0.2 < sizes[::2].sum() / sizes.sum() < 0.8
    fresh = follow(toy, start=0.9)
    np.testing.assert_array_equal(several.users, fresh.users)  # so they can be compared click by click
    assert (several.hits[:, -1] != fresh.hits[:, -1]).any()
    np.testing.assert_array_equal(several.hits[:, 2:-1], fresh.hits[:, 2:-1])


def followed(at: np.ndarray, served: np.ndarray, best: np.ndarray) -> Followed:
    n = len(at)
    hits = np.zeros((n, len(EXPERTS) + 1), np.bool_)
    hits[:, -1], hits[:, 5] = served, best
    zeros = np.zeros(n, np.int64)
    return Followed(hits, zeros, np.arange(n), at, zeros.copy(), n)


def test_how_soon_a_change_is_answered_is_counted_from_the_change() -> None:
    n, change = 3_000, 1_000
    places = np.arange(n)
    best = (places >= change) & (places % 2 == 0)
    served = best & (places >= change + 700)  # from there on as good as the best
    outcome = followed(places / n, served, best)
    assert adapted(outcome, change / n, 1) == (None, None, 700)
    outcome.serving[change + 450 :] = 5
    outcome = Followed(
        outcome.hits, outcome.buckets, outcome.users, outcome.at, outcome.serving, n, (0.1, (change + 320) / n)
    )
    assert adapted(outcome, change / n, 1) == (320, 450, 700)
    assert adapted(outcome, change / n, (change + WINDOW) / n)[2] is None
    outcome.hits[change + 800 :, 0] = True  # who is the best of all later takes nothing from how it is served now
    assert adapted(outcome, change / n, 1)[2] is None
    outcome.hits[change + 1_500 :, -1] = True
    assert adapted(outcome, change / n, 1)[2] == 1_500
    assert outcome.part(change / n).breaks == ((change + 320) / n,)


def test_a_row_says_whether_the_difference_is_below_its_error() -> None:
    places = np.arange(1_000)
    fixed, none = places % 2 == 0, np.zeros(1_000, np.bool_)
    good, bad = followed(places / 1_000, fixed, fixed), followed(places / 1_000, none, fixed)
    assert "| 1,000 | 0.5000 |" in served_row("toy", good)
    assert f"{EXPERTS[5]} 0.5000 | +0.0000 ± 0.0000 | yes |" in served_row("toy", good)
    assert "-0.5000" in served_row("toy", bad)
    assert "**no**" in served_row("toy", bad)
    assert aged_row("toy", "late", bad, good).endswith("| **no** |")
    assert aged_row("toy", "late", good, bad).endswith("| yes |")
