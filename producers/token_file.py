"""A token for OAUTHBEARER out of a file that something else keeps fresh: a sidecar, or Kubernetes itself."""

from __future__ import annotations

from pathlib import Path

from kafka.net.sasl.oauth import AbstractTokenProvider


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
        """The token as it stands in the file now."""
        return self.path.read_text().strip()
