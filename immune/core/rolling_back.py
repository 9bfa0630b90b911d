"""Rolling a plan back while it is under way: a person's word puts in motion what a failure would, step by step and in reverse."""

from __future__ import annotations

from immune.core import acts, healing
from immune.core import events as ev
from immune.core.decision import Docket, Enforce, RunStep
from immune.core.state import PlanState

ROLLED_BACK = "rolled back by a person"


def why_not(plan: PlanState) -> str:
    """Why a plan cannot be rolled back now; empty when it can."""
    if plan.status == "compensating":
        return "it is being undone already"
    if not plan.live:
        return f"it is {plan.status}: only what is under way can be rolled back"
    if healing.running(plan):
        return "a step is under way; wait for its answer"
    return "" if healing.to_undo(plan) else "no step of it took effect that can be undone"


def roll_back(docket: Docket, plan: PlanState, reason: str, actor: str) -> None:
    """End the probation if there is one, and begin to undo; `act` goes on with it from the state, as with any plan that failed."""
    why = f"{ROLLED_BACK}: {reason}"
    cause = ev.event_id(plan.seq)
    if plan.status == "probation":
        ended = acts.ProbationEnded(plan_id=plan.plan_id, passed=False, samples=0, nats=0.0, reason=why)
        cause = docket.add(plan.agent_id, ended, correlation=plan.incident_id, cause=cause, actor=actor)
        # back behind the full block before anything is undone
        docket.effects.append(Enforce(agent_id=plan.agent_id, level=docket.state.agents[plan.agent_id].desired))
    number = healing.to_undo(plan)[0]
    note = plan.steps[number].note
    key = healing.step_key(docket.state.run_id, plan.plan_id, number, undo=True)
    event = acts.CompensationStarted(plan_id=plan.plan_id, step=number, action=note.action, key=key, reason=why)
    docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=cause, actor=actor)
    docket.effects.append(
        RunStep(plan_id=plan.plan_id, step=number, agent_id=plan.agent_id, action=note.action, key=key, timeout_s=note.timeout_s, undo=True)
    )
