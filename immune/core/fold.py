"""State as a fold over events.

`fold` never refuses, reads nothing but its arguments, and gives the same state for the same events in any process and
any chunking.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from immune.core import codec
from immune.core import events as ev
from immune.core.codec import changed
from immune.core.events import Envelope, Event, read_event
from immune.core.fold_acts import ACTS, desired_level
from immune.core.forgetting import GROWING, forget_ended
from immune.core.forms import maker
from immune.core.state import AgentState, IncidentState, ProposalState, RunState, StateDraft

Apply = Callable[[StateDraft, Envelope, Any], None]
_agent, _incident = maker(AgentState), maker(IncidentState)


def fold(state: RunState, envelopes: Iterable[Envelope]) -> RunState:
    """The state after these events. Copies its dicts once per call, so fold in batches."""
    draft = StateDraft(state)
    last, bounded = None, state.keep > 0
    for last in envelopes:
        event = read_event(last.kind, last.schema, last.body)
        kind = type(event)
        apply = HANDLERS.get(kind)
        if apply is not None:
            apply(draft, last, event)
            if bounded and kind in GROWING:
                forget_ended(draft, last.at_us)
    if last is not None:
        draft.changes.update(run_id=last.run_id, seq=last.seq, at_us=last.at_us, head=last.hash)
    return draft.freeze()


def canonical_hash(state: RunState) -> str:
    """SHA-256 of the state's canonical form: equal states have equal hashes in every process."""
    digest = hashlib.sha256()
    for item in fields(state):
        value = getattr(state, item.name)
        digest.update(f"{item.name}:".encode())
        if isinstance(value, dict):
            for key in sorted(value):
                digest.update(key.encode() + b"=" + codec.encode(value[key]) + b";")
        else:
            digest.update(codec.encode(value) + b";")
    return digest.hexdigest()


def _started(draft: StateDraft, envelope: Envelope, event: ev.RunStarted) -> None:
    draft.changes.update(
        started_at_us=draft.scalar("started_at_us") or envelope.at_us,
        ended_at_us=0,
        epoch=event.epoch,
        period_us=event.period_us,
        policy_version=event.policy_version,
        source=event.source,
    )


def _ended(draft: StateDraft, envelope: Envelope, event: ev.RunEnded) -> None:
    draft.changes["ended_at_us"] = envelope.at_us


def _enrolled(draft: StateDraft, envelope: Envelope, event: ev.AgentEnrolled) -> None:
    if envelope.subject in draft.agents:
        return
    agent = _agent(agent_id=envelope.subject, index=event.index, type=event.type, service=event.service, last_change_seq=envelope.seq)
    # whoever joins a contained service or a stopped fleet is contained like everybody there
    desired = desired_level(draft, agent)
    draft.agents[envelope.subject] = changed(agent, desired=desired, deviating_since_us=envelope.at_us if desired != "none" else 0)


def _health(draft: StateDraft, envelope: Envelope, event: ev.HealthChanged) -> None:
    draft.change_agent(envelope.subject, envelope.seq, health=event.after)


def _liveness(draft: StateDraft, envelope: Envelope, event: ev.LivenessChanged) -> None:
    draft.change_agent(envelope.subject, envelope.seq, liveness=event.after)


def _opened(draft: StateDraft, envelope: Envelope, event: ev.IncidentOpened) -> None:
    draft.incidents[event.incident_id] = _incident(
        incident_id=event.incident_id,
        scope=event.scope,
        cohort=event.cohort,
        cohort_key=event.cohort_key,
        agents=event.agents,
        onset_us=event.onset_us,
        opened_at_us=envelope.at_us,
        opened_seq=envelope.seq,
        nats=event.nats,
        severity=event.severity,
        peak_severity=event.severity,
        severity_why=event.severity_why,
        peak_why=event.severity_why,
        evidence=event.evidence,
        diagnosis=event.diagnosis,
        ruled_out=event.ruled_out,
        changed=event.changed,
        updated_at_us=envelope.at_us,
    )
    if event.incident_id not in draft.open_incidents:
        draft.open_incidents.append(event.incident_id)
    if event.scope == "agent":
        for agent_id in event.agents:
            draft.change_agent(agent_id, envelope.seq, incident_id=event.incident_id)


def _updated(draft: StateDraft, envelope: Envelope, event: ev.IncidentUpdated) -> None:
    known = draft.incidents.get(event.incident_id)
    if known is not None:
        draft.incidents[event.incident_id] = changed(
            known,
            agents=event.agents,
            nats=event.nats,
            severity=event.severity,
            peak_severity=max(known.peak_severity, event.severity),
            severity_why=event.severity_why,
            peak_why=event.severity_why if event.severity > known.peak_severity else known.peak_why,
            evidence=event.evidence,
            diagnosis=event.diagnosis,
            ruled_out=event.ruled_out,
            updated_at_us=envelope.at_us,
        )


def _closed(draft: StateDraft, envelope: Envelope, event: ev.IncidentClosed) -> None:
    known = draft.incidents.get(event.incident_id)
    if known is None:
        return
    draft.change(draft.incidents, event.incident_id, known, {"closed_at_us": envelope.at_us, "outcome": event.outcome, "reason": event.reason})
    if event.incident_id in draft.open_incidents:
        draft.open_incidents.remove(event.incident_id)
    if known.scope == "agent":
        for task_id in [one for one in draft.open_tasks if draft.tasks[one].agent_id in known.agents]:
            draft.open_tasks.remove(task_id)
            draft.tasks[task_id] = changed(draft.tasks[task_id], status="over")
    for agent_id in known.agents:
        agent = draft.agents.get(agent_id)
        if agent is not None and agent.incident_id == event.incident_id:
            draft.change_agent(agent_id, envelope.seq, incident_id="", proposed="none", plan="none", plan_id="")


def _proposed(draft: StateDraft, envelope: Envelope, event: ev.ContainmentProposed) -> None:
    proposal = ProposalState(level=event.level, mode=event.mode, rule=event.rule, at_us=envelope.at_us, seq=envelope.seq)
    known = draft.incidents.get(event.incident_id)
    if known is not None:
        draft.change(draft.incidents, event.incident_id, known, {"proposals": (*known.proposals, proposal)})
    draft.change_agent(envelope.subject, envelope.seq, proposed=event.level)


def _rejected(draft: StateDraft, envelope: Envelope, event: ev.SamplesRejected) -> None:
    for reason, count in event.counts:
        draft.rejected[reason] = draft.rejected.get(reason, 0) + count


def _lost(draft: StateDraft, envelope: Envelope, event: ev.TelemetryLost) -> None:
    draft.changes["lost_samples"] = draft.scalar("lost_samples") + event.samples


def _failed(draft: StateDraft, envelope: Envelope, event: ev.ChildFailed) -> None:
    draft.changes["child_failures"] = draft.scalar("child_failures") + 1


HANDLERS: dict[type[Event], Apply] = {
    ev.RunStarted: _started,
    ev.RunEnded: _ended,
    ev.AgentEnrolled: _enrolled,
    ev.HealthChanged: _health,
    ev.LivenessChanged: _liveness,
    ev.IncidentOpened: _opened,
    ev.IncidentUpdated: _updated,
    ev.IncidentClosed: _closed,
    ev.ContainmentProposed: _proposed,
    ev.SamplesRejected: _rejected,
    ev.TelemetryLost: _lost,
    ev.ChildFailed: _failed,
    **ACTS,
}
