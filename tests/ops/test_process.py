"""The process as a whole, on real brokers: what goes in comes out, through stops, losses and changes of the model."""

from __future__ import annotations

import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from bookshop import BOOKS, TITLES, Bookshop, knows_the_catalogue, tiny_model, value, wait_for

from models.encoder import Encoder
from models.errors import ConfigurationError
from models.ranker_records import RankerUpdate, RankerWeights
from models.records import Checkpoint, ItemVector, LayerState, NeighbourRow, decode
from ops.roles import ROLES
from producers.connection import Connection
from producers.errors import DeadLetterLimitExceeded
from producers.publisher import Message
from producers.topics import Topics

USERS = [f"reader-{n}" for n in range(12)]


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder.load(precision="fp32", device="cpu")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("tiny"), 32)


@pytest.fixture(scope="session")
def tiny_wide(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("tiny-wide"), 64)


@pytest.fixture
def shop(broker: Connection, topics: Topics) -> Iterator[Bookshop]:
    shop = Bookshop(broker, topics)
    yield shop
    shop.publisher.close()


@pytest.fixture
def tansu_shop(tansu: Connection, topics: Topics) -> Iterator[Bookshop]:
    shop = Bookshop(tansu, topics)
    yield shop
    shop.publisher.close()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_click_becomes_a_refreshed_list(shop: Bookshop, encoder: Encoder) -> None:
    shop.stock()
    with shop.running(encoder=encoder) as process:
        assert process.probes is not None
        url = process.probes.url
        wait_for(lambda: get(f"{url}/readyz")[0] == 200, "ready")
        wait_for(knows_the_catalogue(process), "the catalogue")
        shop.readers(USERS, 4)
        shop.garbage(shop.topics.items, b"gardening-0", b'{"item_id": "gardening-0", "title": ')
        shop.garbage(shop.topics.clicks, b"reader-0", b"\xff\x00 no click")
        shop.readers(USERS, 1, seed=9)
        wait_for(lambda: shop.counted() == shop.expected(), "every click in a profile")
        wait_for(lambda: all(made.encoded for made in shop.lists().values()), "every list through BERT")
        wait_for(lambda: len(shop.records(shop.topics.dead_letters)) == 2, "two dead letters")
        assert get(f"{url}/livez") == (200, "ok\n")
        metrics = get(f"{url}/metrics")[1]
    clicks = {record.key: record for record in shop.records(shop.topics.clicks)}
    lists = {record.key: record for record in shop.records(shop.topics.recommendations)}
    profiles = {record.key: record for record in shop.records(shop.topics.profiles)}
    made = shop.lists()
    for user in USERS:
        key = user.encode()
        assert lists[key].partition == profiles[key].partition == clicks[key].partition
        own = made[user]
        assert own.source.topic == shop.topics.clicks
        assert own.source.offset == shop.profiles()[user].applied
        assert own.encoded
        assert own.model == encoder.name
        chosen = {click.item_id for click in shop.sent if click.user_id == user}
        assert len(own.items) == 10
        for item in own.items:
            assert item.title == TITLES[item.item_id]
            assert item.item_id not in chosen
            assert item.reason.text
            assert set(item.reason.because) <= chosen
            assert sum(item.reason.parts.values()) == pytest.approx(item.score, abs=1e-2)
    # what a reader of garden books is told first stands on the shelf of garden books
    assert made["reader-0"].items[0].item_id.startswith("gardening-")
    assert shop.committed() == shop.ends()
    dead = {dict(r.headers)["strata-original-key"]: r for r in shop.records(shop.topics.dead_letters)}
    assert dead[b"gardening-0"].value == b'{"item_id": "gardening-0", "title": '
    assert dead[b"reader-0"].value == b"\xff\x00 no click"
    for record in dead.values():
        headers = dict(record.headers)
        assert headers["trace"] == b"\xff\x00"
        assert headers["strata-error-class"] == b"InvalidEvent"
    assert f"strata_clicks_consumed_total {len(shop.sent) + 1}.0" in metrics
    assert 'strata_dead_letters_total{role="updater",stage="decode"} 1.0' in metrics
    assert 'strata_catalogue_items_total{outcome="encoded"} 40.0' in metrics
    assert "strata_ready 1.0" in metrics
    assert "reader-" not in metrics


