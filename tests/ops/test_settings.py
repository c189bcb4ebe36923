"""Settings: where they come from, what a wrong one says, and that each of them does something."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from models.errors import ConfigurationError
from models.features import OFF
from models.pseudonyms import Pseudonyms
from models.sequence import SequenceScorer
from ops import assembly
from ops import process as process_module
from ops.process import Process
from ops.roles import ROLES
from ops.settings import FILE, PREFIX, Settings, load
from producers.connection import Connection

SECRET = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def write(text: str) -> None:
        file = tmp_path / "strata.toml"
        file.write_text(text)
        monkeypatch.setenv(FILE, str(file))

    return write


def test_the_option_wins_over_the_environment_and_that_over_the_file(
    toml: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    toml('http_port = 1\nlist_length = 2\ngroup = "file"\nblocked_categories = ["fuel", "coupons"]')
    monkeypatch.setenv("STRATA_HTTP_PORT", "3")
    monkeypatch.setenv("STRATA_LIST_LENGTH", "4")
    settings = load(http_port=5)
    assert (settings.http_port, settings.list_length, settings.group) == (5, 4, "file")
    assert settings.blocked_categories == {"fuel", "coupons"}
    assert settings.partitions == 6


def test_lists_and_tables_fit_into_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_BLOCKED_LABELS", " adult, alcohol ,")
    monkeypatch.setenv("STRATA_REPEAT_AFTER", '{"purchase": 86400}')
    monkeypatch.setenv("STRATA_NEGATIVE_EVENTS", "")
    settings = load()
    assert settings.blocked_labels == {"adult", "alcohol"}
    assert settings.repeat_after == {"purchase": 86400}
    assert settings.negative_events == frozenset()


def test_a_variable_left_empty_leaves_the_setting_open(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRATA_THREADS", "STRATA_KAFKA_SASL", "STRATA_KAFKA_CA", "STRATA_MODEL_SHA256"):
        monkeypatch.setenv(name, "")
    settings = load()
    assert settings.threads is settings.kafka_sasl is settings.kafka_ca is settings.model_sha256 is None


@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_misspelt_setting_is_refused_with_the_nearest(
    source: str, toml: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "file":
        toml('kafka_boostrap = "x:1"')
    else:
        monkeypatch.setenv("STRATA_KAFKA_BOOSTRAP", "x:1")
    with pytest.raises(
        ConfigurationError, match=r"STRATA_KAFKA_BOOSTRAP \(did you mean STRATA_KAFKA_BOOTSTRAP\?\).*strata config"
    ):
        load()


def test_an_empty_list_of_parts_turns_all_of_them_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().ranking.without == OFF
    monkeypatch.setenv("STRATA_RANKER_WITHOUT", "")
    assert load().ranking.without == load().ranker_learning.without == frozenset()


def test_other_programs_variables_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATAGEM", "1")
    monkeypatch.setenv("KAFKA_HEAP_OPTS", "-Xmx1g")
    load()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("STRATA_HTTP_PORT", "http", "STRATA_HTTP_PORT: .*integer"),
        ("STRATA_HTTP_PORT", "65536", "STRATA_HTTP_PORT: .*65535"),
        ("STRATA_FUTURE_S", "inf", "STRATA_FUTURE_S: .*finite"),
        ("STRATA_DEADLINE_MS", "0", "STRATA_DEADLINE_MS: .*greater than 0"),
        ("STRATA_THREADS", "two", "STRATA_THREADS: .*integer"),
        ("STRATA_PRECISION", "int8", "STRATA_PRECISION: .*'auto', 'fp32' or 'bf16'"),
        ("STRATA_REPEAT_AFTER", "purchase=1", 'STRATA_REPEAT_AFTER: .*{"purchase": 86400}'),
        ("STRATA_REPEAT_AFTER", '{"purchase": -1}', "STRATA_REPEAT_AFTER: .*greater than or equal to 0"),
        ("STRATA_KAFKA_CA", "/no/such.pem", "STRATA_KAFKA_CA: .*does not point to a file"),
        ("STRATA_ITEM_TEXT", "{name}", r"STRATA_ITEM_TEXT: .*'name'.*the fields are \{title\}"),
        ("STRATA_CATALOGUE_SHARE", "1", "STRATA_CATALOGUE_SHARE: .*less than 1"),
        ("STRATA_RANKER_WITHOUT", "lyer", "STRATA_RANKER_WITHOUT: there is no part lyer; there are co, text, layer"),
        ("STRATA_PSEUDONYM_KEY", "short", "has 5 bytes and needs at least 16"),
        ("STRATA_PSEUDONYM_KEY_FILE", "/no/such", "STRATA_PSEUDONYM_KEY_FILE: .*does not point to a file"),
        ("STRATA_KAFKA_USERNAME", "strata", "a SASL login is set, but STRATA_KAFKA_SECURITY=PLAINTEXT uses none"),
        ("STRATA_KAFKA_SECURITY", "SASL_SSL", "SASL needs STRATA_KAFKA_USERNAME and STRATA_KAFKA_PASSWORD"),
    ],
)
def test_a_wrong_value_is_told_by_the_name_of_the_setting(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=says):
        load()


def test_the_key_of_the_pseudonyms_may_stand_in_a_file_but_not_twice(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\n")
    assert Settings(pseudonym_key_file=tmp_path / "key").pseudonyms("ann") == Pseudonyms(KEY)("ann")
    with pytest.raises(ValueError, match="both set"):
        Settings(pseudonym_key_file=tmp_path / "key", pseudonym_key=SecretStr(KEY.decode()))


def test_several_wrong_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_HTTP_PORT", "x")
    monkeypatch.setenv("STRATA_GROUP", "")
    with pytest.raises(ConfigurationError, match=r"STRATA_GROUP.*STRATA_HTTP_PORT"):
        load()


def test_a_file_that_is_missing_or_not_toml_is_told(
    toml: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    toml("group = ")
    with pytest.raises(ConfigurationError, match=r"STRATA_CONFIG=.*strata\.toml: not TOML"):
        load()
    monkeypatch.setenv(FILE, "/no/such.toml")
    with pytest.raises(ConfigurationError, match=r"STRATA_CONFIG=/no/such\.toml: there is no such file"):
        load()


def test_a_secret_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("STRATA_KAFKA_SECURITY", "SASL_SSL")
    monkeypatch.setenv("STRATA_KAFKA_USERNAME", "strata")
    monkeypatch.setenv("STRATA_KAFKA_PASSWORD", SECRET)
    monkeypatch.setenv("STRATA_KAFKA_KEY_PASSWORD", SECRET)
    monkeypatch.setenv("STRATA_PSEUDONYM_KEY", SECRET)
    settings = load()
    connection = settings.connection()
    assert connection.password == connection.ssl_key_password == SECRET
    with caplog.at_level(logging.INFO):
        logging.getLogger("ops").info("%s %r", settings, connection)
    shown = f"{settings!r} {settings} {settings.shown()} {connection!r} {settings.model_dump_json()} {caplog.text}"
    shown += repr(settings.pseudonyms)
    assert SECRET not in shown
    assert {name: value for name, value, _ in settings.shown()}["STRATA_KAFKA_PASSWORD"] == "**********"
    monkeypatch.setenv("STRATA_HTTP_PORT", "x")
    monkeypatch.setenv("STRATA_KAFKA_SECURITY", "PLAINTEXT")
    with pytest.raises(ConfigurationError) as error:
        load()
    assert SECRET not in str(error.value)


def test_whatever_is_called_a_secret_is_one() -> None:
    """So that the next one is masked, too; what a file holds is read where it is needed."""
    secrets = [name for name in Settings.model_fields if re.search("(password|secret|token|key)$", name)]
    assert len(secrets) >= 4
    for name in secrets:
        assert name == "kafka_key" or SecretStr in get_args(Settings.model_fields[name].annotation), name


def test_every_setting_says_what_it_means_and_stands_in_the_table() -> None:
    table = Settings.table()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"| `{PREFIX}{name.upper()}` |" in table
    assert "(auto, fp32, bf16)" in table


def test_a_token_is_read_anew_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    settings = Settings(kafka_security="SASL_SSL", kafka_sasl="OAUTHBEARER", kafka_token_file=file)
    provider = settings.connection().client("test")["sasl_oauth_token_provider"]
    assert provider.token() == "first"
    file.write_text("second\n")
    assert provider.token() == "second"
    with pytest.raises(ValueError, match="OAUTHBEARER needs STRATA_KAFKA_TOKEN_FILE"):
        Settings(kafka_security="SASL_SSL", kafka_sasl="OAUTHBEARER")


# -- each setting reaches the struct that uses it ---------------------------------------------------------------

SASL: dict[str, Any] = {
    "kafka_security": "SASL_SSL",
    "kafka_sasl": "PLAIN",
    "kafka_username": "u",
    "kafka_password": SecretStr("p"),
}
PEM = Path(__file__)
KEY = b"0123456789abcdef"

Reach = tuple[dict[str, Any], Callable[[Settings], Any], Any]
REACHES: dict[str, Reach] = {
    "kafka_bootstrap": ({"kafka_bootstrap": "k:1"}, lambda s: s.connection().bootstrap, "k:1"),
    "kafka_security": (SASL, lambda s: s.connection().security_protocol, "SASL_SSL"),
    "kafka_sasl": (SASL | {"kafka_sasl": "SCRAM-SHA-512"}, lambda s: s.connection().sasl_mechanism, "SCRAM-SHA-512"),
    "kafka_username": (SASL, lambda s: s.connection().username, "u"),
    "kafka_password": (SASL, lambda s: s.connection().password, "p"),
    "kafka_token_file": (
        {"kafka_token_file": PEM},
        lambda s: getattr(s.connection().token_provider, "path", None),
        PEM,
    ),
    "kafka_ca": ({"kafka_ca": PEM}, lambda s: s.connection().ssl_ca, str(PEM)),
    "kafka_certificate": ({"kafka_certificate": PEM}, lambda s: s.connection().ssl_certificate, str(PEM)),
    "kafka_key": ({"kafka_key": PEM}, lambda s: s.connection().ssl_key, str(PEM)),
    "kafka_key_password": ({"kafka_key_password": "k"}, lambda s: s.connection().ssl_key_password, "k"),
    "kafka_attempts": ({"kafka_attempts": 2}, lambda s: s.connection().attempts, 2),
    "group": ({"group": "g"}, lambda s: s.updater_group.group, "g"),
    "instance": ({"instance": "i"}, lambda s: s.updater_group.instance, "i"),
    "session_timeout_s": ({"session_timeout_s": 12}, lambda s: s.updater_group.session_timeout_s, 12),
    "assignment": ({"assignment": "range"}, lambda s: s.updater_group.assignment, "range"),
    "first_start": ({"first_start": "latest"}, lambda s: s.updater_group.first_start, "latest"),
    "topic_prefix": ({"topic_prefix": "p."}, lambda s: s.topics.vectors, "p.vectors"),
    "topic_items": ({"topic_items": "shop"}, lambda s: s.topics.items, "shop"),
    "topic_clicks": ({"topic_clicks": "shop"}, lambda s: s.topics.clicks, "shop"),
    "topic_impressions": ({"topic_impressions": "seen"}, lambda s: s.topics.impressions, "seen"),
    "topic_recommendations": ({"topic_recommendations": "r"}, lambda s: s.topics.recommendations, "r"),
    "topic_erasures": ({"topic_erasures": "e"}, lambda s: s.topics.erasures, "e"),
    "topic_dead_letters": ({"topic_dead_letters": "d"}, lambda s: s.topics.dead_letters, "d"),
    "partitions": ({"partitions": 4}, lambda s: s.topics.partitions, 4),
    "item_partitions": ({"item_partitions": 4}, lambda s: s.topics.item_partitions, 4),
    "replication": ({"replication": 3}, lambda s: s.topics.replication, 3),
    "item_text": ({"item_text": "{title}"}, lambda s: s.catalogue.text, "{title}"),
    "history_text": ({"history_text": "{tags}"}, lambda s: s.catalogue.history_text, "{tags}"),
    "encoded_clicks": ({"encoded_clicks": 3}, lambda s: s.updater.encoded_clicks, 3),
    "mix": ({"mix": 0.25}, lambda s: s.ranking.mix, 0.25),
    "deadline_ms": ({"deadline_ms": 200}, lambda s: s.updater.deadline_s, 0.2),
    "history": ({"history": 7}, lambda s: s.updater.profile.history, 7),
    "seen": ({"seen": 7}, lambda s: s.updater.profile.seen, 7),
    "negative_events": ({"negative_events": "no,never"}, lambda s: s.updater.profile.negative_events, ("never", "no")),
    "list_length": ({"list_length": 3}, lambda s: s.updater.list_length, 3),
    "repeat_after": ({"repeat_after": {"view": 1}}, lambda s: s.ranking.repeat_after_s, {"view": 1}),
    "arms": ({"arms": {"co": 0.1}}, lambda s: s.ranking.arms, {"co": 0.1}),
    "policy": ({"policy": PEM}, lambda s: s.policy, PEM),
    "blocked_categories": ({"blocked_categories": "x"}, lambda s: s.ranking.blocked_categories, {"x"}),
    "blocked_labels": ({"blocked_labels": "x"}, lambda s: s.ranking.blocked_labels, {"x"}),
    "diversity": ({"diversity": 0.1}, lambda s: s.ranking.diversity, 0.1),
    "text_candidates": ({"text_candidates": 9}, lambda s: s.ranking.text_candidates, 9),
    "co_candidates": ({"co_candidates": 9}, lambda s: s.ranking.co_candidates, 9),
    "layer_candidates": ({"layer_candidates": 9}, lambda s: s.ranking.layer_candidates, 9),
    "new_items": ({"new_items": 2}, lambda s: s.ranking.new_items, 2),
    "new_items_within": ({"new_items_within": 1}, lambda s: s.ranking.new_within, 1),
    "layers": ({"layers": 3}, lambda s: s.layer_settings.width, 3),
    "layers_fine": ({"layers_fine": 3}, lambda s: s.layer_settings.width_fine, 3),
    "layers_publish_s": ({"layers_publish_s": 3}, lambda s: s.layers_config.publish_s, 3),
    "layers_checkpoint_s": ({"layers_checkpoint_s": 3}, lambda s: s.layers_config.checkpoint_s, 3),
    "neighbours_publish_s": ({"neighbours_publish_s": 3}, lambda s: s.neighbours_config.publish_s, 3),
    "neighbours_publish_rows": ({"neighbours_publish_rows": 3}, lambda s: s.neighbours_config.publish_rows, 3),
    "linear_items": ({"linear_items": 9}, lambda s: s.neighbours_config.linear.items, 9),
    "linear_l2": ({"linear_l2": 9}, lambda s: s.neighbours_config.linear.l2, 9),
    "sequence_share": ({"sequence_share": 0.5}, lambda s: s.sequence_config.share, 0.5),
    "sequence_publish_s": ({"sequence_publish_s": 3}, lambda s: s.sequence_config.publish_s, 3),
    "teach_clicks_per_minute": ({"teach_clicks_per_minute": 3}, lambda s: s.updater.profile.pace.per_minute, 3),
    "ranker_without": (
        {"ranker_without": "text, co"},
        lambda s: s.ranking.without & s.updater.learning.without,
        frozenset({"text", "co"}),
    ),
    "ranker_young": ({"ranker_young": 500}, lambda s: s.updater.learning.young, 500),
    "ranker_sample": ({"ranker_sample": 0.5}, lambda s: s.updater.learning.sample, 0.5),
    "ranker_step": ({"ranker_step": 0.5}, lambda s: s.ranker_learning.step, 0.5),
    "ranker_half_life": ({"ranker_half_life": 5}, lambda s: s.ranker_learning.half_life, 5),
    "ranker_caution": ({"ranker_caution": 2}, lambda s: s.ranker_learning.caution, 2),
    "ranker_forget": ({"ranker_forget": False}, lambda s: s.ranker_config.forget, False),
    "ranker_publish_s": ({"ranker_publish_s": 3}, lambda s: s.ranker_config.publish_s, 3),
    "pseudonym_key": (
        {"pseudonym_key": SecretStr("0123456789abcdef")},
        lambda s: s.pseudonyms("ann"),
        Pseudonyms(KEY)("ann"),
    ),
    "pseudonym_key_file": ({"pseudonym_key_file": PEM}, lambda s: bool(s.pseudonyms), True),
    "profile_retention_days": ({"profile_retention_days": 0.5}, lambda s: s.updater.retention_s, 43_200),
    "dead_letter_retention_days": (
        {"dead_letter_retention_days": 2},
        lambda s: s.topics.dead_letter_retention_ms,
        172_800_000,
    ),
    "erasure_receipt_s": ({"erasure_receipt_s": 3}, lambda s: s.erasure.receipt_s, 3),
    "feed_host": ({"feed_host": "0.0.0.0"}, lambda s: s.feed.loopback, False),
    "feed_page": ({"feed_page": False}, lambda s: s.feed.page, False),
    "feed_clicks": ({"feed_clicks": False}, lambda s: s.feed.clicks, False),
    "feed_origins": ({"feed_origins": "https://a,https://b"}, lambda s: len(s.feed.origins), 2),
    "feed_streams": ({"feed_streams": 9}, lambda s: s.feed.streams, 9),
    "feed_streams_per_client": ({"feed_streams_per_client": 9}, lambda s: s.feed.streams_per_client, 9),
    "feed_heartbeat_s": ({"feed_heartbeat_s": 9}, lambda s: s.feed.heartbeat_s, 9),
    "feed_requests_per_second": ({"feed_requests_per_second": 9}, lambda s: s.feed.requests_per_second, 9),
    "feed_clicks_per_second": ({"feed_clicks_per_second": 9}, lambda s: s.feed.clicks_per_second, 9),
    "http_token": ({"http_token": SecretStr("0123456789abcdef")}, lambda s: s.feed.token, "0123456789abcdef"),
    "payload_bytes": ({"payload_bytes": 99}, lambda s: s.updater.limits.payload_bytes, 99),
    "id_length": ({"id_length": 99}, lambda s: s.updater.limits.id_length, 99),
    "event_length": ({"event_length": 9}, lambda s: s.updater.limits.event_length, 9),
    "title_length": ({"title_length": 9}, lambda s: s.limits.title_length, 9),
    "description_length": ({"description_length": 9}, lambda s: s.limits.description_length, 9),
    "label_length": ({"label_length": 9}, lambda s: s.limits.label_length, 9),
    "labels": ({"labels": 9}, lambda s: s.limits.labels, 9),
    "impression_items": ({"impression_items": 9}, lambda s: s.updater.limits.impression_items, 9),
    "poll_records": ({"poll_records": 9}, lambda s: s.loop.max_records, 9),
    "batch": ({"batch": 9}, lambda s: s.updater.batch_users, 9),
    "in_flight_mb": ({"in_flight_mb": 9}, lambda s: s.updater.in_flight_bytes, 9_000_000),
    "future_s": ({"future_s": 2}, lambda s: s.updater.limits.future_ms, 2000),
    "dead_letter_share": ({"dead_letter_share": 0.1}, lambda s: s.dead_letter_limits.share, 0.1),
    "dead_letters_in_a_row": ({"dead_letters_in_a_row": 3}, lambda s: s.dead_letter_limits.consecutive, 3),
}

IN_THE_PROCESS = {
    "encoder_process": False,
    "tables_fetch_wait_ms": 750,
    "model": "m",
    "model_sha256": "aa",
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
    "max_tokens": 99,
    "token_budget": 999,
    "http_host": "127.0.0.2",
    "http_port": 1234,
    "create_topics": False,
    "encoder_queue": 77,
    "catalogue_share": 0.125,
    "index": "hnsw",
    "index_exact_below": 5,
    "undescribed_items": 66,
    "sequence": False,
}
"""What a process hands on itself: see the test below."""

IN_THE_COMMANDS = {"broker_port", "log_level", "log_format"}
"""tests/ops/test_cli.py runs the commands with them."""


IN_THE_FEED = {"feed_port", "feed_store", "feed_prometheus", "feed_prometheus_labels"}
"""tests/ops/test_feed.py and test_page.py."""

IN_THE_DELIVERY = {"delivery", "transaction_timeout_s"}
"""tests/ops/test_delivery.py."""

IN_THE_TRACING = {"tracing"}
"""tests/ops/test_tracing.py."""


def test_the_tables_of_this_test_know_every_setting() -> None:
    elsewhere = IN_THE_COMMANDS | IN_THE_DELIVERY | IN_THE_TRACING | IN_THE_FEED
    assert REACHES.keys() | IN_THE_PROCESS.keys() | elsewhere == Settings.model_fields.keys()


@pytest.mark.parametrize("name", REACHES)
def test_a_setting_reaches_the_struct_that_uses_it(name: str) -> None:
    given, reach, value = REACHES[name]
    assert reach(Settings()) != value, "the default would pass too"
    assert reach(Settings(**given)) == value


class Stand:
    """In the place of what a process loads and opens: it takes any call, and notes what it was given."""

    def __init__(self, name: str, noted: dict[str, Any], result: Any = None) -> None:
        self.name, self.noted, self.result = name, noted, result
        self.outlets: tuple[()] = ()
        self.dimension, self.precision, self.device, self.role, self.url = 4, "fp32", "cpu", name, ""

    def __call__(self, *args: Any, **given: Any) -> Any:
        self.noted.setdefault(self.name, []).append((args, given))
        return self if self.result is None else self.result

    def __getattr__(self, name: str) -> Stand:
        return Stand(f"{self.name}.{name}", self.noted, [])


def test_a_setting_of_the_process_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: dict[str, Any] = {}
    for name in ("EncodeQueue", "Encoder", "ItemIndex", "ItemStore", "KafkaConsumerClient", "Probes", "Publisher",
                 "Recommender", "Updater", "Catalogue", "Loop"):  # fmt: skip
        monkeypatch.setattr(process_module if name == "Probes" else assembly, name, Stand(name, noted))
    monkeypatch.setattr(assembly.Encoder, "load", Stand("load", noted), raising=False)
    monkeypatch.setattr("producers.topics.Topics.ensure", Stand("ensure", noted))
    process = Process(Settings(**IN_THE_PROCESS), Connection(bootstrap="k:1"), ["catalogue", "updater"])
    process.start()
    process.close()
    assert noted["load"] == [
        (
            ("m",),
            {"sha256": "aa", "precision": "fp32", "device": "cpu", "threads": 1, "max_tokens": 99, "token_budget": 999},
        )
    ]
    assert {given.get("fetch_wait_s") for _, given in noted["KafkaConsumerClient"]} == {0.75, None}
    monkeypatch.setattr(assembly, "TableReader", Stand("TableReader", noted))
    process.assembly.tables("layers")({})
    process.assembly.tables("feed", 0.1)({})
    assert [given["fetch_wait_s"] for _, given in noted["TableReader.open"]] == [0.75, 0.1]
    probes = noted["Probes"][0][1]
    assert (probes["host"], probes["port"]) == ("127.0.0.2", 1234)
    assert noted["ensure"][0][1] == {"create": False}
    outlets = {args[0]: (given["capacity"], given["share"]) for args, given in noted["EncodeQueue.outlet"]}
    assert outlets == {"items": (77, 0.125), "users": (77, 0.875)}
    newest_first = {args[0] for args, given in noted["EncodeQueue.outlet"] if given.get("newest_first")}
    assert newest_first == {"users"}
    assert noted["ItemStore"] == [((4, 66), {})]
    assert noted["Recommender"][0][0][5] is None, "no deep part"
    assert noted["ItemIndex"][0][1] == {"exact_below": 5, "kind": "hnsw", "precision": "fp32"}


def test_without_the_deep_part_nobody_trains_it_and_with_it_lists_are_made_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def process(roles: list[str], **given: Any) -> Process:
        return Process(Settings(**given), Connection(bootstrap="k:1"), roles)

    assert process([]).roles == list(ROLES)
    assert process([], sequence=False).roles == [role for role in ROLES if role != "sequence"]
    assert process(["sequence", "layers"], sequence=False).roles == ["layers"]
    with pytest.raises(ConfigurationError, match="STRATA_SEQUENCE"):
        process(["sequence"], sequence=False)
    noted: dict[str, Any] = {}
    for name in ("EncodeQueue", "Encoder", "ItemIndex", "ItemStore", "KafkaConsumerClient", "Probes", "Publisher",
                 "Recommender", "Updater", "Loop"):  # fmt: skip
        monkeypatch.setattr(process_module if name == "Probes" else assembly, name, Stand(name, noted))
    monkeypatch.setattr(assembly.Encoder, "load", Stand("load", noted), raising=False)
    monkeypatch.setattr("producers.topics.Topics.ensure", Stand("ensure", noted))
    started = process(["updater"], encoder_process=False)
    started.start()
    started.close()
    assert isinstance(noted["Recommender"][0][0][5], SequenceScorer)
