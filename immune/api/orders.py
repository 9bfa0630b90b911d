"""Routes that act: what each command does, under which path, and what its body may hold."""

from __future__ import annotations

from aiohttp import web

from immune.api.commanding import Decide, Order, TargetOf, command
from immune.api.problems import json_response
from immune.api.routing import APPROVERS, OPERATORS, REPORTERS, BodyField, Call, Route
from immune.api.seams import Document
from immune.core import acts
from immune.core import events as ev
from immune.core.commands import CommandError, Commands, Role
from immune.core.decision import Decision
from immune.core.events import LEVELS, Draft
from immune.core.vitals import AgentIdentity, check_agent_id
from immune.errors import EnrolmentRefusedError, InputError

REASON = BodyField(name="reason", says="say why, for whoever reads it later")
OPTIONAL_REASON = BodyField(name="reason", required=False, says="why")
SCOPES = ("fleet", "service", "agent", "tool")
SCOPE = BodyField(name="scope", required=False, options=SCOPES, says="needed where the name has several meanings")
LEVEL = BodyField(name="level", options=LEVELS[1:], says="one of " + " ".join(LEVELS[1:]))


def _decide_approval(commands: Commands, call: Call) -> Order:
    decision = call.text("decision")
    found = commands.decide(call.id, decision, call.text("reason"), call.text("plan_hash"))
    document: Document = {"id": call.id, "decision": decision, "status": "granted" if decision == "approve" else "rejected"}
    granted = next((draft.event for draft in found.drafts if isinstance(draft.event, acts.ApprovalGranted)), None)
    if granted is not None:
        document["not_before"] = ev.iso(granted.not_before_us)
    return Order(decision=found, document=document)


def _undo_approval(commands: Commands, call: Call) -> Order:
    return Order(decision=commands.take_back(call.id, call.text("reason")), document={"id": call.id, "status": "rejected"})


def _contain_agent(commands: Commands, call: Call) -> Order:
    return _contain(commands, "agent", call.agent_id, call.text("level"), call.text("reason"))


def _contain_scope(commands: Commands, call: Call) -> Order:
    scope = call.text("scope")
    target = "fleet" if scope == "fleet" else call.text("target")
    return _contain(commands, scope, _in_nfc(target) if scope == "agent" else target, call.text("level"), call.text("reason"))


def _stop(commands: Commands, call: Call) -> Order:
    return _contain(commands, "fleet", "fleet", "isolated", call.text("reason"))


def _contain(commands: Commands, scope: str, target: str, level: str, reason: str) -> Order:
    decision = commands.contain(scope, target, level, reason)
    ids = [draft.event.containment_id for draft in decision.drafts if isinstance(draft.event, acts.Contained)]
    return Order(decision=decision, document={"scope": scope, "target": target, "level": level, "containments": ids})


def _release_agent(commands: Commands, call: Call) -> Order:
    return _release(commands, call.agent_id, "agent", call)


def _release_target(commands: Commands, call: Call) -> Order:
    """A service or a tool is named as it was contained, an agent in its normal form; what has two meanings needs a scope."""
    active = [commands.state.containments[key] for key in commands.state.active_containments]
    target = call.id if any(one.target == call.id for one in active) else _in_nfc(call.id)
    scope = call.text("scope") or call.request.query.get("scope", "")
    scopes = sorted({one.scope for one in active if one.target == target})
    if not scope and len(scopes) > 1:
        raise CommandError(409, f"this names several: {', '.join(scopes)}", field="scope", value=target, way_out="say which scope")
    return _release(commands, target, scope or "".join(scopes), call)


def _release(commands: Commands, target: str, scope: str, call: Call) -> Order:
    reason = call.text("reason") or call.request.query.get("reason", "")[:500]
    decision = commands.release(target, reason, scope)
    ids = [draft.event.containment_id for draft in decision.drafts if isinstance(draft.event, acts.Released)]
    return Order(decision=decision, document={"target": target, "released": ids})


def _heal(commands: Commands, call: Call) -> Order:
    decision = commands.heal(call.agent_id, now=call.flag("now"))
    proposed = next(draft.event for draft in decision.drafts if isinstance(draft.event, acts.PlanProposed))
    asked = next((draft.event.request_id for draft in decision.drafts if isinstance(draft.event, acts.ApprovalRequested)), None)
    steps = [call.context.papers.step_document(note) for note in proposed.steps]
    document = {"agent": call.agent_id, "plan": proposed.plan_id, "plan_hash": proposed.plan_hash, "approval": asked, "steps": steps}
    return Order(decision=decision, document=document)


