"""A run is taken up again: its state from the journal, and what an earlier process left open."""

from __future__ import annotations

from dataclasses import dataclass

from immune.core import acts
from immune.core import events as ev
from immune.core.decision import BlockTool, Decision, Docket, Enforce, HoldLearning, RunStep
from immune.core.events import follow
from immune.core.fold import fold
from immune.core.snapshot import thaw
from immune.core.state import PlanState, RunState
from immune.errors import JournalBrokenError
from immune.ports import Journal

STATE_SNAPSHOT = "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a journal holds of a run. `saved_seq`: up to where a snapshot stands for it; `broken`: where its chain does not hold."""

    state: RunState
    saved_seq: int
    broken: JournalBrokenError | None = None


def folded(journal: Journal, run_id: str, empty: RunState) -> Found:
    """The state of what is in the journal: the newest snapshot that fits and what came after it, else all of it.

    A chain that does not hold is said (`broken`), and folded all the same: what it contains must be enforced.
    """
    state = _snapshot(journal, run_id, empty.keep) or empty
    try:
        return Found(state=fold(state, follow(journal.read(run_id, after_seq=state.seq), state.seq, state.head)), saved_seq=state.seq)
    except JournalBrokenError as broken:
        return Found(state=fold(empty, journal.read(run_id)), saved_seq=state.seq, broken=broken)


def _snapshot(journal: Journal, run_id: str, keep: int) -> RunState | None:
    snapshot = journal.load_snapshot(run_id, STATE_SNAPSHOT)
    state = thaw(snapshot[1]) if snapshot is not None else None
    if state is None or state.keep != keep:
        return None
    there = next(journal.read(run_id, after_seq=state.seq - 1, limit=1), None)
    return state if there is not None and (there.seq, there.hash) == (state.seq, state.head) else None


def taken_up(state: RunState, now_us: int) -> Decision:
    """After a restart: containment is enforced before anything else, and steps that were under way are settled."""
    docket = Docket(state=state, now_us=now_us)
    for agent in state.agents.values():
        if agent.desired != "none":
            docket.effects.append(Enforce(agent_id=agent.agent_id, level=agent.desired))
    for containment in (state.containments[key] for key in state.active_containments):
        if containment.scope == "tool":
            docket.effects.append(BlockTool(tool=containment.target, blocked=True))
    for plan in (state.plans[key] for key in state.open_plans):
        _settle(docket, plan)
    held = tuple(agent.index for agent in state.agents.values() if agent.incident_id)
    if held:
        docket.effects.append(HoldLearning(agents=held))
    return docket.close()


def _settle(docket: Docket, plan: PlanState) -> None:
    """What ran has an unknown outcome; what was being undone is undone again."""
    for number, step in enumerate(plan.steps):
        action = step.note.action
        if step.status == "running":
            gone = acts.StepFinished(plan_id=plan.plan_id, step=number, action=action, outcome="unknown", detail="the daemon stopped while it ran")
            docket.add(plan.agent_id, gone, correlation=plan.incident_id, cause=ev.event_id(plan.seq))
        elif step.status == "compensating":
            docket.effects.append(
                RunStep(
                    plan_id=plan.plan_id,
                    step=number,
                    agent_id=plan.agent_id,
                    action=action,
                    key=step.key,
                    timeout_s=step.note.timeout_s,
                    undo=True,
                )
            )
