"""The demo as its first user meets it."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bookshop import BOOKS, alive, descendants, wait_for

from models.events import Click
from ops.demo import suited
from ops.demo_stream import PAST_MS, side_by_side, stream
from ops.reading import ago
from ops.settings import PREFIX, Settings
from ops.view import quantiles
from producers.dataset import write

ROOT = Path(__file__).parent.parent.parent
STRATA = Path(sys.executable).with_name("strata")


def click(user: str, item: str, minute: float) -> Click:
    return Click(user_id=user, item_id=item, ts=int(minute * 60_000), event="purchase")


def test_baskets_are_open_side_by_side_and_each_household_keeps_its_order() -> None:
    clicks = [click(user, f"{user}{n}", minute + n / 10) for minute, user in enumerate("abc") for n in range(3)]
    clicks += [click("a", f"a{n}", 30 + n) for n in range(3, 5)]
    played = list(side_by_side(clicks, at_once=2))
    assert sorted(played, key=id) == sorted(clicks, key=id)
    for user in "abc":
        assert [c.item_id for c in played if c.user_id == user] == [c.item_id for c in clicks if c.user_id == user]
    assert [c.user_id for c in played[:6]] == ["a", "b"] * 3
    assert [c.user_id for c in played[6:]] == ["c", "a", "c", "a", "c"], "the second basket of a waits for the first"


def test_the_past_ends_a_day_ago_and_what_it_holds_is_encoded_first(tmp_path: Path) -> None:
    goods = [{"item_id": book.item_id, "title": book.title, "category": "Grocery"} for book in BOOKS]
    fuel = {"item_id": "fuel", "title": "Petrol", "category": "Fuel"}
    users = [f"household-{n}" for n in range(200)]
    clicks = [
        {"user_id": user, "item_id": item, "ts": 1_000_000 * n, "event": "purchase"}
        for n, (user, item) in enumerate(itertools.product(users, ["sailing-3", "fuel", "baking-1", "unheard-of"]))
    ]
    shop = stream(write(tmp_path / "data", [*goods, fuel], clicks), history=10, live=6, at_once=2, now_ms=10**12)
    assert len(shop.history) == 10
    assert 0 < len(shop.live) <= 6
    assert {c.item_id for c in [*shop.history, *shop.live]} == {"sailing-3", "baking-1"}
    assert shop.history[-1].ts == 10**12 - PAST_MS
    assert shop.history[-1].ts - shop.history[0].ts > 0
    assert {item.item_id for item in shop.items[:2]} == {"sailing-3", "baking-1"}
    assert len(shop.items) == len(BOOKS)


def test_the_users_own_settings_win_over_the_demos(monkeypatch: pytest.MonkeyPatch) -> None:
    assert suited(Settings()).repeat_after == {"purchase": 86_400}
    own = suited(Settings(repeat_after={}, token_budget=4_096, http_port=1))
    assert (own.repeat_after, own.token_budget, own.http_port) == ({}, 4_096, 1)


def test_times_are_told_as_one_says_them() -> None:
    assert [ago(s) for s in (-1, 3.4, 75, 200, 8_000, 400_000)] == [
        "0 s", "3 s", "1 min", "3 min", "2 h", "5 d",
    ]  # fmt: skip
    assert quantiles([]) == "–"
    assert quantiles([0.1, 0.2, 0.3]) == "200 / 298 ms"


def demo(*arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return subprocess.Popen(
        [STRATA, "demo", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env=environment | {"COLUMNS": "140", "HF_HUB_OFFLINE": "1"}, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.broker
def test_it_runs_its_time_sums_up_and_leaves_nothing_behind() -> None:
    run = demo("--seconds", "40", "--rate", "10")  # on a machine in use history alone takes 20 s
    try:
        children = wait_for(lambda: descendants(run.pid), "the broker")
        told, _ = run.communicate(timeout=400)
    finally:
        run.kill()
    assert run.returncode == 0, told
    assert "Traceback" not in told
    assert "kafka" not in told, "noise of a library"
    assert re.search(r"the page: http://127\.0\.0\.1:\d+$", told, re.MULTILINE)
    assert re.search(r"metrics at http://127\.0\.0\.1:\d+/metrics", told)
    lines = re.findall(r"^ *\d+ s: .* clicks/s, .* users and .* items encoded/s, .*layers$", told, re.MULTILINE)
    assert len(lines) >= 2, told
    assert int(re.search(r"lists published +([\d,]+)", told)[1].replace(",", "")) > 0  # type: ignore[index]
    assert re.search(r"live hit rate +[\d.]+% of [\d,]+ live clicks", told), told
    assert re.search(r"interest layers +\d+", told)
    assert re.search(r"dead letters +0", told)
    assert re.search(r"household-\d+ · ", told)
    assert told.rstrip().endswith("stopped; no process is left behind")
    assert not alive(children)


@pytest.mark.slow
@pytest.mark.broker
def test_it_ends_cleanly_when_interrupted() -> None:
    run = demo("--seconds", "120", "--rate", "10")
    try:
        assert run.stdout is not None
        told = ""
        while "metrics at" not in told:
            line = run.stdout.readline()
            assert line, f"it ended early: {told}"
            told += line
        children = descendants(run.pid)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        rest, _ = run.communicate(timeout=35)
    finally:
        run.kill()
    told += rest
    assert run.returncode in (0, 130), told
    assert "Traceback" not in told
    assert told.rstrip().endswith("stopped; no process is left behind")
    assert not alive(children)
