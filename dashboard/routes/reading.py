"""Documents: the twin of every page, and lists for scripts. ``?run=`` names another run, ``?at=`` another moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response

from dashboard import charts, documents, possible
from dashboard.downloads import incident_story, with_csv
from dashboard.encoding import encode
from dashboard.filters import keep
from dashboard.policies import policy_of
from dashboard.problems import ProblemError
from dashboard.projection import Projection
from dashboard.routing import Ask, Route, answer, document
from immune.core.events import iso
from immune.core.state import AgentState
from immune.reports import documents as shared

MOMENT = (("run", "another run than the newest"), ("at", "another moment: a seq, or t and microseconds"))
FILTER = (("q", "filter, for example `state:isolated type:coder sev>6`"), ("format", "json or csv"))
SCAN_MAX = 20_000
Document = dict[str, Any]


def _shelved(ask: Ask, name: str, make: Callable[[Projection], bytes]) -> Response:
    """An answer that only depends on the projection: kept for the followed run, made anew for moments that are over."""
    projection = ask.projection
    version = projection.version
    key = name if not projection.past else f"{name}@{version}"
    return answer(ask, ask.site.shelf.get(key, version, lambda: make(projection)))


# -- fleet -------------------------------------------------------------------------------------------------------------------


def list_agents(ask: Ask) -> Response:
    """Every agent, the most severe first."""
    site = ask.site
    if ask.query("q") or ask.query("format"):
        projection = ask.projection
        state = projection.state
        agents = list(state.agents.values())
        rows = [
            documents.agent_row(state, agents[place], projection.seen_us.get(agents[place].agent_id, 0)) for place in documents.worst_first(state)
        ]
        return with_csv(ask, documents.list_document(projection, "agents", keep(rows, ask.query("q"))), "agents")
    return _shelved(
        ask, "agents", lambda projection: site.fleet_list.body(projection) if not projection.past else documents.FleetList().body(projection)
    )


def show_map(ask: Ask) -> Response:
    """The fleet in columns."""
    return _shelved(ask, "map", lambda projection: encode(documents.map_document(projection)))


def show_stats(ask: Ask) -> Response:
    """The fleet in figures."""
    return _shelved(ask, "stats", lambda projection: encode(documents.stats_document(projection)))


def list_changes(ask: Ask) -> Response:
    """What changed lately, the newest first: what is worth saying, each with its event."""
    minutes = ask.whole("minutes", 5, 1, 1440)
    projection = ask.projection
    if projection is ask.site.projection:
        from_us = max(projection.state.at_us, ask.site.clock.now_us() if ask.site.live_run(projection.run_id) else 0) - minutes * 60 * 1_000_000
        found = [one for one in ask.site.follower.recent_events() if one["notable"] and one["at"] >= iso(from_us)]
    else:
        from_us = projection.state.at_us - minutes * 60 * 1_000_000
        first = ask.site.history_of(projection.run_id).seq_at(from_us)
        with ask.site.sources.journal() as journal:
            events = journal.read(projection.run_id, after_seq=first, limit=min(projection.state.seq - first, SCAN_MAX))
            found = [one for one in map(documents.event_document, events) if one["notable"]]
    return document(ask, documents.list_document(projection, "changes", found[::-1], minutes=minutes))


# -- one agent ---------------------------------------------------------------------------------------------------------------


def _agent(ask: Ask, projection: Projection) -> AgentState:
    agent = projection.state.agents.get(ask.id)
    if agent is None:
        raise ProblemError(404, "no such agent in this run", field="id", value=ask.id, way_out="see /api/agents")
    return agent


def show_agent(ask: Ask) -> Response:
    """One agent: its facts, what is open about it, its course, what may be done now and why not the rest."""
    projection = ask.projection
    state, agent = projection.state, _agent(ask, projection)
    incidents = [one for one in state.incidents.values() if agent.agent_id in one.agents]
    found: Document = {"run_id": state.run_id, "seq": state.seq, "at": shared.when(state.at_us), "past": projection.past}
    found["agent"] = documents.agent_row(state, agent, projection.seen_us.get(agent.agent_id, 0))
    found["deviating_since"] = shared.when(agent.deviating_since_us)
    found["incidents"] = [shared.incident_document(one) for one in reversed(incidents)]
    found["containments"] = [shared.containment_document(one) for one in reversed(state.containments.values()) if one.covers(agent)]
    found["plans"] = [possible.plan_view(ask, projection, one) for one in reversed(state.plans.values()) if one.agent_id == agent.agent_id]
    found["approvals"] = [
        documents.approval_view(projection, one) for one in documents.approvals_newest_first(state) if one.subject == agent.agent_id
    ]
    found["tasks"] = [shared.task_document(one) for one in reversed(state.tasks.values()) if one.agent_id == agent.agent_id]
    found["actions"] = possible.for_agent(ask, projection, agent)
    found["learning"] = _learning(ask, projection, agent)
    found["vitals"] = charts.vitals_of(ask.site, projection.run_id)
    found["timeline"] = _timeline(ask, projection, agent, {one.incident_id for one in incidents})
    found["grafana"] = charts.grafana_link(ask.site, projection, agent.agent_id)
    return document(ask, found)


def _learning(ask: Ask, projection: Projection, agent: AgentState) -> Document:
    """``{learning, samples, needed}``: how far the baseline is."""
    needed = policy_of(ask.site, projection)[0].detection.min_samples
    samples = charts.sample_count(ask.site, projection.run_id, agent.agent_id) if agent.health == "learning" else None
    return {"learning": agent.health == "learning", "samples": samples, "needed": needed}


def _timeline(ask: Ask, projection: Projection, agent: AgentState, incidents: set[str], limit: int = 200) -> list[Document]:
    with ask.site.concerning(projection, [agent.agent_id, *incidents]) as journal:
        near, _ = journal.newest(projection.run_id, projection.state.seq + 1, limit + 50)
    own = [one for one in near if one.subject == agent.agent_id or one.correlation_id in incidents]
    return [documents.event_document(one) for one in own[-limit:]][::-1]


def show_series(ask: Ask) -> Response:
    """Vitals of one agent as columns for charts: values, learned band, marks, shaded stretches."""
    projection = ask.projection
    agent = _agent(ask, projection)
    wanted = [name for name in ask.query("vital").split(",") if name]
    points = ask.whole("points", 600, 10, 5000)
    from_us, to_us = ask.whole("from", 0, 0, 2**62), ask.whole("to", 0, 0, 2**62)
    return document(ask, charts.series_document(ask.site, projection, agent, wanted, from_us=from_us, to_us=to_us, points=points))


# -- incidents, approvals, plans ---------------------------------------------------------------------------------------------


def list_incidents(ask: Ask) -> Response:
    """Every incident, open ones first."""
    projection = ask.projection
    rows = documents.incident_summaries(projection.state)
    if ask.query("status") in ("open", "closed"):
        rows = [row for row in rows if row["open"] == (ask.query("status") == "open")]
    return with_csv(ask, documents.list_document(projection, "incidents", keep(rows, ask.query("q"))), "incidents")


def show_incident(ask: Ask) -> Response:
    """One incident: evidence, differential, what was done, and its course."""
    projection = ask.projection
    return document(ask, incident_story(ask, projection))


def list_approvals(ask: Ask) -> Response:
    """Every request to a person: those that wait first."""
    projection = ask.projection
    found = documents.waiting_first(projection.state)
    status = ask.query("status")
    rows = [documents.approval_view(projection, one) for one in found if not status or one.status == status]
    return with_csv(
        ask,
        documents.list_document(projection, "approvals", keep(rows, ask.query("q")), actions=possible.for_approvals(ask, projection)),
        "approvals",
    )


def show_approval(ask: Ask) -> Response:
    """One request, with what may be done about it now."""
    projection = ask.projection
    approval = projection.state.approvals.get(ask.id)
    if approval is None:
        raise ProblemError(404, "no such approval in this run", field="id", value=ask.id, way_out="see /api/approvals")
    found = documents.approval_view(projection, approval)
    head = {"run_id": projection.run_id, "seq": projection.state.seq, "at": shared.when(projection.state.at_us), "past": projection.past}
    actions = possible.for_approval(ask, projection, approval)
    plan = projection.state.plans.get(approval.plan_id)
    if plan is not None:
        actions |= possible.for_plan(ask, projection, plan)
    return document(ask, {**head, "approval": found, "actions": actions})


def list_pending(ask: Ask) -> Response:
    """Requests that wait for a person."""
    projection = ask.projection
    rows = [documents.approval_view(projection, one) for one in documents.waiting_first(projection.state) if one.status == "pending"]
    return document(ask, documents.list_document(projection, "pending", rows))


def list_rejected(ask: Ask) -> Response:
    """Requests that a person rejected: each keeps who, when, why, and whether healing may be decided afresh."""
    projection = ask.projection
    state = projection.state
    rows = []
    for one in documents.approvals_newest_first(state, ("rejected",)):
        agent = state.agents.get(one.subject)
        rows.append(
            {**documents.approval_view(projection, one), "heal_now": agent is not None and agent.plan == "rejected" and bool(agent.incident_id)}
        )
    return document(ask, documents.list_document(projection, "rejected", rows))


def list_healings(ask: Ask) -> Response:
    """Every healing plan, the newest first."""
    projection = ask.projection
    rows = [shared.plan_document(one) for one in reversed(projection.state.plans.values())]
    return with_csv(ask, documents.list_document(projection, "healings", keep(rows, ask.query("q"))), "healings")


def list_containments(ask: Ask) -> Response:
    """Every containment, the newest first."""
    projection = ask.projection
    rows = [shared.containment_document(one) for one in reversed(projection.state.containments.values())]
    return with_csv(ask, documents.list_document(projection, "containments", keep(rows, ask.query("q"))), "containments")


def list_tasks(ask: Ask) -> Response:
    """What only a person can do, the newest first."""
    projection = ask.projection
    rows = [shared.task_document(one) for one in reversed(projection.state.tasks.values())]
    return with_csv(ask, documents.list_document(projection, "tasks", rows), "tasks")


def reading(path: str, handler: Callable[[Ask], Response], summary: str, *more: tuple[str, str]) -> Route:
    """A route that only reads: it takes a run and a moment, besides its own."""
    return Route(method="GET", path=path, handler=handler, summary=summary, query=(*MOMENT, *more))


ROUTES: tuple[Route, ...] = (
    reading("/api/agents", list_agents, "Every agent, the most severe first", *FILTER),
    reading(
        "/api/agents/<path:id>/series",
        show_series,
        "Vitals of one agent as columns",
        ("vital", "names, comma between"),
        ("from", "microseconds"),
        ("to", "microseconds"),
        ("points", "how many at most"),
    ),
    reading("/api/agents/<path:id>", show_agent, "One agent: facts, evidence, course, what may be done"),
    reading("/api/agent", show_agent, "The same by ?id=, for ids that no path can hold", ("id", "the agent")),
    reading(
        "/api/series",
        show_series,
        "The same by ?id=",
        ("id", "the agent"),
        ("vital", "names, comma between"),
        ("from", "microseconds"),
        ("to", "microseconds"),
        ("points", "how many at most"),
    ),
    reading("/api/map", show_map, "The fleet in columns"),
    reading("/api/stats", show_stats, "The fleet in figures"),
    reading("/api/changes", list_changes, "What changed lately", ("minutes", "how far back, 5")),
    reading("/api/incidents", list_incidents, "Every incident, open ones first", ("status", "open or closed"), *FILTER),
    reading("/api/incidents/<id>", show_incident, "One incident: evidence, diagnosis, course"),
    reading("/api/approvals", list_approvals, "Every request to a person", ("status", "for example pending"), *FILTER),
    reading("/api/approvals/<id>", show_approval, "One request, with what may be done about it"),
    reading("/api/pending", list_pending, "Requests that wait for a person"),
    reading("/api/rejected", list_rejected, "Requests that a person rejected"),
    reading("/api/healings", list_healings, "Every healing plan", *FILTER),
    reading("/api/containments", list_containments, "Every containment", *FILTER),
    reading("/api/tasks", list_tasks, "What only a person can do", ("format", "json or csv")),
)