def test_a_stop_in_the_middle_and_a_restart_count_every_click_once(shop: Bookshop, tiny: str) -> None:
    shop.stock()
    users = [f"reader-{n}" for n in range(40)]
    with shop.running(model=tiny) as process:
        wait_for(knows_the_catalogue(process), "the catalogue")
        shop.readers(users, 10)
        wait_for(lambda: value(process, "strata_clicks_consumed_total") > 0, "the first clicks")
        # stopped with clicks read, queued and half published
    profiles, committed = shop.profiles(), shop.committed()
    for record in shop.records(shop.topics.clicks):
        if record.offset < committed[record.partition]:
            assert profiles[(record.key or b"").decode()].applied >= record.offset, "committed, but in no profile"
    shop.readers(users, 2, seed=5)
    with shop.running(model=tiny) as process:
        wait_for(lambda: shop.counted() == shop.expected(), "every click in a profile")
        shop.readers(users, 1, seed=7)
        wait_for(lambda: shop.counted() == shop.expected(), "every click in a profile")
        wait_for(lambda: learned(shop) == len(shop.sent), "the layers' checkpoint")
        wait_for(lambda: clicked(shop) == shop_clicks(shop), "the neighbours' rows")
        wait_for(lambda: weighed(shop) == len(taught(shop)), "the ranker's state")
        assert value(process, "strata_catalogue_items_total", outcome="unchanged") == len(BOOKS)
        assert value(process, "strata_catalogue_items_total", outcome="encoded") == 0
    assert shop.committed() == shop.ends()
    with shop.running(model=tiny) as process:  # nothing new: nothing is learned again, nothing published
        wait_for(lambda: process.ready, "ready")
        lists = len(shop.records(shop.topics.recommendations))
        wait_for(lambda: value(process, "strata_heartbeat_timestamp_seconds", role="layers"), "the layers' loop")
    assert len(shop.records(shop.topics.recommendations)) == lists
    assert learned(shop) == len(shop.sent)
    assert clicked(shop) == shop_clicks(shop)
    assert len(taught(shop)) > 100
    assert len(set(taught(shop))) == len(taught(shop)), "a click teaches once"
    assert weighed(shop) == len(taught(shop))


def taught(shop: Bookshop) -> list[tuple[int, int]]:
    """Partition and offset of every click that was sent to the ranker."""
    updates = [decode(record.value, RankerUpdate).taught for record in shop.records(shop.topics.ranker_updates)]
    return [(partition, offset) for sent in updates for partition, offsets in sent.items() for offset in offsets]


def weighed(shop: Bookshop) -> int:
    """Clicks in the newest weights."""
    records = [r.value for r in shop.records(shop.topics.ranker) if r.key == b"weights" and r.value]
    return decode(records[-1], RankerWeights).version if records else 0


def learned(shop: Bookshop) -> int:
    """Clicks in the newest checkpoint of the layers."""
    states = [r.value for r in shop.records(shop.topics.layers) if r.key == b"state" and r.value]
    return decode(decode(states[-1], Checkpoint).state, LayerState).clicks if states else 0


def clicked(shop: Bookshop) -> dict[str, float]:
    """Clicks of each item as the neighbours' newest rows count them."""
    return {(r.key or b"").decode(): decode(r.value, NeighbourRow).count for r in shop.records(shop.topics.neighbours)}


def shop_clicks(shop: Bookshop) -> dict[str, float]:
    counts: dict[str, float] = {}
    for click in shop.sent:
        counts[click.item_id] = counts.get(click.item_id, 0) + 1
    return counts


