"""The bench that acting works at: one state at one time, the rules that hold, and the docket to put decisions on."""

from __future__ import annotations

from dataclasses import dataclass

from immune.core import acts
from immune.core import events as ev
from immune.core.decision import Docket, Rules
from immune.core.events import LEVELS, Level
from immune.core.evidence import Assessment
from immune.core.mirror import Mirror
from immune.core.state import ApprovalState, ContainmentState, IncidentState, PlanState, RunState

US = 1_000_000


@dataclass(slots=True, kw_only=True)
class Bench:
    """What every part of acting has before it. Nothing here outlives a tick."""

    state: RunState
    mirror: Mirror
    assessment: Assessment
    rules: Rules
    docket: Docket

    @property
    def now_us(self) -> int:
        """The time of this decision."""
        return self.docket.now_us

    def open_agent_incidents(self) -> list[IncidentState]:
        """Open incidents of single agents, the most severe first."""
        found = [self.state.incidents[key] for key in self.state.open_incidents]
        return sorted((i for i in found if i.scope == "agent"), key=lambda i: -i.severity)

    def containments(self, incident_id: str) -> list[ContainmentState]:
        """Containments in force because of an incident."""
        return [self.state.containments[key] for key in self.state.active_containments if self.state.containments[key].incident_id == incident_id]

    def open_requests(self) -> list[ApprovalState]:
        """Requests that wait, or wait to be used."""
        return [self.state.approvals[key] for key in self.state.open_approvals]

    def plans(self) -> list[PlanState]:
        """Plans that have not come to an end."""
        return [self.state.plans[key] for key in self.state.open_plans]

    def usable_until_us(self, request: ApprovalState) -> int:
        """A grant of the last moment still has its undo window."""
        return request.expires_us + round(self.rules.policy.approvals.undo_window_s * US)

    def close_request(self, request: ApprovalState, outcome: str, reason: str, actor: str) -> None:
        """End a request without a start."""
        event = acts.ApprovalClosed(request_id=request.request_id, outcome=outcome, reason=reason)  # type: ignore[arg-type]
        self.docket.add(request.subject, event, correlation=request.incident_id, cause=ev.event_id(request.seq), actor=actor)

    def assign(self, agent_id: str, plan_id: str, action: str, reason: str, incident_id: str, cause: str) -> None:
        """Give a person something to do, with a deadline."""
        event = acts.TaskAssigned(
            task_id=self.docket.fresh_id("task", self.state.ever("tasks"), acts.TaskAssigned),
            plan_id=plan_id,
            action=action,
            reason=reason,
            deadline_us=self.now_us + round(self.rules.policy.healing.task_deadline_s * US),
        )
        self.docket.add(agent_id, event, correlation=incident_id, cause=cause)

    def withdraw(self, plan: PlanState, reason: str) -> None:
        """Take back a plan that has not started."""
        event = acts.PlanWithdrawn(plan_id=plan.plan_id, reason=reason)
        self.docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=ev.event_id(plan.seq))


def level_without(state: RunState, agent_id: str, gone: set[str]) -> Level:
    """The level that is left for an agent when these containments are gone."""
    agent = state.agents[agent_id]
    left = [state.containments[key] for key in state.active_containments if key not in gone]
    return max((c.level for c in left if c.covers(agent)), key=LEVELS.index, default="none")
