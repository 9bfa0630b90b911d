"""What an event says to people who query by name: measurement, tags of few values, fields with units."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from immune.core import acts
from immune.core import events as ev
from immune.core.events import Envelope

INFECTION = "infection_event"
QUARANTINE = "quarantine_event"
APPROVAL = "approval_event"
HEALING = "healing_event"
ACTION = "action_log"
MEASUREMENTS = (INFECTION, QUARANTINE, APPROVAL, HEALING, ACTION)
KNOWN_MAX = 10_000
DECISIONS: Mapping[acts.Trigger, str] = {"auto": "not_needed", "after_approval": "approved", "heal_now": "heal_now"}
"""What a person decided about a plan, by what started it."""

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One point to be: `tags` beside run and agent, all of few values; `fields` beside seq and actor."""

    measurement: str
    agent: str
    tags: Mapping[str, str]
    fields: Mapping[str, str | bool | int | float]


@dataclass(slots=True, kw_only=True)
class PlanKnown:
    """What later events of a plan do not say again."""

    agent: str = ""
    incident_id: str = ""
    diagnosis: str = "unknown"
    trigger: acts.Trigger = "auto"


@dataclass(slots=True, kw_only=True)
class Known:
    """What is remembered of earlier events of a run, the newest few thousand of each kind."""

    plans: OrderedDict[str, PlanKnown] = field(default_factory=OrderedDict)
    requests: OrderedDict[str, acts.ApprovalRequested] = field(default_factory=OrderedDict)
    containments: OrderedDict[str, acts.Contained] = field(default_factory=OrderedDict)
    infections: OrderedDict[str, str] = field(default_factory=OrderedDict)

    def remember(self, subject: str, event: ev.Event) -> None:
        """Take in what this event says of a plan, a request or a containment."""
        match event:
            case acts.PlanProposed():
                _keep(
                    self.plans,
                    event.plan_id,
                    PlanKnown(agent=subject, incident_id=event.incident_id, diagnosis=event.diagnosis, trigger=event.trigger),
                )
            case acts.PlanStarted() if event.plan_id in self.plans:
                self.plans[event.plan_id].trigger = event.trigger
            case acts.ApprovalRequested():
                _keep(self.requests, event.request_id, event)
            case ev.IncidentOpened() | ev.IncidentUpdated() if event.diagnosis:
                _keep(self.infections, event.incident_id, event.diagnosis[0].kind)
            case acts.Contained():
                _keep(self.containments, event.containment_id, event)
            case _:
                pass


def _keep(known: OrderedDict[str, V], key: str, value: V) -> None:
    known[key] = value
    if len(known) > KNOWN_MAX:
        known.popitem(last=False)


REMEMBERED = frozenset({"incident_opened", "incident_updated", "plan_proposed", "plan_started", "approval_requested", "contained"})
TOLD = REMEMBERED | {
    "incident_opened",
    "incident_updated",
    "incident_closed",
    "containment_proposed",
    "containment_deferred",
    "released",
    "enforcement_observed",
    "enforcement_failed",
    "approval_granted",
    "approval_closed",
    "plan_ended",
    "plan_withdrawn",
    "probation_started",
    "probation_ended",
    "ladder_exhausted",
    "relapsed",
    "task_assigned",
    "step_started",
    "step_finished",
    "compensation_started",
    "compensation_finished",
}
"""Kinds that have a second point beside `immune_event`."""


def fact_of(known: Known, envelope: Envelope, event: ev.Event) -> Fact | None:
    """What an event says to people, or None for one that is only in `immune_event`."""
    tellers = (_infection, _quarantine, _approval, _healing, _action)
    return next((fact for tell in tellers if (fact := tell(known, envelope, event)) is not None), None)


def _infection(known: Known, envelope: Envelope, event: ev.Event) -> Fact | None:
    extra: dict[str, str | bool | int | float]
    match event:
        case ev.IncidentOpened():
            phase, extra = "opened", {"onset_us": event.onset_us, "cohort": event.cohort}
        case ev.IncidentUpdated():
            phase, extra = "updated", {"reason": event.reason}
        case ev.IncidentClosed():
            tags = {"phase": "closed", "infection": known.infections.get(event.incident_id, "unknown"), "outcome": event.outcome}
            return Fact(
                measurement=INFECTION,
                agent=envelope.subject,
                tags=tags,
                fields={"incident_id": event.incident_id, "reason": event.reason},
            )
        case _:
            return None
    top = event.diagnosis[0] if event.diagnosis else None
    fields: dict[str, str | bool | int | float] = {
        "incident_id": event.incident_id,
        "severity": event.severity,
        "evidence_nats": event.nats,
        "confidence": top.confidence if top else 0.0,
        "agents": len(event.agents),
        "vitals": " ".join(dict.fromkeys(note.vital for note in event.evidence)),
        **extra,
    }
    return Fact(
        measurement=INFECTION,
        agent=envelope.subject,
        tags={"phase": phase, "infection": top.kind if top else "unknown", "outcome": "open"},
        fields=fields,
    )


