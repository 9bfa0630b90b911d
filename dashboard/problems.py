"""What goes wrong, as RFC 9457 problem documents in the shape of the daemon's own."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from immune.core.commands import CommandError
from immune.errors import ImmuneError, InputError, RefusedError, UnknownIdError, UnreachableError

MEDIA_TYPE = "application/problem+json"
_STATUS: tuple[tuple[type[ImmuneError], int], ...] = ((UnknownIdError, 404), (InputError, 400), (UnreachableError, 503), (RefusedError, 403))


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


def problem_document(error: ImmuneError, request_id: str) -> dict[str, Any]:
    """``type title status detail field value way_out request_id``."""
    status, told = status_of(error), error.as_json()
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


def title_of(status: int) -> str:
    """HTTP's own words for a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