def _dry_run(call: Call) -> web.Response:
    engine = call.context.engine
    commands = Commands(state=engine.state, rules=engine.rules, principal=call.principal, now_us=call.now_us)
    rung = commands.dry_run(call.agent_id)
    agent = engine.state.agents[call.agent_id]
    incident = engine.state.incidents[agent.incident_id]
    notes = rung.steps
    policy = engine.rules.policy
    lasting = [note.action for note in notes if not note.reversible]
    severe = incident.severity >= policy.approvals.severity_at
    asks = severe or (bool(policy.approvals.irreversible_needs_person) and any(note.action in lasting and note.tier >= 3 for note in notes))
    return json_response(
        {
            "dry_run": True,
            "agent": call.agent_id,
            "incident": incident.incident_id,
            "diagnosis": incident.top_kind,
            "severity": incident.severity,
            "rung": rung.number,
            "steps": [call.context.papers.step_document(note) for note in notes],
            "risk": {"tier": max((note.tier for note in notes), default=0), "cannot_be_undone": lasting},
            "would_ask_a_person": asks or policy.mode_for(agent.type) == "recommend",
            "skipped": [{"action": action, "reason": reason} for action, reason in rung.skipped],
        }
    )


_heal_now = command("heal", _heal)


async def _heal_or_look(call: Call) -> web.StreamResponse:
    # looking changes nothing, so it needs no key, no record, and no more than a reader's role
    if call.flag("dry_run"):
        return _dry_run(call)
    return await _heal_now(call)


def _report(commands: Commands, call: Call) -> Order:
    return Order(decision=commands.report(call.agent_id, call.text("reason")), document={"agent": call.agent_id})


def _mute(commands: Commands, call: Call) -> Order:
    until_us = call.time_us("until")
    decision = commands.mute(call.agent_id, call.text("vital"), until_us, call.text("reason"))
    return Order(decision=decision, document={"agent": call.agent_id, "vital": call.text("vital"), "until": ev.iso(until_us)})


def _rebase(commands: Commands, call: Call) -> Order:
    return Order(decision=commands.rebase(call.agent_id, call.text("reason")), document={"agent": call.agent_id})


def _roll_back(commands: Commands, call: Call) -> Order:
    return Order(decision=commands.roll_back(call.id, call.text("reason")), document={"plan": call.id, "status": "compensating"})


def _retire(commands: Commands, call: Call) -> Order:
    return Order(decision=commands.retire(call.agent_id, call.text("reason")), document={"agent": call.agent_id})


def _feedback(commands: Commands, call: Call) -> Order:
    verdict = call.text("verdict")
    decision = commands.feedback(call.id, verdict, call.text("cause"), call.text("reason"))
    return Order(decision=decision, document={"incident": call.id, "verdict": verdict})


def _announce(commands: Commands, call: Call) -> Order:
    until_us = call.time_us("until")
    decision = commands.announce(call.text("cohort"), until_us, call.text("reason"))
    return Order(decision=decision, document={"cohort": call.text("cohort"), "until": ev.iso(until_us)})


def _enroll(commands: Commands, call: Call) -> Order:
    """The agent itself, and before it whoever came in with samples since the last tick: indices have no gaps."""
    agent_id = _in_nfc(call.text("id"))
    if agent_id in commands.state.agents:
        raise CommandError(409, "it is enrolled already", field="id", value=agent_id, way_out=f"see `immune agents show {agent_id}`")
    roster = call.context.engine.desk.roster
    try:
        roster.enroll(AgentIdentity(agent_id=agent_id, type=call.text("type"), service=call.text("service")))
    except EnrolmentRefusedError as error:
        raise CommandError(409, error.what, field="id", value=agent_id, way_out=error.way_out) from None
    known = len(commands.state.agents)
    drafts = []
    for index, who in enumerate(roster.identities[known:], known):
        event = ev.AgentEnrolled(index=index, type=who.type, service=who.service)
        actor = call.principal.actor if who.agent_id == agent_id else ev.SYSTEM
        drafts.append(Draft(at_us=call.now_us, subject=who.agent_id, event=event, actor=actor))
    call.context.engine.telemetry.name_agents(commands.state.run_id, known, [draft.subject for draft in drafts])
    return Order(decision=Decision(drafts=tuple(drafts)), document={"agent": agent_id, "index": roster.find(agent_id)})


def _in_nfc(text: str) -> str:
    try:
        return check_agent_id(text)
    except InputError as error:
        raise CommandError(400, error.what, field="id", value=text, way_out=error.way_out) from None


def _post(
    path: str,
    name: str,
    decide: Decide,
    summary: str,
    *fields: BodyField,
    roles: frozenset[Role] = OPERATORS,
    target: TargetOf = lambda call: call.id,
    refuses: tuple[int, ...] = (),
) -> Route:
    """The route of a command: what it is on record as, what decides it, and what its body may hold."""
    handler = command(name, decide, target)
    return Route(method="POST", path=path, handler=handler, summary=summary, roles=roles, command=name, body="fields", fields=fields, refuses=refuses)


