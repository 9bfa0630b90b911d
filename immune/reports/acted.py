"""What a run did, in figures and tables: containment, heals, approvals, memory. From the folded state and the chronicle."""

from __future__ import annotations

from collections import Counter

from immune.core.state import ApprovalState, PlanState, RunState, split_memory_key
from immune.reports.chronicle import Chronicle
from immune.reports.model import Acted, ApprovalRow, CureRow, MemoryRow
from immune.reports.words import in_words

APPROVED = ("granted", "used")


def acted(state: RunState, told: Chronicle, escaped: int | None) -> Acted:
    """The account of acting. `escaped` is the work done while isolated, if somebody counted it."""
    healed = {plan.agent_id for plan in state.plans.values() if plan.outcome == "succeeded"}
    return Acted(
        containments=len(state.containments),
        by_people=sum(not containment.automatic for containment in state.containments.values()),
        still=tuple(sorted(agent.agent_id for agent in state.agents.values() if agent.observed != "none")),
        share_max=share_max(state),
        escaped=escaped,
        held_agents=tuple(sorted({hold.agent_id for hold in told.holds})),
        healed_agents=tuple(sorted(healed)),
        explained_agents=tuple(sorted({c.target for c in state.containments.values() if c.basis == "explained"} - healed)),
        waiting_agents=tuple(sorted(agent.agent_id for agent in state.agents.values() if agent.plan == "awaiting_approval")),
        owned_agents=tuple(sorted(agent.agent_id for agent in state.agents.values() if agent.plan in ("exhausted", "rejected"))),
        would_have=_would_have(state),
        holds=told.holds,
        trials=told.trials,
        alarms=told.alarms,
        cures=_cures(state),
        ends=_ends(state),
        approvals=tuple(_approval(state, request) for request in state.approvals.values()),
        memory=_memory(state),
        tasks=tuple(f"{in_words(task.action)} for {task.agent_id}: {task.reason}" for task in state.tasks.values()),
    )


def share_max(state: RunState) -> float:
    """The largest share of the fleet that was contained automatically at one time."""
    changes: list[tuple[int, int, str]] = []
    for containment in state.containments.values():
        if containment.automatic:
            changes.append((containment.since_us, 1, containment.target))
            if containment.ended_at_us:
                changes.append((containment.ended_at_us, -1, containment.target))
    held: Counter[str] = Counter()
    most = 0
    for _, change, target in sorted(changes):
        held[target] += change
        most = max(most, sum(number > 0 for number in held.values()))
    return most / max(1, len(state.agents))


def plan_end(plan: PlanState) -> str:
    """How a plan stands, in a word."""
    words = {"succeeded": "verified", "compensated": "undone", "escalated": "handed to a person"}
    return (
        words.get(plan.outcome)
        or plan.outcome
        or {"proposed": "proposed", "waiting": "waits for a person", "granted": "approved"}.get(plan.status, "under way")
    )


def steps_of(plan: PlanState) -> str:
    """Its actions in words and order."""
    return ", then ".join(in_words(step.note.action) for step in plan.steps)


def _would_have(state: RunState) -> int:
    """Agents that would have been contained, had somebody carried it out."""
    contained = {containment.incident_id for containment in state.containments.values()}
    return len({agent for i in state.incidents.values() if i.proposed != "none" and i.incident_id not in contained for agent in i.agents})


def _ends(state: RunState) -> tuple[tuple[str, int], ...]:
    counts = Counter(plan_end(plan) for plan in state.plans.values())
    counts["relapsed after verification"] = sum(plan.relapsed for plan in state.plans.values())
    order = (
        "verified",
        "undone",
        "handed to a person",
        "relapsed after verification",
        "rejected",
        "withdrawn",
        "waits for a person",
        "approved",
        "under way",
    )
    return tuple((end, counts[end]) for end in order if counts[end] or end in order[:4])


def _cures(state: RunState) -> tuple[CureRow, ...]:
    """Per treatment (the steps of a plan) how its plans ended, the most used first."""
    rows: dict[str, list[PlanState]] = {}
    for plan in state.plans.values():
        rows.setdefault(steps_of(plan), []).append(plan)
    cures = [
        CureRow(
            treatment=steps,
            against=tuple(sorted({in_words(plan.diagnosis) for plan in plans})),
            verified=sum(plan.outcome == "succeeded" for plan in plans),
            undone=sum(plan.outcome == "compensated" for plan in plans),
            handed=sum(plan.outcome == "escalated" for plan in plans),
            other=sum(plan.outcome not in ("succeeded", "compensated", "escalated") for plan in plans),
            relapsed=sum(plan.relapsed for plan in plans),
        )
        for steps, plans in rows.items()
    ]
    return tuple(sorted(cures, key=lambda row: (-row.verified - row.undone - row.handed, row.treatment)))


def _approval(state: RunState, request: ApprovalState) -> ApprovalRow:
    plan = state.plans.get(request.plan_id)
    otherwise = "go beyond the disruption budget" if request.about == "brake" else f"be {request.level}"
    return ApprovalRow(
        request_id=request.request_id,
        subject=request.subject,
        asks=steps_of(plan) if plan else otherwise,
        severity=request.severity,
        rule=request.rule,
        asked_us=request.requested_at_us,
        decided_us=request.decided_at_us,
        by=request.decided_by,
        reason=request.reason,
        outcome="approved" if request.status in APPROVED else request.status,
        became=plan_end(plan) if plan and request.status in APPROVED else "",
        expires_us=request.expires_us,
        event_id=f"e{request.seq}",
    )


def _memory(state: RunState) -> tuple[MemoryRow, ...]:
    rows = []
    for key, known in sorted(state.memory.items()):
        signature, action = split_memory_key(key)
        rows.append(MemoryRow(signature=signature, action=action, worked=known.worked, failed=known.failed))
    return tuple(rows)
