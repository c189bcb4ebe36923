"""The study of quality: nothing leaks, all peers are asked the same, and the figures are what their names say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import ConfigurationError
from models.events import Click
from ops import catalogue
from ops.measures import MISS
from ops.peers.popularity import Popularity
from ops.peers.protocol import Clicks, Questions
from ops.quality import cells, sources
from ops.quality.cells import Cell, one_by_one
from ops.quality.methods import METHODS, PEERS, TRIALS, method
from ops.quality.outcome import FIRST, LENGTHS, Asked, Outcome, ranks
from ops.quality.replay import Protocol, Replayed, replay
from ops.quality.sources import Source, source
from ops.quality.stream import Stream, again, earlier
from ops.quality.study import TUNING, Study
from producers.dataset import write

ITEMS = 40


def stream(n: int = 800, seed: int = 1, tie: int = 1) -> Stream:
    draw = np.random.default_rng(seed)
    times = 1_700_000_000_000 + np.arange(n) // tie * 60_000
    ids = tuple(f"i{i}" for i in range(ITEMS))
    return Stream("toy", ids, draw.integers(0, 30, n), draw.zipf(1.5, n) % ITEMS, times)


class Recorder:
    """A peer that keeps what it was asked and told, and lists nothing."""

    def __init__(self) -> None:
        self.questions: list[Questions] = []
        self.learned: list[Clicks] = []

    def recommend(self, questions: Questions, n: int) -> NDArray[np.int64]:
        self.questions.append(questions)
        return np.full((len(questions), n), -1, np.int64)

    def learn(self, clicks: Clicks) -> None:
        self.learned.append(clicks)


def test_a_question_knows_all_clicks_of_its_user_before_it_and_none_after() -> None:
    peer, made = Recorder(), stream()
    result = replay(peer, made, Protocol(start=0.0, repeats=True))
    ordered, _ = made.ordered("shuffle", 7)
    assert result.at.tolist() == list(range(len(made)))
    asked = [(q, i) for q in peer.questions for i in range(len(q))]
    for place, (questions, i) in enumerate(asked):
        user = ordered.users[place]
        before = ordered.rows[:place][ordered.users[:place] == user][::-1][:50].tolist()
        rows = questions.histories[i]
        assert questions.users[i] == user
        assert rows[rows >= 0].tolist() == before
        assert questions.lengths[i] == (ordered.users[:place] == user).sum()


def test_a_peer_is_asked_before_it_is_told_and_told_everything_once() -> None:
    peer, made = Recorder(), stream()
    told_before: list[int] = []
    recommend = peer.recommend

    def counting(questions: Questions, n: int) -> NDArray[np.int64]:
        told_before.append(sum(map(len, peer.learned)))
        return recommend(questions, n)

    peer.recommend = counting  # type: ignore[method-assign]
    replay(peer, made, Protocol(start=0.0, repeats=True))
    assert told_before == list(range(0, len(made), 64))
    assert (
        np.concatenate([clicks.rows for clicks in peer.learned]).tolist() == made.ordered("shuffle", 7)[0].rows.tolist()
    )


def test_without_repeats_seen_items_are_neither_asked_for_nor_offered() -> None:
    peer, made = Recorder(), stream()
    result = replay(peer, made, Protocol(start=0.25))
    ordered, _ = made.ordered("shuffle", 7)
    assert not again(ordered)[result.at].any()
    assert result.at.min() >= 200
    place = 0
    for questions in peer.questions:
        for i in range(len(questions)):
            at, user = result.at[place], questions.users[i]
            seen = {int(key) % ITEMS for key in questions.seen if key // ITEMS == i}
            assert seen == set(ordered.rows[:at][ordered.users[:at] == user].tolist())
            place += 1


def test_the_tuning_slice_ends_where_reporting_begins() -> None:
    made = stream()
    tuned = replay(Recorder(), made, TUNING)
    told = replay(Recorder(), made, Protocol(start=0.3))
    assert tuned.at.max() < 0.3 * len(made) <= told.at.min()
    assert tuned.clicks == 0.3 * len(made)


def test_clicks_of_one_user_at_one_moment_do_not_know_one_another_when_ties_are_kept() -> None:
    made = stream(tie=200)
    peer = Recorder()
    replay(peer, made, Protocol(start=0.0, ties="keep", repeats=True))
    ordered, groups = made.ordered("keep", 7)
    lengths = np.concatenate([q.lengths for q in peer.questions])
    for group in np.unique(groups):
        mine = groups == group
        assert len(set(lengths[mine].tolist())) == 1
        assert len(set(ordered.users[mine].tolist())) == len(set(ordered.times[mine].tolist())) == 1
    assert groups.max() < len(made) - 1
    shuffled, alone = made.ordered("shuffle", 7)
    assert len(np.unique(alone)) == len(made)
    assert shuffled.rows.tolist() != made.ordered("shuffle", 8)[0].rows.tolist()


def test_mostly_new_users_keep_their_first_three_clicks() -> None:
    made = stream(2_000)
    new = made.mostly_new()
    counts = np.bincount(new.users, minlength=30)
    assert (counts == 3).sum() == 24
    for user in range(30):
        mine = made.rows[made.users == user]
        assert new.rows[new.users == user].tolist() == mine[: counts[user]].tolist()
    assert made.mostly_new().rows.tolist() == new.rows.tolist()


def test_a_click_on_an_unknown_item_is_told() -> None:
    with pytest.raises(ConfigurationError, match="not in the catalogue"):
        Stream.of("toy", ["a"], [Click(user_id="u", item_id="b", ts=1)])


def outcome(lists: list[list[int]], targets: list[int], users: list[int], times: list[int] | None = None) -> Outcome:
    n = len(targets)
    every = np.ones(n, np.bool_)
    padded = np.array([(row + [-1] * 10)[:10] for row in lists], np.int32)
    asked = Asked(np.array(users), np.array(targets), np.array(times or range(n)), {"all": every}, ITEMS)
    return Outcome(asked, Replayed(np.arange(n), padded, 1.0, 0.5, n))


def test_measures_are_what_their_names_say() -> None:
    made = outcome([[5, 6], [6, 5], [7]], [5, 5, 5], [0, 1, 2])
    assert ranks(made.replayed.lists, made.asked.targets).tolist() == [0, 1, MISS]
    assert made.rate() == pytest.approx(2 / 3)
    assert made.ndcg() == pytest.approx((1 + 1 / np.log2(3)) / 3)
    assert made.reciprocal_rank() == pytest.approx((1 + 1 / 2) / 3)
    assert made.coverage() == pytest.approx(3 / ITEMS)
    assert made.microseconds() == pytest.approx(1.5e6 / 3)
    alike = outcome([[i] for i in range(ITEMS)], [0] * ITEMS, [0] * ITEMS)
    one = outcome([[3]] * 50, [3] * 50, [0] * 50)
    assert alike.gini() == pytest.approx(0)
    assert one.gini() == pytest.approx(1 - 1 / ITEMS)
    assert made.error(against=made) == 0


def test_a_stale_list_is_the_users_own_older_one() -> None:
    made = outcome([[1], [9], [2], [3], [8]], [1, 9, 1, 2, 9], [0, 1, 0, 0, 1])
    assert made.rate() == pytest.approx(2 / 5)
    assert made.stale(1).replayed.lists[:, 0].tolist() == [1, 9, 1, 2, 9]
    assert made.stale(2).replayed.lists[:, 0].tolist() == [1, 9, 1, 1, 9]
    assert made.stale(0).replayed.lists.tolist() == made.replayed.lists.tolist()


def test_an_hourly_list_is_the_users_first_of_the_hour() -> None:
    hour = 3_600_000
    made = outcome([[1], [2], [3], [4]], [0] * 4, [0] * 4, [hour, hour + 1, 2 * hour - 1, 2 * hour])
    assert made.hourly().replayed.lists[:, 0].tolist() == [1, 1, 1, 4]


def test_slices_are_of_what_was_known_before_the_click() -> None:
    made = stream()
    result = replay(Recorder(), made, Protocol(start=0.0, repeats=True))
    asked = Asked.of(made, Protocol(start=0.0, repeats=True), result.at)
    ordered, _ = made.ordered("shuffle", 7)
    for place in range(len(made)):
        clicks = (ordered.rows[:place] == ordered.rows[place]).sum()
        own = (ordered.users[:place] == ordered.users[place]).sum()
        assert asked.slices["new items"][place] == (clicks <= 4)
        assert asked.slices["new users"][place] == (own <= 3)
        assert [of for of in FIRST if asked.slices[of][place]] == ([str(own)] if own <= 3 else [])
        (length,) = [of for of in LENGTHS if asked.slices[of][place]]
        first, _, last = length.partition("–")
        assert int(first.rstrip("+")) <= own
        assert length.endswith("+") or own <= int(last or first)
    assert (earlier(np.array([4, 2, 4, 4])) == [0, 0, 1, 2]).all()


def test_every_method_is_tuned_with_the_same_number_of_trials_or_all_that_it_has() -> None:
    for name in PEERS:
        trials = METHODS[name].trials()
        assert len(trials) == len(set(trials)) == TRIALS, name
        assert METHODS[name].trials() == trials
    with pytest.raises(ConfigurationError, match="ItemKNN"):
        method("magic")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.chdir(tmp_path)
    made = stream(1_500)
    write(
        tmp_path / "toy",
        [{"item_id": item, "title": item} for item in made.item_ids],
        [
            {"user_id": str(user), "item_id": made.item_ids[row], "ts": int(ts), "event": "click"}
            for user, row, ts in zip(made.users, made.rows, made.times, strict=True)
        ],
    )
    return source(str(tmp_path / "toy"))


def test_a_stream_of_mostly_new_users_is_cut_after_the_others_lost_their_clicks(toy: Source) -> None:
    source = replace(toy, new=True, length=100)
    whole, cut = replace(toy, new=True).stream(), source.stream()
    assert len(whole) > len(cut) == 100
    assert cut.users.tolist() == whole.users[:100].tolist()
    assert [cut.item_ids[row] for row in cut.rows] == [whole.item_ids[row] for row in whole.rows[:100]]
    assert [item.item_id for item in sources._taken(source)[0]] == list(cut.item_ids), "the catalogue is what occurs"
    assert cut.items < whole.items
    assert source.note.endswith("of these clicks the first 100, and the items that occur in them")


def test_a_finished_cell_is_not_computed_again_until_something_changes(
    toy: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = [Cell(toy, "popularity", params, TUNING) for params in METHODS["popularity"].trials()]
    assert len(list(cells.compute(todo, 1, monotonic() + 60))) == TRIALS
    assert list(cells.compute(todo, 1, monotonic() + 60)) == []
    before = todo[0].path
    cells._code.cache_clear()
    monkeypatch.setattr(cells, "_COMMON", (*cells._COMMON, "ops/cli.py"))
    assert todo[0].path != before, "other code, another cell"
    cells._code.cache_clear()


def test_vectors_of_another_precision_make_another_cell_of_who_looks_at_them(
    toy: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = [Cell(toy, name, (), TUNING) for name in ("Strata", "popularity")]
    before = [cell.path for cell in todo]
    cells._code.cache_clear()
    monkeypatch.setattr(catalogue, "PRECISION", "bf16")
    assert [cell.path == path for cell, path in zip(todo, before, strict=True)] == [False, True]
    cells._code.cache_clear()


def test_no_cell_is_begun_after_the_time_is_up(toy: Source) -> None:
    todo = [Cell(toy, "popularity", params, TUNING) for params in METHODS["popularity"].trials()]
    assert list(cells.compute(todo, 1, monotonic() - 1)) == []


def test_settings_are_chosen_by_the_tuning_slice(toy: Source) -> None:
    study = Study(toy)
    assert study.chosen("popularity") is None
    todo = [cell for cell in study.tuning() if cell.method == "popularity"]
    list(cells.compute(todo, 1, monotonic() + 60))
    rates = {cell.params: made.rate() for cell in todo if (made := cell.outcome())}
    chosen = study.chosen("popularity")
    assert chosen is not None
    assert rates[chosen] == max(rates.values())
    cell = study.cell("popularity")
    assert cell is not None
    cell.compute()
    made = study.outcome("popularity")
    assert made is not None
    again = replay(Popularity(ITEMS, **dict(chosen)), toy.stream(), Protocol(start=0.3))
    assert made.replayed.lists.tolist() == again.lists.tolist()


@pytest.mark.slow
def test_several_processes_compute_the_same(toy: Source) -> None:
    todo = [Cell(toy, "popularity", params, TUNING) for params in METHODS["popularity"].trials()[:2]]
    list(cells.compute(todo, 2, monotonic() + 60))
    kept = [cell.result() for cell in todo]
    for cell, before in zip(todo, kept, strict=True):
        cell.compute()
        after = cell.result()
        assert before is not None
        assert after is not None
        assert before.lists.tolist() == after.lists.tolist()


def test_where_ties_are_shuffled_a_moment_holds_one_click_and_nothing_else_changes() -> None:
    made = Stream("s", ("a", "b"), np.array([0, 0, 1, 0, 1]), np.array([0, 1, 0, 1, 1]), np.array([5, 5, 5, 6, 90]))
    ordered, _ = made.ordered("shuffle", 7)
    apart = one_by_one(made, 7)
    assert apart.times.tolist() == [5, 6, 7, 8, 90]
    for stream in (apart, apart.ordered("shuffle", 7)[0]):
        assert (stream.users.tolist(), stream.rows.tolist()) == (ordered.users.tolist(), ordered.rows.tolist())


def test_what_is_only_said_about_code_computes_nothing_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_ROOT", tmp_path)
    made = []
    for text in (
        'X = 1\n\n\ndef f() -> str:\n    """Five."""\n    return "5"\n',
        '"""A module."""\n\nX = 1  # one\n\n\ndef f() -> str:\n    """Says five."""\n    # not six\n    return "5"\n',
        'X = 1\n\n\ndef f() -> str:\n    """Five."""\n    return "6"\n',
        'X = 2\n\n\ndef f() -> str:\n    """Five."""\n    return "5"\n',
    ):
        (tmp_path / "code.py").write_text(text)
        cells._run.cache_clear()
        made.append(cells._run("code.py"))
    assert made[0] == made[1]
    assert len({*made}) == 3
    cells._run.cache_clear()
