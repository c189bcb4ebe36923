"""``strata``: the command line."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from models.errors import ConfigurationError, StrataError
from ops import logs
from ops.roles import chosen
from ops.settings import Settings, load
from producers.connection import Connection

log = logging.getLogger(__name__)

app = typer.Typer(
    name="strata",
    help="Recommendations that follow a person while they are still on the page.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
topics_app = typer.Typer(help="Strata's topics.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
letters_app = typer.Typer(
    help="Messages that could not be used: see them, and send them back after a fix.", no_args_is_help=True
)
app.add_typer(letters_app, name="dead-letters")
policy_app = typer.Typer(help="The file of rules (STRATA_POLICY).", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
console = Console()


def main() -> None:
    """The console script: an error of ours is a line that says what to do, not a traceback."""
    try:
        app()
    except ConfigurationError as error:
        _fail(error, 2)
    except StrataError as error:
        _fail(error, 1)


def _fail(error: StrataError, code: int) -> None:
    # not markup: "strata-recommender[broker]" must stay whole
    text = Text("error: ", style="bold red").append(str(error), style="not bold default")
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)
    sys.exit(code)


def settings(**given: Any) -> Settings:
    """The effective settings, and the log as they want it."""
    effective = load(**{name: value for name, value in given.items() if value is not None})
    logs.configure(effective.log_level, effective.log_format)
    return effective


def reachable(effective: Settings) -> Connection:
    """The cluster that the settings name; the embedded one cannot be meant by a command that only reads."""
    if not effective.kafka_bootstrap:
        raise ConfigurationError(
            "STRATA_KAFKA_BOOTSTRAP is not set, and a fresh embedded broker would be empty: set it to your cluster, or "
            "to the address that `strata run` or `strata broker` shows"
        )
    return effective.connection()


@contextlib.contextmanager
def cluster(effective: Settings) -> Iterator[Connection]:
    """The cluster that the settings name, or an embedded broker for as long as this lasts."""
    if effective.kafka_bootstrap:
        yield effective.connection()
        return
    from ops.broker import EmbeddedBroker

    with EmbeddedBroker(effective.broker_port) as broker:
        log.info(
            "an embedded broker runs, in memory, for as long as this process; for other commands: "
            "export STRATA_KAFKA_BOOTSTRAP=%(bootstrap)s",
            {"bootstrap": broker.bootstrap},
        )
        yield effective.connection(broker.bootstrap)


@contextlib.contextmanager
def until_stopped() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; a second Ctrl-C ends at once."""
    stop = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=15, help="How long to run after set-up, s.")] = 120,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, help="Clicks a second; three tenths of what this machine encodes if not given."),
    ] = None,
) -> None:
    """Show the main job live: real clicks in, refreshed lists out."""
    from ops.demo import Demo

    effective = settings(log_level="error")  # a line in the middle of the picture would tear it
    with until_stopped() as stop:
        Demo(effective, seconds=seconds, rate=rate, console=console).run(stop)


@app.command()
def run(
    roles: Annotated[
        list[str] | None,
        typer.Argument(help="catalogue, updater, neighbours, layers, ranker, sequence, erasure, feed; all if none."),
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="First delete profiles, lists and all that is learned; begin again at the first click.",
        ),
    ] = False,
) -> None:
    """Run all roles in one process, or the named ones."""
    effective, wanted = settings(), chosen(roles or ())
    from ops.process import Process
    from producers import rebuild as state

    with until_stopped() as stop, cluster(effective) as connection:
        if rebuild:
            state.rebuild(connection, effective.topics, effective.group)
        process = Process(effective, connection, wanted)
        try:
            process.start()
            while not stop.is_set() and not process.wait(0.2):
                pass
            log.info("stopping: finishing what is in flight")
        finally:
            process.close()


@topics_app.command("create")
def topics_create() -> None:
    """Create the topics that are missing, and check the others."""
    effective = settings()
    there = effective.topics.ensure(reachable(effective))
    table = Table("topic", "partitions")
    for name, partitions in there.items():
        table.add_row(name, str(partitions))
    console.print(table)


