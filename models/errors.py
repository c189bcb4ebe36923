"""The errors of Strata, one tree.

::

    StrataError
    ├── ConfigurationError     a setting is wrong; the process does not start
    ├── InvalidEvent           a message cannot be used; it goes to the dead letters, the stream flows on
    ├── ModelError             the encoder cannot be had or does not fit what is stored
    │   ├── ModelNotFound
    │   ├── ChecksumMismatch
    │   ├── EncoderDied        its process is gone; so must ours be
    │   └── DimensionMismatch
    └── BrokerError            (producers/errors.py) the broker cannot do what is needed

Each message says what happened, to what, and what to do.
"""

from __future__ import annotations


class StrataError(Exception):
    """The root: whatever Strata raises on purpose."""


class ConfigurationError(StrataError):
    """A setting is missing or wrong. The message names the setting and a value that would do."""


class InvalidEvent(StrataError):
    """A message that cannot be used, with a reason that holds no payload (it is logged and kept in a header).

    Parameters
    ----------
    reason
        What is wrong, where: ``"item_id: longer than 256 characters"``.
    stage
        Where it was found: ``decode`` (bytes), ``validate`` (meaning) or ``apply`` (while it was worked on).
    """

    def __init__(self, reason: str, stage: str = "decode") -> None:
        super().__init__(reason)
        self.reason = reason
        self.stage = stage


class ModelError(StrataError):
    """The encoder cannot be had, or does not fit what is stored."""


class ModelNotFound(ModelError):
    """No model at that path or id."""


class ChecksumMismatch(ModelError):
    """The weights on disk are not the weights that were asked for."""


class EncoderDied(ModelError):
    """The process that encodes has ended."""


class DimensionMismatch(ModelError):
    """A vector's length is not the model's."""
