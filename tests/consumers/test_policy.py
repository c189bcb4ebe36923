"""The policy file while a worker runs: followed when it changes, told when it is broken, and struck from lists."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fed_topics import Clock, Topic
from updater_bench import Bench

from consumers.diversion import Diversion
from consumers.metrics import Metrics
from consumers.policy import LOOK_S
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
        for broken in ("diversity = 1\ndiversity = two", "\n\nblocked_item = []"):
            file.write_text(broken)
            for _ in range(3):
                later(ruled)
        file.unlink()
        later(ruled)
    assert len(caplog.records) == 3
    assert "line 2" in caplog.text
    assert "line 3: blocked_item: no such rule; did you mean blocked_items?" in caplog.text
    assert "No such file" in caplog.text
    assert item not in ids(serve(ruled, "bob")["bob"])
    read = ruled.metrics.registry.get_sample_value
    assert (read("strata_policy_loads_total"), read("strata_policy_load_failures_total")) == (4, 3)
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
