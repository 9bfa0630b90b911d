"""One table row per route: path, who may, what the body holds, what answers. Router and OpenAPI document both read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

from immune.api.context import Context
from immune.api.problems import ProblemError
from immune.core.commands import Principal, Role
from immune.core.vitals import check_agent_id
from immune.errors import InputError

READERS: frozenset[Role] = frozenset({"viewer", "operator", "approver", "admin"})
OPERATORS: frozenset[Role] = frozenset({"operator", "approver", "admin"})
APPROVERS: frozenset[Role] = frozenset({"approver", "admin"})
REPORTERS: frozenset[Role] = OPERATORS | {"agent"}
EVERYONE: frozenset[Role] = READERS | {"agent"}

FieldType = Literal["text", "boolean", "time"]
BodyKind = Literal["none", "fields", "samples", "otlp"]
DEFAULT_PAGE = 1000
MAX_PAGE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyField:
    """One field of a JSON body. `time` is ISO 8601 or epoch seconds and arrives as microseconds."""

    name: str
    type: FieldType = "text"
    required: bool = True
    max_length: int = 500
    options: tuple[str, ...] = ()
    says: str = ""
    secret: bool = False
    """Never told back, not even to who sent it."""


@dataclass(slots=True, kw_only=True)
class Call:
    """One request that was let in."""

    context: Context
    request: web.Request
    request_id: str
    speaker: Principal | None
    now_us: int
    body: Mapping[str, str | bool | int] = field(default_factory=dict)
    raw: bytes = b""

    @property
    def principal(self) -> Principal:
        """Who asks; there is always one where the route wants a role."""
        if self.speaker is None:
            raise ProblemError(401, "a token is needed", field="Authorization")
        return self.speaker

    def text(self, name: str) -> str:
        """A text field of the body; empty where it was left out."""
        value = self.body.get(name, "")
        return value if isinstance(value, str) else ""

    def flag(self, name: str) -> bool:
        """A boolean field of the body; False where it was left out."""
        return self.body.get(name, False) is True

    def time_us(self, name: str) -> int:
        """A time field of the body."""
        value = self.body.get(name, 0)
        return value if isinstance(value, int) else 0

    @property
    def id(self) -> str:
        """The id in the path."""
        return self.request.match_info["id"]

    @property
    def agent_id(self) -> str:
        """The agent id in the path, in NFC. Raises ProblemError 400 for what cannot be one."""
        try:
            return check_agent_id(self.id)
        except InputError as error:
            raise ProblemError(400, error.what, field="id", value=self.id, way_out=error.way_out) from None

    def page(self) -> tuple[int, int]:
        """(limit, offset) of a list."""
        return self._number("limit", DEFAULT_PAGE, 1, MAX_PAGE), self._number("offset", 0, 0, 2**31)

    def _number(self, name: str, default: int, low: int, high: int) -> int:
        text = self.request.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
            raise ProblemError(400, "not a number that fits", field=name, value=text, way_out=f"a whole number from {low} to {high}")
        return int(text)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route. `roles` empty: open to everyone without a token. `command` names it in the journal when it is refused."""

    method: str
    path: str
    handler: Handler
    summary: str
    roles: frozenset[Role] = frozenset()
    command: str = ""
    body: BodyKind = "none"
    fields: tuple[BodyField, ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    status: int = 200
    refuses: tuple[int, ...] = ()
    """Statuses that follow from nothing else in the row."""
    keyed: bool = True
    """Whether a POST takes an Idempotency-Key."""
    media_type: str = "application/json"

    @property
    def name(self) -> str:
        """How metrics and the OpenAPI document name it."""
        words = [part.strip("{}") for part in self.path.split("/") if part]
        return "_".join([self.method.lower(), *words]).replace(".", "_")
