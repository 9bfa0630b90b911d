"""The journal of a run as people read it: what was done in each incident, what was really in force, and the whole log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from immune.core import acts
from immune.core import events as ev
from immune.core.events import Envelope, Event
from immune.ports import Journal
from immune.reports.model import Hold, Moment, Tone, Trial
from immune.reports.sentences import rule_of, say

LOG_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Chronicle:
    """A journal, told.

    moments       incident id -> what happened in it, in order; repetitions are folded together
    holds         containment as it was *seen* in force, never as it was only ordered
    trials        probations
    alarms        orders that did not come into force
    log, left_out at most `LOG_MAX` events, newest last, and how many are not among them
    """

    moments: dict[str, tuple[Moment, ...]] = field(default_factory=dict)
    holds: tuple[Hold, ...] = ()
    trials: tuple[Trial, ...] = ()
    alarms: tuple[Moment, ...] = ()
    log: tuple[Moment, ...] = ()
    left_out: int = 0


def chronicle(journal: Journal, run_id: str) -> Chronicle:
    """Read a run's journal once."""
    told = [(envelope, envelope.event()) for envelope in journal.read(run_id)]
    log = _log(told)
    by_incident: dict[str, list[tuple[Envelope, Event]]] = defaultdict(list)
    newest: dict[str, str] = {}
    for envelope, event in told:
        incident_id = envelope.correlation_id or (newest.get(envelope.subject, "") if isinstance(event, acts.EnforcementObserved) else "")
        if incident_id:
            by_incident[incident_id].append((envelope, event))
            newest[envelope.subject] = incident_id
    return Chronicle(
        moments={incident_id: _story(own) for incident_id, own in by_incident.items()},
        holds=_holds(told),
        trials=_trials(told),
        alarms=tuple(_moment(envelope, event) for envelope, event in told if isinstance(event, acts.EnforcementFailed)),
        log=log,
        left_out=len(told) - len(log),
    )


def _log(told: Sequence[tuple[Envelope, Event]]) -> tuple[Moment, ...]:
    """The newest events; what happens to everybody once goes first when there is no room for all."""
    kept = told if len(told) <= LOG_MAX else [one for one in told if not _everyday(one[1])]
    return tuple(_moment(envelope, event) for envelope, event in kept[-LOG_MAX:])


def _everyday(event: Event) -> bool:
    return isinstance(event, ev.AgentEnrolled) or (isinstance(event, ev.HealthChanged) and event.before == "learning")


def _story(own: Sequence[tuple[Envelope, Event]]) -> tuple[Moment, ...]:
    """One incident without what a later event says again."""
    said_again = _said_again([event for _, event in own])
    moments, leading = [], ""
    for envelope, event in own:
        if isinstance(event, ev.IncidentOpened | ev.IncidentUpdated):
            before, leading = leading, event.diagnosis[0].kind if event.diagnosis else "unknown"
            if isinstance(event, ev.IncidentUpdated) and before == leading:
                continue
        if stage_of(event)[0] and _name(event) not in said_again:
            moments.append(_moment(envelope, event))
    return tuple(moments)


def _said_again(events: Iterable[Event]) -> set[tuple[str, ...]]:
    """Names of events that another one in the same incident makes superfluous."""
    found: set[tuple[str, ...]] = set()
    for event in events:
        match event:
            case acts.Contained():
                found.add(("proposed", event.level))
            case acts.StepFinished():
                found.add(("step", event.plan_id, str(event.step)))
            case acts.CompensationFinished():
                found |= {("undo", event.plan_id, str(event.step)), ("ended", event.plan_id, "compensated")}
            case acts.ProbationEnded():
                found |= {("probation", event.plan_id), ("ended", event.plan_id, "succeeded")}
            case acts.LadderExhausted():
                found.add(("closed", "exhausted"))
            case acts.Released():
                found |= {("closed", "healed"), ("closed", "released")}
    return found


def _name(event: Event) -> tuple[str, ...]:
    match event:
        case ev.ContainmentProposed():
            return ("proposed", event.level)
        case acts.StepStarted():
            return ("step", event.plan_id, str(event.step))
        case acts.CompensationStarted():
            return ("undo", event.plan_id, str(event.step))
        case acts.ProbationStarted():
            return ("probation", event.plan_id)
        case acts.PlanEnded():
            return ("ended", event.plan_id, event.outcome)
        case ev.IncidentClosed():
            return ("closed", event.outcome)
    return ()