@app.command()
def replay(
    data: Annotated[
        str, typer.Option(help="Folder with items.jsonl.gz and clicks.jsonl.gz, or a name such as completejourney.")
    ],
    speed: Annotated[str, typer.Option(help="Times real time, or max.")] = "1",
    rate: Annotated[float | None, typer.Option(min=0.001, help="Clicks a second, evenly, in place of a speed.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Only so many clicks.")] = None,
    items: Annotated[bool, typer.Option(help="Send the catalogue first.")] = True,
    restamp: Annotated[bool, typer.Option(help="Stamp clicks with the present time.")] = True,
) -> None:
    """Send a data set to the topics as a live stream."""
    from ops.datasets import dataset
    from producers.publisher import Publisher
    from producers.replay import Pace, by_first_click, replay_clicks, replay_items

    effective = settings()
    pace = Pace(speed=_speed(speed), rate=rate)
    connection = reachable(effective)
    source, topics = dataset(data), effective.topics
    topics.ensure(connection, create=effective.create_topics)
    clicks = list(source.clicks(limit))
    sent = {"items": 0, "clicks": 0}
    with (
        contextlib.closing(Publisher(connection, limits=topics.limits)) as publisher,
        until_stopped() as stop,
        _progress() as progress,
    ):
        catalogue = by_first_click(source.items(), clicks) if items else []
        bars = {
            "items": progress.add_task("items", total=len(catalogue), visible=items),
            "clicks": progress.add_task("clicks", total=len(clicks)),
        }

        def advance(what: str, done: int) -> None:
            sent[what] = done
            progress.update(bars[what], completed=done)

        replay_items(catalogue, publisher, topics, advance)
        replay_clicks(clicks, publisher, topics, pace, restamp=restamp, stop=stop, progress=advance)
    console.print(
        f"sent {sent['items']:,} items to {topics.items} and {sent['clicks']:,} clicks to {topics.clicks}",
        highlight=False, markup=False,
    )  # fmt: skip


