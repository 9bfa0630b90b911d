"""The API as one object: composed from the engine and its siblings, one guard before all routes."""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from aiohttp import web

from immune.api import gates, health, ingesting, login, orders, reading, status, streaming, telemetry
from immune.api.auth import SAFE_METHODS, Doorman
from immune.api.bodies import parse_fields, read_body
from immune.api.commanding import refuse
from immune.api.context import Context
from immune.api.limits import Buckets
from immune.api.openapi import openapi_route
from immune.api.problems import ProblemError, problem_response
from immune.api.routing import Call, Route
from immune.api.seams import Explain, Gate, Host, Inbox, Keys, Papers, People
from immune.api.stream import Stream
from immune.clock import Clock
from immune.core.commands import CommandError, Principal
from immune.core.events import Envelope
from immune.errors import ImmuneError
from immune.ports import Journal

log = logging.getLogger("immune.api")
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")

_LISTED = (
    *health.ROUTES,
    *ingesting.ROUTES,
    *telemetry.ROUTES,
    *gates.ROUTES,
    *reading.ROUTES,
    *status.ROUTES,
    *orders.ROUTES,
    *login.ROUTES,
    *streaming.ROUTES,
)
ROUTES: tuple[Route, ...] = (*_LISTED, openapi_route(_LISTED))
"""Every route there is."""

REFUSALS_PER_S = 10.0
REFUSALS_AT_ONCE = 300.0
"""Beyond these a principal has to wait, so that nobody fills the journal with attempts that are refused."""
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "immune",
}
_BUGS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NameError, OSError, RuntimeError, TypeError, ValueError)
"""What a mistake of ours raises: the request fails, the daemon goes on, the log has the trace."""

