"""Every event of acting in one plain sentence: who, what, why, until when."""

from __future__ import annotations

from immune.core import acts
from immune.core.events import Envelope, Event, Level, iso
from immune.reports.words import in_words

OUTCOMES: dict[acts.Outcome, str] = {
    "succeeded": "done",
    "failed": "failed",
    "unknown": "gave no answer, so it may or may not have taken effect",
    "unsupported": "cannot be carried out by any connector: a person must do it",
}
ENDS: dict[acts.PlanEnd, str] = {
    "succeeded": "is verified",
    "compensated": "did not prove itself and is over",
    "escalated": "ended with a person",
}
VERDICTS: dict[acts.Verdict, str] = {"false_alarm": "a false alarm", "new_normal": "the new normal", "cause": "explained by a known cause"}
LEVEL_WORDS: dict[Level, str] = {
    "none": "free",
    "throttled": "throttled",
    "restricted": "restricted (tools off)",
    "isolated": "isolated",
    "evicted": "evicted",
}


def say_acting(envelope: Envelope, event: Event) -> str | None:
    """The sentence of an event of acting; None for every other event."""
    return (
        _containing(envelope, event)
        or _planning(envelope, event)
        or _undoing(envelope, event)
        or _asking(envelope, event)
        or _telling(envelope, event)
    )


def plan_words(steps: tuple[acts.StepNote, ...]) -> str:
    """``reset memory, then restart agent``."""
    return ", then ".join(in_words(step.action) for step in steps) or "nothing"


def actor_words(actor: str) -> str:
    """Who acted, for people: ``demo`` for a person, ``the policy`` for a rule."""
    kind, _, name = actor.partition(":")
    return (
        f"{name} (a person)"
        if kind == "person"
        else f"policy rule {name}"
        if kind == "policy"
        else f"agent {name}"
        if kind == "agent"
        else "the system"
    )


def _containing(envelope: Envelope, event: Event) -> str | None:
    who = envelope.subject
    match event:
        case acts.Contained():
            whom = event.target if event.scope == "agent" else f"{event.scope} {event.target}".strip()
            by = f"rule {event.rule}" if event.rule else f"policy {event.policy_version}"
            ordered = f"by {by}" if event.automatic else f"on the word of {actor_words(envelope.actor)}"
            return f"{whom} is to be {LEVEL_WORDS[event.level]} {ordered} until it is released: {in_words(event.reason)}"
        case acts.ContainmentDeferred():
            return (
                f"{who} is NOT contained: {event.level} was due, but {event.contained} agents are contained already and the disruption budget "
                f"allows {event.allowed}; a person is asked"
            )
        case acts.Released():
            ground = {
                "probation": "on fresh evidence",
                "explained": "because a shared cause explains it",
                "person": f"by {actor_words(envelope.actor)}",
            }
            return f"{who} is released {ground[event.basis]}: {event.reason}"
        case acts.EnforcementObserved() if event.after == "none":
            return f"{who} works freely again; {event.before} is no longer in force"
        case acts.EnforcementObserved():
            return f"{who} is {LEVEL_WORDS[event.after]}: seen in force at the agent itself"
        case acts.EnforcementFailed() if event.desired == "none":
            return f"{who} is still {event.observed} {event.waited_s:.0f} s after its release: {event.error}"
        case acts.EnforcementFailed():
            seen = "nothing is in force" if event.observed == "none" else f"only {event.observed} is in force"
            return f"{who} is NOT {event.desired}, though ordered {event.waited_s:.0f} s ago; {seen}: {event.error}"
        case acts.BudgetOverridden():
            until = clock(event.until_us)
            return f"{actor_words(envelope.actor)} lets {event.allowed} agents be contained automatically until {until}: {event.reason}"
    return None


def _planning(envelope: Envelope, event: Event) -> str | None:
    who = envelope.subject
    match event:
        case acts.PlanProposed():
            asks = f"; it waits for a person because of {event.rule}" if event.needs_approval else "; it needs no approval"
            left_out = "; left out: " + ", ".join(f"{in_words(action)} ({why})" for action, why in event.skipped) if event.skipped else ""
            return (
                f"{event.plan_id} for {who} against {in_words(event.diagnosis)}, rung {event.rung + 1}: {plan_words(event.steps)}{asks}, "
                f"to be over by {clock(event.deadline_us)}{left_out}"
            )
        case acts.PlanStarted():
            ground = {"auto": "by itself", "after_approval": f"with the approval {event.request_id}", "heal_now": "because a person said heal now"}
            return f"{event.plan_id} starts on {who} {ground[event.trigger]}"
        case acts.StepStarted():
            return f"{event.plan_id} step {event.step + 1}, {in_words(event.action)}, is sent to {who}"
        case acts.StepFinished():
            return f"{event.plan_id} step {event.step + 1}, {in_words(event.action)} of {who}: {OUTCOMES[event.outcome]}{_more(event.detail)}"
        case acts.ProbationStarted():
            return (
                f"{who} is on probation until {clock(event.deadline_us)}: at most {event.dispatches} pieces of work are let through, and "
                f"{event.samples_needed} fresh healthy samples are needed"
            )
        case acts.ProbationEnded() if event.passed:
            return f"{who} passed its probation: {event.reason} ({event.nats:.1f} nats)"
        case acts.ProbationEnded():
            return f"{who} did not pass its probation, {event.samples} fresh samples in: {event.reason} ({event.nats:.1f} nats)"
        case acts.PlanEnded():
            return f"{event.plan_id} for {who} {ENDS[event.outcome]}: {event.reason}"
        case acts.Relapsed():
            return f"{who} fell ill again {event.after_s:.0f} s after {event.plan_id} had been verified; memory takes that success back"
        case acts.PlanWithdrawn():
            return f"{event.plan_id} for {who} is withdrawn before it began: {event.reason}"
    return None


