"""What the pages show, as JSON documents. Shapes of the daemon's API come from `immune.reports.documents`; the rest is here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dashboard.encoding import encode
from dashboard.projection import Projection
from immune.core.events import Envelope, iso
from immune.core.policy import Policy
from immune.core.policy_file import policy_keys
from immune.core.state import AgentState, ApprovalState, IncidentState, PlanState, RunState
from immune.reports import documents as shared
from immune.reports.live import happening
from immune.reports.sentences import rule_of, say

Document = dict[str, Any]
US = 1_000_000

RULES = {f"{section}.{key.name}" if section else key.name: key.metadata.get("why") for section, key, _ in policy_keys(Policy())}
"""Why each rule of a policy exists, by name."""


def severity_of(state: RunState, agent: AgentState) -> float:
    """How bad an agent's open incident is; 0 without one."""
    incident = state.incidents.get(agent.incident_id)
    return round(incident.severity, 2) if incident else 0.0


def tier_of(state: RunState, agent: AgentState) -> int | None:
    """The risk of what is planned or done about an agent: the highest tier among its plan's steps."""
    plan = state.plans.get(agent.plan_id)
    return max((step.note.tier for step in plan.steps), default=None) if plan else None


def agent_row(state: RunState, agent: AgentState, seen_us: int = 0) -> Document:
    """One line of the fleet."""
    return {
        "id": agent.agent_id,
        "type": agent.type,
        "service": agent.service,
        "state": agent.word,
        "health": agent.health,
        "liveness": agent.liveness,
        "desired": agent.desired,
        "observed": agent.observed,
        "plan": agent.plan,
        "severity": severity_of(state, agent),
        "tier": tier_of(state, agent),
        "incident": agent.incident_id or None,
        "event": agent.last_change_seq,
        "last_seen": shared.when(seen_us),
    }