ROUTES: tuple[Route, ...] = (
    _post(
        "/v1/approvals/{id}/decision",
        "approvals.decide",
        _decide_approval,
        "Approve or reject a request: 403 role, 409 decided (by whom, when), 410 expired, 412 another plan",
        BodyField(name="decision", options=("approve", "reject"), says="approve or reject"),
        BodyField(name="plan_hash", max_length=128, says="the hash of the plan that you saw"),
        BodyField(name="reason", required=False, says="needed for a rejection"),
        roles=APPROVERS,
    ),
    _post(
        "/v1/approvals/{id}/undo",
        "approvals.undo",
        _undo_approval,
        "Take a grant back within the undo window",
        OPTIONAL_REASON,
        roles=APPROVERS,
    ),
    _post(
        "/v1/agents",
        "enroll",
        _enroll,
        "Enroll an agent before its first sample",
        BodyField(name="id", max_length=128, says="the agent's id"),
        BodyField(name="type", required=False, max_length=128, says="its type"),
        BodyField(name="service", required=False, max_length=128, says="the service it belongs to"),
        target=lambda call: call.text("id"),
    ),
    _post(
        "/v1/agents/{id}/contain",
        "contain",
        _contain_agent,
        "Contain an agent until released",
        LEVEL,
        REASON,
    ),
    _post(
        "/v1/agents/{id}/release",
        "release",
        _release_agent,
        "End every containment of an agent and close its incident, by name",
        REASON,
    ),
    Route(
        method="POST",
        path="/v1/agents/{id}/heal",
        handler=_heal_or_look,
        summary="Ask for a plan; `now` decides it by name (approver); `dry_run` shows steps, risk and undo and does nothing",
        roles=OPERATORS,
        command="heal",
        body="fields",
        fields=(
            BodyField(name="now", type="boolean", required=False, says="decide it by name, at once"),
            BodyField(name="dry_run", type="boolean", required=False, says="only show the plan"),
        ),
    ),
    _post(
        "/v1/agents/{id}/report",
        "report",
        _report,
        "Say that an agent is sick: evidence with a name on it, not an order",
        REASON,
        roles=REPORTERS,
    ),
    _post(
        "/v1/agents/{id}/mute",
        "mute",
        _mute,
        "Ask not to be told of one vital of an agent, or of any, until a time; hard limits are told anyway",
        BodyField(name="vital", required=False, max_length=100, says="for example latency_ms; any if left out"),
        BodyField(name="until", type="time", says="ISO 8601 or epoch seconds, at most seven days ahead"),
        REASON,
    ),
    _post(
        "/v1/agents/{id}/rebase",
        "rebase",
        _rebase,
        "What it does now is its normal: learn it anew",
        REASON,
    ),
    _post(
        "/v1/plans/{id}/roll-back",
        "plans.roll_back",
        _roll_back,
        "Undo a plan that is under way, step by step and in reverse",
        REASON,
        roles=APPROVERS,
    ),
    _post(
        "/v1/agents/{id}/retire",
        "retire",
        _retire,
        "Retire an agent: neither judged nor missed until it sends again",
        OPTIONAL_REASON,
    ),
    _post(
        "/v1/incidents/{id}/feedback",
        "feedback",
        _feedback,
        "A verdict on an incident: false alarm, new normal, or the actual cause",
        BodyField(name="verdict", options=("false_alarm", "new_normal", "cause"), says="false_alarm, new_normal or cause"),
        BodyField(name="cause", required=False, says="a kind of infection, or your own words"),
        OPTIONAL_REASON,
    ),
    _post(
        "/v1/announcements",
        "announce",
        _announce,
        "Announce a change of a cohort until a time",
        BodyField(name="cohort", max_length=200, says="for example version=2"),
        BodyField(name="until", type="time", says="ISO 8601 or epoch seconds"),
        OPTIONAL_REASON,
        target=lambda call: call.text("cohort"),
    ),
    _post(
        "/v1/containments",
        "contain",
        _contain_scope,
        "Contain the fleet, a service, an agent or a tool until released",
        BodyField(name="scope", options=SCOPES, says="fleet, service, agent or tool"),
        BodyField(name="target", required=False, max_length=256, says="which one; not needed for the fleet"),
        LEVEL,
        REASON,
        target=lambda call: call.text("target") or call.text("scope"),
        refuses=(404,),
    ),
    _post(
        "/v1/containments/{id}/release",
        "release",
        _release_target,
        "End every containment of a target: an agent, a service, a tool, or `fleet`",
        REASON,
        SCOPE,
    ),
    Route(
        method="DELETE",
        path="/v1/containments/{id}",
        handler=command("release", _release_target),
        summary="The same as POST …/release; the reason in the body or the query",
        roles=OPERATORS,
        command="release",
        body="fields",
        fields=(OPTIONAL_REASON, SCOPE),
        query=(("reason", "why, where there is no body"), ("scope", "as in the body")),
    ),
    _post(
        "/v1/stop",
        "stop",
        _stop,
        "Isolate the whole fleet with one event; undone by releasing `fleet`",
        REASON,
        target=lambda _: "fleet",
    ),
)
