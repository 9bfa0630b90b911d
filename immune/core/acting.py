"""Acting: what follows from a state, whatever led there.

`act` compares what is with what ought to be and returns the difference as events and effects. It remembers nothing: after
a crash the same state asks for the same things, so open plans go on or are undone, containment is enforced again, and
requests expire, without any code for restarts. Only `see` looks at evidence; acting looks at facts, and at fresh samples
during a probation.
"""

from __future__ import annotations

from dataclasses import dataclass

from immune.core import acts, healing
from immune.core import events as ev
from immune.core.decision import AllowCanary, Decision, Docket, Enforce, JudgeAfresh, ResumeLearning, Rules, RunStep
from immune.core.events import LEVELS, Level
from immune.core.evidence import Assessment
from immune.core.mirror import Mirror
from immune.core.state import ApprovalState, ContainmentState, IncidentState, PlanState, RunState

US = 1_000_000
CANARY_FACTOR = 3
"""Canary dispatches for every sample needed: evidence that is neither way asks for more samples, up to this bound."""

GRACE_S = 60.0
"""How long a step's answer may be overdue before it is given up."""

CLEAR_SHARE = 0.25
"""A probation passes early only below this share of the threshold; what lies between that and suspicion waits for more samples."""


def act(state: RunState, mirror: Mirror, assessment: Assessment, rules: Rules) -> Decision:
    """Everything that is to be done in this state at this time."""
    if not (state.open_incidents or state.open_plans or state.open_approvals or state.active_containments or mirror.deviating):
        return Decision()
    actor = _Actor(state=state, mirror=mirror, assessment=assessment, rules=rules, docket=Docket(state=state, now_us=assessment.now_us))
    actor.expire_requests()
    actor.contain()
    actor.withdraw_plans()
    actor.propose_plans()
    actor.advance_plans()
    actor.check_enforcement()
    return actor.docket.close()


def automatically_contained(state: RunState) -> set[str]:
    """Agents that a containment decided without a person holds at this moment."""
    return {state.containments[key].target for key in state.active_containments if state.containments[key].automatic}


def allowed_containments(state: RunState, rules: Rules, now_us: int) -> int:
    """The disruption budget: how many agents may be contained automatically."""
    policy = rules.policy.containment
    allowed = max(policy.cap_at_least, int(policy.cap_share * len(state.agents)))
    return max(allowed, state.budget_allowed) if now_us < state.budget_until_us else allowed


