"""What Strata has published, as a person reads it."""

from __future__ import annotations

import msgspec
import pytest
from rich.console import Console

from models.records import LayerInfo, LayerRef, RankedItem, Reason, Recommendation, Source
from ops.reading import in_order, layer_tree, list_table, recommendation, where
from producers.connection import Connection
from producers.publisher import Message, Publisher
from producers.topics import Topics


def a_list(
    user: str, offset: int, title: str = "Tea", why: str = "Because", layer: str = "hot drinks"
) -> Recommendation:
    return Recommendation(
        user_id=user,
        generated_at=1_700_000_000_000,
        event_ts=1_700_000_000_000,
        model="m",
        layers_version=1,
        arm="full",
        encoded=True,
        source=Source("clicks", 0, offset),
        layer=LayerRef("3.5", layer),
        items=(RankedItem("i", title, 0.5, Reason(why, (), {})),),
    )


def info(name: str) -> LayerInfo:
    return LayerInfo(
        id=name, label=f"label {name}", size=0.5, epoch=0, items=("a", "b"), counts=b"", totals=(), half_lives=()
    )


@pytest.mark.broker
def test_the_newest_list_is_found_in_whatever_partition(tansu: Connection, topics: Topics) -> None:
    topics.ensure(tansu)
    publisher = Publisher(tansu)
    for partition, user in ((0, "ann"), (1, "bob")):
        for offset in (7, 9, 8):  # the last one was written late, by a worker that had lost the partition
            value = msgspec.json.encode(a_list(user, offset))
            publisher.publish([Message(topics.recommendations, user.encode(), value, partition)])
    publisher.close()
    for user in ("ann", "bob"):
        assert recommendation(tansu, topics, user).source.offset == 9


def test_layers_stand_in_the_order_of_their_numbers() -> None:
    ids = ["10", "2.11", "root", "2", "2.2", "0"]
    assert [i.id for i in in_order(map(info, ids))] == ["root", "0", "2", "2.2", "2.11", "10"]
    console = Console(width=80)
    with console.capture() as shown:
        console.print(layer_tree(in_order(map(info, ids)), 0))
    lines = [line for line in shown.get().splitlines() if "label " in line]
    assert [line.split("label ")[1].split()[0] for line in lines] == ["root", "0", "2", "2.2", "2.11", "10"]
    assert lines[3].index("2.2") > lines[2].index("2"), "a fine layer stands under its coarse one"


def test_a_layer_says_who_comes_and_goes_and_for_how_long_it_is_what_it_is() -> None:
    young = msgspec.structs.replace(info("3.5"), joined=0.225, left=0.019, since_ms=1_000_000, titles=("Tent", "Lamp"))
    console = Console(width=120)
    with console.capture() as shown:
        console.print(layer_tree([young, info("3.6")], 1_000 + 12 * 60))
    lines = shown.get().splitlines()
    assert lines[-2].endswith("3.5 label 3.5  50.0%  +22.5% -1.9%  12 min  Tent · Lamp")
    assert lines[-1].rstrip().endswith("3.6 label 3.6  50.0%"), "of a record from before they were kept nothing is said"
    assert all(word in lines[0] for word in ("came (+)", "went (-)", "age"))


def test_what_others_wrote_cannot_command_the_terminal() -> None:
    console = Console(width=120)
    made = a_list("u[/]", 1, "[bold]Tea[/bold] [/] \x1b[2J", "Because you [red]bought\x07", "[/layer]")
    with console.capture() as shown:
        console.print(where(made), list_table(made), list_table(made, wrap=False), sep="\n")
    text = shown.get()
    assert "[bold]Tea[/bold] [/] \N{REPLACEMENT CHARACTER}[2J" in text
    assert "Because you [red]bought\N{REPLACEMENT CHARACTER}" in text
    assert "u[/] · layer 3.5 [/layer]" in text
    assert "\x1b" not in text
