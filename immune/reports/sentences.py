"""Every event in one plain sentence, and the rule behind it. What acts is in `sentences_acting`."""

from __future__ import annotations

from immune.core import events as ev
from immune.core.events import Envelope, Event
from immune.reports.sentences_acting import LEVEL_WORDS, say_acting
from immune.reports.words import in_words, sure


def say(envelope: Envelope) -> str:
    """One event in one sentence; a kind that nobody wrote a sentence for is told by its name."""
    event = envelope.event()
    return _seeing(envelope, event) or _running(envelope, event) or say_acting(envelope, event) or envelope.kind.replace("_", " ")


def rule_of(envelope: Envelope) -> str:
    """The policy rule behind an event: its own, else that of the rule that acted; empty if none."""
    own = str(getattr(envelope.event(), "rule", ""))
    return own or (envelope.actor.removeprefix("policy:") if envelope.actor.startswith("policy:") else "")


def version_of(envelope: Envelope) -> str:
    """The policy version that an event names; empty if it names none."""
    return str(getattr(envelope.event(), "policy_version", ""))


def _seeing(envelope: Envelope, event: Event) -> str | None:
    who = envelope.subject
    match event:
        case ev.HealthChanged() if (event.before, event.after) == ("learning", "healthy"):
            return f"{who} has a baseline after {event.samples} samples and is judged from now on"
        case ev.HealthChanged():
            return f"{who} went from {event.before} to {event.after} at {event.nats:.1f} nats after {event.samples} samples"
        case ev.LivenessChanged():
            return f"{who} is {event.after}: {event.reason}"
        case ev.FactChanged():
            return f"{who} changed its {in_words(event.fact.field)} from {event.fact.before or '(none)'} to {event.fact.after}"
        case ev.IncidentOpened():
            return f"{event.incident_id} opened on {_who(event.agents)}: {_found(event)}"
        case ev.IncidentUpdated():
            return f"{event.incident_id} updated ({event.reason}): {_found(event)}"
        case ev.IncidentClosed():
            return f"{event.incident_id} closed, {in_words(event.outcome)}: {in_words(event.reason)}"
        case ev.ContainmentProposed():
            done = "ought to be" if event.mode == "act" else "would have been"
            policy = f"mode {event.mode}, policy {event.policy_version}"
            return f"{who} {done} {LEVEL_WORDS[event.level]} by rule {event.rule} at severity {event.severity:.1f} ({policy})"
    return None


def _running(envelope: Envelope, event: Event) -> str | None:
    match event:
        case ev.RunStarted():
            return f"the run starts from {event.source or 'sources'} under policy {event.policy_version}, writer epoch {event.epoch}"
        case ev.RunEnded():
            return f"the run ended after {event.ticks} ticks: {event.reason}"
        case ev.AgentEnrolled():
            return f"{envelope.subject} enrolled as {event.type or 'agent'}" + (f" of {event.service}" if event.service else "")
        case ev.SamplesRejected():
            return "samples turned away: " + ", ".join(f"{count} {in_words(reason)}" for reason, count in event.counts)
        case ev.ChildFailed():
            return f"background task {event.child} failed ({event.error}) and restarts in {event.restart_in_s:g} s"
        case ev.TelemetryLost():
            return f"{event.samples} samples could not be stored: {event.reason}"
        case ev.JournalInterrupted():
            return f"the journal took nothing from {ev.iso(event.since_us)[11:19]} on until now ({event.refused} refused): {event.reason}"
        case ev.LoopStalled():
            return f"the daemon stood still for {event.for_s:.1f} s from {ev.iso(event.since_us)[11:19]} on, in {event.where}"
    return None


def _who(agents: tuple[str, ...]) -> str:
    return agents[0] if len(agents) == 1 else f"{len(agents)} agents"


def _found(event: ev.IncidentOpened | ev.IncidentUpdated) -> str:
    return f"{_evidence(event.evidence)}; {_looks(event.diagnosis)}; severity {event.severity:.1f}"


def _evidence(notes: tuple[ev.EvidenceNote, ...]) -> str:
    if not notes:
        return "no evidence kept"
    return ", ".join(f"{in_words(n.vital)} {n.direction} ×{n.ratio:.2g} ({n.nats:.0f} nats)" for n in notes[:3])


def _looks(diagnosis: tuple[ev.HypothesisNote, ...]) -> str:
    return f"looks like {in_words(diagnosis[0].kind)} ({sure(diagnosis[0].confidence)})" if diagnosis else "cause unknown"
