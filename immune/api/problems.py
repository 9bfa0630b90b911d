"""What goes wrong, as RFC 9457 problem documents: status, what, field, value, way out, request id. Never a token."""

from __future__ import annotations

import json
from http import HTTPStatus

from aiohttp import web

from immune.api.seams import Document
from immune.core.commands import CommandError
from immune.errors import (
    AppendConflictError,
    EnrolmentRefusedError,
    FencedError,
    ImmuneError,
    InputError,
    RefusedError,
    UnknownIdError,
    UnreachableError,
    WriterHeldError,
)

MEDIA_TYPE = "application/problem+json"
ACTED = frozenset({403, 404, 409, 410, 412})
"""Answers to an attempt to act that are put on record."""
_STATUS: tuple[tuple[type[ImmuneError], int], ...] = (
    (UnknownIdError, 404),
    (InputError, 400),
    (UnreachableError, 503),
    (WriterHeldError, 503),
    (FencedError, 503),
    (AppendConflictError, 503),
    (EnrolmentRefusedError, 409),
    (RefusedError, 403),
)


class ProblemError(ImmuneError):
    """A request that is answered with this status; `headers` go with it."""

    exit_code = 2

    def __init__(
        self, status: int, what: str, *, field: str | None = None, value: object = None, way_out: str = "", headers: dict[str, str] | None = None
    ) -> None:
        self.status = status
        self.headers = headers or {}
        super().__init__(what, field=field, value=value, way_out=way_out)


def status_of(error: ImmuneError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, (ProblemError, CommandError)):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem_document(error: ImmuneError, request_id: str) -> Document:
    """``type title status detail field value way_out request_id``."""
    status = status_of(error)
    told = error.as_json()
    return {
        "type": f"urn:immune:problem:{status}",
        "title": title_of(status),
        "status": status,
        "detail": f"{told['what']}; {told['way_out']}" if told["way_out"] else told["what"],
        "field": told["field"],
        "value": told["value"],
        "way_out": told["way_out"],
        "request_id": request_id,
    }


def problem_response(error: ImmuneError, request_id: str) -> web.Response:
    """The answer to a request that failed."""
    headers = error.headers if isinstance(error, ProblemError) else {}
    return json_response(problem_document(error, request_id), status=status_of(error), headers=headers)


def json_response(document: Document, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A document as an answer; problem documents get their own media type."""
    media_type = MEDIA_TYPE if status >= 400 else "application/json"
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    return web.Response(body=body, status=status, headers=headers, content_type=media_type, charset="utf-8")


def title_of(status: int) -> str:
    """HTTP's own words for a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