def _undoing(envelope: Envelope, event: Event) -> str | None:
    who = envelope.subject
    match event:
        case acts.CompensationStarted():
            return f"{event.plan_id} step {event.step + 1}, {in_words(event.action)} of {who}, is being undone: {event.reason}"
        case acts.CompensationFinished() if event.outcome == "succeeded":
            return f"{event.plan_id} step {event.step + 1}, {in_words(event.action)} of {who}, is undone{_more(event.detail)}"
        case acts.CompensationFinished():
            what = f"{event.plan_id} step {event.step + 1}, {in_words(event.action)} of {who}"
            return f"{what}, could NOT be undone: {OUTCOMES[event.outcome]}{_more(event.detail)}"
        case acts.TaskAssigned():
            what = f"{in_words(event.action)} for {who}"
            source = f", from {event.plan_id}" if event.plan_id else ""
            return f"a person is to do {what} by {clock(event.deadline_us)} ({event.task_id}{source}): {event.reason}"
        case acts.TaskOverdue():
            return f"{event.task_id} is overdue, and {who} still waits for a person"
        case acts.LadderExhausted():
            tried = ", ".join(in_words(action) for action in event.tried) or "nothing"
            return f"a person owns {who} now: nothing on the ladder helped (tried {tried}): {event.reason}"
    return None


def _asking(envelope: Envelope, event: Event) -> str | None:
    who = envelope.subject
    match event:
        case acts.ApprovalRequested():
            what = {
                "plan": f"{event.plan_id} may heal {who}",
                "brake": f"{event.incident_id} may go beyond the disruption budget ({event.level})",
                "containment": f"{who} may be {event.level}",
            }[event.about]
            because = f" because of {event.rule}" if event.rule else ""
            asks = f"{event.request_id} asks a person whether {what}, at severity {event.severity:.1f}{because}"
            return f"{asks}; unanswered at {clock(event.expires_us)} means no"
        case acts.ApprovalGranted():
            return (
                f"{event.request_id} for {who} is approved by {actor_words(envelope.actor)}: {event.reason or 'no reason given'}; "
                f"nothing starts before {clock(event.not_before_us)}"
            )
        case acts.ApprovalClosed():
            by = f" by {actor_words(envelope.actor)}" if event.outcome == "rejected" else ""
            return f"{event.request_id} for {who} is {event.outcome}{by}: {event.reason or 'no reason given'}"
    return None


def _telling(envelope: Envelope, event: Event) -> str | None:
    who, by = envelope.subject, actor_words(envelope.actor)
    match event:
        case acts.FeedbackGiven():
            cause = f", cause {event.cause}" if event.cause else ""
            return f"{by} says that {event.incident_id} is {VERDICTS[event.verdict]}{cause}{_more(event.reason)}"
        case acts.SicknessReported():
            return f"{by} reports that {who} is sick: {event.reason or 'no reason given'}"
        case acts.ChangeAnnounced():
            return f"{by} announces a change of {event.cohort} until {clock(event.until_us)}{_more(event.reason)}"
        case acts.Muted():
            what = event.vital or "anything"
            return f"{by} does not want to hear of {what} of {who} until {clock(event.until_us)}{_more(event.reason)}"
        case acts.Rebased():
            agents = ", ".join(event.agents[:5]) + (f" and {len(event.agents) - 5} more" if len(event.agents) > 5 else "")
            return f"what {agents} do now is their normal: {event.reason}"
        case acts.CommandRefused():
            return f"{by} was refused ({event.status}) to {in_words(event.command)} {event.target}: {event.reason}"
        case acts.CommandAnswered():
            return f"{by} had the answer {event.status} to {in_words(event.command)}; asking again under {event.key} changes nothing"
        case acts.PersonTold():
            again = f", reminded {event.reminders} {'time' if event.reminders == 1 else 'times'}" if event.reminders else ""
            if event.outcome == "delivered":
                return f"people were told of {event.about} through {event.channel}{again}"
            return f"people could not be told of {event.about} through {event.channel}{again}: {event.detail}"
        case acts.MemoryInherited():
            return f"what run {event.from_run} learned of cures is taken over: {len(event.entries)} entries"
    return None


def clock(at_us: int) -> str:
    """``14:03:05 UTC``: whoever reads it may be anywhere."""
    return f"{iso(at_us)[11:19]} UTC"


def _more(text: str) -> str:
    return f": {text}" if text else ""
