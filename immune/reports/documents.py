"""The state of a run as JSON documents: the same shapes for the command line, reports and the API."""

from __future__ import annotations

from typing import Any

from immune.core.acts import StepNote
from immune.core.events import LEVELS, iso
from immune.core.state import AgentState, ApprovalState, ContainmentState, IncidentState, PlanState, RunState, TaskState, split_memory_key

Document = dict[str, Any]


def when(at_us: int) -> str | None:
    """ISO 8601, or None for 0 (not yet)."""
    return iso(at_us) if at_us else None


def incident_document(incident: IncidentState) -> Document:
    """One incident, as in replay reports."""
    return {
        "id": incident.incident_id,
        "scope": incident.scope,
        "cohort": incident.cohort,
        "agents": list(incident.agents),
        "onset_at": when(incident.onset_us),
        "opened_at": when(incident.opened_at_us),
        "closed_at": when(incident.closed_at_us),
        # once it is over, what counts is how bad it was
        "severity": incident.severity if incident.open else incident.peak_severity,
        "peak_severity": incident.peak_severity,
        "severity_why": list(incident.severity_why if incident.open else incident.peak_why),
        "peak_severity_why": list(incident.peak_why),
        "nats": incident.nats,
        "evidence": [
            {
                "vital": note.vital,
                "direction": note.direction,
                "nats": note.nats,
                "ratio": note.ratio,
                "observed": note.observed,
                "expected": note.expected,
                "effect": note.effect,
                "growth": note.growth,
                "onset_at": when(note.onset_us),
                "calibration": note.calibration,
                "basis": note.basis,
            }
            for note in incident.evidence
        ],
        "diagnosis": [
            {"kind": h.kind, "confidence": h.confidence, "for": list(h.evidence_for), "against": list(h.evidence_against)} for h in incident.diagnosis
        ],
        "ruled_out": list(incident.ruled_out),
        "changed": [{"field": fact.field, "before": fact.before, "after": fact.after, "at": when(fact.at_us)} for fact in incident.changed],
        "containment": [{"level": p.level, "at": when(p.at_us), "mode": p.mode, "rule": p.rule, "event": f"e{p.seq}"} for p in incident.proposals],
        "outcome": incident.outcome,
        "reason": incident.reason,
        "event": f"e{incident.opened_seq}",
    }


def agent_document(state: RunState, agent: AgentState) -> Document:
    """One agent: its four facts and what is open about it."""
    incident = state.incidents.get(agent.incident_id)
    return {
        "id": agent.agent_id,
        "type": agent.type,
        "service": agent.service,
        "state": agent.word,
        "health": agent.health,
        "liveness": agent.liveness,
        "containment": {"desired": agent.desired, "observed": agent.observed, "proposed": agent.proposed},
        "plan": agent.plan,
        "severity": incident.severity if incident else 0.0,
        "incident": agent.incident_id or None,
        "event": f"e{agent.last_change_seq}",
    }


def run_document(state: RunState) -> Document:
    """One run in figures."""
    incidents = state.incidents.values()
    return {
        "run_id": state.run_id,
        "source": state.source,
        "started_at": when(state.started_at_us),
        "ended_at": when(state.ended_at_us),
        "last_event_at": when(state.at_us),
        "agents": len(state.agents),
        "incidents": state.ever("incidents"),
        "open_incidents": len(state.open_incidents),
        "quarantines": sum(map(quarantines, incidents)),
        "rejected": dict(sorted(state.rejected.items())),
        "telemetry_lost": state.lost_samples,
        "child_failures": state.child_failures,
        "policy_version": state.policy_version,
        "events": state.seq,
        "head": state.head,
    }


def quarantines(incident: IncidentState) -> int:
    """1 if this incident's agent would have been isolated, before cap and mode; else 0."""
    return int(any(LEVELS.index(p.level) >= LEVELS.index("isolated") for p in incident.proposals))


def containment_document(containment: ContainmentState) -> Document:
    """One containment: what, why, by whom, and how it ended."""
    return {
        "id": containment.containment_id,
        "scope": containment.scope,
        "target": containment.target,
        "level": containment.level,
        "automatic": containment.automatic,
        "by": containment.by,
        "reason": containment.reason,
        "rule": containment.rule,
        "incident": containment.incident_id or None,
        "since": when(containment.since_us),
        "ended_at": when(containment.ended_at_us),
        "basis": containment.basis or None,
        "active": containment.active,
        "event": f"e{containment.seq}",
    }


def step_document(note: StepNote) -> Document:
    """One step as people approve it: what, how risky, and how it is undone."""
    return {
        "action": note.action,
        "summary": note.summary,
        "tier": note.tier,
        "reversible": note.reversible,
        "undo": note.compensation or None,
        "timeout_s": note.timeout_s,
    }


def plan_document(plan: PlanState) -> Document:
    """One plan: its steps with risk and undo, where it is, how it ended."""
    return {
        "id": plan.plan_id,
        "agent": plan.agent_id,
        "incident": plan.incident_id,
        "diagnosis": plan.diagnosis,
        "signature": plan.signature,
        "rung": plan.rung,
        "status": plan.status,
        "outcome": plan.outcome or None,
        "reason": plan.reason or None,
        "severity": plan.severity,
        "needs_approval": plan.needs_approval,
        "rule": plan.rule or None,
        "approval": plan.request_id or None,
        "trigger": plan.trigger,
        "plan_hash": plan.plan_hash,
        "proposed_at": when(plan.proposed_at_us),
        "started_at": when(plan.started_at_us),
        "deadline_at": when(plan.deadline_us),
        "probation_until": when(plan.probation_until_us),
        "samples_needed": plan.samples_needed,
        "relapsed": plan.relapsed,
        "steps": [{**step_document(s.note), "status": s.status, "started_at": when(s.started_at_us), "detail": s.detail or None} for s in plan.steps],
        "skipped": [{"action": action, "reason": reason} for action, reason in plan.skipped],
        "event": f"e{plan.seq}",
    }


def approval_document(state: RunState, approval: ApprovalState) -> Document:
    """One request to a person, with everything that a yes would mean: the plan and the evidence are inside."""
    plan = state.plans.get(approval.plan_id)
    incident = state.incidents.get(approval.incident_id)
    return {
        "id": approval.request_id,
        "about": approval.about,
        "subject": approval.subject,
        "status": approval.status,
        "severity": approval.severity,
        "rule": approval.rule,
        "level": approval.level,
        "plan_hash": approval.plan_hash,
        "requested_by": approval.requested_by,
        "requested_at": when(approval.requested_at_us),
        "expires_at": when(approval.expires_us),
        "decided_by": approval.decided_by or None,
        "decided_at": when(approval.decided_at_us),
        "not_before": when(approval.not_before_us),
        "reason": approval.reason or None,
        "plan": plan_document(plan) if plan else None,
        "incident": incident_document(incident) if incident else None,
        "event": f"e{approval.seq}",
    }


def task_document(task: TaskState) -> Document:
    """One thing that only a person can do."""
    return {
        "id": task.task_id,
        "agent": task.agent_id,
        "plan": task.plan_id,
        "action": task.action,
        "reason": task.reason,
        "status": task.status,
        "deadline_at": when(task.deadline_us),
        "event": f"e{task.seq}",
    }


def memory_documents(state: RunState) -> list[Document]:
    """What is remembered of cures: how often each action helped, and did not, for each signature."""
    found = [(split_memory_key(key), known) for key, known in sorted(state.memory.items())]
    return [{"signature": signature, "action": action, "worked": known.worked, "failed": known.failed} for (signature, action), known in found]