def test_one_role_a_process_works_as_all_in_one(tansu_shop: Bookshop, tiny: str) -> None:
    shop = tansu_shop
    shop.stock()
    with (
        shop.running(["catalogue"], model=tiny),
        shop.running(["neighbours"], model=tiny),
        shop.running(["layers"], model=tiny),
        shop.running(["ranker"], model=tiny),
        shop.running(["sequence"], model=tiny),
        shop.running(["updater"], model=tiny) as updater,
    ):
        wait_for(knows_the_catalogue(updater), "the catalogue")
        shop.readers(USERS, 4)
        wait_for(lambda: shop.counted() == shop.expected(), "every click in a profile")
        wait_for(lambda: clicked(shop) == shop_clicks(shop), "the neighbours' rows")
        wait_for(lambda: learned(shop) == len(shop.sent), "the layers' checkpoint")
        topic = shop.topics.neighbours
        wait_for(lambda: value(updater, "strata_table_records_total", topic=topic) > 0, "neighbours at the updater")
        wait_for(lambda: weighed(shop) > 0, "the ranker's weights")
        topic = shop.topics.ranker
        wait_for(lambda: value(updater, "strata_table_records_total", topic=topic) > 1, "weights at the updater")
        shop.readers([f"guest-{n}" for n in range(20)], 2)
        wait_for(lambda: shop.counted() == shop.expected(), "enough clicks for the deep part")
        wait_for(lambda: value(updater, "strata_sequence_applied_clicks") > 60, "the deep part at the updater")
        shop.clicks((USERS[0], "gardening-9"))
        wait_for(lambda: shop.counted() == shop.expected(), "the last click")
        last = shop.lists()[USERS[0]]
        parts = last.items[0].reason.parts
    assert last.weights_version > 0, "by the other process's weights"
    assert parts["co"] > 0, "the updater ranks by the other process's neighbours"


def test_a_lost_workers_partitions_go_to_the_other(shop: Bookshop, tiny: str) -> None:
    shop.stock()
    with shop.running(["catalogue", "updater"], model=tiny) as stays:
        wait_for(knows_the_catalogue(stays), "the catalogue")
        with shop.running(["updater"], model=tiny) as goes:
            wait_for(lambda: value(goes, "strata_partitions_assigned_total", role="updater"), "a share of the work")
            shop.readers(USERS, 3)
            wait_for(lambda: shop.counted() == shop.expected(), "every click in a profile")
            shares = [value(p, "strata_clicks_consumed_total") for p in (stays, goes)]
        assert min(shares) > 0, "both worked"
        shop.readers(USERS, 2, seed=5)
        wait_for(lambda: shop.counted() == shop.expected(), "every click in a profile")
        restored = value(stays, "strata_profiles_restored_total")
    assert restored > 0, "it knew the users of the partition that it took over"
    assert shop.committed() == shop.ends()


