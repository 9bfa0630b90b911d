"""Plans under way: steps, undoing, and the one end that every started plan has."""

from __future__ import annotations

from dataclasses import dataclass

from immune.core import acts, healing
from immune.core import events as ev
from immune.core.bench import US, Bench, level_without
from immune.core.decision import Enforce, ResumeLearning, RunStep
from immune.core.probation import Probation, Verdict
from immune.core.state import ApprovalState, PlanState

GRACE_S = 60.0
"""How long a step's answer may be overdue before it is given up."""


@dataclass(slots=True, kw_only=True)
class Treatment(Bench):
    """Moves every open plan on by what its state asks for."""

    probation: Probation

    def advance_plans(self) -> None:
        """Move every open plan on by what its state asks for."""
        live = sum(plan.live for plan in self.plans())
        for plan in self.plans():
            if plan.live:
                self._advance(plan)
            elif live < self.rules.policy.healing.plans_at_once and self.state.incidents[plan.incident_id].open and self._may_start(plan):
                live += 1
                self._start(plan)

    def _may_start(self, plan: PlanState) -> bool:
        if self._waits_for_containment(plan):
            return False
        if not plan.needs_approval:
            return plan.status == "proposed" and self.now_us < plan.deadline_us
        request = self.state.approvals.get(plan.request_id)
        return (
            request is not None
            and request.status == "granted"
            and request.plan_hash == plan.plan_hash
            and request.not_before_us <= self.now_us < self.usable_until_us(request)
            and self._still_approver(request)
        )

    def _waits_for_containment(self, plan: PlanState) -> bool:
        """Contain first: healing starts when the block holds, or when it is on record that it does not."""
        agent = self.state.agents[plan.agent_id]
        return agent.desired != agent.observed and plan.agent_id not in self.mirror.retried_us

    def _still_approver(self, request: ApprovalState) -> bool:
        if request.decided_by.removeprefix("person:") in self.rules.approvers:
            return True
        self.close_request(request, "withdrawn", f"{request.decided_by} no longer holds the role of an approver", ev.SYSTEM)
        self.withdraw(self.state.plans[request.plan_id], "its approval lost its authority")
        return False

    def _start(self, plan: PlanState) -> None:
        used = plan.request_id if plan.needs_approval else ""
        trigger: acts.Trigger = "after_approval" if used else plan.trigger
        event = acts.PlanStarted(plan_id=plan.plan_id, request_id=used, trigger=trigger)
        cause = self.docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=ev.event_id(plan.seq))
        self._start_step(plan, 0, cause)

    def _start_step(self, plan: PlanState, number: int, cause: str = "") -> None:
        note = plan.steps[number].note
        key = healing.step_key(self.state.run_id, plan.plan_id, number)
        event = acts.StepStarted(plan_id=plan.plan_id, step=number, action=note.action, key=key)
        self.docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=cause or ev.event_id(plan.seq))
        self._run_step(plan, number, key, undo=False)

    def _run_step(self, plan: PlanState, number: int, key: str, *, undo: bool) -> None:
        note = plan.steps[number].note
        self.docket.effects.append(
            RunStep(plan_id=plan.plan_id, step=number, agent_id=plan.agent_id, action=note.action, key=key, timeout_s=note.timeout_s, undo=undo)
        )

    def _advance(self, plan: PlanState) -> None:
        if healing.running(plan):
            self._give_up_overdue(plan)
        elif plan.status == "compensating":
            self._undo(plan, plan.reason)
        elif plan.status == "probation":
            verdict = self.probation.verdict(plan)
            if verdict is not None:
                self._end_probation(plan, verdict)
        else:
            self._go_on(plan)

    def _give_up_overdue(self, plan: PlanState) -> None:
        """An answer that is long overdue was lost on its way to the journal: the outcome is unknown."""
        for number, step in enumerate(plan.steps):
            if step.status not in ("running", "compensating") or self.now_us < step.started_at_us + round((step.note.timeout_s + GRACE_S) * US):
                continue
            finished = acts.StepFinished if step.status == "running" else acts.CompensationFinished
            event = finished(plan_id=plan.plan_id, step=number, action=step.note.action, outcome="unknown", detail="no answer was recorded")
            self.docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=ev.event_id(plan.seq))

    def _go_on(self, plan: PlanState) -> None:
        wrong = healing.went_wrong(plan)
        number = healing.next_step(plan)
        if wrong:
            self._assign_what_nobody_can_do(plan)
            self._undo(plan, wrong)
        elif self.now_us >= plan.deadline_us:
            self._undo(plan, "the plan's deadline passed")
        elif number is not None:
            self._start_step(plan, number)
        else:
            self.probation.start(plan)

    def _assign_what_nobody_can_do(self, plan: PlanState) -> None:
        for step in plan.steps:
            if step.status == "unsupported":
                reason = step.detail or "no connector can carry this out"
                self.assign(plan.agent_id, plan.plan_id, step.note.action, reason, plan.incident_id, ev.event_id(plan.seq))

    def _undo(self, plan: PlanState, reason: str) -> None:
        """Undo the next step that needs it, or end the plan when none is left."""
        left = healing.to_undo(plan)
        if left:
            number = left[0]
            key = healing.step_key(self.state.run_id, plan.plan_id, number, undo=True)
            event = acts.CompensationStarted(
                plan_id=plan.plan_id, step=number, action=plan.steps[number].note.action, key=key, reason=plan.reason or reason
            )
            self.docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=ev.event_id(plan.seq))
            self._run_step(plan, number, key, undo=True)
            return
        self._end_undone(plan, reason)

    def _end_undone(self, plan: PlanState, reason: str) -> None:
        broken = healing.undo_failed(plan)
        lasting = healing.lasting(plan)
        unsupported = any(step.status == "unsupported" for step in plan.steps)
        why = "; ".join(
            part
            for part in (
                plan.reason or reason,
                f"could not undo {', '.join(broken)}" if broken else "",
                f"{', '.join(lasting)} cannot be undone" if lasting else "",
            )
            if part
        )
        outcome: acts.PlanEnd = "escalated" if broken or unsupported else "compensated"
        cause = self.docket.add(
            plan.agent_id,
            acts.PlanEnded(plan_id=plan.plan_id, outcome=outcome, reason=why),
            correlation=plan.incident_id,
            cause=ev.event_id(plan.seq),
        )
        if outcome == "escalated":
            tried = tuple(step.note.action for step in plan.steps)
            event = acts.LadderExhausted(incident_id=plan.incident_id, tried=tried, reason=why)
            self.docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=cause)

    def _end_probation(self, plan: PlanState, verdict: Verdict) -> None:
        event = acts.ProbationEnded(plan_id=plan.plan_id, passed=verdict.passed, samples=verdict.samples, nats=verdict.nats, reason=verdict.reason)
        cause = self.docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=ev.event_id(plan.seq))
        if verdict.passed:
            self._succeed(plan, verdict.reason, cause)
        else:
            # back behind the full block before anything is undone
            self.docket.effects.append(Enforce(agent_id=plan.agent_id, level=self.state.agents[plan.agent_id].desired))
            self._undo(plan, f"not verified: {verdict.reason}")

    def _succeed(self, plan: PlanState, reason: str, cause: str) -> None:
        add, agent_id = self.docket.add, plan.agent_id
        add(agent_id, acts.PlanEnded(plan_id=plan.plan_id, outcome="succeeded", reason=reason), correlation=plan.incident_id, cause=cause)
        released = self.containments(plan.incident_id)
        for containment in released:
            event = acts.Released(containment_id=containment.containment_id, basis="probation", reason=reason)
            add(agent_id, event, correlation=plan.incident_id, cause=cause)
        closed = ev.IncidentClosed(incident_id=plan.incident_id, outcome="healed", reason=f"{self._actions(plan)} verified: {reason}")
        add(agent_id, closed, correlation=plan.incident_id, cause=cause)
        agent = self.state.agents[agent_id]
        if agent.health != "healthy":
            nats, samples = float(self.assessment.nats[agent.index]), int(self.assessment.samples[agent.index])
            healthy = ev.HealthChanged(before=agent.health, after="healthy", nats=nats, samples=samples, basis="")
            add(agent_id, healthy, correlation=plan.incident_id, cause=cause)
        self.docket.effects.append(ResumeLearning(agents=(agent.index,)))
        gone = {c.containment_id for c in released}
        self.docket.effects.append(Enforce(agent_id=agent_id, level=level_without(self.state, agent_id, gone)))

    def _actions(self, plan: PlanState) -> str:
        return "+".join(step.note.action for step in plan.steps)
