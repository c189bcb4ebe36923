"""Settings of privacy: by which names users are stored, and for how long."""

from __future__ import annotations

from functools import cached_property
from typing import Final, Self

from pydantic import Field, FilePath, PositiveFloat, SecretStr, model_validator
from pydantic_settings import BaseSettings

from models.pseudonyms import KEY_LENGTH, Pseudonyms

_DAY_S: Final = 86_400


class PrivacySettings(BaseSettings):
    """What is kept of a user, under which name."""

    pseudonym_key: SecretStr | None = Field(
        None, description="Key that users are renamed with before anything of them is stored; empty: they are not"
    )
    pseudonym_key_file: FilePath | None = Field(None, description="File with that key, in place of the setting")
    profile_retention_days: PositiveFloat | None = Field(
        None, description="Days after his last click that a user is deleted; empty: never"
    )
    dead_letter_retention_days: PositiveFloat | None = Field(
        None,
        description="Days that dead letters are kept where Strata creates their topic; empty: the broker's default",
    )
    erasure_receipt_s: PositiveFloat = Field(
        60.0, description="Time after which an erasure without proof of its completion is reported, s"
    )

    @model_validator(mode="after")
    def _key(self) -> Self:
        """A wrong key would begin everybody anew under other names; it must be told at the start."""
        if self.pseudonym_key is not None and self.pseudonym_key_file is not None:
            raise ValueError("STRATA_PSEUDONYM_KEY and STRATA_PSEUDONYM_KEY_FILE are both set: which is it?")
        given = self._pseudonym_key
        if given is not None and len(given) < KEY_LENGTH:
            raise ValueError(
                f"the key of the pseudonyms has {len(given)} bytes and needs at least {KEY_LENGTH}; a good one:"
                " openssl rand -hex 32"
            )
        return self

    @property
    def _pseudonym_key(self) -> bytes | None:
        if self.pseudonym_key_file is not None:
            return self.pseudonym_key_file.read_bytes().strip()
        return None if self.pseudonym_key is None else self.pseudonym_key.get_secret_value().strip().encode()

    @cached_property
    def pseudonyms(self) -> Pseudonyms:
        """The names that users are stored by."""
        return Pseudonyms(self._pseudonym_key)

    @property
    def profile_retention_s(self) -> float | None:
        """How long after his last click a user is kept, s; None: for ever."""
        return None if self.profile_retention_days is None else self.profile_retention_days * _DAY_S