_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""What the system says when it has no more to give."""

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _request_id() -> str:
    return secrets.token_hex(8)


class Api:
    """The control API of one engine. Runs on the engine's loop and never keeps it for long.

    hosts   names besides those of the loopback by which the daemon may be addressed
    reader  opens a read-only handle on the same journal, so that long reads can run beside the loop; without one they run on it
    metrics answers ``GET /metrics`` for an Accept header; without it there are none
    surroundings  what runs beside the engine, for ``GET /v1/status``: ``children`` and ``companions``
    people        who may log in with a password; nobody without it
    """

    def __init__(
        self,
        *,
        engine: Host,
        inbox: Inbox,
        keys: Keys,
        gate: Gate,
        papers: Papers,
        explain: Explain,
        clock: Clock,
        hosts: Collection[str] = (),
        reader: Callable[[], Journal] | None = None,
        request_ids: Callable[[], str] = _request_id,
        metrics: Callable[[str], tuple[bytes, str]] | None = None,
        surroundings: Callable[[], Mapping[str, Any]] = dict,
        people: People | None = None,
    ) -> None:
        limits = engine.rules.policy.limits
        self.context = Context(
            engine=engine,
            inbox=inbox,
            keys=keys,
            gate=gate,
            papers=papers,
            explain=explain,
            clock=clock,
            doorman=Doorman(keys, hosts),
            stream=Stream(engine.journal, engine.run_id),
            buckets=Buckets(per_s=limits.requests_per_s, burst=2 * limits.requests_per_s),
            refusals=Buckets(per_s=REFUSALS_PER_S, burst=REFUSALS_AT_ONCE),
            metrics=metrics,
            surroundings=surroundings,
            login=login.Desk(people=people) if people is not None else None,
            reader=reader,
            ticked_at_us=clock.now_us(),
        )
        self._ticks = 0
        self._request_ids = request_ids
        engine.listeners.append(self._heard)

    def application(self) -> web.Application:
        """A fresh aiohttp application with every route."""
        application = web.Application(middlewares=[self._guard])
        for route in ROUTES:
            # an id may hold anything but a bare slash, braces too, which aiohttp's own pattern leaves out
            application.router.add_route(route.method, route.path.replace("{id}", "{id:[^/]+}"), self._bound(route))
        return application

    def refresh_approvers(self) -> None:
        """Bring the engine's rules up to date about who may approve; to be called before every tick."""
        self.context.refresh_approvers()

    def close(self) -> None:
        """Let the listeners of the live stream go."""
        self.context.stream.close()
        if self._heard in self.context.engine.listeners:
            self.context.engine.listeners.remove(self._heard)

    def _heard(self, envelopes: Sequence[Envelope], _view: Any) -> None:
        engine = self.context.engine
        self.context.stream.publish(envelopes, engine.state.seq)
        if engine.counters.ticks != self._ticks:
            self._ticks = engine.counters.ticks
            self.context.ticked_at_us = self.context.clock.now_us()

    # -- one request ---------------------------------------------------------------------------------------------------

    def _bound(self, route: Route) -> Next:
        async def answer(request: web.Request) -> web.StreamResponse:
            call = await self._let_in(route, request)
            return await route.handler(call)

        answer.route = route  # type: ignore[attr-defined]
        return answer

    @web.middleware
    async def _guard(self, request: web.Request, handler: Next) -> web.StreamResponse:
        """Whatever happens, the answer is one of ours: a document, with a request id and the security headers."""
        request_id = self._request_ids()
        REQUEST_ID.set(request_id)
        try:
            self.context.doorman.check_host(request)
            response = await handler(request)
        except ImmuneError as error:
            response = problem_response(error, request_id)
        except web.HTTPException as error:
            response = problem_response(_of_router(request, error), request_id)
        except (web.RequestPayloadError, ConnectionError):
            response = problem_response(ProblemError(400, "the body broke off or is badly framed", field="body"), request_id)
        except _BUGS as error:
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SHORT):
                return self._short_of(request, error, request_id)
            self.context.counters.bugs += 1
            log.exception("request %s failed", request_id)
            response = problem_response(
                ProblemError(500, "something went wrong here", way_out="look for the request id in the daemon's log"), request_id
            )
        if not response.prepared:
            response.headers.update({**SECURITY_HEADERS, "X-Request-Id": request_id})
        self.context.counters.answered(_name(request), response.status)
        return response

    def _short_of(self, request: web.Request, error: BaseException, request_id: str) -> web.Response:
        """The system has no handle or no memory left for this one: not a mistake, and worth another try."""
        log.warning("request %s: the system is short of something: %s", request_id, error)
        short = ProblemError(503, "the system is short of file handles or memory", way_out="try again in a moment", headers={"Retry-After": "2"})
        self.context.counters.answered(_name(request), 503)
        return problem_response(short, request_id)

    async def _let_in(self, route: Route, request: web.Request) -> Call:
        context = self.context
        call = Call(context=context, request=request, request_id=REQUEST_ID.get(), speaker=None, now_us=context.clock.now_us())
        if route.roles:
            call.speaker = self._admit(route, call)
        if route.body != "none":
            call.raw = await read_body(request, context.limits.max_body_bytes, may_be_packed=route.body == "otlp")
            # reading took time, and what is decided now is decided now
            call.now_us = context.clock.now_us()
        if route.body == "fields":
            call.body = self._fields(route, call)
        return call

    def _fields(self, route: Route, call: Call) -> Mapping[str, str | bool | int]:
        """The body's fields. An unknown level, scope or decision is an attempt to act all the same, and goes on record."""
        try:
            return parse_fields(call.raw, call.request.content_type, route.fields)
        except ProblemError as error:
            if route.command and any(one.name == error.field and one.options for one in route.fields):
                told = CommandError(error.status, error.what, field=error.field, value=error.value, way_out=error.way_out)
                refuse(call, route.command, _target(call), told)
            raise

    def _admit(self, route: Route, call: Call) -> Principal:
        context = self.context
        call.speaker = principal = context.doorman.admit(call.request, call.now_us)
        wait_s = context.buckets.take(principal.actor, call.now_us)
        if wait_s:
            raise ProblemError(
                429, "too many requests", way_out=f"at most {context.limits.requests_per_s:g} a second", headers={"Retry-After": str(1 + int(wait_s))}
            )
        if context.refusals.level(principal.actor, call.now_us) < 1:
            raise ProblemError(
                429, "too many refused attempts", way_out="wait a moment, and look at why they are refused", headers={"Retry-After": "1"}
            )
        try:
            context.doorman.check_origin(call.request)
            _check_role(route, principal)
        except CommandError as error:
            if call.request.method not in SAFE_METHODS:
                refuse(call, route.command, _target(call), error)
            raise
        return principal


def _check_role(route: Route, principal: Principal) -> None:
    if principal.role not in route.roles:
        needed = " or ".join(sorted(route.roles))
        raise CommandError(
            403, f"the role {principal.role} may not do this", field="role", value=principal.role, way_out=f"ask for the role {needed}"
        )


def _target(call: Call) -> str:
    return call.request.match_info.get("id", "")


def _name(request: web.Request) -> str:
    route = getattr(request.match_info.handler, "route", None)
    return route.name if isinstance(route, Route) else "none"


def _of_router(request: web.Request, error: web.HTTPException) -> ProblemError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ProblemError(
            405, "this method is not taken here", field="method", value=request.method, way_out=f"one of {allowed}", headers={"Allow": allowed}
        )
    if error.status == 404:
        return ProblemError(404, "there is nothing here", field="path", value=request.path, way_out="see /openapi.json")
    return ProblemError(error.status, error.reason or "the request cannot be answered")
