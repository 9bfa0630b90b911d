"""What people and programs may tell the system: each command checked against state, role and rules, then turned into events.

A command either returns a `Decision` or raises `CommandError`, which carries the HTTP status of the answer. What was an
attempt to act and was refused goes into the journal too (`refusal`). Pure: the shell brings principal, time and state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from immune.core import acts, healing, rolling_back
from immune.core import events as ev
from immune.core.bench import level_without
from immune.core.decision import BlockTool, Decision, Docket, Enforce, Rebase, ResumeLearning, Retire, Rules
from immune.core.events import LEVELS, Level
from immune.core.planning import propose
from immune.core.state import AgentState, ApprovalState, IncidentState, RunState
from immune.errors import RefusedError

US = 1_000_000
Role = Literal["viewer", "agent", "operator", "approver", "admin"]
MUTE_AT_MOST_US = 7 * 86_400 * US
RANK: dict[str, int] = {"viewer": 0, "agent": 0, "operator": 1, "approver": 2, "admin": 3}


class CommandError(RefusedError):
    """A command that is refused. `status` is what HTTP answers: 400, 403, 404, 409, 410, 412."""

    def __init__(self, status: int, what: str, *, field: str | None = None, value: object = None, way_out: str = "") -> None:
        self.status = status
        super().__init__(what, field=field, value=value, way_out=way_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who speaks. `agent` principals may report and send vitals, nothing else."""

    name: str
    role: Role

    @property
    def actor(self) -> str:
        """How the journal names them."""
        return f"agent:{self.name}" if self.role == "agent" else f"person:{self.name}"