def _moment(envelope: Envelope, event: Event) -> Moment:
    stage, tone = stage_of(event)
    return Moment(
        at_us=envelope.at_us,
        event_id=envelope.id,
        actor=envelope.actor,
        stage=stage,
        text=say(envelope),
        rule=rule_of(envelope),
        tone=tone,
    )


PLAIN_STAGES: dict[type[Event], tuple[str, Tone]] = {
    ev.IncidentOpened: ("noticed", "bad"),
    ev.IncidentUpdated: ("judged anew", "plain"),
    acts.Contained: ("contained", "warn"),
    acts.ContainmentDeferred: ("held back", "bad"),
    acts.Released: ("released", "good"),
    acts.BudgetOverridden: ("brake lifted", "warn"),
    acts.PlanProposed: ("planned", "plain"),
    acts.StepStarted: ("step", "plain"),
    acts.CompensationStarted: ("undoing", "warn"),
    acts.ProbationStarted: ("probation", "plain"),
    acts.Relapsed: ("relapsed", "bad"),
    acts.PlanWithdrawn: ("withdrawn", "plain"),
    acts.TaskAssigned: ("task", "warn"),
    acts.LadderExhausted: ("to a person", "bad"),
    acts.ApprovalRequested: ("asked", "warn"),
    acts.ApprovalGranted: ("approved", "good"),
    acts.FeedbackGiven: ("told", "plain"),
    acts.SicknessReported: ("told", "warn"),
    acts.CommandRefused: ("refused", "bad"),
}


def stage_of(event: Event) -> tuple[str, Tone]:
    """A word for the place of an event in an incident's course, and its tone; empty for what is not part of it."""
    match event:
        case ev.IncidentClosed():
            return "closed", "good" if event.outcome in ("recovered", "healed", "released") else "plain"
        case ev.ContainmentProposed():
            return ("asked for" if event.mode == "act" else "would be"), "warn"
        case acts.EnforcementObserved():
            return ("free again", "good") if event.after == "none" else ("in force", "warn")
        case acts.EnforcementFailed():
            return "NOT in force", "bad"
        case acts.StepFinished():
            return ("step", "plain") if event.outcome == "succeeded" else ("step failed", "bad")
        case acts.CompensationFinished():
            return ("undone", "warn") if event.outcome == "succeeded" else ("NOT undone", "bad")
        case acts.ProbationEnded():
            return ("verified", "good") if event.passed else ("not verified", "bad")
        case acts.PlanEnded():
            return {"succeeded": ("verified", "good"), "compensated": ("plan over", "warn"), "escalated": ("to a person", "bad")}[event.outcome]  # type: ignore[return-value]
        case acts.ApprovalClosed():
            return event.outcome, "plain" if event.outcome == "withdrawn" else "bad"
    return PLAIN_STAGES.get(type(event), ("", "plain"))


def _holds(told: Iterable[tuple[Envelope, Event]]) -> tuple[Hold, ...]:
    """Stretches of an observed level, per agent; an open one ends at 0."""
    found: list[Hold] = []
    current: dict[str, tuple[ev.Level, int]] = {}
    for envelope, event in told:
        if not isinstance(event, acts.EnforcementObserved):
            continue
        level, since_us = current.pop(envelope.subject, ("none", 0))
        if level != "none":
            found.append(Hold(agent_id=envelope.subject, level=level, from_us=since_us, to_us=envelope.at_us))
        if event.after != "none":
            current[envelope.subject] = (event.after, envelope.at_us)
    found += [Hold(agent_id=agent_id, level=level, from_us=since_us) for agent_id, (level, since_us) in current.items()]
    return tuple(sorted(found, key=lambda hold: (hold.from_us, hold.agent_id)))


def _trials(told: Iterable[tuple[Envelope, Event]]) -> tuple[Trial, ...]:
    """Probations, in the order of their beginning."""
    found: dict[str, Trial] = {}
    for envelope, event in told:
        if isinstance(event, acts.ProbationStarted):
            found[event.plan_id] = Trial(agent_id=envelope.subject, plan_id=event.plan_id, from_us=envelope.at_us)
        elif isinstance(event, acts.ProbationEnded) and event.plan_id in found:
            begun = found[event.plan_id]
            found[event.plan_id] = Trial(
                agent_id=begun.agent_id, plan_id=begun.plan_id, from_us=begun.from_us, to_us=envelope.at_us, passed=event.passed
            )
    return tuple(found.values())
