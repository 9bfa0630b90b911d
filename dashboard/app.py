"""The Flask application: one guard before every route, the security headers behind every answer."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, g, redirect, render_template, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from dashboard.encoding import encode
from dashboard.guard import SECURITY_HEADERS, allowed_hosts, authority, host_name
from dashboard.openapi import openapi_route
from dashboard.routes import acting, downloads, live, logins, machines, pages, reading, records
from dashboard.routing import MAX_BODY_BYTES, Ask, Route
from dashboard.sessions import Session, same
from dashboard.site import Site
from immune.api.problems import MEDIA_TYPE, ProblemError, problem_document, status_of
from immune.core.commands import RANK, Principal
from immune.errors import ImmuneError

log = logging.getLogger("dashboard")

_LISTED: tuple[Route, ...] = (
    *machines.ROUTES,
    *logins.ROUTES,
    *reading.ROUTES,
    *records.ROUTES,
    *downloads.ROUTES,
    *live.ROUTES,
    *acting.ROUTES,
    *pages.ROUTES,
)
ROUTES: tuple[Route, ...] = (*_LISTED, openapi_route(_LISTED))
"""Every route there is, static files aside."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BUGS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NameError, OSError, RuntimeError, TypeError, ValueError)
"""What a mistake of ours raises: the request fails, the dashboard goes on, the log has the trace."""


def create_app(site: Site) -> Flask:
    """The application of a site."""
    app = Flask("dashboard", static_folder="static", template_folder="templates")
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, SEND_FILE_MAX_AGE_DEFAULT=0)
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.extensions["immune"] = site
    app.before_request(_before(site))
    app.after_request(_after)
    for route in ROUTES:
        app.add_url_rule(route.path, endpoint=route.name, view_func=_bound(site, route), methods=[route.method])
    app.register_error_handler(HTTPException, _of_router)
    return app


def cookie_name(site: Site) -> str:
    """Cookies know hosts, not ports: two dashboards on one machine must not log each other out."""
    return f"immune_{site.options.port}"


# -- one request -----------------------------------------------------------------------------------------------------------


def _before(site: Site) -> Callable[[], Response | None]:
    allowed = allowed_hosts(site)

    def before() -> Response | None:
        g.request_id = secrets.token_hex(8)
        g.page = False
        site.counters.requests += 1
        name = host_name(request.headers.get("Host", ""))
        if name not in allowed:
            return _failed(ProblemError(421, "this is not the host you meant", field="Host", value=name, way_out="use the address that was printed"))
        return None

    return before


