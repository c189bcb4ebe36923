"""How settings are read, and what is said of a wrong one."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import SettingsError

from models.errors import ConfigurationError
from ops.settings.composed import FILE, PREFIX, Settings

_DICTS: Final = {"repeat_after": '{"purchase": 86400}', "arms": '{"popularity.3000": 0.05}'}
"""Settings of names and numbers, with an example."""


def load(**given: Any) -> Settings:
    """The effective settings.

    Parameters
    ----------
    given
        What a command line option overrides.

    Raises
    ------
    ConfigurationError
        With each wrong setting, what is wrong with it, and for an unknown one the nearest known.
    """
    file = os.environ.get(FILE)
    if file and not Path(file).is_file():
        raise ConfigurationError(f"{FILE}={file}: there is no such file")
    _refuse_unknown(name for name in os.environ if name.startswith(PREFIX) and name != FILE)
    try:
        return Settings(**given)
    except ValidationError as error:
        # keys of the file may be anything; the environment's were looked at before
        _refuse_unknown(_name(e["loc"]) for e in error.errors() if e["type"] == "extra_forbidden")
        wrong = "; ".join(_wrong(_name(e["loc"]), e["msg"]) for e in error.errors())
        raise ConfigurationError(f"wrong settings: {wrong}. `strata config --markdown` explains them all") from None
    except SettingsError as error:
        # pydantic tells the field in words alone; the only settings that it parses are those of a dict
        name = next((name for name in _DICTS if f'"{name}"' in str(error)), "")
        raise ConfigurationError(
            f"wrong settings: {PREFIX}{name.upper()}: must be JSON, such as {_DICTS.get(name, '{}')}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{FILE}={file}: not TOML: {error}") from None


def _refuse_unknown(names: Iterable[str]) -> None:
    """A misspelt setting is otherwise one that silently does nothing."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    unknown = []
    for name in sorted(set(names).difference(known)):
        near = difflib.get_close_matches(name, known, 1, 0.8)
        unknown.append(f"{name} (did you mean {near[0]}?)" if near else name)
    if unknown:
        raise ConfigurationError(f"unknown settings: {', '.join(unknown)}. `strata config --markdown` lists them all")


def _name(location: tuple[int | str, ...]) -> str:
    return PREFIX + str(location[0]).upper() if location else ""


def _wrong(name: str, message: str) -> str:
    said = message.removeprefix("Value error, ")
    return f"{name}: {said}" if name else said
