"""Plans before they start: proposed, asked about, expired, withdrawn, or handed to a person."""

from __future__ import annotations

from dataclasses import dataclass

from immune.core import acts, healing
from immune.core import events as ev
from immune.core.bench import US, Bench
from immune.core.decision import Docket, Rules
from immune.core.state import IncidentState


@dataclass(slots=True, kw_only=True)
class Planning(Bench):
    """One plan for each sick agent that is still the system's business."""

    def expire_requests(self) -> None:
        """A request that nobody answered is denied, as is a grant that could not be used in time; one whose ground is gone is withdrawn."""
        rule = "policy:approvals.expire_after_s"
        for request in self.open_requests():
            if not self.state.incidents[request.incident_id].open:
                if request.about != "plan":  # a plan's request goes with the plan
                    self.close_request(request, "withdrawn", "the incident is closed", ev.SYSTEM)
            elif request.status == "pending" and self.now_us >= request.expires_us:
                self.close_request(request, "expired", "nobody answered in time; expired is denied", rule)
            elif request.status == "granted" and self.now_us >= self.usable_until_us(request):
                self.close_request(request, "expired", "it was granted, but the plan could not start in time", rule)

    def propose_plans(self) -> None:
        """One plan for each sick agent that has none and is still the system's business."""
        settle_us = round(self.rules.policy.healing.settle_s * US)
        for incident in self.open_agent_incidents():
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
            self.assign(agent_id, "", rung.nobody, f"no connector can {rung.nobody} {agent_id}", incident.incident_id, cause)
        tried = tuple(name for name, _ in rung.skipped)
        reason = "; ".join(f"{name}: {why}" for name, why in rung.skipped) or "the ladder is empty"
        event = acts.LadderExhausted(incident_id=incident.incident_id, tried=tried, reason=reason)
        self.docket.add(agent_id, event, correlation=incident.incident_id, cause=cause)

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

    def remind(self) -> None:
        """Say it once when a task passes its deadline."""
        for task in (self.state.tasks[key] for key in self.state.open_tasks):
            if task.status == "open" and self.now_us >= task.deadline_us:
                agent = self.state.agents.get(task.agent_id)
                incident_id = agent.incident_id if agent else ""
                self.docket.add(task.agent_id, acts.TaskOverdue(task_id=task.task_id), correlation=incident_id, cause=ev.event_id(task.seq))

    def withdraw_plans(self) -> None:
        """A plan that has not started goes when its incident does, or its time; the request to a person goes with it."""
        for plan in self.plans():
            if plan.live:
                continue
            request = self.state.approvals.get(plan.request_id)
            if not self.state.incidents[plan.incident_id].open:
                if request is not None and request.status in ("pending", "granted"):
                    self.close_request(request, "withdrawn", "the incident is closed", ev.SYSTEM)
                self.withdraw(plan, "the incident closed before the plan started")
            elif request is None and self.now_us >= plan.deadline_us:
                self.withdraw(plan, "it could not start before its deadline")


def propose(docket: Docket, rules: Rules, incident: IncidentState, rung: healing.Rung, *, trigger: acts.Trigger, actor: str, ask: bool) -> str:
    """Put a plan on the docket, and the request to a person where policy wants one; the plan's id."""
    policy = rules.policy
    agent_id = incident.agents[0]
    plan_id = docket.fresh_id("plan", docket.state.ever("plans"), acts.PlanProposed)
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
        request = acts.ApprovalRequested(
            request_id=docket.fresh_id("req", docket.state.ever("approvals"), acts.ApprovalRequested),
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
