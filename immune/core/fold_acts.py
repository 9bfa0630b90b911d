"""How events of acting change the state. See `fold`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from immune.core import acts
from immune.core import events as ev
from immune.core.codec import changed
from immune.core.events import Envelope, Event
from immune.core.forms import copier, maker
from immune.core.state import (
    ANSWERS_KEPT,
    AgentState,
    ApprovalState,
    ContainmentState,
    Experience,
    IncidentState,
    PlanState,
    RequestStatus,
    StateDraft,
    StepState,
    TaskState,
    memory_key,
    symptom_key,
)

REPORTERS_KEPT = 8
_containment, _plan, _step, _approval = maker(ContainmentState), maker(PlanState), maker(StepState), maker(ApprovalState)
_experience, _changed_step = maker(Experience), copier(StepState)


def _contained(draft: StateDraft, envelope: Envelope, event: acts.Contained) -> None:
    draft.containments[event.containment_id] = _containment(
        containment_id=event.containment_id,
        scope=event.scope,
        target=event.target,
        level=event.level,
        automatic=event.automatic,
        by=envelope.actor,
        reason=event.reason,
        incident_id=event.incident_id,
        rule=event.rule,
        since_us=envelope.at_us,
        seq=envelope.seq,
    )
    _put(draft.active_containments, event.containment_id)
    _settle_levels(draft, draft.containments[event.containment_id], envelope)


def _rebased(draft: StateDraft, envelope: Envelope, event: acts.Rebased) -> None:
    known = draft.incidents.get(envelope.correlation_id)
    if known is not None and known.open:
        changes = {"taken_over": tuple(dict.fromkeys((*known.taken_over, *event.agents)))}
        draft.change(draft.incidents, envelope.correlation_id, known, changes)


def _released(draft: StateDraft, envelope: Envelope, event: acts.Released) -> None:
    known = draft.containments.get(event.containment_id)
    if known is None or not known.active:
        return
    draft.change(draft.containments, event.containment_id, known, {"ended_at_us": envelope.at_us, "basis": event.basis})
    _drop(draft.active_containments, event.containment_id)
    _settle_levels(draft, known, envelope)


def _settle_levels(draft: StateDraft, changed: ContainmentState, envelope: Envelope) -> None:
    """The desired level of everyone this containment covers: the strongest of all that are in force."""
    if changed.scope == "agent":
        concerned = [draft.agents[changed.target]] if changed.target in draft.agents else []
    else:
        concerned = [agent for agent in draft.agents.values() if changed.covers(agent)]
    for agent in concerned:
        desired = desired_level(draft, agent)
        since = envelope.at_us if desired != agent.observed else 0
        draft.change_agent(agent.agent_id, envelope.seq, desired=desired, deviating_since_us=since)


def desired_level(draft: StateDraft, agent: AgentState) -> ev.Level:
    """The strongest level of all containments in force that cover an agent."""
    active = [draft.containments[key] for key in draft.active_containments]
    return max((c.level for c in active if c.covers(agent)), key=ev.LEVELS.index, default="none")


def _observed(draft: StateDraft, envelope: Envelope, event: acts.EnforcementObserved) -> None:
    agent = draft.agents.get(envelope.subject)
    if agent is not None:
        since = 0 if agent.desired == event.after else agent.deviating_since_us or envelope.at_us
        draft.change_agent(envelope.subject, envelope.seq, observed=event.after, deviating_since_us=since)


def _overridden(draft: StateDraft, envelope: Envelope, event: acts.BudgetOverridden) -> None:
    draft.changes.update(budget_allowed=event.allowed, budget_until_us=event.until_us)


def _plan_proposed(draft: StateDraft, envelope: Envelope, event: acts.PlanProposed) -> None:
    draft.plans[event.plan_id] = _plan(
        plan_id=event.plan_id,
        agent_id=envelope.subject,
        incident_id=event.incident_id,
        signature=event.signature,
        diagnosis=event.diagnosis,
        rung=event.rung,
        steps=tuple(_step(note=note) for note in event.steps),
        skipped=event.skipped,
        plan_hash=event.plan_hash,
        severity=event.severity,
        needs_approval=event.needs_approval,
        rule=event.rule,
        trigger=event.trigger,
        proposed_at_us=envelope.at_us,
        deadline_us=event.deadline_us,
        seq=envelope.seq,
    )
    _put(draft.open_plans, event.plan_id)
    draft.change_agent(envelope.subject, envelope.seq, plan_id=event.plan_id, plan="awaiting_approval" if event.needs_approval else "none")


def _plan_started(draft: StateDraft, envelope: Envelope, event: acts.PlanStarted) -> None:
    _change_plan(draft, event.plan_id, status="running", started_at_us=envelope.at_us, trigger=event.trigger, request_id=event.request_id)
    draft.change_agent(envelope.subject, envelope.seq, plan="healing")
    if event.request_id in draft.approvals:
        draft.change(draft.approvals, event.request_id, draft.approvals[event.request_id], {"status": "used"})
        _drop(draft.open_approvals, event.request_id)


def _step_started(draft: StateDraft, envelope: Envelope, event: acts.StepStarted) -> None:
    _change_step(draft, event.plan_id, event.step, status="running", key=event.key, started_at_us=envelope.at_us)


def _step_finished(draft: StateDraft, envelope: Envelope, event: acts.StepFinished) -> None:
    # an answer that comes after the outcome was given up as unknown changes nothing: its undoing may have begun
    if _step_status(draft, event.plan_id, event.step) == "running":
        _change_step(draft, event.plan_id, event.step, status=event.outcome, detail=event.detail, finished_nth=envelope.seq)


def _undo_started(draft: StateDraft, envelope: Envelope, event: acts.CompensationStarted) -> None:
    _change_plan(draft, event.plan_id, status="compensating", reason=event.reason)
    _change_step(draft, event.plan_id, event.step, status="compensating", key=event.key, started_at_us=envelope.at_us)


def _undo_finished(draft: StateDraft, envelope: Envelope, event: acts.CompensationFinished) -> None:
    status = "compensated" if event.outcome == "succeeded" else "uncompensated"
    if _step_status(draft, event.plan_id, event.step) == "compensating":
        _change_step(draft, event.plan_id, event.step, status=status, detail=event.detail)


def _probation_started(draft: StateDraft, envelope: Envelope, event: acts.ProbationStarted) -> None:
    _change_plan(
        draft,
        event.plan_id,
        status="probation",
        probation_us=envelope.at_us,
        probation_until_us=event.deadline_us,
        samples_needed=event.samples_needed,
    )
    draft.change_agent(envelope.subject, envelope.seq, plan="probation")


def _probation_ended(draft: StateDraft, envelope: Envelope, event: acts.ProbationEnded) -> None:
    plan = draft.plans.get(event.plan_id)
    if plan is None:
        return
    draft.change_agent(envelope.subject, envelope.seq, plan="healing")
    _change_plan(draft, event.plan_id, status="running", probation_until_us=0)
    for step in plan.steps:
        action = step.note.action
        key = memory_key(plan.signature, action)
        known = draft.memory.get(key, Experience())
        draft.memory[key] = _experience(worked=known.worked + event.passed, failed=known.failed + (not event.passed))
        if not event.passed:
            here = memory_key(plan.signature, action, plan.agent_id)
            draft.failed_here[here] = draft.failed_here.get(here, 0) + 1


def _relapsed(draft: StateDraft, envelope: Envelope, event: acts.Relapsed) -> None:
    plan = draft.plans.get(event.plan_id)
    if plan is None or plan.relapsed:
        return
    _change_plan(draft, event.plan_id, relapsed=True)
    for step in plan.steps:
        key = memory_key(plan.signature, step.note.action)
        known = draft.memory.get(key, Experience())
        draft.memory[key] = _experience(worked=max(0, known.worked - 1), failed=known.failed + 1)
        here = memory_key(plan.signature, step.note.action, plan.agent_id)
        draft.failed_here[here] = draft.failed_here.get(here, 0) + 1


def _plan_ended(draft: StateDraft, envelope: Envelope, event: acts.PlanEnded) -> None:
    _change_plan(draft, event.plan_id, status="ended", outcome=event.outcome, reason=event.reason)
    _drop(draft.open_plans, event.plan_id)
    agent = draft.agents.get(envelope.subject)
    if agent is not None and agent.plan != "exhausted":
        draft.change_agent(envelope.subject, envelope.seq, plan="none", plan_id="")


def _plan_withdrawn(draft: StateDraft, envelope: Envelope, event: acts.PlanWithdrawn) -> None:
    _change_plan(draft, event.plan_id, status="withdrawn", outcome="withdrawn", reason=event.reason)
    _drop(draft.open_plans, event.plan_id)
    agent = draft.agents.get(envelope.subject)
    if agent is not None and agent.plan_id == event.plan_id:
        draft.change_agent(envelope.subject, envelope.seq, plan="none", plan_id="")


def _task(draft: StateDraft, envelope: Envelope, event: acts.TaskAssigned) -> None:
    draft.tasks[event.task_id] = TaskState(
        task_id=event.task_id,
        plan_id=event.plan_id,
        agent_id=envelope.subject,
        action=event.action,
        reason=event.reason,
        deadline_us=event.deadline_us,
        seq=envelope.seq,
    )
    if event.task_id not in draft.open_tasks:
        draft.open_tasks.append(event.task_id)


def _task_overdue(draft: StateDraft, envelope: Envelope, event: acts.TaskOverdue) -> None:
    known = draft.tasks.get(event.task_id)
    if known is not None and known.status == "open":
        draft.tasks[event.task_id] = changed(known, status="overdue")


def _exhausted(draft: StateDraft, envelope: Envelope, event: acts.LadderExhausted) -> None:
    draft.change_agent(envelope.subject, envelope.seq, plan="exhausted", plan_id="")


def _requested(draft: StateDraft, envelope: Envelope, event: acts.ApprovalRequested) -> None:
    draft.approvals[event.request_id] = _approval(
        request_id=event.request_id,
        about=event.about,
        subject=envelope.subject,
        plan_id=event.plan_id,
        incident_id=event.incident_id,
        plan_hash=event.plan_hash,
        severity=event.severity,
        rule=event.rule,
        level=event.level,
        requested_by=event.requested_by,
        requested_at_us=envelope.at_us,
        expires_us=event.expires_us,
        seq=envelope.seq,
    )
    _put(draft.open_approvals, event.request_id)
    _change_plan(draft, event.plan_id, status="waiting", request_id=event.request_id)


def _granted(draft: StateDraft, envelope: Envelope, event: acts.ApprovalGranted) -> None:
    known = draft.approvals.get(event.request_id)
    if known is None or known.status != "pending":
        return
    # what is not about a plan takes effect with the grant itself, so nothing is left to start or to take back
    status: RequestStatus = "granted" if known.about == "plan" else "used"
    draft.approvals[event.request_id] = changed(
        known, status=status, decided_by=envelope.actor, decided_at_us=envelope.at_us, not_before_us=event.not_before_us, reason=event.reason
    )
    if status == "used":
        _drop(draft.open_approvals, event.request_id)
    _change_plan(draft, known.plan_id, status="granted")


def _approval_closed(draft: StateDraft, envelope: Envelope, event: acts.ApprovalClosed) -> None:
    known = draft.approvals.get(event.request_id)
    if known is None or known.status not in ("pending", "granted"):
        return
    draft.approvals[event.request_id] = changed(
        known, status=event.outcome, decided_by=envelope.actor, decided_at_us=envelope.at_us, reason=event.reason
    )
    _drop(draft.open_approvals, event.request_id)
    if event.outcome != "withdrawn" and known.plan_id in draft.plans:
        _change_plan(draft, known.plan_id, status="rejected", outcome="rejected", reason=event.reason)
        _drop(draft.open_plans, known.plan_id)
        draft.change_agent(draft.plans[known.plan_id].agent_id, envelope.seq, plan="rejected")


def _announced(draft: StateDraft, envelope: Envelope, event: acts.ChangeAnnounced) -> None:
    known = [item for item in draft.scalar("announced") if item[1] > envelope.at_us]
    draft.changes["announced"] = (*known, (event.cohort, event.until_us, event.reason))


def _answered(draft: StateDraft, envelope: Envelope, event: acts.CommandAnswered) -> None:
    draft.answers[event.key] = (event.command, event.status, event.answer)
    while len(draft.answers) > ANSWERS_KEPT:
        del draft.answers[next(iter(draft.answers))]


def _inherited(draft: StateDraft, envelope: Envelope, event: acts.MemoryInherited) -> None:
    for signature, action, worked, failed in event.entries:
        key = memory_key(signature, action)
        known = draft.memory.get(key, Experience())
        draft.memory[key] = _experience(worked=known.worked + worked, failed=known.failed + failed)


def _feedback(draft: StateDraft, envelope: Envelope, event: acts.FeedbackGiven) -> None:
    known = draft.incidents.get(event.incident_id)
    if known is not None:
        verdict = f"{event.verdict}: {event.cause}" if event.cause else event.verdict
        draft.incidents[event.incident_id] = changed(known, feedback=(*known.feedback, (envelope.actor, verdict)))
        _ease(draft, known, event.verdict)


def _ease(draft: StateDraft, incident: IncidentState, verdict: acts.Verdict) -> None:
    """A false alarm makes the same symptom of the same agent harder to believe; an alarm that was right takes that back."""
    if incident.scope != "agent" or not incident.evidence:
        return
    worst = incident.evidence[0]
    key = symptom_key(incident.agents[0], worst.vital, worst.direction)
    if verdict == "false_alarm":
        draft.eased[key] = draft.eased.get(key, 0) + 1
    else:
        draft.eased.pop(key, None)


def _reported(draft: StateDraft, envelope: Envelope, event: acts.SicknessReported) -> None:
    others = tuple(item for item in draft.reports.get(envelope.subject, ()) if item[0] != envelope.actor)
    draft.reports[envelope.subject] = (*others[-REPORTERS_KEPT + 1 :], (envelope.actor, envelope.at_us))


def _muted(draft: StateDraft, envelope: Envelope, event: acts.Muted) -> None:
    draft.muted = {key: until_us for key, until_us in draft.muted.items() if until_us > envelope.at_us}
    draft.muted[symptom_key(envelope.subject, event.vital)] = event.until_us


def _change_plan(draft: StateDraft, plan_id: str, **changes: Any) -> None:
    known = draft.plans.get(plan_id)
    if known is not None:
        draft.change(draft.plans, plan_id, known, changes)


def _change_step(draft: StateDraft, plan_id: str, number: int, **changes: Any) -> None:
    known = draft.plans.get(plan_id)
    if known is not None and 0 <= number < len(known.steps):
        steps = list(known.steps)
        steps[number] = _changed_step(steps[number], changes)
        draft.change(draft.plans, plan_id, known, {"steps": tuple(steps)})


def _step_status(draft: StateDraft, plan_id: str, number: int) -> str:
    known = draft.plans.get(plan_id)
    return known.steps[number].status if known is not None and 0 <= number < len(known.steps) else ""


def _put(items: list[str], item: str) -> None:
    if item not in items:
        items.append(item)


def _drop(items: list[str], item: str) -> None:
    if item in items:
        items.remove(item)


ACTS: dict[type[Event], Callable[[StateDraft, Envelope, Any], None]] = {
    acts.Contained: _contained,
    acts.Released: _released,
    acts.EnforcementObserved: _observed,
    acts.BudgetOverridden: _overridden,
    acts.PlanProposed: _plan_proposed,
    acts.PlanStarted: _plan_started,
    acts.StepStarted: _step_started,
    acts.StepFinished: _step_finished,
    acts.CompensationStarted: _undo_started,
    acts.CompensationFinished: _undo_finished,
    acts.ProbationStarted: _probation_started,
    acts.ProbationEnded: _probation_ended,
    acts.PlanEnded: _plan_ended,
    acts.Relapsed: _relapsed,
    acts.PlanWithdrawn: _plan_withdrawn,
    acts.TaskAssigned: _task,
    acts.TaskOverdue: _task_overdue,
    acts.LadderExhausted: _exhausted,
    acts.ApprovalRequested: _requested,
    acts.ApprovalGranted: _granted,
    acts.ApprovalClosed: _approval_closed,
    acts.ChangeAnnounced: _announced,
    acts.CommandAnswered: _answered,
    acts.MemoryInherited: _inherited,
    acts.FeedbackGiven: _feedback,
    acts.SicknessReported: _reported,
    acts.Muted: _muted,
    acts.Rebased: _rebased,
}
