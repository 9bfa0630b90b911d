"""Containment: who is to be held, how many at most, and whether what was ordered is really in force."""

from __future__ import annotations

from dataclasses import dataclass

from immune.core import acts, healing
from immune.core import events as ev
from immune.core.bench import US, Bench, level_without
from immune.core.decision import Enforce, EnforcementRetried, Rules
from immune.core.events import LEVELS, Level
from immune.core.state import IncidentState, RunState

NOT_IN_FORCE = "not observed in force; an agent that does not ask its gate cannot be held by it"


def automatically_contained(state: RunState) -> set[str]:
    """Agents that a containment decided without a person holds at this moment."""
    return {state.containments[key].target for key in state.active_containments if state.containments[key].automatic}


def allowed_containments(state: RunState, rules: Rules, now_us: int) -> int:
    """The disruption budget: how many agents may be contained automatically.

    A share of the agents that are judged: invented ids and retired agents do not make room for more.
    """
    policy = rules.policy.containment
    judged = sum(agent.health != "learning" and agent.liveness != "retired" for agent in state.agents.values())
    allowed = max(policy.cap_at_least, int(policy.cap_share * judged))
    return max(allowed, state.budget_allowed) if now_us < state.budget_until_us else allowed


@dataclass(slots=True, kw_only=True)
class Containment(Bench):
    """Compares what the policy asks for with what is in force."""

    def contain(self) -> None:
        """Contain whom the policy asks to contain, within the disruption budget; release whose ground fell away."""
        self._release_explained()
        held = automatically_contained(self.state)
        allowed = allowed_containments(self.state, self.rules, self.now_us)
        for incident in self.open_agent_incidents():
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

    def _in_force(self, incident: IncidentState) -> Level:
        levels = [c.level for c in self.containments(incident.incident_id)]
        return max(levels, key=LEVELS.index, default="none")

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
        asked = {request.about for request in self.open_requests()}
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
        asked = any(a.about == "containment" and a.incident_id == incident.incident_id for a in self.open_requests())
        if not asked and not self._braked(incident):
            self._ask("containment", incident.agents[0], incident, level, "mode", ev.event_id(incident.opened_seq))

    def _ask(self, about: str, subject: str, incident: IncidentState, level: Level, rule: str, cause: str) -> None:
        event = acts.ApprovalRequested(
            request_id=self.docket.fresh_id("req", self.state.ever("approvals"), acts.ApprovalRequested),
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

    def check_enforcement(self) -> None:
        """Desired against observed: whoever deviates too long is an alarm, once, and is tried again."""
        patience_us = round(self.rules.policy.containment.enforce_within_s * US)
        # what this decision orders is newer than the state that it was made from; the old order after it would take it back
        ordered = {effect.agent_id for effect in self.docket.effects if isinstance(effect, Enforce)}
        for agent_id in sorted(self.mirror.deviating - ordered):
            agent = self.state.agents[agent_id]
            waited_us = self.now_us - agent.deviating_since_us
            if waited_us < patience_us or self.mirror.retried_us.get(agent_id, 0) + patience_us > self.now_us:
                continue
            if agent_id not in self.mirror.retried_us:
                event = acts.EnforcementFailed(
                    desired=agent.desired,
                    observed=agent.observed,
                    error=self.mirror.order_errors.get(agent_id, NOT_IN_FORCE)[:300],
                    waited_s=waited_us / US,
                )
                self.docket.add(agent_id, event, correlation=agent.incident_id)
            # remembered as an effect: an alarm that the journal refuses has to be raised again
            self.docket.effects.append(EnforcementRetried(agent_id=agent_id))
            self.docket.effects.append(Enforce(agent_id=agent_id, level=agent.desired))


def request_hash(run_id: str, about: str, subject: str, incident_id: str, level: Level) -> str:
    """What a person agrees to when the request is not about a plan."""
    rung = healing.Rung(number=0, steps=(), skipped=())
    return healing.plan_hash(run_id, subject, incident_id, rung, about, level)