def test_another_model_is_told_and_everything_is_encoded_again(
    tansu_shop: Bookshop, tiny: str, tiny_wide: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop = tansu_shop
    shop.stock()
    with shop.running(model=tiny) as process:
        wait_for(knows_the_catalogue(process), "the catalogue")
        shop.readers(USERS, 4)
        wait_for(lambda: shop.counted() == shop.expected(), "every click in a profile")
        wait_for(lambda: learned(shop) == len(shop.sent), "the layers' checkpoint")
    caplog.clear()
    with caplog.at_level(logging.INFO), shop.running(model=tiny_wide, dead_letters_in_a_row=3) as process:
        wait_for(lambda: value(process, "strata_catalogue_items_total", outcome="encoded") == 40, "vectors anew")
        wait_for(knows_the_catalogue(process), "the new vectors")
        shop.clicks((USERS[0], "sailing-1"), event="dismiss")  # first of all a list from the old profile as it is
        shop.readers(USERS[1:], 1, seed=7)
        name = process.encoder.name
        wait_for(
            lambda: {u: made.model for u, made in shop.lists().items()} == dict.fromkeys(USERS, name), "lists anew"
        )
        assert process.failure is None
    vectors = {record.key: decode(record.value, ItemVector) for record in shop.records(shop.topics.vectors)}
    assert {(vector.model, len(vector.vector)) for vector in vectors.values()} == {(name, 2 * 64)}
    assert not shop.records(shop.topics.dead_letters)
    assert all(made.items for made in shop.lists().values())
    told = [
        record.message
        for record in caplog.records
        if "another model" in record.message or "do not fit" in record.message
    ]
    assert any("40 vectors are of another model" in message for message in told)
    assert len(told) <= 4, "told once a role, not once an item"


def test_a_role_that_fails_takes_its_process_down(tansu_shop: Bookshop, tiny: str) -> None:
    shop = tansu_shop
    with pytest.raises(DeadLetterLimitExceeded, match="3 messages in a row"):
        let_it_fail(shop, tiny)
    # what is committed is in the dead letters, and what is not will be read again
    assert shop.committed()[0] == len(shop.records(shop.topics.dead_letters)) < 3


def let_it_fail(shop: Bookshop, model: str) -> None:
    with shop.running(["catalogue", "updater"], model=model, dead_letters_in_a_row=2) as process:
        assert process.probes is not None
        wait_for(lambda: process.ready, "ready")
        for _ in range(3):
            shop.garbage(shop.topics.clicks, b"u", b"not JSON")
        wait_for(lambda: process.wait(0), "the end of the process")
        status, why = get(f"{process.probes.url}/livez")
        assert (status, "DeadLetterLimitExceeded" in why) == (503, True)


def test_a_withdrawn_item_is_never_offered_again(tansu_shop: Bookshop, tiny: str) -> None:
    shop = tansu_shop
    shop.stock()
    with shop.running(model=tiny) as process:
        wait_for(knows_the_catalogue(process), "the catalogue")
        shop.clicks(("a", "baking-1"))
        offered = wait_for(lambda: shop.lists().get("a"), "the first list").items[0].item_id
        shop.publisher.publish([Message(shop.topics.items, offered.encode(), None)])
        wait_for(knows_the_catalogue(process, len(BOOKS) - 1), "the withdrawal")
        shop.clicks(("a", "baking-2"))
        wait_for(lambda: shop.counted() == shop.expected(), "the second click")
        assert offered not in {item.item_id for item in shop.lists()["a"].items}


def test_a_policy_that_cannot_be_used_ends_the_start(tansu_shop: Bookshop, tiny: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[[pins]]\nname = 'launch'\nitem = 'b'\nplace = 0")
    with (
        pytest.raises(ConfigurationError, match=r"STRATA_POLICY=.*line 4: pins\.0\.place"),
        tansu_shop.running(["updater"], model=tiny, policy=policy),
    ):
        raise AssertionError("it runs")


def test_the_lists_that_users_read_are_json(tansu_shop: Bookshop, tiny: str) -> None:
    shop = tansu_shop
    shop.stock()
    with shop.running(model=tiny) as process:
        wait_for(knows_the_catalogue(process), "the catalogue")
        shop.clicks(("a", "baking-1"))
        wait_for(lambda: shop.lists().get("a"), "the list")
    made = json.loads(shop.records(shop.topics.recommendations)[-1].value or b"")
    assert made.keys() >= {
        "user_id", "generated_at", "event_ts", "model", "layers_version", "arm", "source", "layer", "items",
    }  # fmt: skip
    assert made["source"].keys() == {"topic", "partition", "offset"}
    assert made["items"][0].keys() == {"item_id", "title", "score", "reason"}
    assert made["items"][0]["reason"].keys() == {"text", "because", "parts"}


def test_no_thread_is_left_behind(tansu_shop: Bookshop, tiny: str) -> None:
    before = set(threading.enumerate())
    with tansu_shop.running(ROLES, model=tiny) as process:
        wait_for(lambda: process.ready, "ready")
    left = [t.name for t in set(threading.enumerate()) - before if t.is_alive()]
    assert not left
