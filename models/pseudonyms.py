"""Users by other names: who holds the key can tell which, and nobody else."""

from __future__ import annotations

import hmac
from typing import Final

LENGTH: Final = 32
"""Characters of a pseudonym: 128 bits in hexadecimal."""

KEY_LENGTH: Final = 16
"""Shortest key, bytes: a shorter one can be guessed, and with it every user."""


class Pseudonyms:
    """A user's pseudonym: HMAC-SHA256 of his id (RFC 2104), the first 32 hexadecimal digits.

    Parameters
    ----------
    key
        At least :data:`KEY_LENGTH` bytes. None: everybody keeps his own name.

    Examples
    --------
    >>> Pseudonyms(b"sixteen bytes it is")("ann")
    '74fdc0246d65a187d302e8b301eb95f4'
    >>> Pseudonyms(None)("ann")
    'ann'
    """

    def __init__(self, key: bytes | None) -> None:
        if key is not None and len(key) < KEY_LENGTH:
            raise ValueError(f"a key of {len(key)} bytes can be guessed: it needs at least {KEY_LENGTH}")
        self._key = key

    def __repr__(self) -> str:
        return f"Pseudonyms({'with a key' if self else None})"

    def __bool__(self) -> bool:
        """Whether there is a key."""
        return self._key is not None

    def __call__(self, user_id: str) -> str:
        """The name that a user is stored by."""
        if self._key is None:
            return user_id
        return hmac.digest(self._key, user_id.encode(), "sha256").hex()[:LENGTH]
