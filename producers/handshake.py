"""A first connection to a broker by hand, one step at a time, so that what fails can be told exactly.

To the client a wrong password, a strange certificate and a broker that hangs all look alike, and it goes on trying for
as long as it may; somebody's account is locked by then. Here each step is taken once: TCP, TLS, login, a first answer.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from kafka.errors import KafkaError, NoError, UnsupportedSaslMechanismError, for_code
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from producers import tls
from producers.errors import AccessRefused

if TYPE_CHECKING:
    from producers.connection import Connection

_LONGEST_ANSWER: Final = 16 * 1024 * 1024


def greet(server: str, connection: Connection) -> None:
    """Connect, no more. An OSError if nobody listens."""
    socket.create_connection(_address(server), timeout=min(connection.connect_timeout_s, 1.0)).close()


def knock(server: str, connection: Connection) -> None:
    """Connect, shake hands, log in and ask for the cluster, each once, within the connection's timeout a step.

    Parameters
    ----------
    server
        ``host:port``.

    Raises
    ------
    AccessRefused
        Somebody answers, and trying again as we are will not help. The message says at which step and what to do.
    ConfigurationError
        A certificate, key or token of ours cannot be used.
    OSError
        Nobody answers, or not in Kafka's protocol, or the other end hangs up: that may be different later.
    """
    host, port = _address(server)
    where = f"{server} ({connection.security_protocol})"
    try:
        with _open(host, port, connection) as dialogue:
            if "SASL" in connection.security_protocol:
                _log_in(dialogue, where, host, connection)
            dialogue.ask(ApiVersionsRequest(version=0))
            dialogue.ask(MetadataRequest(version=1, topics=[]))
    except ssl.SSLCertVerificationError as error:
        raise AccessRefused(f"Kafka at {where}: {tls.distrust(error, host, connection)}") from error
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            raise AccessRefused(f"Kafka at {where}: {tls.alert(error, connection)}") from error
        _refuse_wrong_protocol(host, port, where, connection)
        raise
    except (ConnectionRefusedError, TimeoutError):
        raise
    except OSError:
        _refuse_wrong_protocol(host, port, where, connection)
        raise


class _Dialogue:
    """Questions and answers in Kafka's protocol on a blocking socket."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._protocol = KafkaProtocol(client_id="strata-handshake", receive_message_max_bytes=_LONGEST_ANSWER)

    def ask(self, request: Any) -> Any:
        """The answer to one request. An OSError if none comes."""
        self._protocol.send_request(request)
        self._stream.sendall(self._protocol.send_bytes())
        while True:
            received = self._stream.recv(65_536)
            if not received:
                raise ConnectionResetError(f"it hung up instead of answering {type(request).__name__}")
            try:
                answers = self._protocol.receive_bytes(received)
            except KafkaError as error:
                raise ConnectionError("what it answers is not Kafka's protocol") from error
            for _, answer in answers:
                return answer


@contextmanager
def _open(host: str, port: int, connection: Connection) -> Iterator[_Dialogue]:
    context = tls.context(connection) if "SSL" in connection.security_protocol else None
    with socket.create_connection((host, port), timeout=connection.connect_timeout_s) as plain:
        if context is None:
            yield _Dialogue(plain)
            return
        with context.wrap_socket(plain, server_hostname=host) as secured:
            yield _Dialogue(secured)


def _log_in(dialogue: _Dialogue, where: str, host: str, connection: Connection) -> None:
    """SASL as in the client: agree on a mechanism, then exchange until both are content."""
    wanted = connection.sasl_mechanism or "PLAIN"
    answer = dialogue.ask(SaslHandshakeRequest(mechanism=wanted, version=1))
    if (problem := for_code(answer.error_code)) is UnsupportedSaslMechanismError:
        raise AccessRefused(
            f"Kafka at {where} offers no login by {wanted}, but by {', '.join(sorted(answer.mechanisms))}: set"
            " STRATA_KAFKA_SASL to one of these"
        )
    if problem is not NoError:
        without = connection.security_protocol.replace("SASL_", "").replace("PLAINTEXT", "PLAINTEXT (the default)")
        raise AccessRefused(
            f"Kafka at {where} wants no login at this port ({problem.__name__}): name the port that does, or set"
            f" STRATA_KAFKA_SECURITY={without} and no login"
        )
    mechanism = get_sasl_mechanism(wanted)(host=host, **connection.client("handshake"))
    while not mechanism.is_done():
        answer = dialogue.ask(SaslAuthenticateRequest(mechanism.auth_bytes(), version=1))
        if answer.error_code:
            what = (
                "that the token in STRATA_KAFKA_TOKEN_FILE has not expired and is for this cluster"
                if wanted == "OAUTHBEARER"
                else f"STRATA_KAFKA_USERNAME={connection.username} and STRATA_KAFKA_PASSWORD, and that the user exists"
                f" for {wanted}"
            )
            said = f' It says: "{answer.error_message[:200]}".' if answer.error_message else ""
            raise AccessRefused(f"Kafka at {where} refuses the login by {wanted}: check {what}.{said}")
        try:
            mechanism.receive(answer.auth_bytes)
        except (ValueError, KeyError) as error:
            raise AccessRefused(
                f"Kafka at {where} did not prove that it knows the password ({error}): is it your broker?"
            ) from error


def _refuse_wrong_protocol(host: str, port: int, where: str, connection: Connection) -> None:
    """Whoever hung up may be waiting for another kind of connection: asking for each of them tells."""
    ours = connection.security_protocol
    encrypted, logs_in = "SSL" in ours, "SASL" in ours
    if encrypted and _answers(host, port, replace(connection, security_protocol="PLAINTEXT")):
        raise AccessRefused(
            f"Kafka at {where} speaks no TLS at this port: name the port that does, or, where the network is to be"
            f" trusted, set STRATA_KAFKA_SECURITY={'SASL_PLAINTEXT' if logs_in else 'PLAINTEXT'}"
        )
    if not encrypted and _speaks_tls(host, port, connection.connect_timeout_s):
        wanted = "SASL_SSL" if logs_in else "SSL, or SASL_SSL with a login"
        raise AccessRefused(f"what answers at {where} speaks TLS: set STRATA_KAFKA_SECURITY={wanted}")
    if not logs_in and _answers(host, port, connection, SaslHandshakeRequest(mechanism="NONE", version=1)):
        raise AccessRefused(
            f"Kafka at {where} wants a login: set STRATA_KAFKA_SECURITY={'SASL_SSL' if encrypted else 'SASL_PLAINTEXT'}"
            " and STRATA_KAFKA_SASL, STRATA_KAFKA_USERNAME, STRATA_KAFKA_PASSWORD"
        )


def _answers(host: str, port: int, connection: Connection, request: Any = None) -> bool:
    """Whether it answers to its versions; a login that there is none of is answered where there are others."""
    try:
        with _open(host, port, connection) as dialogue:
            answer = dialogue.ask(request or ApiVersionsRequest(version=0))
    except OSError:
        return False
    return for_code(answer.error_code) in (NoError, UnsupportedSaslMechanismError)


def _speaks_tls(host: str, port: int, timeout_s: float) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent, nothing is believed
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except OSError:
        return False


def _address(server: str) -> tuple[str, int]:
    """Host and port of ``host:port``, ``[v6 address]:port`` or ``host`` (port 9092)."""
    host, _, port = server.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else (server.strip("[]"), 9092)
