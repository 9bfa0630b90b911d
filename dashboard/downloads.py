"""What people carry away: lists as CSV that no spreadsheet executes, an incident as a post-mortem."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response

from dashboard import documents, possible
from dashboard.encoding import encode
from dashboard.projection import Projection
from dashboard.routing import Ask, document
from immune.api.problems import ProblemError
from immune.core.events import Envelope
from immune.core.state import IncidentState, RunState
from immune.reports import documents as shared
from immune.reports.chronicle import stage_of

Document = dict[str, Any]
DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")


def with_csv(ask: Ask, found: Document, name: str) -> Response:
    """The document; or, for ``?format=csv``, its list as a file, for ``?format=json`` the same as a JSON file."""
    wanted = ask.query("format")
    if wanted not in ("", "csv", "json"):
        raise ProblemError(400, "not a format", field="format", value=wanted, way_out="csv or json")
    if not wanted:
        return document(ask, found)
    rows = found[name] if name in found else found["events"]
    run_id = found.get("run_id") or "all"
    response = (
        Response(csv_text(rows), content_type="text/csv; charset=utf-8")
        if wanted == "csv"
        else Response(encode(found), content_type="application/json")
    )
    response.headers["Content-Disposition"] = f'attachment; filename="immune-{name}-{run_id}.{wanted}"'
    return response


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """RFC 4180 with a header. A cell that a spreadsheet would take for a formula gets an apostrophe before it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([guarded(name) for name in names])
    for row in rows:
        writer.writerow([cell(row.get(name)) for name in names])
    return out.getvalue()


def cell(value: Any) -> str:
    """One value as a cell: figures as they are, text guarded, nested things as JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:.12g}" if isinstance(value, float) else str(value)
    if isinstance(value, str):
        return guarded(value)
    if isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value):
        return guarded(" ".join(str(item) for item in value))
    if isinstance(value, dict) and "id" in value:
        # a plan or an incident has a list of its own
        return cell(value["id"])
    return guarded(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def guarded(text: str) -> str:
    """Text that stays text in a spreadsheet, whatever it begins with."""
    return "'" + text if text.lstrip(" \ufeff").startswith(DANGEROUS) or text.startswith(DANGEROUS) else text


# -- post-mortem -------------------------------------------------------------------------------------------------------------


def incident_of(ask: Ask, projection: Projection) -> IncidentState:
    """The incident of the path. Raises ProblemError 404."""
    incident = projection.state.incidents.get(ask.id)
    if incident is None:
        raise ProblemError(404, "no such incident in this run", field="id", value=ask.id, way_out="see /api/incidents")
    return incident


def staged(envelope: Envelope) -> Document:
    """One event told, with the word for its place in the course of an illness."""
    stage, tone = stage_of(envelope.event())
    return {**documents.event_document(envelope), "stage": stage or envelope.kind.replace("_", " "), "tone": tone}


def _identity(state: RunState, agent_id: str) -> Document:
    agent = state.agents.get(agent_id)
    return {"id": agent_id, "type": agent.type if agent else "", "service": agent.service if agent else ""}


def incident_story(ask: Ask, projection: Projection) -> Document:
    """Everything about one incident: evidence, decisions, who, effect, course."""
    state, incident = projection.state, incident_of(ask, projection)
    plans = [plan for plan in state.plans.values() if plan.incident_id == incident.incident_id]
    with ask.site.concerning(projection, [incident.incident_id, *incident.agents]) as journal:
        events = journal.read(projection.run_id, after_seq=incident.opened_seq - 1)
        own = [one for one in events if one.correlation_id == incident.incident_id or one.seq == incident.opened_seq]
    return {
        "run_id": state.run_id,
        "seq": state.seq,
        "at": shared.when(state.at_us),
        "past": projection.past,
        "policy_version": state.policy_version,
        "head": state.head,
        "incident": {**shared.incident_document(incident), "open": incident.open},
        "agents": [_identity(state, agent_id) for agent_id in incident.agents],
        "feedback": [{"verdict": verdict, "by": by} for verdict, by in incident.feedback],
        "approvals": [documents.approval_view(projection, one) for one in state.approvals.values() if one.incident_id == incident.incident_id],
        "plans": [possible.plan_view(ask, projection, plan) for plan in plans],
        "containments": [shared.containment_document(one) for one in state.containments.values() if one.incident_id == incident.incident_id],
        "deciders": sorted({one.actor for one in own if one.actor.startswith("person:")}),
        "timeline": [staged(one) for one in own],
        "actions": possible.for_incident(ask, projection, incident.open, any(plan.live for plan in plans)),
    }
