"""Why: the chain of events behind an event, an incident or an agent, in words. From the journal alone."""

from __future__ import annotations

from typing import Any

from immune.core import events as ev
from immune.core.events import Envelope, iso
from immune.core.state import RunState
from immune.errors import UnknownIdError
from immune.ports import Journal

SHOWN_PER_AGENT = 200


def explain(journal: Journal, state: RunState, subject: str) -> dict[str, Any]:
    """``{id, sentence, chain: [{id, at, actor, kind, says, body}], policy_version}``. Raises UnknownIdError."""
    if subject.startswith("e") and subject[1:].isdigit():
        chain = _causes(journal, state, int(subject[1:]))
    elif subject in state.incidents:
        chain = [e for e in journal.read(state.run_id) if e.correlation_id == subject]
    elif subject in state.agents:
        concerned = {i.incident_id for i in state.incidents.values() if subject in i.agents}
        chain = [e for e in journal.read(state.run_id) if e.subject == subject or e.correlation_id in concerned][-SHOWN_PER_AGENT:]
    else:
        raise UnknownIdError(
            "nothing in this run has that id", field="ID", value=subject, way_out="give an event (e17), an incident (inc-0001) or an agent id"
        )
    links = [
        {"id": e.id, "at": iso(e.at_us), "actor": e.actor, "kind": e.kind, "subject": e.subject, "says": say(e), "body": e.as_json()["body"], "hash": e.hash}
        for e in chain
    ]
    sentence = links[-1]["says"] if subject.startswith("e") and subject not in state.agents else f"{subject}: {len(links)} events"
    return {"id": subject, "run_id": state.run_id, "sentence": sentence, "chain": links, "policy_version": state.policy_version}


def _causes(journal: Journal, state: RunState, seq: int) -> list[Envelope]:
    if not 1 <= seq <= state.seq:
        raise UnknownIdError("no such event in this run", field="ID", value=f"e{seq}", way_out=f"events go from e1 to e{state.seq}")
    chain: list[Envelope] = []
    while seq:
        envelope = next(iter(journal.read(state.run_id, after_seq=seq - 1, limit=1)))
        chain.append(envelope)
        seq = int(envelope.causation_id[1:]) if envelope.causation_id else 0
    return chain[::-1]


def say(envelope: Envelope) -> str:
    """One event in one sentence."""
    event = envelope.event()
    who = envelope.subject
    match event:
        case ev.RunStarted():
            return f"run started from {event.source or 'sources'} under policy {event.policy_version}, writer epoch {event.epoch}"
        case ev.RunEnded():
            return f"run ended after {event.ticks} ticks: {event.reason}"
        case ev.AgentEnrolled():
            return f"{who} enrolled as {event.type or 'agent'}" + (f" of {event.service}" if event.service else "")
        case ev.HealthChanged():
            return f"{who} went from {event.before} to {event.after} at {event.nats:.1f} nats after {event.samples} samples"
        case ev.LivenessChanged():
            return f"{who} is {event.after}: {event.reason}"
        case ev.FactChanged():
            return f"{who} changed its {event.fact.field} from {event.fact.before or '(none)'} to {event.fact.after}"
        case ev.IncidentOpened():
            return f"{event.incident_id} opened on {_who(event.agents)}: {_evidence(event.evidence)}; {_looks(event.diagnosis)}; severity {event.severity:.1f}"
        case ev.IncidentUpdated():
            return f"{event.incident_id} updated ({event.reason}): {_evidence(event.evidence)}; {_looks(event.diagnosis)}; severity {event.severity:.1f}"
        case ev.IncidentClosed():
            return f"{event.incident_id} closed, {event.outcome}: {event.reason}"
        case ev.ContainmentProposed():
            done = "would have been" if event.mode == "observe" else "is to be"
            return f"{who} {done} {event.level} by rule {event.rule} at severity {event.severity:.1f} (mode {event.mode}, policy {event.policy_version})"
        case ev.SamplesRejected():
            return "samples rejected: " + ", ".join(f"{count} {reason}" for reason, count in event.counts)
        case ev.ChildFailed():
            return f"background task {event.child} failed ({event.error}) and restarts in {event.restart_in_s:g} s"
        case ev.TelemetryLost():
            return f"{event.samples} samples could not be stored: {event.reason}"
        case _:
            return envelope.kind.replace("_", " ")


def _who(agents: tuple[str, ...]) -> str:
    return agents[0] if len(agents) == 1 else f"{len(agents)} agents"


def _evidence(notes: tuple[ev.EvidenceNote, ...]) -> str:
    if not notes:
        return "no evidence kept"
    return ", ".join(f"{n.vital} {n.direction} ×{n.ratio:.2g} ({n.nats:.0f} nats)" for n in notes[:3])


def _looks(diagnosis: tuple[ev.HypothesisNote, ...]) -> str:
    return f"looks like {diagnosis[0].kind} ({diagnosis[0].confidence:.0%})" if diagnosis else "cause unknown"
