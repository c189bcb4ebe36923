"""TLS and SASL against real listeners: what is right gets in, what is wrong is told exactly, and no secret gets out."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from apache_kafka import home
from bookshop import Bookshop, descendants, tiny_model, wait_for, wait_for_start
from reading import read
from secured_kafka import KEY_PASSWORD, PASSWORD, USER, SecuredKafka

from models.errors import ConfigurationError, StrataError
from ops.logs import configure
from ops.settings import PREFIX
from producers.connection import Connection
from producers.errors import AccessRefused
from producers.publisher import Message, Publisher
from producers.token_file import TokenFile
from producers.topics import Topics

pytestmark = pytest.mark.kafka

STRATA = Path(sys.executable).with_name("strata")
SOMEBODY = "ann@example.com"
WRONG = "not-the-password-at-all"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    if home() is None:
        pytest.skip("Apache Kafka: KAFKA_HOME names no distribution")
    secured = SecuredKafka(tmp_path_factory.mktemp("secured"))
    try:
        secured.node.start()
        yield secured
    finally:
        secured.node.close()


@pytest.fixture
def debug_log() -> io.StringIO:
    """All that would be logged at the lowest level there is."""
    stream = io.StringIO()
    configure("debug", "json", stream)
    return stream


def certificate(kafka: SecuredKafka) -> dict[str, str]:
    file, key = kafka.certificates.client("client", KEY_PASSWORD)
    return {"ssl_certificate": str(file), "ssl_key": str(key), "ssl_key_password": KEY_PASSWORD}


def token(kafka: SecuredKafka, **given: Any) -> dict[str, Any]:
    file = kafka.certificates.folder / "token"
    file.write_text(kafka.tokens.token(**given))
    return {"sasl_mechanism": "OAUTHBEARER", "token_provider": TokenFile(file)}


Way = Callable[[SecuredKafka], Connection]

RIGHT: dict[str, Way] = {
    "TLS": lambda kafka: kafka.at("TLS"),
    "mutual TLS": lambda kafka: kafka.at("MUTUAL", **certificate(kafka)),
    "PLAIN": lambda kafka: kafka.at("SASL", sasl_mechanism="PLAIN"),
    "SCRAM-SHA-256": lambda kafka: kafka.at("SASL", sasl_mechanism="SCRAM-SHA-256"),
    "SCRAM-SHA-512": lambda kafka: kafka.at("SASL"),
    "OAUTHBEARER": lambda kafka: kafka.at("SASL", **token(kafka)),
    "SASL without TLS": lambda kafka: kafka.at("BARE"),
}


@pytest.mark.parametrize("way", RIGHT)
def test_what_is_written_over_a_secured_connection_is_read_over_it(
    way: str, secured: SecuredKafka, topics: Topics, debug_log: io.StringIO
) -> None:
    connection = RIGHT[way](secured)
    topics.ensure(connection)
    publisher = Publisher(connection, limits=topics.limits)
    publisher.publish([Message(topics.clicks, b"ann", b"{}")])
    publisher.close()
    assert [record.value for record in read(connection, topics.clicks)] == [b"{}"]
    assert debug_log.getvalue(), "the log was on"
    no_secret_in(debug_log.getvalue(), connection)


WRONG_WAYS: dict[str, tuple[Way, str]] = {
    "password, PLAIN": (
        lambda kafka: kafka.at("SASL", sasl_mechanism="PLAIN", password=WRONG),
        r"refuses the login by PLAIN: check STRATA_KAFKA_USERNAME=strata and STRATA_KAFKA_PASSWORD",
    ),
    "password, SCRAM": (
        lambda kafka: kafka.at("SASL", password=WRONG),
        r"refuses the login by SCRAM-SHA-512: check STRATA_KAFKA_USERNAME=strata",
    ),
    "expired token": (
        lambda kafka: kafka.at("SASL", **token(kafka, valid_s=-100)),
        r"check that the token in STRATA_KAFKA_TOKEN_FILE has not expired",
    ),
    "mechanism": (
        lambda kafka: kafka.at("BARE", sasl_mechanism="PLAIN"),
        r"offers no login by PLAIN, but by SCRAM-SHA-512: set STRATA_KAFKA_SASL",
    ),
    "authority": (
        lambda kafka: kafka.at("TLS", ssl_ca=str(kafka.certificates.strange_ca)),
        r"an authority that is not trusted here: STRATA_KAFKA_CA must name .*strange-ca\.pem",
    ),
    "no authority": (
        lambda kafka: kafka.at("TLS", ssl_ca=None),
        r"an authority that is not trusted here: STRATA_KAFKA_CA must name .*for want of STRATA_KAFKA_CA",
    ),
    "host": (
        lambda kafka: kafka.at("ELSEWHERE"),
        r"certificate is for another host than 127\.0\.0\.1: .*STRATA_KAFKA_BOOTSTRAP",
    ),
    "host, SASL in vain": (
        lambda kafka: kafka.at("ELSEWHERE", security_protocol="SASL_SSL", username=USER, password=PASSWORD),
        r"certificate is for another host",  # and no password was sent there
    ),
    "expired certificate": (lambda kafka: kafka.at("EXPIRED"), r"certificate has expired: have it renewed"),
    "no client's certificate": (
        lambda kafka: kafka.at("MUTUAL"),
        r"probably wants a client's certificate; set STRATA_KAFKA_CERTIFICATE and STRATA_KAFKA_KEY",
    ),
    "a stranger's certificate": (
        lambda kafka: kafka.at("MUTUAL", **stranger(kafka)),
        r"does not accept our certificate .*stranger-certificate\.pem",
    ),
    "no TLS at a port with TLS": (
        lambda kafka: kafka.at("TLS", security_protocol="PLAINTEXT"),
        r"speaks TLS: set STRATA_KAFKA_SECURITY=SSL, or SASL_SSL",
    ),
    "a login without TLS at a port with TLS": (
        lambda kafka: kafka.at("SASL", security_protocol="SASL_PLAINTEXT"),
        r"speaks TLS: set STRATA_KAFKA_SECURITY=SASL_SSL",
    ),
    "TLS at a port without": (
        lambda kafka: kafka.at("BARE", security_protocol="SASL_SSL"),
        r"speaks no TLS at this port: .*STRATA_KAFKA_SECURITY=SASL_PLAINTEXT",
    ),
    "no login": (
        lambda kafka: kafka.at("SASL", security_protocol="SSL"),
        r"wants a login: set STRATA_KAFKA_SECURITY=SASL_SSL",
    ),
    "no login, no TLS": (
        lambda kafka: kafka.at("BARE", security_protocol="PLAINTEXT"),
        r"wants a login: set STRATA_KAFKA_SECURITY=SASL_PLAINTEXT",
    ),
    "a login where none is wanted": (
        lambda kafka: kafka.at("TLS", security_protocol="SASL_SSL", username=USER, password=PASSWORD),
        r"wants no login at this port .*STRATA_KAFKA_SECURITY=SSL and no login",
    ),
}


def stranger(kafka: SecuredKafka) -> dict[str, str]:
    file, key = kafka.certificates.client("stranger", strange=True)
    return {"ssl_certificate": str(file), "ssl_key": str(key)}


@pytest.mark.parametrize("way", WRONG_WAYS)
def test_a_wrong_way_in_is_told_at_the_first_attempt(
    way: str, secured: SecuredKafka, topics: Topics, debug_log: io.StringIO
) -> None:
    make, says = WRONG_WAYS[way]
    connection = make(secured)
    began = time.monotonic()
    with pytest.raises(AccessRefused, match=says) as failure:
        topics.ensure(connection)
    assert time.monotonic() - began < 15, "it went on trying, or hung"
    assert connection.bootstrap in str(failure.value)
    no_secret_in(f"{failure.value!r} {failure.getrepr()} {debug_log.getvalue()}", connection)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ssl_key_password": WRONG}, r"client-key\.pem .*STRATA_KAFKA_KEY_PASSWORD"),
        ({"ssl_key_password": None}, r"client-key\.pem .*STRATA_KAFKA_KEY_PASSWORD"),
        ({"ssl_ca": "{folder}/keys.json"}, r"STRATA_KAFKA_CA=.*keys\.json: no certificates .*must be a PEM file"),
        ({"ssl_certificate": "{folder}/ca.pem"}, r"certificate .*ca\.pem cannot be used with the key .*client-key"),
    ],
    ids=["wrong password of the key", "no password of the key", "not PEM", "another's key"],
)
def test_a_file_that_cannot_be_used_is_told_by_its_setting(
    given: dict[str, str | None], says: str, secured: SecuredKafka, topics: Topics
) -> None:
    folder = secured.certificates.folder
    filled = {name: value.format(folder=folder) if value else None for name, value in given.items()}
    connection = replace(secured.at("MUTUAL", **certificate(secured)), **filled)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=says) as failure:
        topics.ensure(connection)
    no_secret_in(str(failure.value), connection)


@pytest.mark.parametrize(("content", "says"), [(None, "cannot be read"), (" \n", "there is no token in it")])
def test_a_token_that_is_not_there_is_told_by_its_setting(
    content: str | None, says: str, secured: SecuredKafka, topics: Topics, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    connection = secured.at("SASL", sasl_mechanism="OAUTHBEARER", token_provider=TokenFile(file))
    with pytest.raises(ConfigurationError, match=f"STRATA_KAFKA_TOKEN_FILE=.*{says}"):
        topics.ensure(connection)


def test_one_broker_that_lets_us_in_is_enough(secured: SecuredKafka, topics: Topics) -> None:
    good, bad = secured.at("TLS"), secured.at("EXPIRED")
    topics.ensure(replace(good, bootstrap=f"{bad.bootstrap},{good.bootstrap}"))


def test_a_click_becomes_a_list_over_sasl_and_tls_and_no_secret_is_shown(
    secured: SecuredKafka, topics: Topics, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The process as it is run, at debug level: PLAIN, so that the password does travel, and a key with its own."""
    connection = secured.at("SASL", sasl_mechanism="PLAIN")
    shop = Bookshop(connection, topics)
    request.addfinalizer(shop.publisher.close)
    shop.stock()
    client = certificate(secured)
    settings = {
        "kafka_bootstrap": connection.bootstrap, "kafka_security": "SASL_SSL", "kafka_sasl": "PLAIN",
        "kafka_username": USER, "kafka_password": PASSWORD, "kafka_ca": secured.certificates.ca,
        "kafka_certificate": client["ssl_certificate"], "kafka_key": client["ssl_key"],
        "kafka_key_password": KEY_PASSWORD, "log_level": "debug", "log_format": "console",
        "model": tiny_model(tmp_path / "model", 32), "delivery": "exactly-once",
    } | {name: value for name, value in shop.given.items() if not isinstance(value, bytes)}  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment = kept | {PREFIX + name.upper(): str(value) for name, value in settings.items()}
    log = tmp_path / "log"
    with log.open("w") as output:
        run = subprocess.Popen(
            [STRATA, "run"],
            stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True, env=environment,
        )  # fmt: skip
    try:
        url = wait_for_start(run, log).partition(" metrics and health at ")[2].split()[0]
        shop.garbage(topics.clicks, SOMEBODY.encode(), f'{{"user_id": "{SOMEBODY}", "item_id": 7}}'.encode())
        wait_for(lambda: offered(shop), "a list with items")
        wait_for(lambda: shop.records(topics.dead_letters), "the dead letter")
        shown = metrics(url) + " ".join(descendants(run.pid).values())
        shown += Path(f"/proc/{run.pid}/cmdline").read_bytes().decode()
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) == 0, log.read_text()
    finally:
        run.kill()
        run.wait()
    told = log.read_text()
    no_secret_in(shown + told, connection)
    assert SOMEBODY not in shown + told, "nor who it was"
    assert all(line in told for line in ("delivered", "updater: diverted", "updater: partitions assigned")), told


