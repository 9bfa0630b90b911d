"""Every queue, cache and map of an engine that outsiders could fill: how full it is, where it ends, what was lost for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from immune.core.forgetting import ROOM, SLACK
from immune.core.state import ANSWERS_KEPT
from immune.ports import Bound, Bounded

if TYPE_CHECKING:
    from immune.runtime.engine import Engine

PENDING_MAX = 1000
"""Notes about the daemon itself that wait for a journal that takes nothing."""


OPEN_PER_AGENT = 20
"""Generously: an agent has one open incident, at most a plan for every rung of its ladder and a request for each."""


def bounds_of(engine: Engine) -> Sequence[Bound]:
    """All of them, by name; the test of bounds walks this list."""
    return sorted((*_at_the_desk(engine), *_on_the_way(engine), *_in_the_state(engine), *_beside(engine)), key=lambda one: one.name)


def _at_the_desk(engine: Engine) -> Iterable[Bound]:
    roster, lexicon, cells = engine.desk.roster, engine.desk.lexicon, engine.sentinel.cells
    yield Bound(name="roster.agents", size=len(roster), limit=roster.limit, lost=roster.refused)
    yield Bound(name="roster.types", size=len(roster.types), limit=roster.types.limit, lost=roster.types.refused)
    yield Bound(name="roster.services", size=len(roster.services), limit=roster.services.limit, lost=roster.services.refused)
    yield Bound(name="lexicon.words", size=len(lexicon), limit=lexicon.limit, lost=lexicon.refused)
    yield Bound(name="sentinel.curves", size=cells.curves.size, limit=cells.limit, lost=cells.evicted + cells.refused)


def _on_the_way(engine: Engine) -> Iterable[Bound]:
    queue, limits, agents = engine.queue, engine.rules.policy.limits, len(engine.desk.roster)
    yield Bound(name="telemetry.queue_ticks", size=queue.waiting_ticks, limit=queue.limit_ticks, lost=queue.account().dropped)
    yield Bound(name="engine.notes", size=engine.notes_waiting, limit=PENDING_MAX, lost=engine.counters.notes_dropped)
    yield Bound(name="mirror.probations", size=len(engine.mirror.probation_samples), limit=max(1, agents))
    yield Bound(name="mirror.cohorts", size=len(engine.mirror.cohort_present_us), limit=limits.max_agents)
    if engine.executor is not None:
        yield from engine.executor.bounds(max(1, agents))


def _in_the_state(engine: Engine) -> Iterable[Bound]:
    """What is open is bounded by the fleet; ended things are let go of when the run has a limit for them (0: it keeps them all)."""
    state, agents = engine.state, len(engine.desk.roster)
    yield Bound(name="state.answers", size=len(state.answers), limit=ANSWERS_KEPT)
    for kind in ("incidents", "plans", "approvals", "containments", "tasks"):
        limit = state.keep and state.keep + SLACK + OPEN_PER_AGENT * agents
        yield Bound(name=f"state.{kind}", size=len(getattr(state, kind)), limit=limit, lost=state.forgotten.get(kind, 0))
    for kind in ("memory", "failed_here"):
        yield Bound(name=f"state.{kind}", size=len(getattr(state, kind)), limit=ROOM * state.keep, lost=state.forgotten.get(kind, 0))


def _beside(engine: Engine) -> Iterable[Bound]:
    for one in (*engine.sources, *(engine.executor.connectors if engine.executor is not None else ()), engine.telemetry):
        if isinstance(one, Bounded):
            yield from one.bounds()
