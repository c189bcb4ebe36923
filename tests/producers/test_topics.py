"""How topics come to be, and what is said when they cannot."""

from __future__ import annotations

import pytest
from kafka import KafkaAdminClient

from producers.connection import Connection
from producers.errors import TopicMismatch, TopicMissing
from producers.topics import LAYERS_BYTES, Topics


def create(connection: Connection, name: str, partitions: int) -> None:
    admin = KafkaAdminClient(**connection.client("test"))
    admin.create_topics({name: {"num_partitions": partitions, "replication_factor": 1}})
    admin.wait_for_topics([name])
    admin.close()


def test_names_follow_the_prefix_unless_they_are_given() -> None:
    topics = Topics(prefix="strata.", clicks="shop.clickstream")
    assert (topics.items, topics.clicks, topics.dead_letters) == (
        "strata.items", "shop.clickstream", "strata.dead-letters",
    )  # fmt: skip


def test_a_users_topics_have_as_many_partitions_as_his_clicks() -> None:
    specs = {spec.name: spec for spec in Topics(partitions=12, item_partitions=5).specs()}
    assert {specs[name].partitions for name in ("clicks", "impressions", "profiles", "recommendations")} == {12}
    assert specs["items"].partitions == specs["vectors"].partitions == 5
    assert specs["layers"].partitions == 1


def test_state_is_compacted_and_streams_are_not() -> None:
    policies = {spec.name: spec.config["cleanup.policy"] for spec in Topics().specs()}
    assert {name for name, policy in policies.items() if policy == "delete"} == {
        "clicks",
        "impressions",
        "ranker-updates",
    }
    assert policies["dead-letters"] == "compact,delete", "one can be deleted, and none is kept for ever"


def test_dead_letters_are_kept_as_long_as_it_is_set() -> None:
    def kept(topics: Topics) -> str | None:
        return next(s.config.get("retention.ms") for s in topics.specs() if s.name == topics.dead_letters)

    assert kept(Topics()) is None, "the broker's default"
    assert kept(Topics(dead_letter_retention_ms=86_400_000)) == "86400000"


def test_missing_topics_are_created_once_and_found_again(broker: Connection, topics: Topics) -> None:
    there = topics.ensure(broker)
    assert there == {spec.name: spec.partitions for spec in topics.specs()}
    assert topics.ensure(broker, create=False) == there


def test_missing_topics_that_may_not_be_created_come_with_the_command(broker: Connection, topics: Topics) -> None:
    with pytest.raises(TopicMissing) as failure:
        topics.ensure(broker, create=False)
    command = f"--create --topic {topics.layers} --partitions 1 --config cleanup.policy=compact"
    assert command in str(failure.value)


def test_topics_follow_the_partitions_of_clicks_that_are_there_already(broker: Connection, topics: Topics) -> None:
    create(broker, topics.clicks, 5)
    there = topics.ensure(broker)
    assert there[topics.impressions] == there[topics.profiles] == there[topics.recommendations] == 5


def test_partitions_that_do_not_match_are_told(broker: Connection, topics: Topics) -> None:
    create(broker, topics.clicks, 3)
    create(broker, topics.profiles, 2)
    with pytest.raises(TopicMismatch, match=r"profiles has 2 partition\(s\) and must have 3.*rebuilds it"):
        topics.ensure(broker)


def test_impressions_are_never_said_to_be_rebuilt(broker: Connection, topics: Topics) -> None:
    create(broker, topics.clicks, 3)
    create(broker, topics.impressions, 2)
    with pytest.raises(TopicMismatch, match=r"impressions has 2 partition\(s\) and must have 3") as told:
        topics.ensure(broker)
    assert "rebuilds" not in str(told.value)


@pytest.mark.kafka
def test_the_settings_reach_the_broker(kafka: Connection, topics: Topics) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    topics.ensure(kafka)
    admin = KafkaAdminClient(**kafka.client("test"))
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in (topics.layers, topics.profiles)]
    text = str(admin.describe_configs(resources))
    admin.close()
    assert str(LAYERS_BYTES + 100_000) in text
    assert "3600000" in text
