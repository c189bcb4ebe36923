"""How to reach the broker: one frozen description, shared by everything that talks to Kafka."""

from __future__ import annotations

import logging
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from kafka.errors import KafkaConfigurationError, KafkaError

from models.errors import ConfigurationError
from producers.errors import AccessRefused, BrokerUnavailable
from producers.handshake import greet, knock

log = logging.getLogger(__name__)

T = TypeVar("T")
Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Address and security of a Kafka cluster.

    Secrets are left out of ``repr``, so that the description may be logged.
    """

    bootstrap: str
    """``host:port``, several with commas."""
    client_id: str = "strata"
    security_protocol: Protocol = "PLAINTEXT"
    sasl_mechanism: Mechanism | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token_provider: Any = field(default=None, repr=False)
    """For OAUTHBEARER: a ``kafka.net.sasl.oauth.AbstractTokenProvider``."""
    ssl_ca: str | None = None
    """File with the certificate authorities to trust (PEM); None = the system's."""
    ssl_certificate: str | None = None
    ssl_key: str | None = None
    ssl_key_password: str | None = field(default=None, repr=False)
    ssl_check_hostname: bool = True
    connect_timeout_s: float = 5.0
    """How long one attempt may take."""
    attempts: int = 6
    """How often a connection is tried before giving up; between attempts .5, 1, 2, 4, 8, 8 … s."""

    @property
    def servers(self) -> list[str]:
        """The addresses one by one."""
        return [server.strip() for server in self.bootstrap.split(",") if server.strip()]

    def client(self, role: str) -> dict[str, Any]:
        """Keyword arguments for any client of kafka-python; ``role`` tells its log lines and quotas apart."""
        settings: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "client_id": f"{self.client_id}-{role}",
            "security_protocol": self.security_protocol,
            "bootstrap_timeout_ms": int(self.connect_timeout_s * 1000),
            # a broker that comes back is found within a second, whatever the length of its absence
            "reconnect_backoff_max_ms": 1_000,
        }
        if "SSL" in self.security_protocol:
            settings |= {
                "ssl_cafile": self.ssl_ca,
                "ssl_certfile": self.ssl_certificate,
                "ssl_keyfile": self.ssl_key,
                # without one OpenSSL would ask for it at the terminal, and wait
                "ssl_password": self.ssl_key_password or "",
                "ssl_check_hostname": self.ssl_check_hostname,
            }
        if "SASL" in self.security_protocol:
            settings |= {
                "sasl_mechanism": self.sasl_mechanism or "PLAIN",
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
                "sasl_oauth_token_provider": self.token_provider,
            }
        return settings

    def open(self, make: Callable[[], T], *, sleep: Callable[[float], None] = time.sleep) -> T:
        """What ``make`` makes: a client of this cluster, tried :attr:`attempts` times.

        Raises
        ------
        ConfigurationError
            If the client refuses its settings.
        BrokerUnavailable
            After the last attempt, with the address and the likely cause.
        AccessRefused
            At once: a certificate, a login or the protocol does not fit, and another attempt would not either.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return self._attempt(make)
            except (KafkaError, OSError) as error:
                if attempt == self.attempts or not getattr(error, "retriable", True):
                    raise BrokerUnavailable(self._explain(error, attempt)) from error
                wait = _BACKOFF_S[min(attempt, len(_BACKOFF_S)) - 1] * random.uniform(0.8, 1.2)  # noqa: S311
                log.warning(
                    "no connection to Kafka at %(bootstrap)s (%(error)s); attempt %(attempt)d of %(attempts)d, the next"
                    " in %(seconds).1f s",
                    {
                        "bootstrap": self.bootstrap, "error": type(error).__name__, "attempt": attempt,
                        "attempts": self.attempts, "seconds": wait,
                    },
                )  # fmt: skip
                sleep(wait)
        raise AssertionError("attempts is at least 1")

    def _attempt(self, make: Callable[[], T]) -> T:
        # A client that cannot connect leaves its IO thread behind, so none is made where nobody lets us in.
        plain = self.security_protocol == "PLAINTEXT"
        self._reach(greet if plain else knock)
        try:
            return make()
        except KafkaConfigurationError as error:
            raise ConfigurationError(f"Kafka's client does not accept its settings: {error}") from error
        except KafkaError:
            if plain:
                self._reach(knock)  # tells what the client cannot
            raise

    def _reach(self, try_one: Callable[[str, Connection], None]) -> None:
        """Try the servers until one lets us in; if none does, a refusal tells more than a silence."""
        failures: list[OSError | AccessRefused] = []
        for server in self.servers:
            try:
                return try_one(server, self)
            except (OSError, AccessRefused) as error:
                failures.append(error)
        raise next((f for f in failures if isinstance(f, AccessRefused)), failures[0])

    def _explain(self, error: BaseException, attempts: int) -> str:
        match error:
            case TimeoutError():
                cause = f"no answer within {self.connect_timeout_s:g} s: does it hang, or is that not a Kafka broker?"
            case ConnectionRefusedError() | socket.gaierror():
                cause = "nothing listens there: is the broker running, and are the address and port right?"
            case OSError():
                cause = f"it listens, but: {error}"
            case _:
                cause = (
                    f"it answers, but the client got no further ({error}): can the addresses that the brokers advertise"
                    " (advertised.listeners) be reached from here?"
                )
        return (
            f"no connection to Kafka at {self.bootstrap} ({self.security_protocol}) after {attempts} attempt(s):"
            f" {cause} ({type(error).__name__})"
        )
