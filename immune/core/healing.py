"""Healing: choosing a rung of the ladder, and moving a plan on until it has exactly one end.

A plan is one rung. It runs its steps in order; a step that failed or whose outcome is unknown, and a probation that was
not passed, undo what took or may have taken effect, in reverse order of completion. Success is a probation passed on
fresh samples, never an action's own word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from immune.core import acts, codec
from immune.core.diagnosis import Infection
from immune.core.policy import HealingPolicy
from immune.core.state import Experience, IncidentState, PlanState, RunState, StepState, memory_key

US = 1_000_000
DEFAULT_LADDER: tuple[tuple[str, ...], ...] = (("reset_memory",), ("restart_agent",), ("reset_agent",), ("replace_agent",))
"""For illnesses without a name: from what disturbs least to what disturbs most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One healing action. One file in `immune/actions/` each.

    tier          how much it disturbs, 1 (hardly) to 4 (a new agent)
    reversible    whether `compensation` brings back what was before
    compensation  the action that undoes it, in words for people; empty when nothing does
    timeout_s     an answer later than this is no answer: the outcome is unknown
    """

    name: str
    tier: int
    reversible: bool
    compensation: str
    timeout_s: float
    summary: str

    def note(self) -> acts.StepNote:
        """The action as a step of a plan."""
        return acts.StepNote(
            action=self.name,
            tier=self.tier,
            reversible=self.reversible,
            compensation=self.compensation,
            timeout_s=self.timeout_s,
            summary=self.summary,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What is to be tried next, and what was left out on the way, with reasons. No steps: the ladder is used up."""

    number: int
    steps: tuple[acts.StepNote, ...]
    skipped: tuple[tuple[str, str], ...]
    later: bool = False
    """Something was left out only for now, because of the rate limit."""
    nobody: str = ""
    """The first action that would be due and that no connector can carry out: a person's task once nothing else is left."""


def signature_of(incident: IncidentState) -> str:
    """What an illness looks like, for memory: its diagnosis and its strongest vitals with direction."""
    vitals = sorted(f"{note.vital}:{note.direction}" for note in incident.evidence[:2])
    return f"{incident.top_kind}[{','.join(vitals)}]"


def ladder_for(kind: str, catalogue: Sequence[Infection]) -> tuple[tuple[str, ...], ...]:
    """The ladder of a kind; the default one for `unknown`."""
    return next((infection.ladder for infection in catalogue if infection.kind == kind and infection.ladder), DEFAULT_LADDER)


def next_rung(
    state: RunState,
    incident: IncidentState,
    catalogue: Sequence[Infection],
    actions: Mapping[str, Action],
    policy: HealingPolicy,
    now_us: int,
    can: Callable[[str, str], bool] = lambda agent_id, action: True,
) -> Rung:
    """The next rung for an incident: after those tried already, without what memory or the rate limit keeps out.

    What worked for the same signature goes first among the rungs that are left; what failed is left out.
    """
    agent_id = incident.agents[0]
    signature = signature_of(incident)
    tried = _tried(state, incident, agent_id, policy, now_us)
    skipped: list[tuple[str, str]] = []
    left: list[tuple[int, tuple[str, ...]]] = []
    later, nobody = False, ""
    for rung in ladder_for(incident.top_kind, catalogue):
        reason = _reason_to_skip(state, rung, tried, signature, agent_id, actions, policy)
        unable = next((name for name in rung if not can(agent_id, name)), "")
        busy = next((name for name in rung if starts_within(state, name, now_us - round(policy.action_window_s * US)) >= policy.action_starts), "")
        if reason:
            skipped.append(("+".join(rung), reason))
        elif unable:
            nobody = nobody or unable
            skipped.append(("+".join(rung), f"no connector can {unable} {agent_id}"))
        elif busy:
            later = True
            skipped.append(("+".join(rung), f"{busy} was started {policy.action_starts} times within {policy.action_window_s:g} s"))
        else:
            left.append((-_worked(state, signature, rung), rung))
    if not left:
        return Rung(number=len(tried), steps=(), skipped=tuple(skipped), later=later, nobody=nobody)
    best = min(left, key=lambda pair: pair[0])[1]
    return Rung(number=len(tried), steps=tuple(actions[name].note() for name in best), skipped=tuple(skipped))


