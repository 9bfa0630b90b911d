"""Documents: the twin of every page, and lists for scripts. ``?run=`` names another run, ``?at=`` another moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flask import Response

from dashboard import charts, documents, paging, possible
from dashboard.downloads import incident_story, staged, with_csv
from dashboard.encoding import encode
from dashboard.filters import keep
from dashboard.policies import policy_of
from dashboard.projection import Projection
from dashboard.routing import Ask, Route, answer, document
from immune.api.problems import ProblemError
from immune.core.events import iso
from immune.core.state import AgentState, ContainmentState, PlanState, RunState, TaskState
from immune.reports import documents as shared

MOMENT = (("run", "another run than the newest"), ("at", "another moment: a seq, or t and microseconds"))
FILTER = (("q", "filter, for example `state:isolated type:coder sev>6`"), ("format", "json or csv"))
LISTED = (*FILTER, *paging.QUERY)
SCAN_MAX = 20_000
Document = dict[str, Any]
Told = TypeVar("Told", PlanState, ContainmentState, TaskState)


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
    return [staged(one) for one in own[-limit:]][::-1]


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
    """Incidents, open ones first, the newest before the older ones, a page at a time."""
    projection = ask.projection
    state = projection.state
    wanted, plans = ask.query("status"), documents.newest_plans(state)
    found = (one for one in paging.incidents_in_order(state) if wanted not in ("open", "closed") or one.open == (wanted == "open"))
    page = paging.page(ask, found, paging.place_of_incident, lambda one: documents.incident_summary(one, plans.get(one.incident_id)))
    ends = {"of": len(state.incidents), "open": len(state.open_incidents), "next": page.next}
    return with_csv(ask, documents.list_document(projection, "incidents", page.rows, **ends), "incidents")


def show_incident(ask: Ask) -> Response:
    """One incident: evidence, differential, what was done, and its course."""
    projection = ask.projection
    return document(ask, incident_story(ask, projection))


def list_approvals(ask: Ask) -> Response:
    """Requests to a person, those that wait first, a page at a time."""
    projection = ask.projection
    page = _requests(ask, projection, (ask.query("status"),) if ask.query("status") else ())
    more = {"of": len(projection.state.approvals), "next": page.next, "actions": possible.for_approvals(ask, projection)}
    return with_csv(ask, documents.list_document(projection, "approvals", page.rows, **more), "approvals")


def _requests(ask: Ask, projection: Projection, statuses: tuple[str, ...]) -> paging.Page:
    found = (one for one in paging.approvals_in_order(projection.state) if not statuses or one.status in statuses)
    return paging.page(ask, found, paging.place_of_approval, lambda one: documents.approval_view(projection, one))


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
    page = _requests(ask, projection, ("pending",))
    return document(ask, documents.list_document(projection, "pending", page.rows, next=page.next))


def list_rejected(ask: Ask) -> Response:
    """Requests that a person rejected: each keeps who, when, why, and whether healing may be decided afresh."""
    projection = ask.projection
    agents = projection.state.agents
    page = _requests(ask, projection, ("rejected",))
    rows = [{**row, "heal_now": _may_heal_again(agents.get(row["subject"]))} for row in page.rows]
    return document(ask, documents.list_document(projection, "rejected", rows, next=page.next))


def _may_heal_again(agent: AgentState | None) -> bool:
    return agent is not None and agent.plan == "rejected" and bool(agent.incident_id)


def list_healings(ask: Ask) -> Response:
    """Healing plans, the newest first, a page at a time."""
    return _newest_first(ask, "healings", lambda state: state.plans, shared.plan_document)


def list_containments(ask: Ask) -> Response:
    """Containments, the newest first, a page at a time."""
    return _newest_first(ask, "containments", lambda state: state.containments, shared.containment_document)


def list_tasks(ask: Ask) -> Response:
    """What only a person can do, the newest first, a page at a time."""
    return _newest_first(ask, "tasks", lambda state: state.tasks, shared.task_document)


def _newest_first(ask: Ask, name: str, of: Callable[[RunState], Mapping[str, Told]], view: Callable[[Told], Document]) -> Response:
    projection = ask.projection
    found = of(projection.state)
    page = paging.page(ask, reversed(list(found.values())), lambda one: (-one.seq,), view)
    return with_csv(ask, documents.list_document(projection, name, page.rows, of=len(found), next=page.next), name)


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
    reading("/api/incidents", list_incidents, "Incidents, open ones first, the newest before the older ones", ("status", "open or closed"), *LISTED),
    reading("/api/incidents/<id>", show_incident, "One incident: evidence, diagnosis, course"),
    reading("/api/approvals", list_approvals, "Requests to a person, those that wait first", ("status", "for example pending"), *LISTED),
    reading("/api/approvals/<id>", show_approval, "One request, with what may be done about it"),
    reading("/api/pending", list_pending, "Requests that wait for a person", *paging.QUERY),
    reading("/api/rejected", list_rejected, "Requests that a person rejected", *paging.QUERY),
    reading("/api/healings", list_healings, "Healing plans, the newest first", *LISTED),
    reading("/api/containments", list_containments, "Containments, the newest first", *LISTED),
    reading("/api/tasks", list_tasks, "What only a person can do, the newest first", *LISTED),
)
