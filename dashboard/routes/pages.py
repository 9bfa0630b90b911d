"""Pages for people: a frame with the navigation; what they show comes from their JSON twins, as text."""

from __future__ import annotations

from functools import partial

from flask import Response, redirect, render_template

from dashboard.routing import Ask, Route
from immune import __version__


def show(_: Ask, *, page: str, title: str) -> Response:
    """The frame of one page."""
    return Response(render_template(f"{page}.html", page=page, title=title, version=__version__), content_type="text/html; charset=utf-8")


def to_fleet(_: Ask) -> Response:
    """The first page is the fleet."""
    return redirect("/fleet")  # type: ignore[return-value]


def favicon(_: Ask) -> Response:
    """Browsers ask for it there, whatever the page says."""
    return redirect("/static/favicon.svg", code=301)  # type: ignore[return-value]


def _page(path: str, page: str, title: str, summary: str) -> Route:
    return Route(method="GET", path=path, handler=partial(show, page=page, title=title), summary=summary, page=True, media_type="text/html")


ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/", handler=to_fleet, summary="The fleet", role="", page=True, media_type="text/html"),
    Route(method="GET", path="/favicon.ico", handler=favicon, summary="The icon", role="", media_type="image/svg+xml", listed=False),
    _page("/fleet", "fleet", "Fleet", "The fleet; twin: /api/agents, /api/map, /api/stats, /api/changes"),
    _page("/agents/<path:id>", "agent", "Agent", "One agent; twin: /api/agents/{id}"),
    _page("/agent", "agent", "Agent", "One agent by ?id=; twin: /api/agent"),
    _page("/incidents", "incidents", "Incidents", "Every incident; twin: /api/incidents"),
    _page("/incidents/<id>", "incident", "Incident", "One incident; twin: /api/incidents/{id}"),
    _page("/approvals", "approvals", "Approvals", "Requests to a person; twin: /api/approvals"),
    _page("/approvals/<id>", "approval", "Approval", "One request; twin: /api/approvals/{id}"),
    _page("/journal", "journal", "Journal", "Every event; twin: /api/journal"),
    _page("/journal/<id>", "event", "Event", "One event; twin: /api/journal/{id}"),
    _page("/policy", "policy", "Policy", "Which rules hold, and why; twin: /api/policy"),
    _page("/runs", "runs", "Runs", "Recorded runs; twin: /api/runs"),
    _page("/runs/<id>", "run", "Run", "One run; twin: /api/runs/{id}"),
    _page("/system", "system", "System", "How daemon and dashboard are; twin: /api/system"),
)