@dataclass(slots=True, kw_only=True)
class Commands:
    """The commands, for one state at one time, on behalf of one principal."""

    state: RunState
    rules: Rules
    principal: Principal
    now_us: int

    # -- approvals -----------------------------------------------------------------------------------------------------

    def decide(self, request_id: str, decision: str, reason: str, plan_hash: str) -> Decision:
        """Approve or reject a request. 403 role or requester, 404, 409 decided already, 410 expired, 412 another plan."""
        if decision not in ("approve", "reject"):
            raise CommandError(400, "not a decision", field="decision", value=decision, way_out="approve or reject")
        self._needs("approver", "decide an approval")
        request = self.state.approvals.get(request_id)
        if request is None:
            raise CommandError(404, "no such approval", field="id", value=request_id, way_out="see `immune approvals`")
        self._still_open(request)
        if plan_hash != request.plan_hash:
            raise CommandError(412, "this is not the plan that waits for approval", field="plan_hash", value=plan_hash, way_out="look at it again")
        if request.requested_by == self.principal.actor:
            raise CommandError(403, "who asks cannot approve", field="id", value=request_id, way_out="another approver must decide")
        if decision == "reject":
            if not reason.strip():
                raise CommandError(400, "a rejection needs a reason", field="reason", value=reason, way_out="say why, for whoever reads it later")
            return self._close(request, "rejected", reason)
        return self._grant(request, reason)

    def _still_open(self, request: ApprovalState) -> None:
        if request.status == "pending":
            if self.now_us >= request.expires_us:
                raise CommandError(410, f"expired at {ev.iso(request.expires_us)}", field="id", value=request.request_id, way_out="expired is denied")
            return
        if request.status == "expired":
            raise CommandError(410, f"expired at {ev.iso(request.decided_at_us)}", field="id", value=request.request_id, way_out="expired is denied")
        word = "approved" if request.status in ("granted", "used") else request.status
        said = f"{word} by {request.decided_by} at {ev.iso(request.decided_at_us)}"
        raise CommandError(409, f"already {said}", field="id", value=request.request_id, way_out="a request is decided once")

    def _grant(self, request: ApprovalState, reason: str) -> Decision:
        docket = self._docket()
        undo_us = round(self.rules.policy.approvals.undo_window_s * US)
        event = acts.ApprovalGranted(request_id=request.request_id, plan_hash=request.plan_hash, reason=reason, not_before_us=self.now_us + undo_us)
        cause = self._add(docket, request.subject, event, request.incident_id, ev.event_id(request.seq))
        if request.about == "brake":
            self._lift_brake(docket, request, reason, cause)
        elif request.about == "containment":
            incident = self.state.incidents[request.incident_id]
            self._contain(docket, "agent", request.subject, request.level, reason or "approved", incident=incident, cause=cause)
        return docket.close()

    def _lift_brake(self, docket: Docket, request: ApprovalState, reason: str, cause: str) -> None:
        until_us = self.now_us + round(self.rules.policy.containment.override_for_s * US)
        event = acts.BudgetOverridden(allowed=len(self.state.agents), until_us=until_us, reason=reason or "the fleet brake was lifted")
        self._add(docket, "fleet", event, request.incident_id, cause)

    def _close(self, request: ApprovalState, outcome: Literal["rejected", "withdrawn"], reason: str) -> Decision:
        docket = self._docket()
        event = acts.ApprovalClosed(request_id=request.request_id, outcome=outcome, reason=reason)
        self._add(docket, request.subject, event, request.incident_id, ev.event_id(request.seq))
        return docket.close()

    def take_back(self, request_id: str, reason: str) -> Decision:
        """Take a grant back before its plan starts: the request counts as rejected. 409 when it is too late."""
        self._needs("approver", "take an approval back")
        request = self.state.approvals.get(request_id)
        if request is None:
            raise CommandError(404, "no such approval", field="id", value=request_id, way_out="see `immune approvals`")
        if request.status != "granted":
            raise CommandError(409, f"there is nothing to take back: {request.status}", field="id", value=request_id, way_out="see the plan")
        return self._close(request, "rejected", reason or "taken back within the undo window")

    # -- containment ---------------------------------------------------------------------------------------------------

    def contain(self, scope: str, target: str, level: str, reason: str) -> Decision:
        """Contain an agent, a service, a tool or the fleet until released. Counts as a person's, not against the budget."""
        self._needs("operator", "contain")
        if scope not in ("agent", "service", "fleet", "tool"):
            raise CommandError(400, "unknown scope", field="scope", value=scope, way_out="agent, service, fleet or tool")
        if level not in LEVELS or level == "none":
            raise CommandError(400, "unknown level", field="level", value=level, way_out="one of " + " ".join(LEVELS[1:]))
        self._needs_reason(reason)
        if scope == "agent":
            self._agent(target)
        elif scope == "service" and all(agent.service != target for agent in self.state.agents.values()):
            raise CommandError(404, "no agent belongs to this service", field="target", value=target, way_out="see `immune agents`")
        elif scope == "tool" and not target:
            raise CommandError(400, "a target is needed", field="target", value=target, way_out="name the tool")
        elif scope == "tool" and level == "throttled":
            raise CommandError(400, "a tool is on or off", field="level", value=level, way_out="restricted, isolated or evicted take it away")
        docket = self._docket()
        self._contain(docket, scope, "fleet" if scope == "fleet" else target, level, reason)  # type: ignore[arg-type]
        return docket.close()

    def _contain(
        self,
        docket: Docket,
        scope: acts.ContainScope,
        target: str,
        level: Level,
        reason: str,
        *,
        incident: IncidentState | None = None,
        cause: str = "",
    ) -> None:
        event = acts.Contained(
            containment_id=f"con-p{self.state.ever('containments') + 1:04d}",
            scope=scope,
            target=target,
            level=level,
            automatic=False,
            reason=reason,
            incident_id=incident.incident_id if incident else "",
            rule="a person decided",
            evidence=incident.evidence if incident else (),
            policy_version=self.rules.version,
        )
        self._add(docket, target, event, incident.incident_id if incident else "", cause)
        if scope == "tool":
            docket.effects.append(BlockTool(tool=target, blocked=True))
        for agent in self._covered(scope, target):
            wanted = max(agent.desired, level, key=LEVELS.index)
            docket.effects.append(Enforce(agent_id=agent.agent_id, level=wanted))

    def _covered(self, scope: str, target: str) -> list[AgentState]:
        if scope == "agent":
            return [self.state.agents[target]]
        if scope == "fleet":
            return list(self.state.agents.values())
        return [agent for agent in self.state.agents.values() if scope == "service" and agent.service == target]

    def release(self, target: str, reason: str, scope: str = "") -> Decision:
        """End every containment of an agent (or of a service, tool or `fleet` by that name); its incident is closed by name.

        With a scope, only containments of that scope: an agent that calls itself ``fleet`` is not the fleet.
        """
        self._needs("operator", "release")
        self._needs_reason(reason)
        ended = [c for c in (self.state.containments[k] for k in self.state.active_containments) if c.target == target and scope in ("", c.scope)]
        agent = self.state.agents.get(target) if scope in ("", "agent") else None
        if not ended and agent is None:
            way_out = "see `immune agents`; a service or a tool is released with --scope"
            raise CommandError(404, "nothing is contained by that name", field="target", value=target, way_out=way_out)
        if not ended:
            raise CommandError(409, "it is not contained", field="target", value=target, way_out="there is nothing to release")
        if agent is not None:
            self._not_while_healing(target)
        docket = self._docket()
        for containment in ended:
            event = acts.Released(containment_id=containment.containment_id, basis="person", reason=reason)
            self._add(docket, target, event, containment.incident_id, ev.event_id(containment.seq))
        if agent is not None and agent.incident_id:
            self._close_incident(docket, agent, "released", reason)
        gone = {c.containment_id for c in ended}
        if any(c.scope == "tool" for c in ended):
            docket.effects.append(BlockTool(tool=target, blocked=False))
        for one in {a.agent_id: a for c in ended for a in self._covered(c.scope, c.target)}.values():
            docket.effects.append(Enforce(agent_id=one.agent_id, level=level_without(self.state, one.agent_id, gone)))
        return docket.close()

    def _not_while_healing(self, agent_id: str) -> None:
        agent = self.state.agents.get(agent_id)
        plan = self.state.plans.get(agent.plan_id) if agent else None
        if plan is not None and plan.live:
            raise CommandError(
                409, f"{plan.plan_id} is under way", field="target", value=agent_id, way_out="wait for its end; it is undone if it fails"
            )

    def _close_incident(self, docket: Docket, agent: AgentState, outcome: str, reason: str) -> None:
        incident = self.state.incidents[agent.incident_id]
        event = ev.IncidentClosed(incident_id=incident.incident_id, outcome=outcome, reason=reason)  # type: ignore[arg-type]
        cause = self._add(docket, agent.agent_id, event, incident.incident_id, ev.event_id(incident.opened_seq))
        if agent.health == "sick":
            healthy = ev.HealthChanged(before="sick", after="healthy", nats=0.0, samples=0, basis="")
            self._add(docket, agent.agent_id, healthy, incident.incident_id, cause)
        docket.effects.append(ResumeLearning(agents=(agent.index,)))

    # -- healing -------------------------------------------------------------------------------------------------------

    def heal(self, agent_id: str, *, now: bool) -> Decision:
        """Ask for a plan; with `now`, decide it by name: the only way on after a rejection. 409 without an incident."""
        self._needs("approver" if now else "operator", "heal")
        incident, rung = self._next_plan(agent_id)
        agent = self.state.agents[agent_id]
        plan = self.state.plans.get(agent.plan_id)
        if plan is not None and not plan.settled and (plan.live or not now):
            raise CommandError(
                409, f"it has a plan already: {plan.plan_id} ({plan.status})", field="id", value=agent_id, way_out=f"see `immune why {agent_id}`"
            )
        if agent.plan == "rejected" and not now:
            raise CommandError(409, "its plan was rejected", field="id", value=agent_id, way_out="decide afresh, by name: heal --now")
        docket = self._docket()
        if plan is not None and not plan.settled:
            self._withdraw(docket, plan.plan_id, plan.request_id, incident.incident_id, "replaced by heal now")
        propose(docket, self.rules, incident, rung, trigger="heal_now" if now else "auto", actor=self.principal.actor, ask=not now)
        return docket.close()

    def _withdraw(self, docket: Docket, plan_id: str, request_id: str, incident_id: str, reason: str) -> None:
        request = self.state.approvals.get(request_id)
        if request is not None and request.status in ("pending", "granted"):
            self._add(docket, request.subject, acts.ApprovalClosed(request_id=request_id, outcome="withdrawn", reason=reason), incident_id)
        subject = self.state.plans[plan_id].agent_id
        self._add(docket, subject, acts.PlanWithdrawn(plan_id=plan_id, reason=reason), incident_id)

    def _withdraw_plan_of(self, docket: Docket, agent: AgentState, reason: str) -> None:
        plan = self.state.plans.get(agent.plan_id)
        if plan is not None and not plan.settled:
            self._withdraw(docket, plan.plan_id, plan.request_id, plan.incident_id, reason)

    def dry_run(self, agent_id: str) -> healing.Rung:
        """The plan that healing would begin with now; nothing happens."""
        return self._next_plan(agent_id)[1]

    def _next_plan(self, agent_id: str) -> tuple[IncidentState, healing.Rung]:
        agent = self._agent(agent_id)
        if not agent.incident_id:
            raise CommandError(409, "it has no open incident, there is nothing to heal", field="id", value=agent_id, way_out="see `immune incidents`")
        incident = self.state.incidents[agent.incident_id]
        rules = self.rules
        rung = healing.next_rung(self.state, incident, rules.catalogue, rules.actions, rules.policy.healing, self.now_us, rules.can)
        if not rung.steps:
            reason = "; ".join(f"{name}: {why}" for name, why in rung.skipped)
            what = "no connector can heal it" if rung.nobody else "the ladder is used up"
            raise CommandError(409, f"{what} ({reason})", field="id", value=agent_id, way_out="a person must mend and release it")
        return incident, rung

    def roll_back(self, plan_id: str, reason: str) -> Decision:
        """Undo a plan that is under way. 404, 409 when it has ended or has nothing that can be undone."""
        self._needs("approver", "roll a plan back")
        self._needs_reason(reason)
        plan = self.state.plans.get(plan_id)
        if plan is None:
            raise CommandError(404, "no such plan", field="id", value=plan_id, way_out="see GET /v1/plans")
        against = rolling_back.why_not(plan)
        if against:
            raise CommandError(409, against, field="id", value=plan_id, way_out=f"see `immune why {plan_id}`")
        docket = self._docket()
        rolling_back.roll_back(docket, plan, reason, self.principal.actor)
        return docket.close()

    # -- what people know ----------------------------------------------------------------------------------------------

    def report(self, agent_id: str, reason: str) -> Decision:
        """Say that an agent is sick: evidence with a name on it. An agent may report others, never speak for them otherwise."""
        agent = self._agent(agent_id)
        if self.principal.role == "viewer":
            raise CommandError(
                403, "the role viewer may not report", field="role", value=self.principal.role, way_out="ask for the role of an operator"
            )
        self._needs_reason(reason)
        docket = self._docket()
        self._add(docket, agent_id, acts.SicknessReported(reason=reason[:500]), agent.incident_id)
        return docket.close()

    def feedback(self, incident_id: str, verdict: str, cause: str, reason: str) -> Decision:
        """A verdict on an incident: false alarm and new normal close it and release; the agent is re-based for a new normal."""
        self._needs("operator", "give feedback")
        incident = self.state.incidents.get(incident_id)
        if incident is None:
            raise CommandError(404, "no such incident", field="incident", value=incident_id, way_out="see `immune incidents`")
        if verdict not in ("false_alarm", "new_normal", "cause"):
            raise CommandError(400, "unknown verdict", field="verdict", value=verdict, way_out="false_alarm, new_normal or cause")
        if verdict == "cause" and not cause:
            raise CommandError(400, "name the cause", field="cause", value=cause, way_out="a kind of infection, or your own words")
        docket = self._docket()
        event = acts.FeedbackGiven(incident_id=incident_id, verdict=verdict, cause=cause, reason=reason)  # type: ignore[arg-type]
        self._add(docket, incident.agents[0] if incident.agents else incident.cohort, event, incident_id, ev.event_id(incident.opened_seq))
        if verdict != "cause" and incident.open and incident.scope == "agent":
            self._forgive(docket, incident, verdict, reason)
        elif verdict != "cause" and incident.open:
            self._forgive_all(docket, incident, verdict, reason)
        return docket.close()

    def _forgive_all(self, docket: Docket, incident: IncidentState, verdict: str, reason: str) -> None:
        """A shared cause is a false alarm or a new normal: its incident closes; for a new normal its agents are re-based."""
        closed = ev.IncidentClosed(incident_id=incident.incident_id, outcome=verdict, reason=reason or verdict.replace("_", " "))  # type: ignore[arg-type]
        self._add(docket, incident.subject, closed, incident.incident_id, ev.event_id(incident.opened_seq))
        if verdict == "new_normal":
            self._rebase(docket, tuple(one for one in incident.agents if not self.state.agents[one].incident_id), incident, reason)

    def _rebase(self, docket: Docket, agents: tuple[str, ...], incident: IncidentState, reason: str) -> None:
        """What these agents do now is normal, says a person, by name and on record."""
        event = acts.Rebased(agents=agents, basis="person", cohort=incident.cohort, reason=reason or "new normal")
        self._add(docket, incident.subject, event, incident.incident_id, ev.event_id(incident.opened_seq))
        docket.effects.append(Rebase(agents=tuple(self.state.agents[one].index for one in agents)))

    def _forgive(self, docket: Docket, incident: IncidentState, verdict: str, reason: str) -> None:
        agent = self.state.agents[incident.agents[0]]
        self._not_while_healing(agent.agent_id)
        self._withdraw_plan_of(docket, agent, f"feedback: {verdict}")
        gone = set()
        for key in self.state.active_containments:
            if self.state.containments[key].incident_id == incident.incident_id:
                gone.add(key)
                self._add(docket, agent.agent_id, acts.Released(containment_id=key, basis="person", reason=reason or verdict), incident.incident_id)
        if gone:
            docket.effects.append(Enforce(agent_id=agent.agent_id, level=level_without(self.state, agent.agent_id, gone)))
        self._close_incident(docket, agent, verdict, reason or verdict.replace("_", " "))
        if verdict == "new_normal":
            self._rebase(docket, (agent.agent_id,), incident, reason)

    def announce(self, cohort: str, until_us: int, reason: str) -> Decision:
        """Announce a change of a cohort (``version=2``) until a time."""
        self._needs("operator", "announce a change")
        name, equals, value = cohort.partition("=")
        if not equals or name not in ("type", "service", "provider", "model", "version", "prompt_hash", "fleet") or not value:
            raise CommandError(400, "not a cohort", field="cohort", value=cohort, way_out="for example version=2 or service=search")
        if until_us <= self.now_us:
            raise CommandError(400, "this is over already", field="until", value=ev.iso(until_us), way_out="give a time to come")
        docket = self._docket()
        self._add(docket, cohort, acts.ChangeAnnounced(cohort=cohort, until_us=until_us, reason=reason), "")
        return docket.close()

    def mute(self, agent_id: str, vital: str, until_us: int, reason: str) -> Decision:
        """Ask not to be told of one vital of an agent (empty: of any) until a time. What is in force stays; hard limits are told anyway."""
        self._needs("operator", "mute an agent")
        self._agent(agent_id)
        self._needs_reason(reason)
        if not self.now_us < until_us <= self.now_us + MUTE_AT_MOST_US:
            way_out = "give a time to come, at most seven days ahead"
            raise CommandError(400, "not a time to mute until", field="until", value=ev.iso(until_us), way_out=way_out)
        docket = self._docket()
        self._add(docket, agent_id, acts.Muted(vital=vital, until_us=until_us, reason=reason), "")
        return docket.close()

    def rebase(self, agent_id: str, reason: str) -> Decision:
        """What an agent does now is its normal: it is learned anew. 409 with an open incident, whose verdict says it better."""
        self._needs("operator", "reset a baseline")
        agent = self._agent(agent_id)
        self._needs_reason(reason)
        if agent.incident_id:
            way_out = f"give feedback on {agent.incident_id}: a new normal"
            raise CommandError(409, "it has an open incident", field="id", value=agent_id, way_out=way_out)
        docket = self._docket()
        self._add(docket, agent_id, acts.Rebased(agents=(agent_id,), basis="person", cohort="", reason=reason), "")
        docket.effects.append(Rebase(agents=(agent.index,)))
        return docket.close()

    def retire(self, agent_id: str, reason: str) -> Decision:
        """Retire an agent: it is neither judged nor missed until it sends again."""
        self._needs("operator", "retire an agent")
        agent = self._agent(agent_id)
        if agent.liveness == "retired":
            raise CommandError(409, "it is retired already", field="id", value=agent_id, way_out="nothing is left to do")
        self._not_while_healing(agent_id)
        docket = self._docket()
        event = ev.LivenessChanged(before=agent.liveness, after="retired", reason=reason or "a person retired it")
        self._add(docket, agent_id, event, "")
        if agent.incident_id:
            # its containment stays in force: should it ever send again, a person has the last word
            self._withdraw_plan_of(docket, agent, "its agent was retired")
            self._close_incident(docket, agent, "retired", reason or "a person retired it")
        docket.effects.append(Retire(agents=(agent.index,)))
        return docket.close()

    # -- shared --------------------------------------------------------------------------------------------------------

    def refusal(self, command: str, target: str, error: CommandError) -> Decision:
        """The journal entry of an attempt that was refused."""
        docket = self._docket()
        self._add(
            docket, target[:128] or command, acts.CommandRefused(command=command, target=target[:128], status=error.status, reason=error.what), ""
        )
        return docket.close()

    def _docket(self) -> Docket:
        return Docket(state=self.state, now_us=self.now_us)

    def _add(self, docket: Docket, subject: str, event: ev.Event, correlation: str, cause: str = "") -> str:
        return docket.add(subject, event, correlation=correlation, cause=cause, actor=self.principal.actor)

    def _needs(self, role: Role, what: str) -> None:
        if self.principal.role == "agent" or RANK[self.principal.role] < RANK[role]:
            raise CommandError(
                403, f"the role {self.principal.role} may not {what}", field="role", value=self.principal.role, way_out=f"ask for the role {role}"
            )

    def _needs_reason(self, reason: str) -> None:
        if not reason.strip():
            raise CommandError(400, "a reason is needed", field="reason", value=reason, way_out="say why, for whoever reads it later")

    def _agent(self, agent_id: str) -> AgentState:
        agent = self.state.agents.get(agent_id)
        if agent is None:
            raise CommandError(404, "no such agent", field="id", value=agent_id, way_out="see `immune agents`")
        return agent
