"""A token for OAUTHBEARER out of a file that something else keeps fresh: a sidecar, or Kubernetes itself."""

from __future__ import annotations

from pathlib import Path

from kafka.net.sasl.oauth import AbstractTokenProvider

from models.errors import ConfigurationError


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]
    """Reads the file anew for each connection, so a renewed token is taken up without a restart.

    Parameters
    ----------
    path
        Holds the token and nothing else; white space around it is ignored.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def token(self) -> str:
        """The token as it stands in the file now.

        Raises
        ------
        ConfigurationError
            It cannot be read, or there is none in it.
        """
        try:
            token = self.path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"STRATA_KAFKA_TOKEN_FILE={self.path}: cannot be read ({error})") from error
        if not token:
            raise ConfigurationError(f"STRATA_KAFKA_TOKEN_FILE={self.path}: there is no token in it")
        return token
