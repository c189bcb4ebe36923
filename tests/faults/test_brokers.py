"""Brokers that go, come back, lose their tail, or take their time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import cast

import msgspec
import pytest
from apache_kafka import ApacheKafka, home
from bookshop import Bookshop, value, wait_for
from invariant import check
from kafka import KafkaAdminClient
from kafka_cluster import KafkaCluster
from load import Load
from mortal_worker import Worker
from slow_proxy import SlowProxy

from consumers.updater import Updater
from producers.errors import BrokerError, LogRolledBack
from producers.publisher import Message
from producers.rebuild import rebuild
from producers.topics import Topics

Start = Callable[..., Worker]
OpenShop = Callable[[ApacheKafka | KafkaCluster], Bookshop]
pytestmark = [pytest.mark.kafka, pytest.mark.slow]

USERS = [f"reader-{n}" for n in range(30)]


def done(shop: Bookshop) -> bool:
    try:
        return shop.committed() == shop.ends()
    except Exception:
        return False  # the broker is away


@pytest.fixture
def open_shop(topics: Topics, tiny: str, stock: Callable[[Bookshop], None]) -> OpenShop:
    """Opens a stocked shop on a node, exactly once."""

    def opened(node: ApacheKafka | KafkaCluster) -> Bookshop:
        shop = Bookshop(
            node.connection, topics, model=tiny, delivery="exactly-once", threads=1, deadline_ms=60_000,
            transaction_timeout_s=5,
        )  # fmt: skip
        stock(shop)
        return shop

    return opened


@pytest.fixture
def node() -> Iterator[ApacheKafka]:
    """A node of the test's own, to be mistreated."""
    if home() is None:
        pytest.skip("Apache Kafka: KAFKA_HOME names no distribution")
    node = ApacheKafka()
    node.start()
    yield node
    node.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_broker_that_is_away_for_five_seconds(node: ApacheKafka, open_shop: OpenShop, start: Start, how: int) -> None:
    shop = open_shop(node)
    worker = start(shop)
    shop.readers(USERS, 5)
    wait_for(lambda: shop.lists(), "the first lists")
    node.stop(how)
    time.sleep(5)
    node.start()
    shop.readers(USERS, 3, seed=1)
    wait_for(lambda: done(shop), "everything committed", 90)
    worker.stop()
    check(shop, once=True)
    shop.publisher.close()


def test_an_empty_broker_under_old_offsets_stops_the_worker_and_a_rebuild_starts_from_the_log_that_there_is(
    node: ApacheKafka, topics: Topics, open_shop: OpenShop
) -> None:
    """The tail is lost: profiles and offsets tell of clicks that the log does not have."""
    shop = open_shop(node)
    shop.readers(USERS, 5)
    with shop.running(["updater"]):
        wait_for(lambda: done(shop), "everything committed")
        with pytest.raises(BrokerError, match="still has members"):
            rebuild(shop.connection, topics, shop.given["group"])
    admin = KafkaAdminClient(**shop.connection.client("test"))
    admin.delete_topics([topics.clicks])
    wait_for(lambda: topics.clicks not in admin.list_topics(), "the loss")
    admin.close()
    wait_for(lambda: topics.ensure(shop.connection), "an empty log")
    shop.sent.clear()
    shop.readers(USERS[:5], 2)
    with pytest.raises(LogRolledBack, match="strata run --rebuild"), shop.running(["updater"]) as process:
        wait_for(lambda: process.wait(0), "the end of the process")
    rebuild(shop.connection, topics, shop.given["group"])
    with shop.running(["updater"]):
        wait_for(lambda: done(shop) and shop.counted() == shop.expected(), "the clicks that there are")
    check(shop, once=True)
    shop.publisher.close()


