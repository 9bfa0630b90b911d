"""What may be done now, by whom, and why not the rest: buttons say it, the daemon has the last word."""

from __future__ import annotations

from typing import Any

from dashboard.documents import irreversible_steps
from dashboard.projection import Projection
from dashboard.routing import Ask
from immune.core import rolling_back
from immune.core.commands import Role
from immune.core.state import AgentState, ApprovalState, PlanState
from immune.reports import documents as shared

Document = dict[str, Any]


def _whether(ask: Ask, projection: Projection, role: Role, *reasons: str) -> Document:
    """``{allowed, why}``: the first reason against it counts."""
    against = [_not_at_all(ask, projection), _not_this_person(ask, role), *reasons]
    why = next((reason for reason in against if reason), "")
    return {"allowed": not why, "why": why or None}


def _not_at_all(ask: Ask, projection: Projection) -> str:
    if projection.past:
        return "this is a moment that is over"
    status = ask.site.daemon.status
    if not status.up:
        return "the daemon is away: nobody could carry it out"
    return "" if status.run_id == projection.run_id else "this run is over"


def _not_this_person(ask: Ask, role: Role) -> str:
    if ask.principal is None:
        return "log in to decide"
    return "" if ask.may(role) else f"the role {ask.role} may not do this; ask for the role {role}"


def for_agent(ask: Ask, projection: Projection, agent: AgentState) -> dict[str, Document]:
    """By name: contain, release, heal, heal_now, reset_baseline, mute, retire, report."""
    state = projection.state
    plan = state.plans.get(agent.plan_id)
    held = any(state.containments[key].target == agent.agent_id and state.containments[key].scope == "agent" for key in state.active_containments)
    healing = f"{plan.plan_id} is under way; wait for its end" if plan is not None and plan.live else ""
    no_incident = "" if agent.incident_id else "it has no open incident"
    waits = f"it has a plan already: {plan.plan_id} ({plan.status})" if plan is not None and not plan.settled else ""
    rejected = "its plan was rejected; only heal now goes on" if agent.plan == "rejected" else ""
    retired = "it is retired" if agent.liveness == "retired" else ""

    def may(role: Role, *reasons: str) -> Document:
        return _whether(ask, projection, role, *reasons)

    return {
        "contain": may("operator", retired),
        "release": may("operator", "" if held else "it is not contained", healing),
        "heal": may("operator", no_incident, waits, rejected),
        "heal_now": may("approver", no_incident, healing),
        "reset_baseline": may("operator", healing),
        "mute": may("operator", retired),
        "report": may("operator"),
        "retire": may("operator", retired, healing),
    }


def for_approval(ask: Ask, projection: Projection, approval: ApprovalState) -> dict[str, Document]:
    """By name: approve, reject, snooze, undo, heal_now; approve says what must be typed."""
    state = projection.state
    decided = "" if approval.status == "pending" else f"it is {approval.status}" + (f" by {approval.decided_by}" if approval.decided_by else "")
    own = "who asks cannot approve" if ask.principal is not None and approval.requested_by == ask.principal.actor else ""
    undo = "" if approval.status == "granted" else "there is no grant to take back" if approval.status == "pending" else "the undo window is over"
    agent = state.agents.get(approval.subject)
    again = "" if agent is not None and agent.plan == "rejected" and agent.incident_id else "only after a rejection, while the incident is open"
    approve = _whether(ask, projection, "approver", decided, own)
    approve["confirm"] = approval.subject if irreversible_steps(state, approval) else None
    return {
        "approve": approve,
        "reject": _whether(ask, projection, "approver", decided, own),
        "snooze": _whether(ask, projection, "viewer", decided),
        "undo": _whether(ask, projection, "approver", undo),
        "heal_now": _whether(ask, projection, "approver", again),
    }


def for_plan(ask: Ask, projection: Projection, plan: PlanState) -> dict[str, Document]:
    """By name: roll_back."""
    return {"roll_back": _whether(ask, projection, "approver", rolling_back.why_not(plan))}


def plan_view(ask: Ask, projection: Projection, plan: PlanState) -> Document:
    """One plan, and what may be done about it."""
    return {**shared.plan_document(plan), "actions": for_plan(ask, projection, plan)}


def for_approvals(ask: Ask, projection: Projection) -> dict[str, Document]:
    """What this person may do about requests at all."""
    return {"decide": _whether(ask, projection, "approver"), "contain": _whether(ask, projection, "operator")}


def for_incident(ask: Ask, projection: Projection, open_: bool, healing: bool) -> dict[str, Document]:
    """By name: false_alarm, new_normal, cause."""
    over = "" if open_ else "the incident is closed"
    busy = "a plan is under way; wait for its end" if healing else ""
    return {
        "false_alarm": _whether(ask, projection, "operator", over, busy),
        "new_normal": _whether(ask, projection, "operator", over, busy),
        "cause": _whether(ask, projection, "operator"),
    }
