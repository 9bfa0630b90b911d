"""Events of acting: containment, healing plans, approvals, and what people tell the system.

Split from `events` by subject only; the envelope and the registry are the same. One mechanism for everything that
acts: a decision becomes events, events become effects, effects come back as outcomes, which are events again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from immune.core.events import Event, EvidenceNote, Level, Mode, register

ContainScope = Literal["agent", "service", "fleet", "tool"]
Outcome = Literal["succeeded", "failed", "unknown", "unsupported"]
Trigger = Literal["auto", "after_approval", "heal_now"]
PlanEnd = Literal["succeeded", "compensated", "escalated"]
Verdict = Literal["false_alarm", "new_normal", "cause"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNote:
    """One step of a plan as people approve it: what, how risky, and how it is undone."""

    action: str
    tier: int
    reversible: bool
    compensation: str
    timeout_s: float
    summary: str


# -- containment -----------------------------------------------------------------------------------------------------


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Contained(Event):
    """A containment came into force. `automatic` ones count against the disruption budget."""

    kind = "contained"
    containment_id: str
    scope: ContainScope
    target: str
    level: Level
    automatic: bool
    reason: str
    incident_id: str
    rule: str
    evidence: tuple[EvidenceNote, ...]
    policy_version: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class ContainmentDeferred(Event):
    """A containment was due but the disruption budget is used up; the fleet brake asks a person."""

    kind = "containment_deferred"
    incident_id: str
    level: Level
    contained: int
    allowed: int


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Event):
    """A containment ended: a probation passed on fresh samples, a shared cause explains it, or a person said so."""

    kind = "released"
    containment_id: str
    basis: Literal["probation", "explained", "person"]
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcementObserved(Event):
    """What is really in force at an agent, as its connector sees it."""

    kind = "enforcement_observed"
    before: Level
    after: Level


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcementFailed(Event):
    """Desired and observed containment still differ after the policy's span. Never shown as contained."""

    kind = "enforcement_failed"
    desired: Level
    observed: Level
    error: str
    waited_s: float


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOverridden(Event):
    """A person allowed more automatic containment than the disruption budget, until a time."""

    kind = "budget_overridden"
    allowed: int
    until_us: int
    reason: str


# -- healing ---------------------------------------------------------------------------------------------------------


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProposed(Event):
    """One rung of a ladder as a plan. `skipped` says which actions memory or limits kept out, and why."""

    kind = "plan_proposed"
    plan_id: str
    incident_id: str
    signature: str
    diagnosis: str
    rung: int
    steps: tuple[StepNote, ...]
    skipped: tuple[tuple[str, str], ...]
    plan_hash: str
    severity: float
    mode: Mode
    needs_approval: bool
    rule: str
    trigger: Trigger
    deadline_us: int
    policy_version: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStarted(Event):
    """The first step may be dispatched. `request_id` is the grant it uses up, empty if none was needed."""

    kind = "plan_started"
    plan_id: str
    request_id: str
    trigger: Trigger


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(Event):
    """A step was dispatched; the same key is used on every retry."""

    kind = "step_started"
    plan_id: str
    step: int
    action: str
    key: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished(Event):
    """What the connector answered, or `unknown` when it did not."""

    kind = "step_finished"
    plan_id: str
    step: int
    action: str
    outcome: Outcome
    detail: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class CompensationStarted(Event):
    """A step that took or may have taken effect is being undone."""

    kind = "compensation_started"
    plan_id: str
    step: int
    action: str
    key: str
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class CompensationFinished(Event):
    """What came of undoing a step; a failure does not stop the others and calls a person."""

    kind = "compensation_finished"
    plan_id: str
    step: int
    action: str
    outcome: Outcome
    detail: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationStarted(Event):
    """Half-open: a bounded number of canary dispatches is let through, judged on fresh samples only."""

    kind = "probation_started"
    plan_id: str
    dispatches: int
    samples_needed: int
    deadline_us: int


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationEnded(Event):
    """Passed on at least the needed fresh samples, or not. Missing data never passes."""

    kind = "probation_ended"
    plan_id: str
    passed: bool
    samples: int
    nats: float
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class PlanEnded(Event):
    """Exactly one end for every started plan."""

    kind = "plan_ended"
    plan_id: str
    outcome: PlanEnd
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Relapsed(Event):
    """The same illness came back soon after a cure that had been verified: memory takes the success back."""

    kind = "relapsed"
    plan_id: str
    incident_id: str
    after_s: float


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class PlanWithdrawn(Event):
    """A plan that had not started is no longer wanted."""

    kind = "plan_withdrawn"
    plan_id: str
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAssigned(Event):
    """Something only a person can do, with a deadline. Never counted as a success by itself."""

    kind = "task_assigned"
    task_id: str
    plan_id: str
    action: str
    reason: str
    deadline_us: int


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOverdue(Event):
    """A task passed its deadline and the agent still waits. Said once; the agent stays as it is."""

    kind = "task_overdue"
    task_id: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class LadderExhausted(Event):
    """Nothing on the ladder helped: a person owns this agent now."""

    kind = "ladder_exhausted"
    incident_id: str
    tried: tuple[str, ...]
    reason: str