def test_before_a_slow_broker_long_messages_stay_unread_and_fill_no_memory(open_shop: OpenShop) -> None:
    """150 MB of clicks through a worker that may hold 8: nobody is evicted, and all is served."""
    if home() is None:
        pytest.skip("Apache Kafka: KAFKA_HOME names no distribution")
    with SlowProxy() as proxy:
        node = ApacheKafka(advertised=proxy.port)
        proxy.target = node.port
        node.start()
        try:
            shop = open_shop(node)
            pad = "x" * 200_000
            shop.publisher.publish(
                Message(shop.topics.clicks, user.encode(), long_click(user, turn, pad))
                for turn in range(25)
                for user in USERS
            )
            proxy.delay_s = 0.05
            peak = 0
            with shop.running(["updater"], in_flight_mb=8) as process:
                in_flight = cast(Updater, process.stages["updater"])._in_flight
                deadline = time.monotonic() + 120
                while not done(shop):
                    assert time.monotonic() < deadline, "everything committed"
                    for _ in range(50):
                        peak = max(peak, in_flight.bytes)
                        time.sleep(0.002)
                assert value(process, "strata_pauses_total", role="updater") > 0
                for kind in ("lost", "revoked"):
                    assert value(process, "strata_partitions_revoked_total", role="updater", kind=kind) == 0
            assert 4_000_000 < peak < 8_000_000 + 2 * len(pad), "one more than there is room for, at most"
            proxy.delay_s = 0
            check(shop, once=True)
            shop.publisher.close()
        finally:
            node.close()


def long_click(user: str, turn: int, pad: str) -> bytes:
    """A click with much in it that nobody asked for."""
    click = {"user_id": user, "item_id": f"baking-{turn % 10}", "ts": int(time.time() * 1000), "pad": pad}
    return msgspec.json.encode(click)


def test_a_slow_broker_costs_time_and_nothing_else(open_shop: OpenShop) -> None:
    if home() is None:
        pytest.skip("Apache Kafka: KAFKA_HOME names no distribution")
    with SlowProxy() as proxy:
        node = ApacheKafka(advertised=proxy.port)
        proxy.target = node.port
        node.start()
        try:
            shop = open_shop(node)
            with shop.running(["updater"]) as process:
                wait_for(lambda: process.ready, "ready")
                proxy.delay_s = 0.2
                for turn in range(3):
                    shop.readers(USERS, 10, seed=turn)
                wait_for(lambda: done(shop), "everything committed", 90)
                assert value(process, "strata_partitions_revoked_total", role="updater", kind="lost") == 0
                assert value(process, "strata_partitions_revoked_total", role="updater", kind="revoked") == 0
            proxy.delay_s = 0
            check(shop, once=True)
            shop.publisher.close()
        finally:
            node.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    """Three nodes, replication 3, min.insync.replicas 2."""
    if home() is None:
        pytest.skip("Apache Kafka with three nodes: KAFKA_HOME names no distribution")
    with KafkaCluster() as cluster:
        yield cluster


def leads(shop: Bookshop) -> int:
    """The node that leads a partition of clicks; -1: none does at the moment."""
    admin = KafkaAdminClient(**shop.connection.client("test"))
    try:
        (topic,) = admin.describe_topics([shop.topics.clicks])
        return int(next(p["leader_id"] for p in topic["partitions"] if p["partition_index"] == 0))
    finally:
        admin.close()


def coordinates(shop: Bookshop) -> int:
    """The node that coordinates the group, and so keeps its offsets."""
    admin = KafkaAdminClient(**shop.connection.client("test"))
    try:
        return int(admin._manager.run(admin._find_coordinator_id, shop.given["group"]))
    finally:
        admin.close()


def in_sync(shop: Bookshop) -> bool:
    """Whether every copy of every partition of the shop is up to date."""
    admin = KafkaAdminClient(**shop.connection.client("test"))
    try:
        described = admin.describe_topics([spec.name for spec in shop.topics.specs()])
        return all(len(p["isr_nodes"]) == 3 for topic in described for p in topic["partitions"])
    finally:
        admin.close()


@pytest.mark.timeout(300)
def test_of_three_brokers_one_after_the_other_is_killed_under_load_and_nothing_is_lost(
    cluster: KafkaCluster, open_shop: OpenShop, start: Start
) -> None:
    """First the leader of a partition, then the coordinator of the group."""
    shop = open_shop(cluster)
    worker = start(shop)
    shop.readers(USERS, 3)
    wait_for(lambda: shop.lists(), "the first lists", 60)
    with Load(shop, USERS) as load:
        for victim in (leads, coordinates):
            wait_for(lambda: in_sync(shop), "three copies of everything", 60)
            number = victim(shop)
            load.more(5)
            cluster.nodes[number - 1].stop(signal.SIGKILL)
            load.more(15)
            assert victim(shop) not in (-1, number)
            cluster.nodes[number - 1].start()
    wait_for(lambda: done(shop), "everything committed", 90)
    worker.stop()
    outcome = check(shop, once=True)
    assert outcome.clicks >= 15 * (2 * 20)
    shop.publisher.close()