def _quarantine(known: Known, envelope: Envelope, event: ev.Event) -> Fact | None:
    agent, fields = envelope.subject, dict[str, str | bool | int | float]()
    match event:
        case ev.ContainmentProposed():
            decision, level = "proposed", event.level
            fields |= {"incident_id": event.incident_id, "rule": event.rule, "severity": event.severity}
        case acts.Contained():
            decision, level = "contained", event.level
            fields |= {"containment_id": event.containment_id, "incident_id": event.incident_id, "automatic": event.automatic}
            fields |= {"reason": event.reason, "rule": event.rule, "target": event.target, "scope": event.scope}
        case acts.Released():
            held = known.containments.get(event.containment_id)
            decision, level = "released", held.level if held else "none"
            fields |= {"containment_id": event.containment_id, "basis": event.basis, "reason": event.reason}
        case acts.ContainmentDeferred():
            decision, level = "deferred", event.level
            fields |= {"incident_id": event.incident_id, "contained": event.contained, "allowed": event.allowed}
        case acts.EnforcementObserved():
            decision, level = "observed", event.after
            fields |= {"before": event.before}
        case acts.EnforcementFailed():
            decision, level = "failed", event.desired
            fields |= {"observed": event.observed, "error": event.error, "waited_s": event.waited_s}
        case _:
            return None
    return Fact(measurement=QUARANTINE, agent=agent, tags={"decision": decision, "level": level}, fields=fields)


def _approval(known: Known, envelope: Envelope, event: ev.Event) -> Fact | None:
    fields = dict[str, str | bool | int | float]()
    match event:
        case acts.ApprovalRequested():
            decision = "requested"
            fields |= {"plan_hash": event.plan_hash, "rule": event.rule, "requested_by": event.requested_by, "expires_us": event.expires_us}
        case acts.ApprovalGranted():
            decision = "approved"
            fields |= {"plan_hash": event.plan_hash, "reason": event.reason}
        case acts.ApprovalClosed():
            decision = event.outcome
            fields |= {"reason": event.reason}
        case _:
            return None
    request = known.requests.get(event.request_id)
    if request is not None:
        fields |= {"plan_id": request.plan_id, "incident_id": request.incident_id, "severity": request.severity}
    tags = {"decision": decision, "about": request.about if request else "plan"}
    return Fact(measurement=APPROVAL, agent=envelope.subject, tags=tags, fields={"request_id": event.request_id, **fields})


def _healing(known: Known, envelope: Envelope, event: ev.Event) -> Fact | None:
    fields = dict[str, str | bool | int | float]()
    match event:
        case acts.PlanProposed():
            phase = "planned"
            fields |= {"rung": event.rung, "severity": event.severity, "needs_approval": event.needs_approval}
            fields |= {"actions": " ".join(step.action for step in event.steps)}
        case acts.PlanStarted():
            phase = "started"
        case acts.ProbationStarted():
            phase = "probation_started"
            fields |= {"dispatches": event.dispatches, "samples_needed": event.samples_needed}
        case acts.ProbationEnded():
            phase = "probation_ended"
            fields |= {"success": event.passed, "samples": event.samples, "evidence_nats": event.nats, "reason": event.reason}
        case acts.PlanEnded():
            phase = "ended"
            fields |= {"success": event.outcome == "succeeded", "outcome": event.outcome, "reason": event.reason}
        case acts.PlanWithdrawn():
            phase = "withdrawn"
            fields |= {"reason": event.reason}
        case acts.Relapsed():
            phase = "relapsed"
            fields |= {"after_s": event.after_s}
        case acts.TaskAssigned():
            phase = "handed_over"
            fields |= {"task_id": event.task_id, "reason": event.reason}
        case acts.LadderExhausted():
            tags = {"phase": "exhausted", "trigger": "auto", "infection": known.infections.get(event.incident_id, "unknown")}
            told: dict[str, str | bool | int | float] = {"incident_id": event.incident_id, "tried": " ".join(event.tried), "reason": event.reason}
            return Fact(measurement=HEALING, agent=envelope.subject, tags=tags, fields=told)
        case _:
            return None
    plan = known.plans.get(event.plan_id, PlanKnown(agent=envelope.subject))
    return Fact(
        measurement=HEALING,
        agent=plan.agent or envelope.subject,
        tags={"phase": phase, "trigger": plan.trigger, "infection": plan.diagnosis},
        fields={"plan_id": event.plan_id, "incident_id": plan.incident_id, **fields},
    )


def _action(known: Known, envelope: Envelope, event: ev.Event) -> Fact | None:
    match event:
        case acts.StepStarted() | acts.CompensationStarted():
            outcome, success, detail = "started", None, ""
        case acts.StepFinished() | acts.CompensationFinished():
            outcome, success, detail = event.outcome, event.outcome == "succeeded", event.detail
        case _:
            return None
    plan = known.plans.get(event.plan_id, PlanKnown(agent=envelope.subject))
    undo = isinstance(event, acts.CompensationStarted | acts.CompensationFinished)
    tags = {
        "action": event.action,
        "trigger": plan.trigger,
        "decision": DECISIONS[plan.trigger],
        "direction": "undo" if undo else "do",
        "outcome": outcome,
    }
    fields: dict[str, str | bool | int | float] = {"plan_id": event.plan_id, "step": event.step, "incident_id": plan.incident_id}
    if success is not None:
        fields |= {"success": success, "detail": detail}
    return Fact(measurement=ACTION, agent=plan.agent or envelope.subject, tags=tags, fields=fields)
