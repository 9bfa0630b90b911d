"""What acting is worth saying on a screen, in a few words with a tone."""

from __future__ import annotations

from immune.core import acts
from immune.core.events import Envelope, Event
from immune.reports.model import Tone
from immune.reports.sentences_acting import actor_words, plan_words
from immune.reports.words import in_words

Said = tuple[str, Tone]


def said_of_acting(envelope: Envelope, event: Event) -> Said | None:
    """Words and tone; None for what another event says again, and for what is not about acting."""
    return _contained(envelope, event) or _healed(envelope, event) or _asked(envelope, event) or _told(envelope, event)


def _contained(envelope: Envelope, event: Event) -> Said | None:
    who = envelope.subject
    match event:
        case acts.Contained() if not event.automatic:
            return f"{actor_words(envelope.actor)} orders {event.target or event.scope} to be {event.level}", "warn"
        case acts.EnforcementObserved() if event.after != "none":
            return f"{who} is {event.after}", "warn"
        case acts.EnforcementFailed():
            return f"{who} is NOT {event.desired if event.desired != 'none' else 'released'}: order not in force", "bad"
        case acts.ContainmentDeferred():
            return f"{who} NOT contained: budget of {event.allowed} used up", "bad"
        case acts.Released():
            return f"{who} released {'on fresh evidence' if event.basis == 'probation' else f'({event.basis})'}", "good"
        case acts.BudgetOverridden():
            return f"{actor_words(envelope.actor)} lifts the budget to {event.allowed}", "warn"
    return None


def _healed(envelope: Envelope, event: Event) -> Said | None:
    who = envelope.subject
    match event:
        case acts.PlanProposed() if not event.needs_approval:
            return f"{who}: plan to {plan_words(event.steps)}", "plain"
        case acts.StepFinished() if event.outcome != "succeeded":
            return f"{who}: {in_words(event.action)} {event.outcome}", "bad"
        case acts.ProbationStarted():
            return f"{who} on probation, {event.samples_needed} fresh samples", "plain"
        case acts.ProbationEnded():
            return (f"{who}: cure verified", "good") if event.passed else (f"{who}: cure not verified", "bad")
        case acts.CompensationFinished():
            return (
                (f"{who}: {in_words(event.action)} undone", "warn")
                if event.outcome == "succeeded"
                else (f"{who}: {in_words(event.action)} NOT undone", "bad")
            )
        case acts.PlanEnded() if event.outcome == "escalated":
            return f"{who}: healing ends, a person is called", "bad"
        case acts.Relapsed():
            return f"{who} relapsed after {event.after_s:.0f} s", "bad"
        case acts.LadderExhausted():
            return f"{who}: nothing helped, a person owns it", "bad"
        case acts.TaskAssigned():
            return f"{who}: a person is to {in_words(event.action)}", "warn"
        case acts.PlanWithdrawn():
            return f"{who}: {event.plan_id} withdrawn", "plain"
    return None


def _asked(envelope: Envelope, event: Event) -> Said | None:
    match event:
        case acts.ApprovalRequested():
            return f"{event.request_id} asks a person about {envelope.subject}", "warn"
        case acts.ApprovalGranted():
            return f"{event.request_id} approved by {actor_words(envelope.actor)}", "good"
        case acts.ApprovalClosed():
            return f"{event.request_id} {event.outcome}", "plain" if event.outcome == "withdrawn" else "bad"
    return None


def _told(envelope: Envelope, event: Event) -> Said | None:
    who, by = envelope.subject, actor_words(envelope.actor)
    match event:
        case acts.FeedbackGiven():
            return f"{by}: {event.incident_id} is {in_words(event.verdict)}", "plain"
        case acts.SicknessReported():
            return f"{by} reports {who} as sick", "warn"
        case acts.ChangeAnnounced():
            return f"{by} announces a change of {event.cohort}", "plain"
        case acts.Muted():
            return f"{by} mutes {event.vital or 'everything'} of {who}", "plain"
        case acts.Rebased():
            return f"{len(event.agents)} of {event.cohort or 'the fleet'} re-based", "plain"
        case acts.CommandRefused():
            return f"{by} refused: {in_words(event.command)} {event.target}", "bad"
        case acts.MemoryInherited():
            return f"memory of {event.from_run} taken over", "plain"
    return None
