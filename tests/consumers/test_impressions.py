"""Impressions beside the clicks: who counts them, what they count for, and when they are gone."""

from __future__ import annotations

from typing import Any

import pytest
from arm_counts import counted
from fed_topics import Clock, Topic, json
from updater_bench import Bench, restarted

from consumers.diversion import Diversion
from consumers.metrics import Metrics
from models.encoder import Encoder
from models.pseudonyms import Pseudonyms
from producers.errors import BrokerError
from producers.topics import Topics

KEY = b"sixteen bytes it is"


def count(bench: Bench, name: str, arm: str = "full") -> float:
    return counted(bench.metrics, name, arm)


def held(bench: Bench) -> int:
    return len(bench.updater.recommender.shown)


def serve(bench: Bench, *clicks: tuple[str, str]) -> None:
    bench.submit(*(bench.click(user, item) for user, item in clicks))
    bench.encode()
    bench.work()


def test_a_click_on_what_was_shown_is_one_and_the_next_one_needs_another_show(bench: Bench) -> None:
    assert (count(bench, "impressions"), count(bench, "impression_clicks")) == (0, 0)
    bench.show("ann", "i5", "i6")
    bench.work()
    assert (count(bench, "impressions"), count(bench, "impression_clicks")) == (2, 0)
    serve(bench, ("ann", "i5"), ("ann", "i7"), ("bob", "i6"))
    assert count(bench, "impression_clicks") == 1
    bench.clock.now += 1
    serve(bench, ("ann", "i5"))
    assert count(bench, "impression_clicks") == 1, "one show, one click"
    bench.clock.now += 5
    bench.show("ann", "i5")
    bench.work()
    serve(bench, ("ann", "i5"))
    assert (count(bench, "impressions"), count(bench, "impression_clicks")) == (3, 2)


def test_a_dismissal_and_a_click_before_or_long_after_are_no_clicks_on_what_was_shown(bench: Bench) -> None:
    bench.show("ann", "i5", "i6")
    bench.work()
    bench.submit(bench.click("ann", "i6", ts=bench.now_ms - 5_000))  # before it was shown
    bench.submit(bench.click("ann", "i5", event="dismiss"))
    bench.clock.now += 3_601
    serve(bench, ("ann", "i6"))
    assert count(bench, "impression_clicks") == 0


def test_an_impression_that_comes_twice_or_too_late_counts_once_or_not_at_all(bench: Bench) -> None:
    for _ in range(2):
        bench.show("ann", "i5", event_id="e")
    bench.show("ann", "i6", ts=bench.now_ms - 3_700_000)
    bench.work()
    assert (count(bench, "impressions"), held(bench)) == (1, 1)


def test_an_impression_of_the_future_counts_as_of_now(bench: Bench) -> None:
    bench.show("ann", "i5", ts=bench.now_ms + 9_000_000)
    bench.work()
    bench.clock.now += 1
    serve(bench, ("ann", "i5"))
    assert count(bench, "impression_clicks") == 1


@pytest.mark.parametrize("value", [None, b"", b"[" * 9_000, b'{"user_id": "ann", "items": [], "ts": 1}', b"\xff"])
def test_what_cannot_be_used_is_left_out_and_holds_nobody_up(bench: Bench, value: bytes | None) -> None:
    bench.topics.append(bench.names.impressions, "ann", value, 0, bench.now_ms)
    bench.show("ann", "i5")
    bench.work()
    assert (count(bench, "impressions"), held(bench)) == (1, 1)
    assert not bench.topics.records(bench.names.dead_letters)


def test_only_the_users_of_a_workers_own_partitions_are_remembered(bench: Bench) -> None:
    bench.show("ann", "i5", partition=0)
    bench.show("bob", "i5", partition=1)
    bench.show("cid", "i5", partition=2)
    bench.work()
    assert (count(bench, "impressions"), held(bench)) == (2, 2)
    bench.updater.revoked([(bench.names.clicks, 1)])
    bench.show("bob", "i6", partition=1)
    bench.work()
    assert (count(bench, "impressions"), held(bench)) == (2, 1)


