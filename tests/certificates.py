"""Certificates for the tests, made anew each time: those that are right, and those that are wrong in one way each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


class Certificates:
    """A certificate authority, and PEM files of what it signed.

    Parameters
    ----------
    folder
        Where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = trustme.CA(organization_name="Strata tests")
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._authority.cert_pem.bytes())
        self._stranger = trustme.CA(organization_name="Somebody else")
        self.strange_ca = folder / "strange-ca.pem"
        self.strange_ca.write_bytes(self._stranger.cert_pem.bytes())

    def broker(self, name: str, *hosts: str, expired: bool = False) -> Path:
        """Key and chain in one file, as Apache Kafka wants them."""
        file = self.folder / f"{name}.pem"
        file.write_text(_key(signed := self._sign(*hosts, expired=expired)) + _chain(signed))
        return file

    def client(self, name: str, password: str | None = None, *, strange: bool = False) -> tuple[Path, Path]:
        """Certificate and key of a client; the key is encrypted where there is a password."""
        signed = self._stranger.issue_cert(name) if strange else self._sign(f"{name}@strata.test")
        certificate, key = self.folder / f"{name}-certificate.pem", self.folder / f"{name}-key.pem"
        certificate.write_text(_chain(signed))
        key.write_text(_key(signed, BestAvailableEncryption(password.encode()) if password else NoEncryption()))
        return certificate, key

    def _sign(self, *names: str, expired: bool = False) -> trustme.LeafCert:
        now = datetime.now(UTC)
        until = now - timedelta(days=1) if expired else now + timedelta(days=1)
        return self._authority.issue_cert(*names, not_before=now - timedelta(days=2), not_after=until)


def _key(signed: trustme.LeafCert, encryption: KeySerializationEncryption = NoEncryption()) -> str:  # noqa: B008
    key = load_pem_private_key(signed.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def _chain(signed: trustme.LeafCert) -> str:
    return b"".join(blob.bytes() for blob in signed.cert_chain_pems).decode()
