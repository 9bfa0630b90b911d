"""From what the engine publishes to what the screen shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from immune.core import events as ev
from immune.core.events import Envelope
from immune.core.evidence import Assessment
from immune.core.state import AgentState, IncidentState, RunState
from immune.reports.model import Counter, Happening, LiveAgent, LiveIncident, LiveView, Tone
from immune.reports.words import in_words, incident_who, subject_words

INCIDENTS_SHOWN = 50
HEALTH_TONES: dict[ev.Health, Tone] = {"sick": "bad", "suspected": "warn", "healthy": "good", "learning": "plain"}


def live_view(
    state: RunState,
    assessment: Assessment,
    *,
    title: str,
    mode: str,
    phase: str,
    virtual: bool,
    now_us: int,
    min_samples: int,
    last_seen_us: Mapping[str, int],
    done_s: float = 0.0,
    total_s: float = 0.0,
    happened: Sequence[Happening] = (),
    counters: Sequence[Counter] = (),
    footer: str = "",
) -> LiveView:
    """The screen at one moment. `last_seen_us` is the time of each agent's newest sample, by id."""
    agents = sorted(state.agents.values(), key=lambda agent: agent.index)
    newest = sorted(state.incidents.values(), key=lambda one: (not one.open, -one.opened_at_us))[:INCIDENTS_SHOWN]
    return LiveView(
        title=title,
        run_id=state.run_id,
        mode=mode,
        phase=phase,
        virtual=virtual,
        now_us=now_us,
        done_s=done_s,
        total_s=total_s,
        threshold_nats=assessment.threshold_nats,
        agents=tuple(_agent(state, agent, assessment, min_samples, last_seen_us.get(agent.agent_id, 0)) for agent in agents),
        incidents=tuple(_incident(one) for one in newest),
        happened=tuple(happened),
        counters=tuple(counters),
        footer=footer,
    )


def happening(envelope: Envelope) -> Happening | None:
    """What an event is worth saying on a screen, in a few words; None for what happens to everybody all the time."""
    event, who = envelope.event(), envelope.subject
    match event:
        case ev.HealthChanged() if event.before != "learning" or event.after != "healthy":
            return _said(envelope, f"{who} is {event.after}, {event.nats:.0f} nats", HEALTH_TONES[event.after])
        case ev.HealthChanged():
            return _said(envelope, f"{who} has a baseline", "good")
        case ev.LivenessChanged():
            return _said(envelope, f"{who} is {event.after}", "bad" if event.after == "silent" else "plain")
        case ev.FactChanged():
            return _said(envelope, f"{who}: {event.fact.field} is now {event.fact.after}")
        case ev.IncidentOpened():
            whom = event.agents[0] if event.scope == "agent" else f"{len(event.agents)} agents"
            return _said(envelope, f"{whom}: {_looks(event.diagnosis)}, severity {event.severity:.1f}", "bad")
        case ev.IncidentUpdated():
            return _said(envelope, f"{subject_words(who)}: {_looks(event.diagnosis)}, severity {event.severity:.1f}", "warn")
        case ev.IncidentClosed():
            return _said(envelope, f"{subject_words(who)}: {in_words(event.outcome)}", "good")
        case ev.ContainmentProposed():
            return _said(envelope, f"{who} {'would be' if event.mode == 'observe' else 'to be'} {event.level}", "warn")
        case ev.SamplesRejected():
            return _said(envelope, f"{sum(number for _, number in event.counts)} samples rejected", "warn")
        case ev.ChildFailed() | ev.TelemetryLost():
            return _said(envelope, envelope.kind.replace("_", " "), "bad")
        case _:
            return None


def _said(envelope: Envelope, text: str, tone: Tone = "plain") -> Happening:
    return Happening(at_us=envelope.at_us, text=text, tone=tone)


def _looks(diagnosis: Sequence[ev.HypothesisNote]) -> str:
    return in_words(diagnosis[0].kind) if diagnosis else "unknown"


def _agent(state: RunState, agent: AgentState, assessment: Assessment, min_samples: int, seen_us: int) -> LiveAgent:
    judged = agent.index < len(assessment.nats)
    incident = state.incidents.get(agent.incident_id)
    samples = int(assessment.samples[agent.index]) if judged else 0
    return LiveAgent(
        agent_id=agent.agent_id,
        type=agent.type,
        state=agent.word,
        severity=incident.severity if incident else 0.0,
        nats=float(assessment.nats[agent.index]) if judged else 0.0,
        baseline=(samples, min_samples) if agent.health == "learning" else None,
        last_seen_us=seen_us,
    )


def _incident(one: IncidentState) -> LiveIncident:
    return LiveIncident(
        incident_id=one.incident_id,
        who=incident_who(one),
        looks_like=one.top_kind,
        confidence=one.diagnosis[0].confidence if one.diagnosis and one.top_kind != "unknown" else 0.0,
        severity=one.severity,
        onset_us=one.onset_us,
        opened_us=one.opened_at_us,
        closed_us=one.closed_at_us,
        proposed=one.proposed,
    )
