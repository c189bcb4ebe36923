"""The log: what it says, in which form, and what never stands in it."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from bookshop import Bookshop, knows_the_catalogue, tiny_model, value, wait_for

from ops.logs import configure
from producers.connection import Connection
from producers.erasures import erasure_message
from producers.topics import Topics


def written(level: str = "info", form: str = "json") -> io.StringIO:
    stream = io.StringIO()
    configure(level, form, stream)  # type: ignore[arg-type]
    return stream


def test_a_line_of_json_is_for_machines() -> None:
    stream = written()
    logging.getLogger("consumers.updater").info("restored %d profiles", 3)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["logger"]) == ("restored 3 profiles", "info", "consumers.updater")
    assert line["timestamp"].endswith("Z")


def test_what_is_told_beside_a_line_is_told_by_name() -> None:
    stream = written()
    logging.getLogger("consumers.erasure").info("a receipt", extra={"request_id": "r-1", "dead_letters": 2})
    line = json.loads(stream.getvalue())
    assert (line["request_id"], line["dead_letters"]) == ("r-1", 2)


def test_what_is_not_a_terminal_gets_json_unless_told_otherwise() -> None:
    stream = written(form="auto")
    logging.getLogger("x").info("said")
    assert json.loads(stream.getvalue())["event"] == "said"
    stream = written(form="console")
    logging.getLogger("x").info("said")
    assert "said" in stream.getvalue()
    assert "{" not in stream.getvalue()


def test_the_level_is_kept() -> None:
    stream = written("warning")
    logging.getLogger("x").info("news")
    logging.getLogger("x").warning("trouble")
    assert "news" not in stream.getvalue()
    assert "trouble" in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_trace_tells_where_but_not_whose(form: str) -> None:
    stream = written(form=form)
    user_id = "ann@example.com"
    try:
        raise ValueError("no such row")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert user_id
    assert "no such row" in stream.getvalue()
    assert "test_logs.py" in stream.getvalue()
    assert "ann@example.com" not in stream.getvalue()


def test_libraries_are_heard_only_when_something_is_wrong() -> None:
    stream = written()
    kafka = logging.getLogger("kafka.cluster")
    kafka.warning("Starting metadata refresh loop")
    kafka.error("Metadata refresh: failed %s", "Cancelled")  # what its own close brings about
    assert stream.getvalue() == ""
    kafka.error("Topic x is not authorized for this client")
    assert "not authorized" in stream.getvalue()


def test_what_kafkas_client_meets_while_it_closes_is_not_told() -> None:
    stream = written()
    kafka = logging.getLogger("kafka.net.selector")
    for error in (
        ValueError("generator already executing"),
        AttributeError("'NoneType' object has no attribute 'recv'"),
    ):
        try:
            raise error
        except (ValueError, AttributeError):
            kafka.exception("Error closing coroutine for cancelled task")
    assert stream.getvalue() == ""
    try:
        raise ValueError("a real one")
    except ValueError:
        kafka.exception("Error closing coroutine for cancelled task")
    assert "a real one" in stream.getvalue()


def test_a_broker_that_is_away_does_not_flood_the_log() -> None:
    stream = written()
    now = [0.0]
    (filter_,) = logging.getLogger().handlers[0].filters
    filter_._clock = lambda: now[0]  # type: ignore[union-attr]
    for _ in range(100):
        logging.getLogger("kafka.net.manager").error("Connection failed: %s", "ECONNREFUSED")
        logging.getLogger("kafka.cluster").error("Metadata refresh: failed %s", "ECONNREFUSED")
        logging.getLogger("consumers.loop").error("ours is told each time")
    assert stream.getvalue().count("ECONNREFUSED") == 2
    assert stream.getvalue().count("each time") == 100
    now[0] = 11
    logging.getLogger("kafka.cluster").error("Metadata refresh: failed %s", "ECONNREFUSED")
    assert stream.getvalue().count("ECONNREFUSED") == 3


def test_fields_are_fields_and_a_role_is_known_by_its_thread() -> None:
    stream = written("debug")
    line = threading.Thread(
        target=logging.getLogger("x").debug, args=("delivered",), kwargs={"extra": {"offsets": {"clicks-0": 3}}},
        name="updater",
    )  # fmt: skip
    line.start()
    line.join()
    told = json.loads(stream.getvalue())
    assert (told["event"], told["offsets"], told["role"]) == ("delivered", {"clicks-0": 3}, "updater")
    logging.getLogger("x").info("said")
    assert "role" not in json.loads(stream.getvalue().splitlines()[1])


def test_named_arguments_are_fields_of_json_and_stay_in_the_text() -> None:
    stream = written()
    told = {"profiles": 3, "seconds": 0.25, "error": ValueError("no")}
    logging.getLogger("x").info("restored %(profiles)d profiles in %(seconds).1f s: %(error)s", told)
    line = json.loads(stream.getvalue())
    assert line["event"] == "restored 3 profiles in 0.2 s: no"
    assert line["template"] == "restored %(profiles)d profiles in %(seconds).1f s: %(error)s"
    assert (line["profiles"], line["seconds"], line["error"]) == (3, 0.25, "no")
    stream = written(form="console")
    logging.getLogger("x").info("restored %(profiles)d profiles", {"profiles": 3})
    assert "restored 3 profiles" in stream.getvalue()
    assert "profiles=" not in stream.getvalue(), "it stands in the text"


def test_no_argument_takes_the_place_of_what_every_line_has() -> None:
    stream = written()
    logging.getLogger("x").info("%(level)s %(event)s", {"level": "high", "event": "rain"})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["event"]) == ("info", "high rain")


@pytest.mark.parametrize("room", ["consumers", "ops", "producers"])
def test_every_line_names_its_facts(room: str) -> None:
    """``%s`` would tell a person only; debug lines of single errors apart."""
    folder = Path(__file__).parents[2] / room
    unnamed = re.compile(r"%[-.\d]*[sdf]")
    for path in folder.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            if call.func.attr in ("info", "warning", "error", "exception") and ast.unparse(call.func.value) == "log":
                text = ast.unparse(call.args[0])
                assert not unnamed.search(text), f"{path.name}: {text}"


@pytest.mark.broker
def test_a_strata_tells_each_change_and_each_batch_by_its_facts_and_no_user(
    tansu: Connection, tmp_path: Path, topics: Topics
) -> None:
    stream = written("debug")
    shop, users = Bookshop(tansu, topics, model=tiny_model(tmp_path, 32)), [f"somebody-{n}" for n in range(8)]
    shop.stock()
    try:
        for seed in range(2):  # the second start has profiles to restore
            with shop.running() as process:
                wait_for(lambda: process.ready, "ready")
                wait_for(knows_the_catalogue(process), "the catalogue")
                shop.garbage(topics.clicks, b"somebody-9", b'{"user_id": "somebody-9"}')
                shop.readers(users, 1, seed=seed)
                wait_for(lambda: shop.counted() == shop.expected(), "every click in a profile")
                if seed:
                    erase = erasure_message("somebody-1", "r-1", int(time.time() * 1000), topics)
                    shop.publisher.publish([erase])
                    wait_for(lambda: "r-1" in stream.getvalue(), "the receipt")
    finally:
        shop.publisher.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert not [line for line in lines if "somebody" in json.dumps(line)], "no user is told, whatever the level"

    def told(template: str) -> list[dict[str, Any]]:
        return [line for line in lines if line.get("template", line["event"]).startswith(template)]

    assigned = [line for line in told("%(role)s: partitions") if line["role"] == "updater"]
    assert [(one["kind"], one["count"]) for one in assigned if one["kind"] == "assigned"] == [("assigned", 2)] * 2
    assert assigned[0]["partitions"] == [f"{topics.clicks}-{n}" for n in range(2)]
    restored = [(one["profiles"], one["partitions"]) for one in told("updater: restored")]
    assert restored == [(0, 2), (8, 2)]
    diverted = told("%(role)s: diverted")
    assert {(one["role"], one["topic"], one["level"]) for one in diverted} == {("updater", topics.clicks, "warning")}
    (receipt,) = told("erasure: receipt")
    assert receipt["request_id"] == "r-1"
    delivered = [line for line in told("delivered") if line["role"] == "updater"]
    assert {line["level"] for line in delivered} == {"debug"}
    assert max(line["offsets"].get(f"{topics.clicks}-0", 0) for line in delivered) == shop.ends()[0]
    last = sum(line["timestamp"] > restored_at(lines) for line in delivered)
    assert last == value(process, "strata_publishes_total", role="updater"), "one line a batch, no more and no less"


def restored_at(lines: list[dict[str, Any]]) -> str:
    return max(str(line["timestamp"]) for line in lines if line["event"].startswith("updater: restored"))