@dataclass(slots=True, kw_only=True)
class _Actor:
    state: RunState
    mirror: Mirror
    assessment: Assessment
    rules: Rules
    docket: Docket

    @property
    def now_us(self) -> int:
        return self.docket.now_us

    # -- containment ---------------------------------------------------------------------------------------------------

    def contain(self) -> None:
        self._release_explained()
        held = automatically_contained(self.state)
        allowed = allowed_containments(self.state, self.rules, self.now_us)
        for incident in self._open_agent_incidents():
            agent = self.state.agents[incident.agents[0]]
            wanted, known = incident.proposed, self._in_force(incident)
            if LEVELS.index(wanted) <= LEVELS.index(known) or agent.plan == "probation":
                continue
            mode = self.rules.policy.mode_for(agent.type)
            if mode == "recommend":
                self._ask_to_contain(incident, wanted)
            elif mode == "act" and (agent.agent_id in held or len(held) < allowed):
                held.add(agent.agent_id)
                self._contain(incident, wanted)
            elif mode == "act":
                self._defer(incident, wanted, len(held), allowed)

    def _release_explained(self) -> None:
        """A containment whose ground fell away (a shared cause explains it) does not wait for a probation."""
        for key in self.state.active_containments:
            containment = self.state.containments[key]
            incident = self.state.incidents.get(containment.incident_id)
            if not containment.automatic or incident is None or incident.outcome != "explained":
                continue
            event = acts.Released(containment_id=key, basis="explained", reason=f"{incident.incident_id} closed: {incident.reason}")
            self.docket.add(containment.target, event, correlation=incident.incident_id, cause=ev.event_id(containment.seq))
            self.docket.effects.append(Enforce(agent_id=containment.target, level=level_without(self.state, containment.target, {key})))

    def _open_agent_incidents(self) -> list[IncidentState]:
        found = [self.state.incidents[key] for key in self.state.open_incidents]
        return sorted((i for i in found if i.scope == "agent"), key=lambda i: -i.severity)

    def _in_force(self, incident: IncidentState) -> Level:
        levels = [c.level for c in self._containments(incident.incident_id)]
        return max(levels, key=LEVELS.index, default="none")

    def _containments(self, incident_id: str) -> list[ContainmentState]:
        return [self.state.containments[key] for key in self.state.active_containments if self.state.containments[key].incident_id == incident_id]

    def _contain(self, incident: IncidentState, level: Level) -> None:
        proposal = incident.proposals[-1]
        agent_id = incident.agents[0]
        event = acts.Contained(
            containment_id=f"con-{incident.incident_id[4:]}-{level}",
            scope="agent",
            target=agent_id,
            level=level,
            automatic=True,
            reason=f"{incident.top_kind}, severity {incident.severity:.1f}",
            incident_id=incident.incident_id,
            rule=proposal.rule,
            evidence=incident.evidence,
            policy_version=self.rules.version,
        )
        self.docket.add(agent_id, event, correlation=incident.incident_id, cause=ev.event_id(proposal.seq), actor=f"policy:{proposal.rule}")
        self.docket.effects.append(Enforce(agent_id=agent_id, level=level))

    def _defer(self, incident: IncidentState, level: Level, held: int, allowed: int) -> None:
        """Beyond the budget nothing is contained automatically: the fleet brake asks, once at a time."""
        asked = {request.about for request in self._open_requests()}
        asked |= {draft.event.about for draft in self.docket.drafts if isinstance(draft.event, acts.ApprovalRequested)}
        if "brake" in asked or self._braked(incident):
            return
        event = acts.ContainmentDeferred(incident_id=incident.incident_id, level=level, contained=held, allowed=allowed)
        cause = self.docket.add(incident.agents[0], event, correlation=incident.incident_id, cause=ev.event_id(incident.opened_seq))
        self._ask("brake", "fleet", incident, level, "containment.cap_share", cause)

    def _braked(self, incident: IncidentState) -> bool:
        """Whether a person was asked about this incident already and did not agree."""
        return any(
            a.about in ("brake", "containment") and a.incident_id == incident.incident_id and a.status in ("rejected", "expired")
            for a in self.state.approvals.values()
        )

    def _ask_to_contain(self, incident: IncidentState, level: Level) -> None:
        asked = any(a.about == "containment" and a.incident_id == incident.incident_id for a in self._open_requests())
        if not asked and not self._braked(incident):
            self._ask("containment", incident.agents[0], incident, level, "mode", ev.event_id(incident.opened_seq))

    def _ask(self, about: str, subject: str, incident: IncidentState, level: Level, rule: str, cause: str) -> None:
        event = acts.ApprovalRequested(
            request_id=self._fresh_request_id(),
            about=about,  # type: ignore[arg-type]
            plan_id="",
            incident_id=incident.incident_id,
            plan_hash=request_hash(self.state.run_id, about, subject, incident.incident_id, level),
            severity=incident.severity,
            rule=rule,
            level=level,
            expires_us=self.now_us + round(self.rules.policy.approvals.expire_after_s * US),
            requested_by="policy:" + rule,
        )
        self.docket.add(subject, event, correlation=incident.incident_id, cause=cause)

    def _fresh_request_id(self) -> str:
        pending = sum(isinstance(draft.event, acts.ApprovalRequested) for draft in self.docket.drafts)
        return f"req-{len(self.state.approvals) + pending + 1:04d}"

    def check_enforcement(self) -> None:
        """Desired against observed: whoever deviates too long is an alarm, once, and is tried again."""
        patience_us = round(self.rules.policy.containment.enforce_within_s * US)
        for agent_id in sorted(self.mirror.deviating):
            agent = self.state.agents[agent_id]
            waited_us = self.now_us - agent.deviating_since_us
            if waited_us < patience_us or self.mirror.retried_us.get(agent_id, 0) + patience_us > self.now_us:
                continue
            if agent_id not in self.mirror.retried_us:
                event = acts.EnforcementFailed(
                    desired=agent.desired,
                    observed=agent.observed,
                    error="not observed in force; an agent that does not ask its gate cannot be held by it",
                    waited_s=waited_us / US,
                )
                self.docket.add(agent_id, event, correlation=agent.incident_id)
            self.mirror.retried_us[agent_id] = self.now_us
            self.docket.effects.append(Enforce(agent_id=agent_id, level=agent.desired))

    # -- requests ------------------------------------------------------------------------------------------------------

    def _open_requests(self) -> list[ApprovalState]:
        return [self.state.approvals[key] for key in self.state.open_approvals]

    def expire_requests(self) -> None:
        """A request that nobody answered is denied, as is a grant that could not be used in time; one whose ground is gone is withdrawn."""
        rule = "policy:approvals.expire_after_s"
        for request in self._open_requests():
            if not self.state.incidents[request.incident_id].open:
                if request.about != "plan":  # a plan's request goes with the plan
                    self._close_request(request, "withdrawn", "the incident is closed", ev.SYSTEM)
            elif request.status == "pending" and self.now_us >= request.expires_us:
                self._close_request(request, "expired", "nobody answered in time; expired is denied", rule)
            elif request.status == "granted" and self.now_us >= self._usable_until_us(request):
                self._close_request(request, "expired", "it was granted, but the plan could not start in time", rule)

    def _usable_until_us(self, request: ApprovalState) -> int:
        """A grant of the last moment still has its undo window."""
        return request.expires_us + round(self.rules.policy.approvals.undo_window_s * US)

    def _close_request(self, request: ApprovalState, outcome: str, reason: str, actor: str) -> None:
        event = acts.ApprovalClosed(request_id=request.request_id, outcome=outcome, reason=reason)  # type: ignore[arg-type]
        self.docket.add(request.subject, event, correlation=request.incident_id, cause=ev.event_id(request.seq), actor=actor)

    # -- plans ---------------------------------------------------------------------------------------------------------

    def propose_plans(self) -> None:
        """One plan for each sick agent that has none and is still the system's business."""
        settle_us = round(self.rules.policy.healing.settle_s * US)
        for incident in self._open_agent_incidents():
            agent = self.state.agents[incident.agents[0]]
            busy = agent.plan_id or agent.plan in ("rejected", "exhausted")
            mode = self.rules.policy.mode_for(agent.type)
            mild = incident.proposed == "none"
            if busy or mild or mode == "observe" or self.now_us - incident.opened_at_us < settle_us:
                continue
            if self._note_relapse(incident):
                continue  # memory takes the success back first; the next tick plans with it
            rules = self.rules
            rung = healing.next_rung(self.state, incident, rules.catalogue, rules.actions, rules.policy.healing, self.now_us, rules.can)
            if rung.steps:
                propose(self.docket, self.rules, incident, rung, trigger="auto", actor=ev.SYSTEM, ask=mode == "recommend")
            elif not rung.later:
                self._hand_over(incident, rung)

    def _hand_over(self, incident: IncidentState, rung: healing.Rung) -> None:
        """Nothing is left to try: what no connector can do becomes a person's task, and a person owns the agent."""
        agent_id = incident.agents[0]
        cause = ev.event_id(incident.opened_seq)
        if rung.nobody:
            self._assign(agent_id, "", rung.nobody, f"no connector can {rung.nobody} {agent_id}", incident.incident_id, cause)
        tried = tuple(name for name, _ in rung.skipped)
        reason = "; ".join(f"{name}: {why}" for name, why in rung.skipped) or "the ladder is empty"
        event = acts.LadderExhausted(incident_id=incident.incident_id, tried=tried, reason=reason)
        self.docket.add(agent_id, event, correlation=incident.incident_id, cause=cause)

    def _assign(self, agent_id: str, plan_id: str, action: str, reason: str, incident_id: str, cause: str) -> None:
        given = sum(isinstance(draft.event, acts.TaskAssigned) for draft in self.docket.drafts)
        event = acts.TaskAssigned(
            task_id=f"task-{len(self.state.tasks) + given + 1:04d}",
            plan_id=plan_id,
            action=action,
            reason=reason,
            deadline_us=self.now_us + round(self.rules.policy.healing.task_deadline_s * US),
        )
        self.docket.add(agent_id, event, correlation=incident_id, cause=cause)

    def _note_relapse(self, incident: IncidentState) -> bool:
        window_us = round(self.rules.policy.healing.relapse_window_s * US)
        for plan in self.state.plans.values():
            away_us = incident.opened_at_us - plan.started_at_us
            same = plan.agent_id == incident.agents[0] and plan.diagnosis == incident.top_kind and plan.incident_id != incident.incident_id
            if same and plan.outcome == "succeeded" and not plan.relapsed and 0 < away_us <= window_us:
                event = acts.Relapsed(plan_id=plan.plan_id, incident_id=incident.incident_id, after_s=away_us / US)
                self.docket.add(plan.agent_id, event, correlation=incident.incident_id, cause=ev.event_id(plan.seq))
                return True
        return False

    def withdraw_plans(self) -> None:
        """A plan that has not started goes when its incident does, or its time; the request to a person goes with it."""
        for plan in self._plans():
            if plan.live:
                continue
            request = self.state.approvals.get(plan.request_id)
            if not self.state.incidents[plan.incident_id].open:
                if request is not None and request.status in ("pending", "granted"):
                    self._close_request(request, "withdrawn", "the incident is closed", ev.SYSTEM)
                self._withdraw(plan, "the incident closed before the plan started")
            elif request is None and self.now_us >= plan.deadline_us:
                self._withdraw(plan, "it could not start before its deadline")

    def _withdraw(self, plan: PlanState, reason: str) -> None:
        event = acts.PlanWithdrawn(plan_id=plan.plan_id, reason=reason)
        self.docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=ev.event_id(plan.seq))

    def _plans(self) -> list[PlanState]:
        return [self.state.plans[key] for key in self.state.open_plans]

    def advance_plans(self) -> None:
        """Move every open plan on by what its state asks for."""
        live = sum(plan.live for plan in self._plans())
        for plan in self._plans():
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
            and request.not_before_us <= self.now_us < self._usable_until_us(request)
            and self._still_approver(request)
        )

    def _waits_for_containment(self, plan: PlanState) -> bool:
        """Contain first: healing starts when the block holds, or when it is on record that it does not."""
        agent = self.state.agents[plan.agent_id]
        return agent.desired != agent.observed and plan.agent_id not in self.mirror.retried_us

    def _still_approver(self, request: ApprovalState) -> bool:
        if request.decided_by.removeprefix("person:") in self.rules.approvers:
            return True
        self._close_request(request, "withdrawn", f"{request.decided_by} no longer holds the role of an approver", ev.SYSTEM)
        self._withdraw(self.state.plans[request.plan_id], "its approval lost its authority")
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
            self._judge_probation(plan)
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
            self._start_probation(plan)

    def _assign_what_nobody_can_do(self, plan: PlanState) -> None:
        for step in plan.steps:
            if step.status == "unsupported":
                reason = step.detail or "no connector can carry this out"
                self._assign(plan.agent_id, plan.plan_id, step.note.action, reason, plan.incident_id, ev.event_id(plan.seq))

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

    # -- probation -----------------------------------------------------------------------------------------------------

    def _start_probation(self, plan: PlanState) -> None:
        policy = self.rules.policy.healing
        needed = policy.probation_samples * (1 + plan.rung)
        dispatches = needed * CANARY_FACTOR
        timeout_us = round(policy.probation_timeout_s * (1 + plan.rung) * US)
        event = acts.ProbationStarted(
            plan_id=plan.plan_id,
            dispatches=dispatches,
            samples_needed=needed,
            deadline_us=min(self.now_us + timeout_us, max(plan.deadline_us, self.now_us)),
        )
        self.docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=ev.event_id(plan.seq))
        self._let_through(plan, dispatches)
        self.mirror.probation_samples[plan.plan_id] = self._samples(self.state.agents[plan.agent_id].index)

    def _samples(self, index: int) -> int:
        return int(self.assessment.samples[index]) if index < len(self.assessment.samples) else 0

    def _let_through(self, plan: PlanState, dispatches: int) -> None:
        agent = self.state.agents[plan.agent_id]
        self.docket.effects.append(JudgeAfresh(agents=(agent.index,)))
        if LEVELS.index(agent.desired) >= LEVELS.index("isolated"):
            self.docket.effects.append(AllowCanary(agent_id=plan.agent_id, dispatches=dispatches))

    def _judge_probation(self, plan: PlanState) -> None:
        index = self.state.agents[plan.agent_id].index
        since = self.mirror.probation_samples.get(plan.plan_id)
        seen = self._samples(index)
        if since is None:
            # the daemon was restarted: judged afresh from here, never on what was before
            self.mirror.probation_samples[plan.plan_id] = seen
            self._let_through(plan, plan.samples_needed * CANARY_FACTOR)
            return
        fresh = seen - since
        nats = float(self.assessment.nats[index])
        finding = next((f for f in self.assessment.findings if f.agent == index), None)
        suspect_nats = self.rules.policy.detection.suspect_share * self.assessment.threshold_nats
        sick = finding is not None and (finding.alarm or (finding.present and finding.nats >= suspect_nats))
        if sick:
            self._end_probation(plan, False, fresh, nats, "symptoms on fresh samples")
        elif fresh >= plan.samples_needed and self._clear(plan, fresh, index, nats, suspect_nats) and not (finding is not None and finding.present):
            self._end_probation(plan, True, fresh, nats, f"{fresh} fresh samples without symptoms")
        elif self.now_us >= plan.probation_until_us:
            self._end_probation(plan, False, fresh, nats, f"only {fresh} of {plan.samples_needed} fresh samples in time; missing data never passes")

    def _clear(self, plan: PlanState, fresh: int, index: int, nats: float, suspect_nats: float) -> bool:
        """Whether fresh samples count as healthy; a half cure shows itself between clear and suspected.

        An agent that is not judged yet (a restart without its baseline) has shown nothing, however many samples it sends.
        """
        spent = fresh >= plan.samples_needed * CANARY_FACTOR - 1
        return bool(self.assessment.ready[index]) and nats < (suspect_nats if spent else CLEAR_SHARE * self.assessment.threshold_nats)

    def _end_probation(self, plan: PlanState, passed: bool, samples: int, nats: float, reason: str) -> None:
        self.mirror.probation_samples.pop(plan.plan_id, None)
        event = acts.ProbationEnded(plan_id=plan.plan_id, passed=passed, samples=samples, nats=nats, reason=reason)
        cause = self.docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=ev.event_id(plan.seq))
        if passed:
            self._succeed(plan, reason, cause)
        else:
            # back behind the full block before anything is undone
            self.docket.effects.append(Enforce(agent_id=plan.agent_id, level=self.state.agents[plan.agent_id].desired))
            self._undo(plan, f"not verified: {reason}")

    def _succeed(self, plan: PlanState, reason: str, cause: str) -> None:
        add, agent_id = self.docket.add, plan.agent_id
        add(agent_id, acts.PlanEnded(plan_id=plan.plan_id, outcome="succeeded", reason=reason), correlation=plan.incident_id, cause=cause)
        released = self._containments(plan.incident_id)
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


