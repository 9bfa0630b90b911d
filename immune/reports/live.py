"""From what the engine publishes to what the screen shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from immune.core import events as ev
from immune.core.events import Envelope
from immune.core.evidence import Assessment
from immune.core.state import AgentState, ApprovalState, IncidentState, PlanState, RunState
from immune.reports.acted import plan_end, steps_of
from immune.reports.live_acting import said_of_acting
from immune.reports.model import Counter, Happening, LiveAgent, LiveAsk, LiveIncident, LiveView, Tone
from immune.reports.words import in_words, incident_who, subject_words

INCIDENTS_SHOWN = 50
OVERDUE_US = 5_000_000
"""From then on an order that is not seen in force is shown as what it is: not in force."""

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
    answer: str = "",
    probation_from: Mapping[str, int] | None = None,
) -> LiveView:
    """The screen at one moment. `last_seen_us` is the time of each agent's newest sample, by id.

    answer          how a person at this screen answers a request; empty if they cannot
    probation_from  samples that the agent of each plan on probation had when it began, by plan
    """
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
        agents=tuple(_agent(state, agent, assessment, min_samples, last_seen_us.get(agent.agent_id, 0), probation_from or {}) for agent in agents),
        incidents=tuple(_incident(state, one, now_us) for one in newest),
        asks=tuple(_ask(state, state.approvals[key]) for key in state.open_approvals),
        answer=answer,
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
            # where it is acted on, the containment itself is the news
            return None if event.mode == "act" else _said(envelope, f"{who} would be {event.level}", "warn")
        case ev.SamplesRejected():
            return _said(envelope, f"{sum(number for _, number in event.counts)} samples rejected", "warn")
        case ev.ChildFailed() | ev.TelemetryLost() | ev.JournalInterrupted() | ev.LoopStalled():
            return _said(envelope, envelope.kind.replace("_", " "), "bad")
        case _:
            said = said_of_acting(envelope, event)
            return _said(envelope, *said) if said else None


def _said(envelope: Envelope, text: str, tone: Tone = "plain") -> Happening:
    return Happening(at_us=envelope.at_us, text=text, tone=tone)


def _looks(diagnosis: Sequence[ev.HypothesisNote]) -> str:
    return in_words(diagnosis[0].kind) if diagnosis else "unknown"


def _agent(
    state: RunState, agent: AgentState, assessment: Assessment, min_samples: int, seen_us: int, probation_from: Mapping[str, int]
) -> LiveAgent:
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
        doing=_doing(state, agent, samples, probation_from, assessment.now_us),
    )


def _doing(state: RunState, agent: AgentState, samples: int, probation_from: Mapping[str, int], now_us: int) -> str:
    """What is done about an agent, in a few words. A block that is ordered and not seen comes first: it is the alarm."""
    plan = state.plans.get(agent.plan_id)
    if agent.desired != agent.observed and agent.deviating_since_us:
        overdue = now_us - agent.deviating_since_us > OVERDUE_US
        ordered = agent.desired if agent.desired != "none" else "released"
        return f"NOT {ordered}" if overdue else f"to be {ordered}"
    if agent.plan == "probation" and plan is not None:
        begun = probation_from.get(plan.plan_id)
        fresh = "" if begun is None else f" {max(0, samples - begun)}/{plan.samples_needed}"
        return f"probation{fresh}"
    if plan is not None and plan.status in ("running", "compensating"):
        return _step_words(plan)
    if plan is not None and plan.status == "granted":
        return "approved"
    words = {"awaiting_approval": "waits for approval", "rejected": "rejected", "exhausted": "a person owns it"}
    return words.get(agent.plan, "")


def _step_words(plan: PlanState) -> str:
    undoing = plan.status == "compensating"
    wanted = ("compensating",) if undoing else ("running", "pending")
    step = next((step for step in plan.steps if step.status in wanted), plan.steps[-1] if plan.steps else None)
    return ("undoes " if undoing else "") + (in_words(step.note.action) if step else "heals")


def _ask(state: RunState, request: ApprovalState) -> LiveAsk:
    plan = state.plans.get(request.plan_id)
    otherwise = f"go beyond the disruption budget ({request.level})" if request.about == "brake" else f"be {request.level}"
    return LiveAsk(
        request_id=request.request_id,
        subject=request.subject,
        what=steps_of(plan) if plan else otherwise,
        severity=request.severity,
        reach=_reach(state, request, plan),
        expires_us=request.expires_us,
        granted=request.status == "granted",
    )


def _reach(state: RunState, request: ApprovalState, plan: PlanState | None) -> str:
    """The blast radius of a yes: how many agents, how risky, and whether it can be taken back."""
    fleet = len(state.agents)
    if request.about == "brake":
        held = len({state.containments[key].target for key in state.active_containments})
        return f"{held} of {fleet} agents contained already, more would follow"
    if plan is None:
        return f"a release takes it back, reaches 1 of {fleet} agents"
    tier = max((step.note.tier for step in plan.steps), default=0)
    undo = "can be undone" if all(step.note.reversible for step in plan.steps) else "CANNOT be undone"
    return f"tier {tier}, {undo}, reaches 1 of {fleet} agents"


def _incident(state: RunState, one: IncidentState, now_us: int) -> LiveIncident:
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
        doing=_plan_words(state, one, now_us),
    )


def _plan_words(state: RunState, one: IncidentState, now_us: int) -> str:
    """Where the newest plan of an incident stands, with the time that is left for an answer."""
    plan = next((plan for plan in reversed(state.plans.values()) if plan.incident_id == one.incident_id), None)
    if plan is None:
        return ""
    request = state.approvals.get(plan.request_id)
    if request is not None and request.status == "pending":
        return f"asked: {steps_of(plan)}, {left_words(request.expires_us - now_us)} left"
    if plan.status == "probation":
        return f"{steps_of(plan)}: probation, {left_words(plan.probation_until_us - now_us)} left"
    return f"{steps_of(plan)}: {plan_end(plan)}"


def left_words(left_us: int) -> str:
    """Time that is left: ``14:09`` minutes, ``9 s`` when it is nearly over."""
    seconds = max(0, left_us // 1_000_000)
    return f"{seconds // 60}:{seconds % 60:02d} min" if seconds >= 60 else f"{seconds} s"
