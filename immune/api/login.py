"""POST /v1/login: a name and a password for a token that lives for a shift. Slow on purpose, bounded, and silent about who exists."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from immune.api.limits import Buckets
from immune.api.problems import ProblemError, json_response
from immune.api.reading import beside
from immune.api.routing import READERS, BodyField, Call, Route
from immune.api.seams import People
from immune.core import acts
from immune.core.commands import Principal
from immune.core.decision import Decision
from immune.core.events import SYSTEM, Draft, iso

AT_ONCE = 2
"""Each check of a password takes 64 MiB and a tenth of a second."""
WAITING_MAX = 16
NOBODY = "(a name that nobody has)"
"""People type passwords into the wrong field: a name that is none is never written down."""


@dataclass(slots=True, kw_only=True)
class Desk:
    """Who logs in here, and how often somebody may be wrong: by name, by address, and on record."""

    people: People
    by_name: Buckets = field(default_factory=lambda: Buckets(per_s=1 / 30, burst=10.0))
    by_address: Buckets = field(default_factory=lambda: Buckets(per_s=0.5, burst=30.0))
    on_record: Buckets = field(default_factory=lambda: Buckets(per_s=1 / 60, burst=20.0))
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    waiting: int = 0
    failed: int = 0


async def log_in(call: Call) -> web.StreamResponse:
    """200 with a token, 401 for anything that is not right, 429 after too many of those, 503 when too many ask at once."""
    desk = _desk(call)
    call.context.doorman.check_origin(call.request)
    name, password, now_us = call.text("name"), call.text("password"), call.now_us
    address = call.request.remote or "unknown"
    if desk.by_name.level(name, now_us) < 1 or desk.by_address.level(address, now_us) < 1:
        raise ProblemError(429, "too many failed attempts", way_out="wait a minute", headers={"Retry-After": "60"})
    who = await _checked(desk, name, password)
    if who is None:
        desk.by_name.take(name, now_us)
        desk.by_address.take(address, now_us)
        _note_failure(call, desk, name)
        raise ProblemError(401, "name or password is not right", way_out="an admin can set another: `immune people add NAME --role ROLE`")
    session = desk.people.begin(who, now_us)
    return json_response({"token": session.token, "name": who.name, "role": who.role, "expires_at": iso(session.expires_us)})


async def log_out(call: Call) -> web.StreamResponse:
    """End the session whose token is sent; a named token is not touched."""
    _desk(call).people.end(call.request.headers.get("Authorization", "").partition(" ")[2].strip())
    return json_response({"name": call.principal.name, "ended": True})


async def _checked(desk: Desk, name: str, password: str) -> Principal | None:
    if desk.waiting >= WAITING_MAX:
        raise ProblemError(503, "too many log in at once", way_out="try again in a moment", headers={"Retry-After": "2"})
    desk.waiting += 1
    try:
        async with desk.turn:
            return await beside(desk.people.check, name, password)
    finally:
        desk.waiting -= 1


def _note_failure(call: Call, desk: Desk, name: str) -> None:
    """On record with a name that exists; so many a minute, the others are counted."""
    desk.failed += 1
    if desk.on_record.take("log-in", call.now_us):
        return
    told = name if name in desk.people.roles() else NOBODY
    event = acts.CommandRefused(command="login", target=told, status=401, reason="name or password is not right")
    call.context.engine.submit(Decision(drafts=(Draft(at_us=call.now_us, subject="login", event=event, actor=SYSTEM),)))


def _desk(call: Call) -> Desk:
    if call.context.login is None:
        raise ProblemError(404, "nobody logs in here", field="path", value=call.request.path, way_out="use a token")
    return call.context.login


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/login",
        handler=log_in,
        summary="A name and a password for a token that lives twelve hours; ends with a restart of the daemon",
        command="login",
        body="fields",
        fields=(
            BodyField(name="name", max_length=64, says="your name"),
            BodyField(name="password", max_length=256, secret=True, says="your password"),
        ),
        refuses=(401, 429),
        keyed=False,
    ),
    Route(
        method="POST",
        path="/v1/logout",
        handler=log_out,
        summary="End the session whose token is sent",
        roles=READERS,
        command="logout",
        keyed=False,
    ),
)
