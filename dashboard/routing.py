"""One table row per route: path, who may, what it takes, what answers. The router and the OpenAPI document both read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from flask import Request, Response

from dashboard.encoding import encode
from dashboard.projection import Projection
from dashboard.sessions import Session
from dashboard.shelf import Sheet, sheet_of
from dashboard.site import Site
from immune.api.problems import ProblemError
from immune.core.commands import RANK, Principal, Role

FieldType = Literal["text", "boolean", "number", "list", "object"]
JSON = "application/json"
MAX_BODY_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyField:
    """One field of a JSON body."""

    name: str
    type: FieldType = "text"
    required: bool = False
    max_length: int = 500
    options: tuple[str, ...] = ()
    says: str = ""


@dataclass(slots=True, kw_only=True)
class Ask:
    """One request that was let in. `principal` None: nobody said who they are; they may look where looking is open."""

    site: Site
    request: Request
    request_id: str
    principal: Principal | None
    token: str
    session: Session | None
    body: Mapping[str, Any] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)

    @property
    def role(self) -> Role:
        """What they may do."""
        return self.principal.role if self.principal else "viewer"

    def may(self, role: Role) -> bool:
        """Whether they have at least this role, and a name."""
        return self.principal is not None and RANK[self.principal.role] >= RANK[role]

    def text(self, name: str) -> str:
        """A text field of the body; empty where it was left out."""
        value = self.body.get(name, "")
        return value if isinstance(value, str) else ""

    def query(self, name: str) -> str:
        """A query parameter, empty when absent."""
        return self.request.args.get(name, "")

    @property
    def id(self) -> str:
        """The id in the path, or in ``?id=`` for ids that no path can hold."""
        return self.path.get("id") or self.query("id")

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number of the query. Raises ProblemError 400."""
        text = self.query(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 19 and low <= int(text) <= high):
            raise ProblemError(400, "not a number that fits", field=name, value=text, way_out=f"a whole number from {low} to {high}")
        return int(text)

    @property
    def projection(self) -> Projection:
        """The run and moment asked for: ``?run=`` and ``?at=``."""
        return self.site.moment(self.query("run"), self.query("at"))


Handler = Callable[[Ask], Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route. `role`: the least role; "" is open to everybody, "viewer" to everybody where looking is open.

    csrf        whether a change needs the word of the session's own page; logging in has none yet
    page        a page for people: refusals are pages too, and who must log in is sent there
    """

    method: str
    path: str
    handler: Handler
    summary: str
    role: Role | Literal[""] = "viewer"
    page: bool = False
    body: bool = False
    fields: tuple[BodyField, ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    media_type: str = JSON
    listed: bool = True
    csrf: bool = True

    @property
    def name(self) -> str:
        """How the OpenAPI document names it."""
        words = [part.strip("<>").replace("path:", "") for part in self.path.split("/") if part]
        return "_".join([self.method.lower(), *words]).replace(".", "_").replace("-", "_")


def answer(ask: Ask, sheet: Sheet, *, media_type: str = JSON) -> Response:
    """Finished bytes: 304 for who has them, packed for who can unpack."""
    if sheet.etag in ask.request.headers.get("If-None-Match", ""):
        response = Response(status=304)
    elif sheet.packed is not None and "gzip" in ask.request.headers.get("Accept-Encoding", ""):
        response = Response(sheet.packed, content_type=_typed(media_type))
        response.headers["Content-Encoding"] = "gzip"
    else:
        response = Response(sheet.raw, content_type=_typed(media_type))
    response.headers["ETag"] = sheet.etag
    response.headers["Vary"] = "Accept-Encoding, Cookie, Authorization"
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def document(ask: Ask, content: Any, *, status: int = 200) -> Response:
    """A document as an answer."""
    if status != 200:
        return Response(encode(content), status=status, content_type=_typed(JSON))
    return answer(ask, sheet_of(encode(content) + b"\n", ""))


def _typed(media_type: str) -> str:
    return media_type if "charset" in media_type else f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type
