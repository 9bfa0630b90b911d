"""Files to carry away: a post-mortem, a run's report."""

from __future__ import annotations

import base64
import hashlib
import html
import re

from flask import Response

from dashboard.downloads import incident_story
from dashboard.encoding import encode
from dashboard.policies import policy_of
from dashboard.postmortem import post_mortem
from dashboard.routing import Ask, Route
from immune.api.problems import ProblemError
from immune.reports.from_run import run_page
from immune.reports.page import render

_INLINE = re.compile(r'<(\w+)((?:\s[^<>]*?)?)\sstyle="([^"<>]*)"([^<>]*)>')
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def export_incident(ask: Ask) -> Response:
    """An incident as a post-mortem: timeline, evidence, decisions, who, effect. ``?format=md`` or ``json``."""
    wanted = ask.query("format") or "md"
    story = incident_story(ask, ask.projection)
    # what may be done now is nothing to keep
    del story["actions"]
    story["plans"] = [{name: value for name, value in plan.items() if name != "actions"} for plan in story["plans"]]
    if wanted == "json":
        response = Response(encode(story), content_type="application/json")
    elif wanted == "md":
        response = Response(post_mortem(story), content_type="text/markdown; charset=utf-8")
    else:
        raise ProblemError(400, "not a format", field="format", value=wanted, way_out="md or json")
    response.headers["Content-Disposition"] = f'attachment; filename="{story["incident"]["id"]}-post-mortem.{wanted}"'
    return response


def show_report(ask: Ask) -> Response:
    """The report of a run, as one page without scripts. Its style is let through by its hash, nothing else is."""
    projection = ask.site.moment(ask.id, "")
    policy, _ = policy_of(ask.site, projection)
    with ask.site.sources.journal() as journal, ask.site.sources.telemetry() as telemetry:
        page = run_page(projection.state, telemetry, title=f"Run {projection.run_id}", policy=policy, journal=journal)
    text = without_inline(render(page))
    response = Response(text, content_type="text/html; charset=utf-8")
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" for style in _STYLE.findall(text))
    shut = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-popups"
    response.headers["Content-Security-Policy"] = f"default-src 'none'; style-src {hashes}; img-src data:; {shut}"
    return response


def without_inline(text: str) -> str:
    """The same page with a class for every distinct ``style="…"``: what a header can allow by one hash.

    Text from outside is escaped in it, so that a ``<`` always begins a tag of ours. The rules say their class thrice: what stood
    inline goes before what stands in the sheet.
    """
    known: dict[str, str] = {}

    def classed(found: re.Match[str]) -> str:
        tag, before, style, after = found.groups()
        name = known.setdefault(style, f"own-{len(known)}")
        rest = before + after
        with_class = re.sub(r'class="', f'class="{name} ', rest, count=1) if 'class="' in rest else f'{rest.removesuffix("/")} class="{name}"'
        return f"<{tag}{with_class}{' /' if rest.endswith('/') and not with_class.endswith('/') else ''}>"

    body = _INLINE.sub(classed, text)
    rules = "".join(f".{name}.{name}.{name}{{{html.unescape(style)}}}" for style, name in known.items())
    return body.replace("</head>", f"<style>{rules}</style></head>", 1) if rules else body


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/api/incidents/<id>/export",
        handler=export_incident,
        summary="An incident as a post-mortem",
        query=(("format", "md or json"), ("run", "another run"), ("at", "another moment")),
        media_type="text/markdown",
    ),
    Route(method="GET", path="/runs/<id>/report", handler=show_report, summary="The report of a run", page=True, media_type="text/html"),
)
