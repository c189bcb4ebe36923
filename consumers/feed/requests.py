"""What a request says, checked: each error names the parameter and what would do."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request

from consumers.feed.config import FeedConfig
from consumers.feed.problems import Problem
from consumers.feed.serving import Wanted
from models.errors import InvalidEvent
from models.events import Limits, check_length, check_text

_BAD = HTTPStatus.BAD_REQUEST


def identifier(request: Request, name: str, limits: Limits) -> str:
    """The id in a path.

    Raises
    ------
    Problem
    """
    value: str = request.path_params[name]
    try:
        check_length(value, name, limits.id_length, "id_length")
        check_text(value, name)
        value.encode()
    except (InvalidEvent, UnicodeEncodeError) as error:
        raise Problem(_BAD, str(error) if isinstance(error, InvalidEvent) else f"{name}: not UTF-8") from None
    return value


def number(request: Request, name: str, default: int, most: int) -> int:
    """A whole number from 1 to ``most`` among the parameters.

    Raises
    ------
    Problem
    """
    given = request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise Problem(_BAD, f"{name}: a whole number from 1 to {most}")
    return int(given)


def wanted(request: Request, config: FeedConfig) -> Wanted:
    """``limit``, ``exclude`` (several, or with commas between) and ``category``.

    Raises
    ------
    Problem
    """
    parameters = request.query_params
    excluded = frozenset(part for given in parameters.getlist("exclude") for part in given.split(",") if part)
    if len(excluded) > config.excluded:
        raise Problem(_BAD, f"exclude: at most {config.excluded} items")
    category = parameters.get("category")
    if category is not None and len(category) > config.limits.label_length:
        raise Problem(_BAD, f"category: at most {config.limits.label_length} characters")
    return Wanted(number(request, "limit", 10, config.longest_list), excluded, category)


async def body(request: Request, most: int) -> bytes:
    """The body, refused as soon as it is too long.

    Raises
    ------
    Problem
    """
    told = request.headers.get("content-length", "0")
    if not told.isdigit() or int(told) > most:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body: at most {most} bytes")
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > most:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body: at most {most} bytes")
    return bytes(read)
