"""The state of a run as JSON documents: the same shapes for the command line, reports and the API."""

from __future__ import annotations

from typing import Any

from immune.core.events import LEVELS, iso
from immune.core.state import AgentState, IncidentState, RunState

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
        "severity": incident.severity,
        "peak_severity": incident.peak_severity,
        "severity_why": list(incident.severity_why),
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
        "incidents": len(state.incidents),
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

