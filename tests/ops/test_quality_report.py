"""The report: written whatever is finished, honest about what is not; the gate's verdicts follow from the figures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from models.features import FEATURES, OFF, part_of
from models.ranker import RankingConfig
from models.ranker_learning import LearningConfig
from ops.bench import quality
from ops.quality import gate, plots, quick, tables
from ops.quality.drift import AT, FRESH, NONE, SHIFTS, Adaptation, from_nothing, items_exchanged, users_pass_by
from ops.quality.gate import Evidence, Gain, Verdict
from ops.quality.methods import OWN_ITEMS, PARTS, PEERS, SCORERS, STRATA, allowing_repeats
from ops.quality.outcome import FIRST, LENGTHS, Asked, Outcome
from ops.quality.replay import Protocol, Replayed
from ops.quality.sources import Source, source
from ops.quality.stream import Stream
from ops.quality.study import REPEATS, REPORTING, VARIANTS, Study, varied
from ops.quality.targets import Target, missed, ratio, targets
from producers.dataset import write

VERDICTS = Path(quality.__file__).with_name("quality.json")


def stream(n: int = 1_200, items: int = 60, seed: int = 2) -> Stream:
    """Users who keep to a third of the items."""
    draw = np.random.default_rng(seed)
    users = draw.integers(0, 40, n)
    rows = users % 3 * (items // 3) + draw.zipf(1.3, n) % (items // 3)
    times = 1_700_000_000_000 + np.arange(n) * 60_000
    return Stream("toy", tuple(f"i{i}" for i in range(items)), users, rows, times)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    made = stream()
    write(
        tmp_path / "toy",
        [{"item_id": item, "title": f"Thing {i % 20} of kind {i // 20}"} for i, item in enumerate(made.item_ids)],
        [
            {"user_id": str(user), "item_id": made.item_ids[row], "ts": int(ts), "event": "click"}
            for user, row, ts in zip(made.users, made.rows, made.times, strict=True)
        ],
    )
    return tmp_path


@pytest.mark.slow
def test_the_whole_study_runs_and_a_second_run_computes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {name: PEERS[name] for name in ("popularity", "EASE")}
    for module in ("study", "tables", "targets"):
        monkeypatch.setattr(f"ops.quality.{module}.PEERS", quick)
    monkeypatch.setattr("ops.quality.tables.ROWS", (STRATA, *quick, *SCORERS))
    for module in ("study", "tables"):
        monkeypatch.setattr(f"ops.quality.{module}.VARIED", (STRATA, *quick))
    monkeypatch.setattr("ops.quality.study.TUNED", (STRATA, *quick))
    monkeypatch.setattr("ops.quality.tables.TUNED", (STRATA, *quick))
    given = [str(folder / "toy"), "--jobs", "1", "--folder", str(folder)]
    quality.main(given)
    assert "tuning: toy" in capsys.readouterr().out
    text = (folder / "QUALITY.md").read_text()
    assert "not finished" not in text
    for wanted in ("**Strata**", "EASE", "co alone", "ties kept", "## The gate", "## Adaptation"):
        assert wanted in text
    result = json.loads((folder / "quality.json").read_text())
    assert set(result["gate"]) == set(PARTS)
    assert result["methods"]["toy"][STRATA]["hr"] > 10 / 60
    for wanted in (*VARIANTS, "the rest"):
        assert any(target["what"].endswith(f", {wanted}") for target in result["targets"])
    for picture in folder.glob("*.svg"):
        assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    assert len(list(folder.glob("*.svg"))) == 2  # the stream is too short for the third, adaptation
    quality.main(given)
    assert "tuning" not in capsys.readouterr().out


@pytest.mark.slow
def test_where_items_come_again_the_users_own_are_a_peer_and_strata_is_told(folder: Path) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(quick.table(str(folder / "toy"), warm_up=0.3, seed=7, limit=600, repeats=True))
    text = console.export_text()
    assert OWN_ITEMS in text
    (cell,) = Study(source(str(folder / "toy"))).variants()
    assert (cell.method, cell.protocol) == (OWN_ITEMS, REPEATS), "of all else nothing is tuned yet"
    assert allowing_repeats(STRATA, (("l2", 1.0),)) == (("l2", 1.0), ("repeats", True))
    assert allowing_repeats("EASE", ()) == ()
    assert {*varied(REPEATS)} - {*varied(REPORTING)} == {OWN_ITEMS, "Strata without own"}


def test_what_is_silent_elsewhere_is_judged_where_items_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {
        (STRATA, REPEATS): (0.5, 0.5),
        ("Strata without own", REPEATS): (0.3, 0.3),
        (OWN_ITEMS, REPEATS): (0.4, 0.4),
        (STRATA, REPORTING): (0.9, 0.9),
    }
    measured(monkeypatch, lambda name, protocol: asked.get((name, protocol), (0.01, 0.01)))
    monkeypatch.setattr(gate, "GATED", ("all", "new items"))
    monkeypatch.setattr(gate, "LENGTHS", ())
    found = gate.evidence(Study(Source("toy", "")), "own")
    assert found is not None
    assert (found.best, found.gains[0].gain) == (OWN_ITEMS, pytest.approx(0.2, abs=0.03))
    assert found.blend.gain == pytest.approx(0.1, abs=0.03)
    assert gate.evidence(Study(Source("toy", "", new=True)), "own") is None, "derived streams are asked in one way only"


@pytest.mark.slow
def test_one_data_set_is_quickly_put_beside_its_peers(folder: Path) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(quick.table(str(folder / "toy"), warm_up=0.3, seed=7, limit=600))
    text = console.export_text()
    for name in (STRATA, *PEERS):
        assert name in text


def test_what_is_not_finished_is_named_in_a_folder_that_is_made(folder: Path) -> None:
    report = folder / "reports" / "today"
    quality.main([str(folder / "toy"), "--jobs", "1", "--minutes", "0", "--folder", str(report)])
    text = (report / "QUALITY.md").read_text()
    assert text.count("not finished") > 10
    result = json.loads((report / "quality.json").read_text())
    assert result["gate"] == {}
    assert f"at commit {result['commit']}\n" in text


def evidence(
    gain: float = 0.01, error: float = 0.002, blend: float = 0.01, coverage: float = 0.0, again: float | None = None
) -> Evidence:
    second = () if again is None else (Gain("all", again, error), Gain("new users", 1.0, error))
    return Evidence("d", (Gain("all", gain, error),), coverage, "co alone", Gain("all", blend, error), second=second)


@pytest.mark.parametrize(
    ("found", "on"),
    [
        ([evidence()], True),
        ([evidence(), evidence(gain=-0.001)], True),
        ([evidence(), evidence(blend=-0.003)], False),
        ([evidence(gain=0.003)], False),
        ([evidence(gain=0.0036)], False),
        ([evidence(gain=0.0036, again=0.0036)], True),
        ([evidence(gain=0.0036, again=0.003)], False),
        ([evidence(gain=0.003, again=0.01)], False),
        ([evidence(gain=0.0036, again=0.0036), *[evidence(gain=0)] * 17], False),
        ([evidence(gain=0.001, coverage=0.02)], True),
    ],
    ids=[
        "helps",
        "helps somewhere",
        "worse than one scorer",
        "within noise",
        "beyond noise once",
        "beyond noise twice",
        "beyond noise once of twice",
        "beyond noise the second time alone",
        "the best of many",
        "covers more",
    ],
)
def test_a_component_is_on_if_it_helps_somewhere_and_no_scorer_alone_is_better(found: list[Evidence], on: bool) -> None:
    assert Verdict("text", tuple(found)).on == on


def test_what_is_beyond_chance_but_not_far_is_asked_for_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Verdict("layer", (evidence(gain=0.0036),)).doubtful == ("d",)
    for settled in ({"gain": 0.01}, {"gain": 0.003}, {"gain": 0.0036, "coverage": 0.02}, {"gain": 0.0036, "blend": -1}):
        assert Verdict("layer", (evidence(**settled),)).doubtful == ()
    study = Study(Source("d", ""))
    monkeypatch.setattr(gate, "verdicts", lambda studies: [Verdict("layer", (evidence(gain=0.0036),))])
    monkeypatch.setattr(Study, "chosen", lambda study, name: ())
    made = gate.second_runs([study])
    assert [cell.method for cell in made] == ["Strata with layer", STRATA]
    assert {cell.protocol for cell in made} == {replace(REPORTING, seed=gate.SECOND)}
    assert "again +0.0020" in tables.gate([Verdict("layer", (evidence(gain=0.0036, again=0.002),))])[-1]


@pytest.mark.parametrize("slices", [1, 18])
def test_a_component_that_does_nothing_passes_in_one_report_of_twenty(slices: int) -> None:
    drawn = np.random.default_rng(1).standard_normal((40_000, slices))
    assert (drawn.max(axis=1) > gate.beyond_chance(slices)).mean() == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize("part", PARTS)
def test_the_defaults_are_what_the_gate_says(part: str) -> None:
    """Rerun make bench-quality after a change of what is ranked; a part that is turned off there weighs nothing.

    While data sets are unfinished, what is off there is not decided: one of them may still show that it helps.
    """
    result = json.loads(VERDICTS.read_text())
    if part not in result["gate"]:
        pytest.skip(f"{part} has not been measured yet")
    verdict = result["gate"][part]["verdict"]
    weights = RankingConfig().prior[:, [part_of(name) == part for name in FEATURES]]
    on = LearningConfig().sample > 0 if part == "learning" else bool((weights > 0).any())
    assert on == (part not in OFF)
    assert on or verdict == "off", f"{part} earns its weight, and has none"
    if result["complete"]:
        assert on == (verdict == "on")


def test_exchanged_items_are_about_as_popular_and_only_after_the_half() -> None:
    before = stream()
    after = items_exchanged(before)
    half = len(before) // 2
    assert after.rows[:half].tolist() == before.rows[:half].tolist()
    becomes = dict(zip(before.rows[half:].tolist(), after.rows[half:].tolist(), strict=True))
    assert len(set(becomes.values())) == len(becomes)
    counts = np.bincount(before.rows[:half], minlength=60)
    rank = np.empty(60, int)
    rank[np.argsort(-counts, kind="stable")] = np.arange(60)
    assert all(abs(rank[old] // 20 - rank[new] // 20) == 0 for old, new in becomes.items())
    assert (after.rows[half:] != before.rows[half:]).mean() > 0.5


def test_from_nothing_are_the_clicks_after_the_exchange_and_no_others() -> None:
    before, made = stream(), from_nothing(stream())
    half = len(before) // 2
    assert made.rows.tolist() == items_exchanged(before).rows[half:].tolist()
    assert made.users.tolist() == before.users[half:].tolist()


def test_from_nothing_is_asked_for_from_its_first_click_on_and_has_no_target(folder: Path) -> None:
    study = Study(Source("toy", str(folder / "toy")))
    for cell in study.tuning():
        if cell.method == "popularity":
            cell.compute()
    cell = study.drift()[FRESH, "popularity"]
    assert cell.protocol.start == 0
    assert cell.source.shift == FRESH
    draw = np.random.default_rng(1)
    found = Adaptation.of(outcome((draw.random(20_000) < 0.3).astype(float)), 0)
    assert found is not None
    assert found.before == 0
    row = tables.adaptation("toy", {FRESH: {STRATA: found}})[-1]
    assert "yes" not in row
    assert "no" not in row.replace("nothing", "")


def test_a_stream_that_does_not_shift_is_looked_at_around_its_half_and_has_no_target(folder: Path) -> None:
    study = Study(Source("toy", str(folder / "toy")))
    for cell in study.tuning():
        if cell.method == "popularity":
            cell.compute()
    assert study.unshifted() == {(NONE, "popularity"): study.cell("popularity")}
    assert Study(Source("toy", str(folder / "toy"), new=True)).unshifted() == {}
    found = Adaptation.of(outcome((np.random.default_rng(1).random(20_000) < 0.3).astype(float)), AT * 20_000)
    assert found is not None
    assert found.before == 5
    row = tables.adaptation("toy", {NONE: {STRATA: found}})[-1]
    assert row.startswith("| toy, none |")
    assert "yes" not in row


def test_users_who_pass_by_have_two_clicks_each() -> None:
    made = users_pass_by(stream())
    half = len(made) // 2
    assert np.bincount(made.users[half:]).max() == 2
    assert not set(made.users[:half].tolist()) & set(made.users[half:].tolist())
    back = SHIFTS["users back"].make(stream())
    assert back.users[half:].tolist() == stream().users[half:].tolist()


def outcome(hits: np.ndarray, at: np.ndarray | None = None, took: float = 0.0) -> Outcome:
    n = len(hits)
    lists = np.where(hits[:, None] > 0, 0, np.full((n, 10), -1)).astype(np.int32)
    asked = Asked(np.arange(n), np.zeros(n, np.int64), np.arange(n), {"all": np.ones(n, np.bool_)}, 5)
    return Outcome(asked, Replayed(np.arange(n) if at is None else at, lists, took, 0.0, n))


def test_what_is_off_is_measured_by_turning_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {STRATA: 0.2, "Strata with layer": 0.21, "Strata without text": 0.17}

    def made(study: Study, name: str, protocol: Protocol = REPORTING) -> Outcome:
        draw = np.random.default_rng(1).random(
            5_000
        )  # the same for all: hits of a lower rate are among those of a higher
        return outcome((draw < rates.get(name, 0.1)).astype(float))

    monkeypatch.setattr(Study, "outcome", made)
    monkeypatch.setattr(gate, "GATED", ("all",))
    monkeypatch.setattr(gate, "LENGTHS", ())
    study = Study(Source("toy", ""))
    for part, gain, over in (("layer", 0.01, 0.11), ("text", 0.03, 0.1)):
        found = gate.evidence(study, part)
        assert found is not None
        assert found.gains[0].gain == pytest.approx(gain, abs=0.005)
        assert found.blend.gain == pytest.approx(over, abs=0.01)


def test_a_gain_is_told_by_length_of_history_where_enough_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = np.repeat(np.arange(len(LENGTHS)), 600)[: -601 + gate.ENOUGH]  # of the last one too few

    def made(study: Study, name: str, protocol: Protocol = REPORTING) -> Outcome:
        draw = np.random.default_rng(1).random(len(asked))
        found = outcome((draw < 0.3 + 0.3 * (name == STRATA) * (asked == 2)).astype(float))
        found.asked.slices.update({of: asked == i for i, of in enumerate(LENGTHS)})
        return found

    monkeypatch.setattr(Study, "outcome", made)
    monkeypatch.setattr(gate, "GATED", ("all",))
    found = gate.evidence(Study(Source("toy", "")), "text")
    assert found is not None
    assert [gain.of for gain in found.lengths] == list(LENGTHS[:-1])
    assert [gain.better(3) for gain in found.lengths] == [of == "2–3" for of in LENGTHS[:-1]]
    assert found.lengths[2].gain == pytest.approx(0.3, abs=0.05)
    assert Verdict("text", (found,)).slices == 1, "no verdict depends on them"
    cells = tables.lengths([Verdict("text", (found,))])[-1].split(" | ")
    assert cells[4].startswith("+0.3")
    assert cells[-1] == "– |"


def test_new_users_are_told_apart_by_their_clicks_beside_the_peer_that_is_best_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = np.repeat(np.arange(5), 400)

    def made(study: Study, name: str, protocol: Protocol = REPORTING) -> Outcome:
        hits = {STRATA: before == 1, "popularity": before == 0, "EASE": before == 2}.get(name, before > 9)
        found = outcome(hits.astype(float))
        found.asked.slices.update({of: (before == i) & (i < 3) for i, of in enumerate(FIRST)})
        return found

    monkeypatch.setattr(Study, "outcome", made)
    rows = [line.strip("| ").split(" | ") for line in tables.new_users([Study(Source("toy", ""))])[2:]]
    assert [row[:3] for row in rows] == [["toy", of, "20.00%" if of != "3" else "0.00%"] for of in FIRST]
    assert [row[3][:6] for row in rows] == ["0.0000", "1.0000", "0.0000", "–"]
    assert rows[0][4:] == ["1.0000 ± 0.0000 (popularity)", "1.0000", "2.0000"], "ten of five items: chance is two"
    assert rows[2][4:6] == ["1.0000 ± 0.0000 (EASE)", "0.0000"]


def test_who_is_missing_from_the_variants_is_told_with_the_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(Source("toy", str(folder / "toy")))
    assert tables.variants(study)[0] == "Without SASRec, to save time."
    monkeypatch.setattr(tables, "VARIED", (STRATA, *PEERS))
    assert tables.variants(study)[0].startswith("| HR@10")
    monkeypatch.setattr(tables, "VARIED", (STRATA, *(name for name in PEERS if name != "EASE")))
    monkeypatch.setattr(Study, "outcome", lambda *_: outcome(np.zeros(100), took=2.0))
    assert tables.variants(study)[0].endswith(f"of all peers above, {1 / len(PEERS):.0%} is its.")


def test_adaptation_compares_the_first_5000_clicks_with_the_level_after_them() -> None:
    draw = np.random.default_rng(1)
    rates = np.concatenate([np.full(20_000, 0.5), np.full(2_500, 0.1), np.full(2_500, 0.3), np.full(15_000, 0.4)])
    found = Adaptation.of(outcome((draw.random(len(rates)) < rates).astype(float)), 20_000)
    assert found is not None
    assert found.before == 5
    assert found.windows[:5].mean() == pytest.approx(0.5, abs=0.02)
    assert found.recovered == pytest.approx(0.75, abs=0.04)
    assert 0.01 < found.error < 0.05


def test_adaptation_is_drawn_and_put_into_a_table(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    found = Adaptation.of(outcome((draw.random(40_000) < 0.3).astype(float)), 20_000)
    assert found is not None
    plots.adaptation({"toy, items": {STRATA: found}}, tmp_path / "drawn.svg")
    assert ElementTree.parse(tmp_path / "drawn.svg").getroot().tag.endswith("svg")
    assert "yes" in tables.adaptation("toy", {"items": {STRATA: found}})[-1]
    assert Adaptation.of(outcome(np.zeros(8_000)), 4_000) is None, "too short to tell"


def test_a_ratio_has_the_error_of_its_paired_difference() -> None:
    draw = np.random.default_rng(1)
    base = (draw.random(4_000) < 0.2).astype(float)
    more = np.where(draw.random(4_000) < 0.02, 1, base)
    value, error = ratio(outcome(more), outcome(base))
    assert value == pytest.approx(more.mean() / base.mean())
    resampled = []
    for _ in range(200):
        pick = draw.integers(0, 4_000, 4_000)
        resampled.append(more[pick].mean() / base[pick].mean())
    assert error == pytest.approx(np.std(resampled), rel=0.3)


def measured(monkeypatch: pytest.MonkeyPatch, rates: Callable[[str, Protocol], tuple[float, float]]) -> None:
    """Outcomes of these HR@10, on the first half of the clicks (new items) and on the second (the rest)."""

    def made(study: Study, name: str, protocol: Protocol = REPORTING) -> Outcome:
        half = np.arange(4_000) < 2_000
        draw = np.random.default_rng(1).random(4_000)
        found = outcome((draw < np.where(half, *rates(name, protocol))).astype(float))
        found.asked.slices.update({"new items": half, "the rest": ~half})
        return found

    monkeypatch.setattr(Study, "outcome", made)


def test_the_best_peer_is_another_one_where_ties_are_kept_or_new_items_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, repeated = VARIANTS["ties kept"], VARIANTS["repeats allowed"]
    asked = {
        (STRATA, REPORTING): (0.3, 0.3),
        ("EASE", REPORTING): (0.0, 0.4),
        ("iALS", REPORTING): (0.25, 0.2),
        (STRATA, kept): (0.2, 0.2),
        ("ItemKNN", kept): (0.25, 0.25),
        ("popularity", repeated): (0.2, 0.2),
        (STRATA, repeated): (0.4, 0.4),
    }
    measured(monkeypatch, lambda name, protocol: asked.get((name, protocol), (0.01, 0.01)))
    found = {target.what: target for target in targets(Study(Source("toy", "")))}
    for what, value in {
        "HR@10 over the best peer's (iALS)": 0.3 / 0.225,
        "HR@10 over the best peer's (ItemKNN), ties kept": 0.8,
        "HR@10 over the best peer's (popularity), repeats allowed": 2.0,
        "HR@10 over the best peer's (EASE), the rest": 0.75,
    }.items():
        assert found[what].value == pytest.approx(value, rel=0.1)
        assert found[what].error
    assert not found["HR@10 over the best peer's (EASE), the rest"].reached
    derived = [target.what for target in targets(Study(Source("toy", "", new=True)))]
    assert any(what.endswith("the rest") for what in derived)
    assert not any(what.endswith(tuple(VARIANTS)) for what in derived), "derived streams are asked in one way only"


def test_where_strata_is_behind_is_told_in_a_sentence() -> None:
    ahead, behind = Target("toy", "over itself", 2.5, 2.0), Target("toy", "over EASE, ties kept", 0.8, 1.0, 0.02)
    assert missed([ahead]) == "All 1 are reached."
    assert missed([ahead, behind]) == "Not reached, 1 of 2: toy, over EASE, ties kept: 0.800."


def test_a_shifted_source_is_another_stream(folder: Path) -> None:
    plain = source(str(folder / "toy"))
    shifted = replace(plain, shift="users").stream()
    assert shifted.rows.tolist() == plain.stream().rows.tolist()
    assert shifted.users.tolist() != plain.stream().users.tolist()
