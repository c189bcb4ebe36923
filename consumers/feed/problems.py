"""Errors as RFC 9457 has them: ``application/problem+json`` with what is wrong and what to do."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


class ProblemDetails(Struct, frozen=True, omit_defaults=True):
    """The body of an error."""

    title: str
    status: int
    detail: str = ""
    """What is wrong with this request, and what to do."""


class Problem(Exception):
    """An answer that is an error.

    Parameters
    ----------
    detail
        For whoever asked: no secrets, nothing of others.
    """

    def __init__(self, status: HTTPStatus, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def response(self) -> Response:
        """As it is sent."""
        body = ProblemDetails(self.status.phrase, int(self.status), self.detail)
        return Response(msgspec.json.encode(body), self.status, self.headers, MEDIA_TYPE)


def on_problem(_request: Request, error: Exception) -> Response:
    """Starlette's handler of a :class:`Problem`."""
    assert isinstance(error, Problem)  # noqa: S101 (registered for this class)
    return error.response()


def on_http(_request: Request, error: Exception) -> Response:
    """Starlette's handler of its own exceptions: no such path, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for this class)
    problem = Problem(HTTPStatus(error.status_code), "the paths are described at /openapi.json")
    problem.headers = dict(error.headers or {})
    return problem.response()


def on_fault(_request: Request, error: Exception) -> Response:
    """What Strata needs and cannot have at the moment."""
    log.warning("a request was not answered: %(error)s", {"error": error})
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not now; try again", Retry_After="5").response()


def on_error(_request: Request, error: Exception) -> Response:
    """What nobody expected. The message stays here: it may tell what is nobody's business."""
    log.error("a request failed: %(error)s", {"error": type(error).__name__}, exc_info=error)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the fault is on this side, and in the log").response()