@app.command()
def evaluate(
    data: Annotated[
        str, typer.Option(help="Folder with items.jsonl.gz and clicks.jsonl.gz, or a name such as movielens-100k.")
    ],
    warm_up: Annotated[
        float, typer.Option(min=0, max=0.95, help="Share of the clicks learned before the first is asked.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="Of the order among clicks of one moment.")] = 7,
    limit: Annotated[int | None, typer.Option(help="Only so many clicks.")] = None,
    encode_users: Annotated[
        bool, typer.Option(help="Re-encode users through BERT, as the live system does (slow).")
    ] = False,
    peers: Annotated[bool, typer.Option("--peers", help="Beside what else one could run, untuned.")] = False,
    repeats: Annotated[
        bool, typer.Option("--repeats", help="What a user has clicked may be offered to him again at once.")
    ] = False,
) -> None:
    """Measure list quality on a data set, without Kafka: each click is asked for, then learned."""
    from ops import evaluate as evaluation

    effective = settings(log_level="warning")
    outcomes = [
        evaluation.evaluate(
            data,
            warm_up=warm_up,
            ties=ties,
            seed=seed,
            limit=limit,
            model=effective.model,
            encode_users=encode_users,
            repeats=repeats,
            config=effective.ranking,
        )
        for ties in ("shuffle", "keep")
    ]
    evaluation.show(outcomes, console)
    if peers:
        from ops.quality import quick

        console.print(quick.table(data, warm_up=warm_up, seed=seed, limit=limit, repeats=repeats))


@app.command()
def recommend(user: Annotated[str, typer.Argument(help="User id.")]) -> None:
    """Print a user's newest list with its reasons, from the output topic."""
    from ops import reading

    effective = settings()
    made = reading.recommendation(reachable(effective), effective.topics, user, effective.pseudonyms)
    console.print(reading.where(made), reading.list_table(made), reading.source(made), sep="\n")


@app.command()
def erase(
    user: Annotated[str, typer.Argument(help="User id, as the clicks have it.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until nothing of the user is left.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="How long to wait, s.")] = 60,
) -> None:
    """Erase all that a user did up to now: profile, list, what he had seen, dead letters."""
    from ops import erasing

    effective, request_id = settings(), str(uuid.uuid4())
    connection = reachable(effective)
    until = erasing.order(connection, effective.topics, user, request_id)
    console.print(f"ordered; request {request_id}", highlight=False)
    if wait:
        seconds = erasing.wait(connection, effective.topics, user, until, effective.pseudonyms, timeout)
        console.print(f"done after {seconds:.1f} s: no profile, no list and no dead letter is left", highlight=False)


@app.command()
def layers(
    plot: Annotated[
        Path | None, typer.Option(help="Draw the users and layers into this file (.svg, .png, .pdf).")
    ] = None,
) -> None:
    """Print the interest layers, or draw a map of them."""
    from ops import reading

    effective = settings()
    if plot is not None:
        from ops.layer_plot import plot_layers

        plot_layers(reachable(effective), effective.topics, plot)
        console.print(f"the map is in {plot}", highlight=False, markup=False)
        return
    console.print(reading.layer_tree(reading.layers(reachable(effective), effective.topics), time.time()))


@app.command()
def experts() -> None:
    """Print who ranks for users with how many clicks, and what each expert would have hit."""
    from ops import experts, reading

    effective = settings()
    console.print(experts.table(reading.weights(reachable(effective), effective.topics)))


@app.command()
def arms(
    url: Annotated[
        list[str] | None,
        typer.Option(
            help="Metrics of a worker; to be repeated for each. http://STRATA_HTTP_HOST:STRATA_HTTP_PORT/metrics if not given."
        ),
    ] = None,
) -> None:
    """Print what each arm has hit since the workers started, and what the full method adds to the hold-outs."""
    from ops import arms

    effective = settings()
    here = f"http://{effective.http_host}:{effective.http_port}/metrics"
    console.print(arms.table(arms.counts(url or [here])))


@policy_app.command("check")
def policy_check(
    file: Annotated[Path, typer.Argument(help="The policy file.")],
    items: Annotated[
        str | None,
        typer.Option(help="A data set to look for the names in; the topic of items if STRATA_KAFKA_BOOTSTRAP is set."),
    ] = None,
) -> None:
    """Say whether a policy file can be used, and how many items each of its rules is about."""
    from ops import policy

    effective, found = settings(), policy.read(file)
    console.print(f"{file} can be used", highlight=False, markup=False)
    if items is not None:
        from ops.datasets import dataset

        console.print(policy.table(found, policy.count(dataset(items).items())))
    elif effective.kafka_bootstrap:
        counts = policy.count(policy.catalogue(effective.connection(), effective.topics))
        console.print(policy.table(found, counts))


Reason = Annotated[str, typer.Option("--reason", help="Only those whose stage, error class or reason contains this.")]
OfTopic = Annotated[str, typer.Option("--topic", help="Only those that were on this topic.")]


@letters_app.command("list")
def letters_list(reason: Reason = "", topic: OfTopic = "") -> None:
    """List dead letters, oldest first; payloads are not shown."""
    from ops import letters

    effective = settings()
    console.print(letters.table(letters.letters(reachable(effective), effective.topics, reason, topic)))


@letters_app.command("show")
def letters_show(offset: Annotated[int, typer.Argument(help="Offset, as `list` shows it.")]) -> None:
    """Show one dead letter with its payload."""
    from ops import letters

    effective = settings()
    console.print(letters.whole(letters.find(letters.letters(reachable(effective), effective.topics), offset)))


@letters_app.command("replay")
def letters_replay(
    reason: Reason = "",
    topic: OfTopic = "",
    offset: Annotated[int | None, typer.Option(help="Only the one at this offset.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
) -> None:
    """Send dead letters back to the topics where they were; those that still cannot be used come back as new ones."""
    from ops import letters

    effective = settings()
    connection = reachable(effective)
    chosen = letters.letters(connection, effective.topics, reason, topic)
    if offset is not None:
        chosen = [letters.find(chosen, offset)]
    console.print(letters.table(chosen))
    if not dry_run:
        letters.send_back(connection, effective.topics, chosen)
    console.print(f"{len(chosen)} message(s) {'would be ' if dry_run else ''}sent back")


@app.command()
def config(
    markdown: Annotated[bool, typer.Option(help="Names, defaults and meanings, as in the README.")] = False,
) -> None:
    """Print the effective settings, secrets masked."""
    if markdown:
        print(Settings.table())
        return
    defaults = {name: value for name, value, _ in Settings.model_construct().shown()}
    for name, value, meaning in load().shown():  # a line each, so that it can be searched
        line = Text(f"{name}={value}", style="" if value == defaults[name] else "bold green")
        console.print(line.append(f"  # {meaning}", style="not bold dim default"), soft_wrap=True, highlight=False)


@app.command()
def broker(
    port: Annotated[int | None, typer.Option(help="Port; STRATA_BROKER_PORT if not given, 9092 if neither.")] = None,
) -> None:
    """Run the embedded broker alone, in memory, until Ctrl-C."""
    from ops.broker import EmbeddedBroker

    effective = settings()
    with (
        until_stopped() as stop,
        EmbeddedBroker(port if port is not None else effective.broker_port or 9092) as embedded,
    ):
        console.print(f"[bold]STRATA_KAFKA_BOOTSTRAP={embedded.bootstrap}[/]", highlight=False)
        while not stop.wait(0.5):
            pass


def _speed(text: str) -> float | Literal["max"]:
    if text == "max":
        return "max"
    with contextlib.suppress(ValueError):
        if 0 < (speed := float(text)) < math.inf:
            return speed
    raise ConfigurationError(f"--speed {text}: a number above 0 (times real time), or max")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:>7}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
