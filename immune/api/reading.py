"""Routes that read: the state as documents, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import ParamSpec, TypeVar

from aiohttp import web

from immune.api.problems import ProblemError, json_response
from immune.api.routing import READERS, Call, Handler, Route
from immune.api.seams import Document, Explain
from immune.core.events import iso
from immune.core.fold import fold
from immune.core.state import AgentState, RunState
from immune.errors import UnknownIdError
from immune.ports import Journal

T = TypeVar("T")
P = ParamSpec("P")
PAGES = (("limit", "at most so many, 1 to 2000, default 1000"), ("offset", "leave out the first so many"))


def _paged(call: Call, name: str, items: Sequence[T], document: Callable[[T], Document]) -> web.Response:
    limit, offset = call.page()
    found = [document(item) for item in islice(items, offset, offset + limit)]
    return json_response({name: found, "total": len(items), "limit": limit, "offset": offset})


def _known(items: Mapping[str, T], key: str, what: str, way_out: str) -> T:
    if key in items:
        return items[key]
    raise ProblemError(404, f"no such {what} in this run", field="id", value=key, way_out=way_out)


def _state(call: Call) -> RunState:
    return call.context.engine.state


async def _state_with(call: Call, kind: str) -> RunState:
    """The state; for an id that it has let go of, the whole run, folded anew from the journal beside the loop."""
    state, reader = _state(call), call.context.reader
    if call.id in getattr(state, kind) or not state.forgotten.get(kind) or reader is None:
        return state
    return await beside(_whole_run, reader, state.run_id)


def _whole_run(reader: Callable[[], Journal], run_id: str) -> RunState:
    journal = reader()
    try:
        return fold(RunState(), journal.read(run_id))
    finally:
        journal.close()


async def beside(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Do long work in a thread. 503 when there is none to be had."""
    try:
        return await asyncio.to_thread(work, *arguments, **options)
    except RuntimeError as error:
        if "thread" not in str(error):
            raise
        raise ProblemError(503, "no thread is left for this", way_out="try again in a moment", headers={"Retry-After": "2"}) from None


def _word(call: Call, name: str, words: Iterable[str]) -> str | None:
    given = call.request.query.get(name)
    known = tuple(words)
    if given is not None and given not in known:
        raise ProblemError(400, "not one of the known words", field=name, value=given, way_out="one of " + " ".join(known))
    return given


async def list_agents(call: Call) -> web.StreamResponse:
    """Every agent, the most severe first."""
    state = _state(call)

    def severity(agent: AgentState) -> float:
        incident = state.incidents.get(agent.incident_id)
        return incident.severity if incident else 0.0

    agents = sorted(state.agents.values(), key=lambda agent: (-severity(agent), agent.agent_id))
    return _paged(call, "agents", agents, lambda agent: call.context.papers.agent_document(state, agent))


async def show_agent(call: Call) -> web.StreamResponse:
    """One agent: its facts, incidents, containments, plans and tasks."""
    state, papers = _state(call), call.context.papers
    agent = _known(state.agents, call.agent_id, "agent", "see GET /v1/agents")
    document = papers.agent_document(state, agent)
    document["incidents"] = [papers.incident_document(one) for one in state.incidents.values() if agent.agent_id in one.agents]
    document["containments"] = [papers.containment_document(one) for one in state.containments.values() if one.covers(agent)]
    document["plans"] = [papers.plan_document(one) for one in state.plans.values() if one.agent_id == agent.agent_id]
    document["tasks"] = [papers.task_document(one) for one in state.tasks.values() if one.agent_id == agent.agent_id]
    return json_response(document)


async def list_incidents(call: Call) -> web.StreamResponse:
    """Every incident, newest first."""
    state = _state(call)
    wanted = _word(call, "status", ("open", "closed"))
    found = [one for one in reversed(state.incidents.values()) if wanted is None or one.open == (wanted == "open")]
    return _paged(call, "incidents", found, call.context.papers.incident_document)


async def show_incident(call: Call) -> web.StreamResponse:
    """One incident."""
    state = await _state_with(call, "incidents")
    return json_response(call.context.papers.incident_document(_known(state.incidents, call.id, "incident", "see GET /v1/incidents")))


async def list_approvals(call: Call) -> web.StreamResponse:
    """Every request to a person, newest first."""
    state = _state(call)
    wanted = _word(call, "status", ("pending", "granted", "used", "rejected", "expired", "withdrawn"))
    found = [one for one in reversed(state.approvals.values()) if wanted is None or one.status == wanted]
    return _paged(call, "approvals", found, lambda one: call.context.papers.approval_document(state, one))