def offered(shop: Bookshop) -> bool:
    """Click until the updater knows the catalogue."""
    shop.clicks((SOMEBODY, "gardening-1"))
    made = shop.lists().get(SOMEBODY)
    return made is not None and len(made.items) > 0


def metrics(url: str) -> str:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def test_a_command_with_the_wrong_password_ends_with_one_clear_line(secured: SecuredKafka, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    ours = {
        "kafka_bootstrap": secured.at("SASL").bootstrap, "kafka_security": "SASL_SSL", "kafka_sasl": "PLAIN",
        "kafka_username": USER, "kafka_password": WRONG, "kafka_ca": str(secured.certificates.ca),
        "log_level": "debug",
    }  # fmt: skip
    done = subprocess.run(
        [STRATA, "topics", "create"],
        capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
        env=kept | {PREFIX + name.upper(): value for name, value in ours.items()},
    )  # fmt: skip
    assert done.returncode == 1
    assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "check STRATA_KAFKA_USERNAME=strata" in " ".join(done.stderr.split())
    assert WRONG not in done.stdout + done.stderr


def no_secret_in(text: str, connection: Connection) -> None:
    """Neither as it is, nor as PLAIN and HTTP would encode it."""
    secrets = {PASSWORD, KEY_PASSWORD, WRONG}
    if connection.token_provider is not None:
        secrets.add(_own(connection))
    for secret in secrets:
        for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("="), secret.encode().hex()):
            assert form not in text


def _own(connection: Connection) -> str:
    try:
        return str(connection.token_provider.token())
    except StrataError:
        return "there is none"
