"""An ordinary bad day: nobody answers, or somebody else does."""

from __future__ import annotations

import logging
import socket
import threading
from dataclasses import replace
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import KafkaTimeoutError

from models.errors import ConfigurationError
from producers.connection import Connection
from producers.errors import BrokerUnavailable


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_absent_broker_is_told_with_address_and_cause_after_the_last_attempt() -> None:
    connection = Connection(bootstrap=f"127.0.0.1:{free_port()}", connect_timeout_s=0.3, attempts=3)
    waits: list[float] = []
    with pytest.raises(BrokerUnavailable) as failure:
        connection.open(lambda: KafkaAdminClient(**connection.client("test")), sleep=waits.append)
    assert connection.bootstrap in str(failure.value)
    assert "nothing listens there" in str(failure.value)
    assert "3 attempt" in str(failure.value)
    assert len(waits) == 2
    assert waits[0] < waits[1]


def test_a_broker_that_comes_late_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    connection = Connection(bootstrap=f"127.0.0.1:{port}")
    waits: list[float] = []
    servers: list[socket.socket] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            servers.append(socket.create_server(("127.0.0.1", port)))

    with caplog.at_level(logging.WARNING):
        assert connection.open(lambda: "client", sleep=sleep) == "client"
    servers[0].close()
    assert "attempt 2 of 6" in caplog.text


def test_something_that_does_not_answer_is_told_apart() -> None:
    def make() -> None:
        raise KafkaTimeoutError("Unable to bootstrap")

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for security in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
            silent = Connection(
                bootstrap=address, security_protocol=security, attempts=1, connect_timeout_s=0.2,
                username="u", password="hush",
            )  # fmt: skip
            with pytest.raises(BrokerUnavailable, match=rf"\({security}\).*no answer within 0\.2 s: does it hang"):
                silent.open(make)


class Terminal(StreamRequestHandler):
    """Speaks first, and not Kafka's protocol."""

    def handle(self) -> None:
        self.wfile.write(b"SSH-2.0-Somebody\r\n")
        self.rfile.readline()


def test_something_that_is_not_kafka_is_told_apart() -> None:
    with ThreadingTCPServer(("127.0.0.1", 0), Terminal) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        other = Connection(
            bootstrap=f"127.0.0.1:{server.server_address[1]}", security_protocol="SASL_PLAINTEXT", attempts=1,
            connect_timeout_s=0.5, username="u", password="hush",
        )  # fmt: skip
        with pytest.raises(BrokerUnavailable, match="it listens, but: what it answers is not Kafka's protocol"):
            other.open(lambda: None)
        server.shutdown()


def test_a_broker_that_answers_but_leads_nowhere_is_told(tansu: Connection) -> None:
    def make() -> None:
        raise KafkaTimeoutError("no node could be reached")

    with pytest.raises(BrokerUnavailable, match=r"it answers, but .*no node could be reached.*advertised\.listeners"):
        replace(tansu, attempts=1).open(make)


def test_secrets_are_not_in_the_description() -> None:
    connection = Connection(bootstrap="b:1", username="u", password="hush-1", ssl_key_password="hush-2")
    assert "hush" not in repr(connection)
    assert "hush" not in str(connection.client("role"))  # PLAINTEXT sends no password


def test_security_reaches_the_client() -> None:
    settings = Connection(
        bootstrap="a:1, b:2", security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512", username="u", password="p",
        ssl_ca="/ca.pem",
    ).client("role")  # fmt: skip
    assert settings["bootstrap_servers"] == ["a:1", "b:2"]
    assert settings["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (settings["sasl_plain_username"], settings["sasl_plain_password"]) == ("u", "p")
    assert settings["ssl_cafile"] == "/ca.pem"
    assert not set(settings) - set(KafkaAdminClient.DEFAULT_CONFIG)


def test_settings_that_the_client_refuses_are_not_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Connection(bootstrap=f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ConfigurationError, match="no_such_setting"):
            connection.open(lambda: KafkaConsumer(no_such_setting=1), sleep=lambda seconds: pytest.fail("waited"))