def _tried(state: RunState, incident: IncidentState, agent_id: str, policy: HealingPolicy, now_us: int) -> list[tuple[str, ...]]:
    """Rungs tried on this agent for this incident, or for the same illness within the relapse window."""
    since_us = now_us - round(policy.relapse_window_s * US)
    return [
        tuple(step.note.action for step in plan.steps)
        for plan in state.plans.values()
        if plan.agent_id == agent_id
        and plan.started_at_us
        and (plan.incident_id == incident.incident_id or (plan.diagnosis == incident.top_kind and plan.started_at_us >= since_us))
    ]


def _reason_to_skip(
    state: RunState,
    rung: tuple[str, ...],
    tried: Sequence[tuple[str, ...]],
    signature: str,
    agent_id: str,
    actions: Mapping[str, Action],
    policy: HealingPolicy,
) -> str:
    if rung in tried:
        return "tried on this agent for this illness already"
    for name in rung:
        if name not in actions:
            return f"{name} is not an action that the policy allows"
        known = state.memory.get(memory_key(signature, name), Experience())
        if known.failed >= policy.memory_failures and known.worked == 0:
            return f"{name} failed {known.failed} times for {signature} and never worked"
        if state.failed_here.get(memory_key(signature, name, agent_id), 0):
            return f"{name} failed on this agent for {signature} before"
    return ""


def _worked(state: RunState, signature: str, rung: Sequence[str]) -> int:
    return min(state.memory.get(memory_key(signature, name), Experience()).worked for name in rung)


def starts_within(state: RunState, action: str, since_us: int) -> int:
    """How often an action was started since then."""
    return sum(step.note.action == action and step.started_at_us >= max(1, since_us) for plan in state.plans.values() for step in plan.steps)


def plan_hash(run_id: str, agent_id: str, incident_id: str, rung: Rung, diagnosis: str, policy_version: str) -> str:
    """SHA-256 over everything a person approves: run, agent, incident, diagnosis, every step with its parameters, policy."""
    content = (run_id, agent_id, incident_id, diagnosis, policy_version, str(rung.number), rung.steps)
    return hashlib.sha256(codec.encode(content)).hexdigest()


def step_key(run_id: str, plan_id: str, step: int, *, undo: bool = False) -> str:
    """The idempotency key of a step: the same on every retry, another one for undoing it."""
    return f"{run_id}/{plan_id}/{step}/{'undo' if undo else 'do'}"


def next_step(plan: PlanState) -> int | None:
    """The first step that has not been started; None when all have."""
    return next((n for n, step in enumerate(plan.steps) if step.status == "pending"), None)


def went_wrong(plan: PlanState) -> str:
    """Why the plan cannot go on, or an empty string."""
    for step in plan.steps:
        if step.status in ("failed", "unknown", "unsupported"):
            return f"{step.note.action} {step.status}" + (f": {step.detail}" if step.detail else "")
    return ""


def running(plan: PlanState) -> bool:
    """Whether a step, or the undoing of one, is under way."""
    return any(step.status in ("running", "compensating") for step in plan.steps)


def to_undo(plan: PlanState) -> list[int]:
    """Steps that took or may have taken effect and can be undone, in reverse order of completion."""
    effective = [(step.finished_nth, n) for n, step in enumerate(plan.steps) if _took_effect(step) and step.note.reversible]
    return [n for _, n in sorted(effective, reverse=True)]


def _took_effect(step: StepState) -> bool:
    # a step that failed says it did nothing; one of unknown outcome may have done anything
    return step.status in ("succeeded", "unknown")


def lasting(plan: PlanState) -> tuple[str, ...]:
    """Actions that took effect and cannot be undone."""
    return tuple(step.note.action for step in plan.steps if _took_effect(step) and not step.note.reversible)


def undo_failed(plan: PlanState) -> tuple[str, ...]:
    """Actions whose undoing failed."""
    return tuple(step.note.action for step in plan.steps if step.status == "uncompensated")
