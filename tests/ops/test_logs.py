"""The log: what it says, in which form, and what never stands in it."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from ops.logs import configure


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


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