async def show_approval(call: Call) -> web.StreamResponse:
    """One request, with plan and evidence."""
    state = await _state_with(call, "approvals")
    return json_response(call.context.papers.approval_document(state, _known(state.approvals, call.id, "approval", "see `immune approvals`")))


async def list_plans(call: Call) -> web.StreamResponse:
    """Every plan, newest first."""
    return _paged(call, "plans", list(reversed(_state(call).plans.values())), call.context.papers.plan_document)


async def show_plan(call: Call) -> web.StreamResponse:
    """One plan, step by step."""
    state = await _state_with(call, "plans")
    return json_response(call.context.papers.plan_document(_known(state.plans, call.id, "plan", "see GET /v1/plans")))


async def list_containments(call: Call) -> web.StreamResponse:
    """Every containment, newest first; those in force with ``?status=active``."""
    wanted = _word(call, "status", ("active", "ended"))
    found = [one for one in reversed(_state(call).containments.values()) if wanted is None or one.active == (wanted == "active")]
    return _paged(call, "containments", found, call.context.papers.containment_document)


async def list_tasks(call: Call) -> web.StreamResponse:
    """What only a person can do, newest first."""
    return _paged(call, "tasks", list(reversed(_state(call).tasks.values())), call.context.papers.task_document)


async def list_memory(call: Call) -> web.StreamResponse:
    """What is remembered of cures."""
    return _paged(call, "memory", call.context.papers.memory_documents(_state(call)), lambda one: one)


async def list_runs(call: Call) -> web.StreamResponse:
    """Every recorded run, newest first; the running one in figures."""
    engine = call.context.engine
    limit, offset = call.page()
    runs = engine.journal.runs()
    documents = [
        {"run_id": one.run_id, "events": one.events, "first_at": iso(one.first_at_us), "last_at": iso(one.last_at_us), "head": one.head}
        for one in runs[offset : offset + limit]
    ]
    current = call.context.papers.run_document(engine.state)
    return json_response({"runs": documents, "current": current, "total": len(runs), "limit": limit, "offset": offset})


async def show_why(call: Call) -> web.StreamResponse:
    """The chain behind an event, incident, plan, containment or agent."""
    context = call.context
    state, reader = context.engine.state, context.reader
    try:
        if reader is None:
            return json_response(context.explain(context.engine.journal, state, call.id))
        # a long journal takes a second to read, and the next tick will not wait for that
        return json_response(await beside(_explain_beside, reader, context.explain, state, call.id))
    except UnknownIdError as error:
        raise ProblemError(404, error.what, field="id", value=call.id, way_out=error.way_out) from None


def _explain_beside(reader: Callable[[], Journal], explain: Explain, state: RunState, subject: str) -> Document:
    journal = reader()
    try:
        return explain(journal, state, subject)
    except UnknownIdError:
        if not state.forgotten:
            raise
        return explain(journal, fold(RunState(), journal.read(state.run_id)), subject)
    finally:
        journal.close()


def _reading(path: str, handler: Handler, summary: str, query: tuple[tuple[str, str], ...] = ()) -> Route:
    return Route(method="GET", path=path, handler=handler, summary=summary, roles=READERS, query=query)


ROUTES: tuple[Route, ...] = (
    _reading("/v1/agents", list_agents, "Every agent, the most severe first", PAGES),
    _reading("/v1/agents/{id}", show_agent, "One agent: facts, incidents, containments, plans, tasks"),
    _reading("/v1/incidents", list_incidents, "Every incident, newest first", (*PAGES, ("status", "open or closed"))),
    _reading("/v1/incidents/{id}", show_incident, "One incident: evidence, differential, what the policy asked for"),
    _reading("/v1/approvals", list_approvals, "Every request to a person, newest first", (*PAGES, ("status", "for example pending"))),
    _reading("/v1/approvals/{id}", show_approval, "One request with plan, evidence and plan hash"),
    _reading("/v1/plans", list_plans, "Every healing plan, newest first", PAGES),
    _reading("/v1/plans/{id}", show_plan, "One plan, step by step"),
    _reading("/v1/containments", list_containments, "Every containment, newest first", (*PAGES, ("status", "active or ended"))),
    _reading("/v1/tasks", list_tasks, "What only a person can do, newest first", PAGES),
    _reading("/v1/memory", list_memory, "What is remembered of cures", PAGES),
    _reading("/v1/runs", list_runs, "Every recorded run, newest first", PAGES),
    _reading("/v1/why/{id}", show_why, "Why: the chain of events behind an id, in words"),
)
