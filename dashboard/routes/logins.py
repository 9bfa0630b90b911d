"""Logging in with a password, a token or a one-time link, logging out, and who one is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from flask import Response, render_template

from dashboard.composition import redeem_link
from dashboard.encoding import encode
from dashboard.routing import Ask, BodyField, Route
from dashboard.sessions import LASTS_S
from immune.api.problems import ProblemError
from immune.core.commands import Principal
from immune.core.events import iso
from immune.errors import UnreachableError

ONLY_LOOKING = ("", "")
"""What the link of a notice opens: no name, no token."""


def login_page(_: Ask) -> Response:
    """The page where people say who they are."""
    return Response(render_template("login.html", page="login", title="Log in"), content_type="text/html; charset=utf-8")


def show_session(ask: Ask) -> Response:
    """Who asks, what they may do, and what their page must send with every change."""
    return Response(encode(session_document(ask)), content_type="application/json")


def session_document(ask: Ask) -> dict[str, Any]:
    """``{name, role, csrf, expires_at, login_required, snoozed}``; name null for somebody who only looks."""
    session = ask.session
    now_us = ask.site.clock.now_us()
    return {
        "name": ask.principal.name if ask.principal else None,
        "role": ask.role,
        "csrf": session.csrf if session else None,
        "expires_at": iso(session.expires_us) if session else None,
        "login_required": ask.site.options.login,
        "snoozed": {key: iso(at_us) for key, at_us in session.snoozed.items() if at_us > now_us} if session else {},
    }


def log_in(ask: Ask) -> Response:
    """Open a session. 401 for what is not valid, 429 after too many tries from one address."""
    site, now_us = ask.site, ask.site.clock.now_us()
    address = ask.request.remote_addr or "unknown"
    if site.tries.level(address, now_us) < 1:
        raise ProblemError(429, "too many failed attempts from your address", way_out="wait a moment", headers={"Retry-After": "2"})
    given = _redeemed(ask) if ask.text("link") else _of_password(ask) if ask.text("password") else _of_token(ask)
    if given == ONLY_LOOKING:
        return _look_in(ask)
    principal = site.keys.of_session(*given) if given else None
    if given is None or principal is None:
        site.tries.take(address, now_us)
        site.counters.failed_logins += 1
        if ask.text("link"):
            way_out = "log in with your name and password, or a token; the page it meant opens then"
            raise ProblemError(401, "this link was used already, or is too old", way_out=way_out)
        raise ProblemError(401, "this is not valid", way_out="check name and password, or the token; after several tries you must wait a moment")
    site.counters.logins += 1
    secret, session = site.sessions.open(principal.name, given[1])
    ask.principal, ask.session = principal, session
    response = show_session(ask)
    _set_cookie(ask, response, secret)
    return response


def _look_in(ask: Ask) -> Response:
    """Somebody came by the link of a notice: who has a name here already keeps it, others may look and no more."""
    if ask.session is None:
        secret, ask.session = ask.site.sessions.open(*ONLY_LOOKING)
        response = show_session(ask)
        _set_cookie(ask, response, secret)
        return response
    return show_session(ask)


def _of_password(ask: Ask) -> tuple[str, str] | None:
    """The daemon checks passwords, slowly and with its own account of failures. Raises ProblemError with what it says."""
    told = ask.site.daemon.ask("POST", "/v1/login", body={"name": ask.text("name"), "password": ask.text("password")}, keyed=False)
    found = told.document if isinstance(told.document, dict) else {}
    if told.status == 200:
        return str(found["name"]), str(found["token"])
    if told.status == 401:
        return None
    headers = {"Retry-After": told.headers["Retry-After"]} if "Retry-After" in told.headers else {}
    raise ProblemError(told.status, str(found.get("detail", "the daemon lets nobody in")), headers=headers)


def _redeemed(ask: Ask) -> tuple[str, str] | None:
    return redeem_link(ask.site.options.data_dir, ask.text("link"), ask.site.clock.now_us())


def _of_token(ask: Ask) -> tuple[str, str] | None:
    token = ask.text("token").strip()
    principal: Principal | None = ask.site.keys.find(token) if token else None
    return (principal.name, token) if principal else None


def _set_cookie(ask: Ask, response: Response, secret: str) -> None:
    response.set_cookie(
        f"immune_{ask.site.options.port}", secret, max_age=LASTS_S, httponly=True, samesite="Strict", secure=ask.site.options.secure, path="/"
    )


def log_out(ask: Ask) -> Response:
    """Close the session."""
    if ask.session is not None:
        ask.site.sessions.close(ask.session)
        with suppress(UnreachableError):
            # what a password opened is closed at the daemon too; a named token lives on
            ask.site.daemon.ask("POST", "/v1/logout", token=ask.token, keyed=False)
    response = Response(encode({"logged_out": ask.session is not None}), content_type="application/json")
    response.delete_cookie(f"immune_{ask.site.options.port}", httponly=True, samesite="Strict", path="/")
    return response


ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/login", handler=login_page, summary="Where people say who they are", role="", page=True, media_type="text/html"),
    Route(method="GET", path="/api/session", handler=show_session, summary="Who asks and what they may do", role=""),
    Route(
        method="POST",
        path="/api/login",
        handler=log_in,
        summary="Open a session with name and password, a token, or a one-time link",
        role="",
        body=True,
        csrf=False,
        fields=(
            BodyField(name="name", max_length=64, says="your name"),
            BodyField(name="password", max_length=256, says="your password"),
            BodyField(name="token", says="a token, instead of name and password"),
            BodyField(name="link", says="the secret of a one-time link"),
        ),
    ),
    Route(method="POST", path="/api/logout", handler=log_out, summary="Close the session", role=""),
)