class FleetList:
    """``/api/agents`` as bytes. A line is encoded again only when its agent, incident or plan is another object than before."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[AgentState, IncidentState | None, PlanState | None, bytes]] = {}
        self._run_id = ""

    def body(self, projection: Projection) -> bytes:
        """The whole list, worst first, in one JSON document."""
        state = projection.state
        if self._run_id != state.run_id:
            self._run_id, self._lines = state.run_id, {}
        stamps: dict[int, bytes] = {0: b"null}"}
        seen_us = projection.seen_us
        rows = []
        for agent_id, agent in state.agents.items():
            at_us = seen_us.get(agent_id, 0)
            stamp = stamps.get(at_us)
            if stamp is None:
                stamp = stamps[at_us] = f'"{iso(at_us)}"}}'.encode()
            rows.append((self._line(state, agent), stamp))
        order = worst_first(state)
        head = encode({"run_id": state.run_id, "seq": state.seq, "at": shared.when(state.at_us), "past": projection.past, "total": len(rows)})
        return head[:-1] + b',"agents":[' + b",".join([rows[place][0] + rows[place][1] for place in order]) + b"]}\n"

    def _line(self, state: RunState, agent: AgentState) -> bytes:
        incident, plan = state.incidents.get(agent.incident_id), state.plans.get(agent.plan_id)
        known = self._lines.get(agent.agent_id)
        if known is not None and known[0] is agent and known[1] is incident and known[2] is plan:
            return known[3]
        line = encode(agent_row(state, agent)).removesuffix(b"null}")
        self._lines[agent.agent_id] = (agent, incident, plan, line)
        return line


def worst_first(state: RunState) -> list[int]:
    """Places of the agents in `state.agents`, the most severe first, then in order of enrolment."""
    severities = [severity_of(state, agent) if agent.incident_id else 0.0 for agent in state.agents.values()]
    return sorted(range(len(severities)), key=lambda place: -severities[place])


def map_document(projection: Projection) -> Document:
    """The fleet in columns, in order of enrolment: words are numbers into the tables beside them."""
    state = projection.state
    agents = list(state.agents.values())
    document: Document = {"run_id": state.run_id, "seq": state.seq, "at": shared.when(state.at_us), "past": projection.past, "total": len(agents)}
    document["ids"] = [agent.agent_id for agent in agents]
    columns = {
        "state": [agent.word for agent in agents],
        "type": [agent.type for agent in agents],
        "service": [agent.service for agent in agents],
    }
    for name, words in columns.items():
        table = sorted(set(words))
        place = {word: number for number, word in enumerate(table)}
        document[name] = {"table": table, "of": [place[word] for word in words]}
    document["severity"] = [severity_of(state, agent) if agent.incident_id else 0 for agent in agents]
    document["tier"] = [tier_of(state, agent) if agent.plan_id else None for agent in agents]
    return document


def stats_document(projection: Projection) -> Document:
    """The fleet in figures; `states` sums to `agents`."""
    state = projection.state
    waiting = [state.approvals[key] for key in state.open_approvals if state.approvals[key].status == "pending"]
    ends = Counter(plan.outcome for plan in state.plans.values() if plan.outcome)
    newest_us = max(projection.seen_us.values(), default=0)
    return {
        "run_id": state.run_id,
        "seq": state.seq,
        "at": shared.when(state.at_us),
        "past": projection.past,
        "source": state.source,
        "started_at": shared.when(state.started_at_us),
        "ended_at": shared.when(state.ended_at_us),
        "newest_sample_at": shared.when(newest_us),
        "agents": len(state.agents),
        "states": dict(Counter(agent.word for agent in state.agents.values())),
        "not_enforced": sum(agent.desired != agent.observed for agent in state.agents.values()),
        "incidents": {"open": len(state.open_incidents), "total": len(state.incidents)},
        "approvals": {
            "pending": len(waiting),
            "total": len(state.approvals),
            "next_expiry_at": shared.when(min((a.expires_us for a in waiting), default=0)),
        },
        "containments": {"active": len(state.active_containments), "total": len(state.containments)},
        "plans": {"open": len(state.open_plans), "total": len(state.plans), "verified": ends["succeeded"], "undone": ends["compensated"]},
        "tasks": {"open": len(state.open_tasks), "total": len(state.tasks)},
        "rejected_samples": dict(sorted(state.rejected.items())),
        "lost_samples": state.lost_samples,
        "policy_version": state.policy_version,
        "head": state.head,
    }


def event_document(envelope: Envelope) -> Document:
    """One event of the journal, told; `notable` is what a fleet page shows, None for what happens to everybody all the time."""
    said = happening(envelope)
    return {
        "seq": envelope.seq,
        "id": envelope.id,
        "at": iso(envelope.at_us),
        "kind": envelope.kind,
        "subject": envelope.subject,
        "actor": envelope.actor,
        "incident": envelope.correlation_id or None,
        "cause": envelope.causation_id or None,
        "says": say(envelope),
        "rule": rule_of(envelope) or None,
        "notable": None if said is None else {"text": said.text, "tone": said.tone},
    }


def raw_event(envelope: Envelope) -> Document:
    """One event told, with its body and its place in the chain."""
    return {
        **event_document(envelope),
        "schema": envelope.schema,
        "body": json.loads(envelope.body),
        "prev_hash": envelope.prev_hash,
        "hash": envelope.hash,
    }


def list_document(projection: Projection, name: str, items: Sequence[Document], **more: Any) -> Document:
    """A list with the moment it holds for."""
    state = projection.state
    return {
        "run_id": state.run_id,
        "seq": state.seq,
        "at": shared.when(state.at_us),
        "past": projection.past,
        "total": len(items),
        name: list(items),
        **more,
    }


def newest_plans(state: RunState) -> dict[str, PlanState]:
    """The newest plan of each incident."""
    return {plan.incident_id: plan for plan in state.plans.values()}


def incident_summary(incident: IncidentState, plan: PlanState | None) -> Document:
    """One incident, with its newest plan, in a line."""
    top = incident.diagnosis[0] if incident.diagnosis else None
    return {
        "id": incident.incident_id,
        "scope": incident.scope,
        "cohort": incident.cohort or None,
        "agents": list(incident.agents[:20]),
        "agent_count": len(incident.agents),
        "onset_at": shared.when(incident.onset_us),
        "opened_at": shared.when(incident.opened_at_us),
        "closed_at": shared.when(incident.closed_at_us),
        "open": incident.open,
        "severity": round(incident.severity if incident.open else incident.peak_severity, 2),
        "diagnosis": incident.top_kind,
        "confidence": top.confidence if top else None,
        "proposed": incident.proposed,
        "plan": plan.plan_id if plan else None,
        "plan_status": plan.status if plan else None,
        "plan_outcome": plan.outcome if plan else None,
        "outcome": incident.outcome,
        "reason": incident.reason or None,
        "event": incident.opened_seq,
    }


def approval_view(projection: Projection, approval: ApprovalState) -> Document:
    """One request with everything that a yes would mean: what waits, how far it reaches, what cannot be undone."""
    state = projection.state
    document = shared.approval_document(state, approval)
    lasting = irreversible_steps(state, approval)
    document["irreversible"] = lasting
    document["confirm"] = approval.subject if lasting else None
    document["reach"] = reach_document(state, approval)
    document["signature"] = signature_of(state, approval)
    document["rule_why"] = RULES.get(approval.rule)
    return document


def irreversible_steps(state: RunState, approval: ApprovalState) -> list[str]:
    """Actions of a request's plan that nobody can take back."""
    plan = state.plans.get(approval.plan_id)
    return [step.note.action for step in plan.steps if not step.note.reversible] if plan else []


def signature_of(state: RunState, approval: ApprovalState) -> str:
    """What makes two requests equal enough to be decided together: the same illness, the same steps, the same rule."""
    plan = state.plans.get(approval.plan_id)
    steps = ",".join(step.note.action for step in plan.steps) if plan else approval.level
    return "|".join((approval.about, plan.signature if plan else "", steps, approval.rule))


def reach_document(state: RunState, approval: ApprovalState) -> Document:
    """The blast radius of a yes."""
    plan = state.plans.get(approval.plan_id)
    agent = state.agents.get(approval.subject)
    held = {state.containments[key].target for key in state.active_containments if state.containments[key].scope == "agent"}
    return {
        "agents": len(state.agents) if approval.about == "brake" else 1,
        "fleet": len(state.agents),
        "contained": len(held),
        "tier": max((step.note.tier for step in plan.steps), default=0) if plan else None,
        "type": agent.type if agent else None,
        "service": agent.service if agent else None,
        "same_service": sum(other.service == agent.service for other in state.agents.values()) if agent and agent.service else 0,
    }


def approvals_newest_first(state: RunState, statuses: Iterable[str] = ()) -> list[ApprovalState]:
    """Requests, the newest first; only these statuses if any are named."""
    wanted = frozenset(statuses)
    return [one for one in reversed(state.approvals.values()) if not wanted or one.status in wanted]


def seen_from(names: Sequence[str], agents: Sequence[int], at_us: Sequence[int]) -> Mapping[str, int]:
    """Time of the newest sample by agent id."""
    return {names[index]: int(at) for index, at in zip(agents, at_us, strict=True) if index < len(names)}
