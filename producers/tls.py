"""TLS: our side of it out of PEM files, and in words why a handshake failed."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from models.errors import ConfigurationError

if TYPE_CHECKING:
    from producers.connection import Connection

_NOT_YET, _EXPIRED = 9, 10
_UNTRUSTED: Final = (18, 19, 20, 21)
_HOSTS: Final = (62, 63, 64)
"""OpenSSL's X509_V_ERR_… codes: how a certificate may fail."""


def context(connection: Connection) -> ssl.SSLContext:
    """What kafka-python makes of the same settings, with an error that names the one that is wrong.

    Raises
    ------
    ConfigurationError
        A file of certificates or keys cannot be used.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = connection.ssl_check_hostname
    try:
        if connection.ssl_ca:
            made.load_verify_locations(connection.ssl_ca)
        else:
            made.load_default_certs()
    except OSError as error:
        raise ConfigurationError(
            f"STRATA_KAFKA_CA={connection.ssl_ca}: no certificates of authorities can be read there"
            f" ({_said(error)}): it must be a PEM file"
        ) from error
    if connection.ssl_certificate:
        try:
            # without a password OpenSSL would ask for one at the terminal, and wait
            made.load_cert_chain(connection.ssl_certificate, connection.ssl_key, connection.ssl_key_password or "")
        except OSError as error:
            raise ConfigurationError(
                f"the client's certificate {connection.ssl_certificate} cannot be used with the key"
                f" {connection.ssl_key or 'in the same file'} ({_said(error)}): both must be PEM files and belong"
                " together (STRATA_KAFKA_CERTIFICATE, STRATA_KAFKA_KEY), and an encrypted key needs its password"
                " (STRATA_KAFKA_KEY_PASSWORD)"
            ) from error
    return made


def distrust(error: ssl.SSLCertVerificationError, host: str, connection: Connection) -> str:
    """Why its certificate is not accepted, and what to do."""
    if error.verify_code == _EXPIRED:
        return "the broker's certificate has expired: have it renewed (or is this machine's clock wrong?)"
    if error.verify_code == _NOT_YET:
        return "the broker's certificate is not valid yet: is this machine's clock right?"
    if error.verify_code in _HOSTS:
        return (
            f"the broker's certificate is for another host than {host}: name the broker in STRATA_KAFKA_BOOTSTRAP as"
            f" its certificate does, or have one issued for {host}"
        )
    if error.verify_code in _UNTRUSTED:
        trusted = connection.ssl_ca or "the system's, for want of STRATA_KAFKA_CA"
        return (
            "the broker's certificate is signed by an authority that is not trusted here: STRATA_KAFKA_CA must name"
            f" the PEM file of that authority's certificate (now: {trusted})"
        )
    return f"the broker's certificate is not accepted: {error.verify_message}"


def alert(error: ssl.SSLError, connection: Connection) -> str:
    """What it means that the broker broke off the handshake."""
    said = (error.reason or "").rpartition("ALERT_")[2].replace("_", " ").lower()
    if not connection.ssl_certificate:
        return (
            f'it broke off the TLS handshake ("{said}"): it probably wants a client\'s certificate; set'
            " STRATA_KAFKA_CERTIFICATE and STRATA_KAFKA_KEY"
        )
    return (
        f'it does not accept our certificate {connection.ssl_certificate} ("{said}"): it must be signed by an authority'
        " that the broker trusts, and not be expired"
    )


def _said(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror) or str(error)