def test_after_a_restart_shows_count_again_but_are_not_counted_again(bench: Bench, diversion: Diversion) -> None:
    bench.show("ann", "i5", "i6")
    bench.work()
    bench.clock.now += 10
    again = restarted(bench, diversion)
    again.assign(0)
    again.work()
    assert (count(again, "impressions"), held(again)) == (2, 2)
    serve(again, ("ann", "i5"))
    assert count(again, "impression_clicks") == 1
    again.updater.revoked([(again.names.clicks, 0)])
    again.show("ann", "i7")
    again.assign(0, 1)
    again.work()
    assert (count(again, "impressions"), held(again)) == (3, 3), "what came while nobody had the partition"
    again.updater.revoked([(again.names.clicks, 0)])
    again.assign(0)
    again.work()
    assert (count(again, "impressions"), held(again)) == (3, 3), "the same process again: an aborted transaction"


def test_nothing_that_an_erased_user_was_shown_is_held(bench: Bench, diversion: Diversion) -> None:
    bench.show("ann", "i5")
    bench.show("nobody", "i5")
    bench.show("bob", "i5")
    serve(bench, ("ann", "i0"))
    assert held(bench) == 3
    for user in ("ann", "nobody"):
        bench.topics.append(bench.names.erasures, user, json({"request_id": "r"}), at=bench.now_ms)
    bench.clock.now += 1
    bench.work()
    assert held(bench) == 1
    bench.show("ann", "i5", ts=bench.now_ms - 5_000)
    bench.work()
    assert held(bench) == 1, "one of before that comes late"
    again = restarted(bench, diversion)
    again.assign(0)
    again.work()
    assert held(again) == 1, "read again after a restart"
    again.clock.now += 1
    again.show("ann", "i5")
    again.work()
    assert held(again) == 2, "what comes after it starts fresh"


def test_users_are_remembered_by_their_pseudonyms(
    encoder: Encoder, shelves: Topic, names: Topics, diversion: Diversion, metrics: Metrics, clock: Clock
) -> None:
    bench = Bench(encoder, shelves, names, diversion, metrics, clock, pseudonyms=Pseudonyms(KEY))
    bench.assign(0)
    bench.show("ann", "i5")
    bench.work()
    assert list(bench.updater.recommender.shown._logs) == [Pseudonyms(KEY)("ann")]
    serve(bench, ("ann", "i5"))
    assert count(bench, "impression_clicks") == 1


def test_impressions_are_no_part_of_what_is_committed(bench: Bench) -> None:
    bench.show("ann", "i5")
    assert not bench.work().offsets
    assert bench.updater.idle()


def test_a_broker_that_refuses_impressions_holds_nobody_up_and_is_asked_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.show("ann", "i5")
    bench.work()
    reader = bench.updater._impressions._reader
    assert reader is not None

    def refused(*_: object, **__: object) -> int:
        raise BrokerError("not authorised")

    monkeypatch.setattr(reader, "poll", refused)
    monkeypatch.setattr(bench.updater._impressions, "_open_tables", refused)
    bench.show("ann", "i6", event_id="e")
    with caplog.at_level("WARNING"):
        for _ in range(3):
            serve(bench, ("bob", "i0"))
    assert caplog.text.count("impressions are not read for 30 s: not authorised") == 1
    assert held(bench) == 0, "what will be read again"
    bench.clock.now += 30
    bench.work()
    assert caplog.text.count("not authorised") == 2
    monkeypatch.setattr(bench.updater._impressions, "_open_tables", bench.topics.open)
    bench.clock.now += 30
    bench.work()
    assert (count(bench, "impressions"), held(bench)) == (2, 2)


def test_partitions_that_go_before_they_are_read_are_not(bench: Bench) -> None:
    bench.updater.revoked([(bench.names.clicks, 0)])
    bench.show("ann", "i5", partition=0)
    bench.show("bob", "i5", partition=1)
    bench.work()
    assert list(bench.updater.recommender.shown._logs) == ["bob"]
    reader: Any = bench.updater._impressions._reader
    assert reader.numbers == {1}
    bench.updater.revoked([(bench.names.clicks, 1)])
    bench.work()
    assert held(bench) == 0
