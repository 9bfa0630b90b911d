"""What a long run lets go of: ended things beyond the newest so many. The journal has them all.

A daemon that lives for months must not grow with its history, so its state keeps everything that is open, everything that
open things refer to, and the newest ended ones. Whoever reads a whole run folds it with ``RunState(keep=0)``, which keeps all.
Which things go depends on the events alone, so every fold of the same events forgets the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, TypeVar

from immune.core import acts
from immune.core import events as ev
from immune.core.events import Event
from immune.core.state import StateDraft

T = TypeVar("T")

SLACK = 32
"""Forgetting looks at what there is, so it is done for this many at a time."""
ROOM = 4
"""Experience is small, and worth more than a past incident: this many times as much of it is kept. Of cures of late, too."""
CURES_KEPT_US = 3_600_000_000
"""A cure is kept for an hour, four times the usual window in which a relapse takes it back, however many came after it."""


def forget_ended(draft: StateDraft, now_us: int) -> None:
    """Let go of the oldest ended things of every kind that has too many. To be called after each event of `GROWING`."""
    keep = draft.base.keep
    if keep and _too_many(draft, keep):
        needed = _Needed(draft, now_us)
        _trim(draft, "plans", draft.plans, needed.plan, keep)
        _trim(draft, "plans", draft.plans, needed.open_plan, ROOM * keep)
        _trim(draft, "approvals", draft.approvals, needed.approval, keep)
        _trim(draft, "containments", draft.containments, lambda one: one.active, keep)
        _trim(draft, "tasks", draft.tasks, lambda one: one.task_id in draft.open_tasks, keep)
        _trim(draft, "incidents", draft.incidents, needed.incident, keep)
        _trim_first_come(draft, "memory", draft.memory, ROOM * keep)
        _trim_first_come(draft, "failed_here", draft.failed_here, ROOM * keep)


def _too_many(draft: StateDraft, keep: int) -> bool:
    """Whether anything is beyond its bound: asked after every growing event, and hardly ever so."""
    most = keep + SLACK
    return (
        len(draft.plans) > most
        or len(draft.approvals) > most
        or len(draft.containments) > most
        or len(draft.tasks) > most
        or len(draft.incidents) > most
        or len(draft.memory) > ROOM * keep
        or len(draft.failed_here) > ROOM * keep
    )


class _Needed:
    """What open things refer to, worked out once it is asked for."""

    def __init__(self, draft: StateDraft, now_us: int) -> None:
        self.draft, self.cured_since_us = draft, now_us - CURES_KEPT_US
        self._incidents: set[str] | None = None

    def plan(self, plan: Any) -> bool:
        """Open, or tried for an incident that is open: what was tried is not tried again. Or a cure of late, which a relapse would take back."""
        return (plan.outcome == "succeeded" and plan.started_at_us >= self.cured_since_us) or self.open_plan(plan)

    def open_plan(self, plan: Any) -> bool:
        """The same without the cures: where there are too many of them, the oldest go."""
        return plan.plan_id in self.draft.open_plans or plan.incident_id in self.draft.open_incidents

    def approval(self, request: Any) -> bool:
        """Open, or about an open incident: a person's no to it still counts."""
        return request.request_id in self.draft.open_approvals or request.incident_id in self.draft.open_incidents

    def incident(self, incident: Any) -> bool:
        """Open, or the ground of something that is still in force."""
        if self._incidents is None:
            draft = self.draft
            held = {draft.containments[one].incident_id for one in draft.active_containments}
            planned = {draft.plans[one].incident_id for one in draft.open_plans}
            asked = {draft.approvals[one].incident_id for one in draft.open_approvals}
            self._incidents = held | planned | asked
        return incident.open or incident.incident_id in self._incidents


def _trim(draft: StateDraft, name: str, items: dict[str, T], needed: Callable[[Any], bool], keep: int) -> None:
    """The oldest come first: a change leaves a thing at its place among the others, a snapshot too."""
    if len(items) <= keep + SLACK:
        return
    gone = list(islice((key for key, one in items.items() if not needed(one)), len(items) - keep))
    for key in gone:
        del items[key]
    _count(draft, name, len(gone))


def _trim_first_come(draft: StateDraft, name: str, items: dict[str, T], keep: int) -> None:
    gone = len(items) - keep
    if gone <= 0:
        return
    for key in list(islice(items, gone)):
        del items[key]
    _count(draft, name, gone)


def _count(draft: StateDraft, name: str, gone: int) -> None:
    if gone:
        known: Mapping[str, int] = draft.scalar("forgotten")
        draft.changes["forgotten"] = {**known, name: known.get(name, 0) + gone}


GROWING: frozenset[type[Event]] = frozenset(
    {
        ev.IncidentOpened,
        acts.Contained,
        acts.PlanProposed,
        acts.ApprovalRequested,
        acts.TaskAssigned,
        acts.ProbationEnded,
        acts.Relapsed,
        acts.MemoryInherited,
    }
)
"""Events after which there may be more of something than before."""
