"""The policy file while a worker runs: followed when it changes, told when it is broken, and struck from lists."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fed_topics import TITLES, Clock, Topic
from updater_bench import Bench, restarted

from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.policy import LOOK_S
from consumers.updater_config import UpdaterConfig
from models.encoder import Encoder
from models.errors import ConfigurationError
from models.policy import RULES
from models.pseudonyms import Pseudonyms
from models.records import Recommendation
from producers.topics import Topics

KEY = b"sixteen bytes it is"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text("")
    return path


@pytest.fixture
def ruled(
    encoder: Encoder,
    shelves: Topic,
    names: Topics,
    diversion: Diversion,
    metrics: Metrics,
    clock: Clock,
    file: Path,
) -> Bench:
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, policy=file)
    bench.assign(0)
    return bench


def serve(bench: Bench, *users: str) -> dict[str, Recommendation]:
    bench.submit(*(bench.click(user, "i0") for user in users))
    bench.encode()
    return {made.user_id: made for made in bench.lists(bench.work())}


def ids(made: Recommendation) -> list[str]:
    return [item.item_id for item in made.items]


def later(bench: Bench) -> dict[str, Recommendation]:
    """The lists that come when the time for a look has passed."""
    bench.clock.now += LOOK_S
    return {made.user_id: made for made in bench.lists(bench.work())}


def count(bench: Bench, rule: str) -> float | None:
    return bench.metrics.registry.get_sample_value("strata_policy_total", {"rule": rule})


def test_what_a_changed_file_blocks_leaves_the_lists_that_are_published(ruled: Bench, file: Path) -> None:
    before = serve(ruled, "ann", "bob")
    item = ids(before["ann"])[3]
    file.write_text(f"blocked_items = ['{item}']")
    again = later(ruled)
    assert again.keys() == {"ann", "bob"}
    assert all(item not in ids(made) for made in again.values())
    assert not later(ruled), "once"
    assert count(ruled, "blocked_item") == 1


def test_what_a_changed_file_blocks_for_one_leaves_his_list_alone(ruled: Bench, file: Path) -> None:
    before = serve(ruled, "ann", "bob")
    item = ids(before["ann"])[3]
    file.write_text(f"[users.ann]\nblocked_items = ['{item}']")
    again = later(ruled)
    assert again.keys() == {"ann"}
    assert item not in ids(again["ann"])
    assert not later(ruled)
    assert item in ids(serve(ruled, "bob")["bob"])


def test_a_user_may_be_named_by_his_own_id_where_pseudonyms_are_stored(
    encoder: Encoder,
    shelves: Topic,
    names: Topics,
    diversion: Diversion,
    metrics: Metrics,
    clock: Clock,
    file: Path,
) -> None:
    stored = Pseudonyms(KEY)
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, policy=file, pseudonyms=stored)
    bench.assign(0)
    before = serve(bench, "ann", "bob")
    item = ids(before[stored("ann")])[0]
    file.write_text(f"[users.ann]\nblocked_items = ['{item}']\n[users.{stored('bob')}]\nblocked_items = ['{item}']")
    again = later(bench)
    assert again.keys() == {stored("ann"), stored("bob")}
    assert all(item not in ids(made) for made in again.values())


def test_a_broken_file_is_told_once_and_the_last_good_rules_stay(
    ruled: Bench, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    item = ids(serve(ruled, "ann")["ann"])[0]
    file.write_text(f"blocked_items = ['{item}']")
    later(ruled)
    with caplog.at_level(logging.ERROR):
        for broken in ("diversity = 1\ndiversity = two", "\n\nblocked_item = []", f"diversity = {'9' * 5000}"):
            file.write_text(broken)
            for _ in range(3):
                later(ruled)
        file.unlink()
        later(ruled)
    assert len(caplog.records) == 4
    assert "line 2" in caplog.text
    assert "line 3: blocked_item: no such rule; did you mean blocked_items?" in caplog.text
    assert "No such file" in caplog.text
    assert item not in ids(serve(ruled, "bob")["bob"])
    read = ruled.metrics.registry.get_sample_value
    assert (read("strata_policy_loads_total"), read("strata_policy_load_failures_total")) == (5, 4)
    file.write_text("")
    later(ruled)
    assert item in ids(serve(ruled, "cid")["cid"])


def test_a_file_is_looked_at_once_a_second(ruled: Bench, file: Path) -> None:
    item = ids(serve(ruled, "ann")["ann"])[0]
    file.write_text(f"blocked_items = ['{item}']")
    assert item in ids(serve(ruled, "bob")["bob"])
    later(ruled)
    assert item not in ids(serve(ruled, "cid")["cid"])


@pytest.mark.parametrize("broken", [b"[[pins]]\nname = 'a'", b"\xff"])
def test_a_broken_file_at_the_start_is_an_error(
    encoder: Encoder,
    shelves: Topic,
    names: Topics,
    diversion: Diversion,
    metrics: Metrics,
    clock: Clock,
    file: Path,
    broken: bytes,
) -> None:
    file.write_bytes(broken)
    with pytest.raises(ConfigurationError, match=r"STRATA_POLICY=.*policy\.toml: (line 1|not UTF-8)"):
        Bench(encoder, shelves, names, diversion, metrics, clock, policy=file)


def test_each_rule_has_a_counter_from_the_start_and_those_of_rules_that_went_go(ruled: Bench, file: Path) -> None:
    assert {count(ruled, rule) for rule in RULES} == {0}
    pin = "[[pins]]\nname = '{0}'\nitem = 'i7'\nplace = 2\n"
    file.write_text(pin.format("old"))
    later(ruled)
    assert ids(serve(ruled, "ann")["ann"])[1] == "i7"
    later(ruled)
    assert count(ruled, "pin:old") == 1
    file.write_text(pin.format("new"))
    later(ruled)
    assert (count(ruled, "pin:old"), count(ruled, "pin:new")) == (None, 0)
    serve(ruled, "ann")
    ruled.submit(ruled.click("ann", "i9", event="dismiss"))
    later(ruled)
    later(ruled)
    assert count(ruled, "pin:new") == 2
    assert count(ruled, "dismissed") == 1
    assert (count(ruled, "seen") or 0) >= 3


FATIGUE = "[fatigue]\nafter = 3\nfor = 7200"


def test_who_is_shown_an_item_too_often_gets_another_list_without_a_click(ruled: Bench, file: Path) -> None:
    before = serve(ruled, "ann", "bob")
    file.write_text(FATIGUE)
    assert not later(ruled)
    shown, again = ids(before["ann"])[:2], []
    for _ in range(5):
        ruled.show("ann", *shown)
        ruled.show("ann", "i0", "unheard of")
        again += [later(ruled)]
    assert [made.keys() for made in again] == [set(), set(), {"ann"}, set(), set()]
    made = again[2]["ann"]
    assert not set(shown).intersection(ids(made))
    assert len(made.items) == 10
    assert made.source == before["ann"].source
    later(ruled)
    assert count(ruled, "fatigue") == 2
    assert ruled.metrics.registry.get_sample_value("strata_lists_fatigued_total") == 1
    assert ruled.updater.idle()


def test_what_was_shown_before_a_restart_counts_after_it_as_far_back_as_the_rule_looks(
    ruled: Bench, file: Path, diversion: Diversion
) -> None:
    item, other = ids(serve(ruled, "ann")["ann"])[:2]
    file.write_text(FATIGUE)
    for back in (7_000, 6_000, 5_000):
        ruled.show("ann", item, ts=ruled.now_ms - back * 1_000, at=ruled.now_ms - back * 1_000)
        ruled.show("ann", other, ts=ruled.now_ms - back * 2_000, at=ruled.now_ms - back * 2_000)
    again = restarted(ruled, diversion, policy=file)
    again.assign(0)
    again.work()
    assert len(again.updater.recommender.shown) == 3
    again.submit(again.click("ann", "i1"))
    again.encode()
    (made,) = again.lists(again.work())
    assert item not in ids(made)
    assert other in ids(made)


def test_lists_that_are_to_be_made_again_go_with_their_partition(ruled: Bench, file: Path) -> None:
    shown = ids(serve(ruled, "ann")["ann"])
    file.write_text(FATIGUE)
    later(ruled)
    for _ in range(3):
        ruled.show("ann", *shown)
    ruled.clock.now += LOOK_S
    ruled.updater._impressions.follow(ruled.clock.now)
    ruled.updater.revoked([(ruled.names.clicks, 0)])
    assert not later(ruled)


def test_where_nothing_else_is_on_offer_a_list_is_not_made_again_and_again(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock, file: Path
) -> None:
    file.write_text(FATIGUE)
    config = UpdaterConfig(list_length=len(TITLES))
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, config, policy=file)
    bench.assign(0)
    shown, again = ids(serve(bench, "ann")["ann"]), []
    assert len(shown) == len(TITLES) - 1, "all but what he clicked"
    for _ in range(6):
        bench.show("ann", *shown)
        again += [len(later(bench))]
    assert again == [0, 0, 1, 0, 0, 0]


def test_a_stranger_is_shown_everybodys_list_and_gets_none_of_his_own(ruled: Bench, file: Path) -> None:
    file.write_text(FATIGUE)
    later(ruled)
    ruled.updater._shards[0].served.put("stranger", [ruled.items.find("i1")])  # of whom the profile is gone
    for _ in range(4):
        ruled.show("stranger", "i1")
        assert not later(ruled)
    assert not ruled.updater._shards[0].knows("stranger"), "an impression makes nobody a user"