def _after(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-cache" if request.path.startswith("/static/") else "no-store")
    response.headers["X-Request-Id"] = g.get("request_id", "")
    response.headers.pop("Server", None)
    return response


def _bound(site: Site, route: Route) -> Callable[..., Response]:
    def view(**path: str) -> Response:
        g.page = route.page
        try:
            ask = _let_in(site, route, path)
            return route.handler(ask)
        except ImmuneError as error:
            if route.page and isinstance(error, ProblemError) and error.status == 401:
                return redirect("/login?next=" + quote(request.full_path.rstrip("?"), safe="/"))  # type: ignore[return-value]
            site.counters.refused += 1
            return _failed(error)
        except _BUGS:
            site.counters.bugs += 1
            log.exception("request %s failed", g.request_id)
            return _failed(ProblemError(500, "something went wrong here", way_out="try again; the dashboard's log has the request id"))

    return view


def _let_in(site: Site, route: Route, path: dict[str, str]) -> Ask:
    principal, token, session = identify(site)
    ask = Ask(site=site, request=request, request_id=g.request_id, principal=principal, token=token, session=session, path=path)
    changing = request.method not in SAFE_METHODS
    if changing:
        check_origin()
        if route.csrf and session is not None and not same(request.headers.get("X-CSRF-Token", ""), session.csrf):
            raise ProblemError(403, "this change did not come from your page", field="X-CSRF-Token", way_out="reload the page and try again")
    closed = site.options.login and session is None
    if route.role and principal is None and (route.role != "viewer" or changing or closed):
        raise ProblemError(401, "say who you are first", field="Authorization", way_out="log in, or send `Authorization: Bearer TOKEN`")
    if route.role and RANK[ask.role] < RANK[route.role]:
        raise ProblemError(403, f"the role {ask.role} may not do this", field="role", value=ask.role, way_out=f"ask for the role {route.role}")
    if route.body:
        ask.body = _fields(route)
    return ask


def identify(site: Site) -> tuple[Principal | None, str, Session | None]:
    """Who asks, by bearer token or by session. Raises ProblemError 401 for a token that is not valid, 429 after too many of them."""
    header = request.headers.get("Authorization", "")
    if header:
        scheme, _, token = header.partition(" ")
        token = token.strip()
        principal = site.keys.find(token) if scheme.lower() == "bearer" and token else None
        if principal is None:
            site.counters.failed_logins += 1
            if site.tries.take(request.remote_addr or "unknown", site.clock.now_us()):
                raise ProblemError(429, "too many failed attempts from your address", way_out="wait a moment", headers={"Retry-After": "2"})
            raise ProblemError(401, "this token is not valid", field="Authorization", way_out="see `immune tokens`")
        return principal, token, None
    session = site.sessions.find(request.cookies.get(cookie_name(site), ""))
    if session is None:
        return None, "", None
    if not session.name:
        return None, "", session
    principal = site.keys.of_session(session.name, session.token)
    if principal is None:
        # the token was revoked, or the person removed
        return None, "", None
    return principal, session.token, session


def check_origin() -> None:
    """403 for a change that a page of another origin asks a browser to make."""
    came_from = request.headers.get("Sec-Fetch-Site", "")
    if came_from in {"cross-site", "same-site"}:
        raise ProblemError(403, "another site asks for this change", field="Sec-Fetch-Site", value=came_from, way_out="use the dashboard's own page")
    origin = request.headers.get("Origin")
    if origin is not None and authority(origin) != request.headers.get("Host", "").lower():
        raise ProblemError(403, "another origin asks for this change", field="Origin", value=origin, way_out="use the dashboard's own page")


def _fields(route: Route) -> dict[str, Any]:
    if request.mimetype != "application/json":
        raise ProblemError(415, "a JSON body is needed", field="Content-Type", value=request.mimetype, way_out="send application/json")
    try:
        body = json.loads(request.get_data() or b"{}")
    except (ValueError, RecursionError):
        raise ProblemError(400, "the body is not JSON", field="body", way_out="send one JSON object") from None
    if not isinstance(body, dict):
        raise ProblemError(400, "the body is not an object", field="body", way_out="send one JSON object")
    known = {one.name: one for one in route.fields}
    types: dict[str, tuple[type, ...]] = {"text": (str,), "boolean": (bool,), "number": (int, float), "list": (list,), "object": (dict,)}
    for name, value in body.items():
        one = known.get(name)
        if one is None:
            raise ProblemError(400, "unknown field", field=name, way_out="known: " + (", ".join(known) or "none"))
        if value is None:
            continue
        if not isinstance(value, types[one.type]):
            raise ProblemError(400, f"not a {one.type}", field=name, value=value, way_out=one.says)
        if isinstance(value, str) and len(value) > one.max_length:
            raise ProblemError(400, "too long", field=name, way_out=f"at most {one.max_length} characters")
        if one.options and value not in one.options:
            raise ProblemError(400, "not one of the known words", field=name, value=value, way_out="one of " + " ".join(one.options))
    for one in route.fields:
        if one.required and body.get(one.name) in (None, "", [], {}):
            raise ProblemError(400, "this is needed", field=one.name, way_out=one.says)
    return {name: value for name, value in body.items() if value is not None}


def _failed(error: ImmuneError) -> Response:
    request_id = g.get("request_id", "")
    status, told = status_of(error), problem_document(error, request_id)
    if g.get("page", False):
        response = Response(render_template("error.html", problem=told, page="error", title=told["title"]), status=status)
    else:
        response = Response(encode(told), status=status, content_type=MEDIA_TYPE)
    if isinstance(error, ProblemError):
        response.headers.update(error.headers)
    return response


def _of_router(error: HTTPException) -> Response:
    g.page = request.method == "GET" and "text/html" in request.headers.get("Accept", "") and not request.path.startswith("/api/")
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return _failed(
            ProblemError(
                405, "this method is not taken here", field="method", value=request.method, way_out=f"one of {allowed}", headers={"Allow": allowed}
            )
        )
    status = error.code or 500
    if status == 404:
        way_out = "look for it from the fleet" if g.page else "see /openapi.json"
        return _failed(ProblemError(404, "there is nothing here", field="path", value=request.path, way_out=way_out))
    return _failed(ProblemError(status, error.description or "the request cannot be answered"))