# -- approvals -------------------------------------------------------------------------------------------------------


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested(Event):
    """A person is asked. `plan_hash` covers what the person sees; for the fleet brake it covers the request itself."""

    kind = "approval_requested"
    request_id: str
    about: Literal["plan", "brake", "containment"]
    plan_id: str
    incident_id: str
    plan_hash: str
    severity: float
    rule: str
    level: Level
    expires_us: int
    requested_by: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGranted(Event):
    """A person said yes; nothing starts before the undo window is over."""

    kind = "approval_granted"
    request_id: str
    plan_hash: str
    reason: str
    not_before_us: int


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalClosed(Event):
    """The request ended without a start: rejected by a person, expired, or withdrawn (also a grant taken back in time)."""

    kind = "approval_closed"
    request_id: str
    outcome: Literal["rejected", "expired", "withdrawn"]
    reason: str


# -- what people say -------------------------------------------------------------------------------------------------


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackGiven(Event):
    """A person's verdict on an incident: false alarm, new normal, or the actual cause."""

    kind = "feedback_given"
    incident_id: str
    verdict: Verdict
    cause: str
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class SicknessReported(Event):
    """A person or another agent says that this agent is sick: evidence with a name on it, not an order."""

    kind = "sickness_reported"
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAnnounced(Event):
    """A change that people know of: a deploy, a maintenance window."""

    kind = "change_announced"
    cohort: str
    until_us: int
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Muted(Event):
    """People do not want to hear of one symptom of an agent until a time (``vital`` empty: of none). Hard limits are heard of anyway."""

    kind = "muted"
    vital: str
    until_us: int
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Rebased(Event):
    """What these agents do now is their normal: a person said so, a change was announced, or it has lasted and nobody spoke."""

    kind = "rebased"
    agents: tuple[str, ...]
    basis: Literal["person", "announced", "lasting"]
    cohort: str
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRefused(Event):
    """Somebody tried to act and was refused. `status` is the HTTP status of the answer."""

    kind = "command_refused"
    command: str
    target: str
    status: int
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAnswered(Event):
    """The answer that belongs to an idempotency key, so that a retry after a crash has one effect and one answer."""

    kind = "command_answered"
    key: str
    command: str
    status: int
    answer: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryInherited(Event):
    """What another run learned of cures: (signature, action, worked, failed)."""

    kind = "memory_inherited"
    from_run: str
    entries: tuple[tuple[str, str, int, int], ...]


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class PersonTold(Event):
    """A notice went out to people, or could not. `about` is the event it speaks of, ``e17``."""

    kind = "person_told"
    channel: str
    about: str
    outcome: Literal["delivered", "failed"]
    detail: str
    reminders: int
