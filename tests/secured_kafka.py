"""Apache Kafka behind TLS and SASL: one node with a listener for each way in, and for each way to get it wrong."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any, Final

from apache_kafka import ApacheKafka, free_ports
from certificates import Certificates
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from producers.connection import Connection

USER: Final = "strata"
PASSWORD: Final = "correct-horse-battery-staple"
KEY_PASSWORD: Final = "a-key-of-its-own"

LISTENERS: Final = {
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "SASL": "SASL_SSL",
    "BARE": "SASL_PLAINTEXT",
    "ELSEWHERE": "SSL",
    "EXPIRED": "SSL",
}

PROPERTIES: Final = """
ssl.keystore.type=PEM
ssl.keystore.location={broker}
listener.name.elsewhere.ssl.keystore.type=PEM
listener.name.elsewhere.ssl.keystore.location={elsewhere}
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location={expired}
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.truststore.type=PEM
listener.name.mutual.ssl.truststore.location={ca}
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.bare.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.bare.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_{user}="{password}";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.oauthbearer.sasl.jaas.config=\
  org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.sasl.oauthbearer.sasl.server.callback.handler.class=\
  org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
listener.name.sasl.oauthbearer.sasl.oauthbearer.jwks.endpoint.url={keys}
listener.name.sasl.oauthbearer.sasl.oauthbearer.expected.audience=kafka
listener.name.sasl.oauthbearer.sasl.oauthbearer.expected.issuer=strata.test
"""


class SecuredKafka:
    """The node, its certificates, and a connection to each listener.

    Parameters
    ----------
    folder
        For certificates, keys and tokens.
    """

    def __init__(self, folder: Path) -> None:
        self.certificates = Certificates(folder)
        self.tokens = Tokens(folder)
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        ours = PROPERTIES.format(
            broker=self.certificates.broker("broker", "localhost", "127.0.0.1"),
            elsewhere=self.certificates.broker("elsewhere", "elsewhere.test"),
            expired=self.certificates.broker("expired", "localhost", "127.0.0.1", expired=True),
            ca=self.certificates.ca,
            user=USER,
            password=PASSWORD,
            keys=self.tokens.keys.as_uri(),
        )
        names = "".join(f",{name}://127.0.0.1:{port}" for name, port in self.ports.items())
        protocols = "".join(f",{name}:{protocol}" for name, protocol in LISTENERS.items())
        ours += (
            f"listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}}{names}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{{advertised}}{names}\n"
            f"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}\n"
            "inter.broker.listener.name=PLAINTEXT\n"
        )
        self.node = ApacheKafka(
            properties=ours,
            format_options=[
                f"--add-scram={mechanism}=[name={USER},password={PASSWORD}]"
                for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            ],
            options=f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.tokens.keys.as_uri()}",
        )

    def at(self, listener: str, host: str = "127.0.0.1", **given: Any) -> Connection:
        """A connection to a listener, as it should be but for what is given."""
        protocol = LISTENERS[listener]
        right: dict[str, Any] = {"security_protocol": protocol, "connect_timeout_s": 3.0}
        if "SSL" in protocol:
            right["ssl_ca"] = str(self.certificates.ca)
        if "SASL" in protocol:
            right |= {"sasl_mechanism": "SCRAM-SHA-512", "username": USER, "password": PASSWORD}
        return Connection(bootstrap=f"{host}:{self.ports[listener]}", **(right | given))


class Tokens:
    """An issuer of signed JSON web tokens (RFC 7519, RS256), and the file of its public key (RFC 7517)."""

    def __init__(self, folder: Path) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = self._key.public_key().public_numbers()
        self.keys = folder / "keys.json"
        jwk = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": _number(public.n), "e": _number(public.e)}
        self.keys.write_text(json.dumps({"keys": [jwk]}))

    def token(self, subject: str = USER, valid_s: float = 3600.0) -> str:
        """A token for Kafka; with a negative validity an expired one."""
        now = int(time.time())
        claims = {"sub": subject, "aud": "kafka", "iss": "strata.test", "iat": now - 7200, "exp": now + int(valid_s)}
        head = ".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, claims))
        return f"{head}.{_encoded(self._key.sign(head.encode(), padding.PKCS1v15(), SHA256()))}"


def _number(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