def level_without(state: RunState, agent_id: str, gone: set[str]) -> Level:
    """The level that is left for an agent when these containments are gone."""
    agent = state.agents[agent_id]
    left = [state.containments[key] for key in state.active_containments if key not in gone]
    return max((c.level for c in left if c.covers(agent)), key=LEVELS.index, default="none")


def request_hash(run_id: str, about: str, subject: str, incident_id: str, level: Level) -> str:
    """What a person agrees to when the request is not about a plan."""
    rung = healing.Rung(number=0, steps=(), skipped=())
    return healing.plan_hash(run_id, subject, incident_id, rung, about, level)


def propose(docket: Docket, rules: Rules, incident: IncidentState, rung: healing.Rung, *, trigger: acts.Trigger, actor: str, ask: bool) -> str:
    """Put a plan on the docket, and the request to a person where policy wants one; the plan's id."""
    policy = rules.policy
    agent_id = incident.agents[0]
    pending = sum(isinstance(draft.event, acts.PlanProposed) for draft in docket.drafts)
    plan_id = f"plan-{len(docket.state.plans) + pending + 1:04d}"
    lasting = any(not note.reversible and note.tier >= 3 for note in rung.steps)
    severe = incident.severity >= policy.approvals.severity_at
    needed = trigger != "heal_now" and (ask or severe or (lasting and bool(policy.approvals.irreversible_needs_person)))
    rule = "approvals.severity_at" if severe else "approvals.irreversible_needs_person" if lasting else "mode" if ask else ""
    proposed = acts.PlanProposed(
        plan_id=plan_id,
        incident_id=incident.incident_id,
        signature=healing.signature_of(incident),
        diagnosis=incident.top_kind,
        rung=rung.number,
        steps=rung.steps,
        skipped=rung.skipped,
        plan_hash=healing.plan_hash(docket.state.run_id, agent_id, incident.incident_id, rung, incident.top_kind, rules.version),
        severity=incident.severity,
        mode=policy.mode_for(docket.state.agents[agent_id].type),
        needs_approval=needed,
        rule=rule if needed else "",
        trigger=trigger,
        deadline_us=docket.now_us + round((policy.healing.plan_deadline_s + needed * policy.approvals.expire_after_s) * US),
        policy_version=rules.version,
    )
    cause = docket.add(agent_id, proposed, correlation=incident.incident_id, cause=ev.event_id(incident.opened_seq), actor=actor)
    if needed:
        asked = sum(isinstance(draft.event, acts.ApprovalRequested) for draft in docket.drafts)
        request = acts.ApprovalRequested(
            request_id=f"req-{len(docket.state.approvals) + asked + 1:04d}",
            about="plan",
            plan_id=plan_id,
            incident_id=incident.incident_id,
            plan_hash=proposed.plan_hash,
            severity=incident.severity,
            rule=rule,
            level=incident.proposed,
            expires_us=docket.now_us + round(policy.approvals.expire_after_s * US),
            requested_by="policy:" + rule if actor == ev.SYSTEM else actor,
        )
        docket.add(agent_id, request, correlation=incident.incident_id, cause=cause)
    return plan_id
