"""The folded facts again, as arrays over agents, so that a tick looks only where something differs.

A mirror is made from a state and kept up by the same events; beside the facts it remembers what only measurements
tell: since when an agent is idle, when its symptoms were last present. Those are judged anew after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from immune.core.events import Health, Liveness
from immune.core.evidence import Assessment
from immune.core.state import AgentState, RunState

Code = TypeVar("Code", bound=np.generic)
HEALTHS: tuple[Health, ...] = ("learning", "healthy", "suspected", "sick")
LIVENESSES: tuple[Liveness, ...] = ("working", "idle", "silent", "retired")
HEALTH_CODES = {word: code for code, word in enumerate(HEALTHS)}
LIVENESS_CODES = {word: code for code, word in enumerate(LIVENESSES)}


class Mirror:
    """Arrays over agents in roster order: ``health``, ``liveness`` (codes), ``idle_since_us``, ``present_us`` (0: never).

    deviating          agents whose desired and observed containment differ
    samples, spoke     samples scored of each agent so far, and whether the newest tick brought any
    watched            agents that are, or ought to be, contained
    retried_us         when enforcement was last tried again on them
    order_errors       what came back of the last order to an agent that failed; kept by whoever gives the orders
    probation_samples  plan id -> samples its agent had when the probation began (or the daemon restarted)
    """

    def __init__(self) -> None:
        self.agents: list[str] = []
        self.health = np.zeros(0, dtype=np.int8)
        self.liveness = np.zeros(0, dtype=np.int8)
        self.idle_since_us = np.zeros(0, dtype=np.int64)
        self.present_us = np.zeros(0, dtype=np.int64)
        self.samples = np.zeros(0, dtype=np.int64)
        self.spoke = np.zeros(0, dtype=np.bool_)
        self._primed = False
        self.cohort_present_us: dict[str, int] = {}
        self.deviating: set[str] = set()
        self.watched: set[str] = set()
        self.retried_us: dict[str, int] = {}
        self.order_errors: Mapping[str, str] = {}
        self.probation_samples: dict[str, int] = {}

    def sync(self, state: RunState, agent_ids: Iterable[str]) -> None:
        """Take over the facts of these agents from a state."""
        for agent_id in agent_ids:
            agent = state.agents.get(agent_id)
            if agent is not None:
                self._take(agent)

    def _take(self, agent: AgentState) -> None:
        self._grow(agent.index + 1)
        self.agents[agent.index] = agent.agent_id
        self.health[agent.index] = HEALTH_CODES[agent.health]
        self.liveness[agent.index] = LIVENESS_CODES[agent.liveness]
        if agent.desired != "none" or agent.observed != "none":
            self.watched.add(agent.agent_id)
        else:
            self.watched.discard(agent.agent_id)
        if agent.desired != agent.observed:
            self.deviating.add(agent.agent_id)
        else:
            self.deviating.discard(agent.agent_id)
            self.retried_us.pop(agent.agent_id, None)

    def forget_ended(self, state: RunState) -> None:
        """Let go of what is only needed while a plan or a shared cause is open."""
        open_plans = set(state.open_plans)
        open_keys = {state.incidents[one].cohort_key for one in state.open_incidents}
        self.probation_samples = {plan_id: seen for plan_id, seen in self.probation_samples.items() if plan_id in open_plans}
        self.cohort_present_us = {key: at_us for key, at_us in self.cohort_present_us.items() if key in open_keys}

    def _grow(self, size: int) -> None:
        self.agents.extend([""] * (size - len(self.agents)))
        if size <= len(self.health):
            return
        room = max(size, 2 * len(self.health), 64)
        self.health = _resized(self.health, room)
        self.liveness = _resized(self.liveness, room)
        self.idle_since_us = _resized(self.idle_since_us, room)
        self.present_us = _resized(self.present_us, room)
        self.samples = _resized(self.samples, room)
        self.spoke = _resized(self.spoke, room)

    def saw(self, assessment: Assessment) -> None:
        """Remember what the newest assessment shows of presence and idleness."""
        idle = assessment.idle
        self._grow(len(idle))
        since = self.idle_since_us[: len(idle)]
        since[~idle] = 0
        since[idle & (since == 0)] = assessment.now_us
        known = self.samples[: len(idle)]
        if not self._primed:
            # what was learned before a restart is no sample of this tick
            known[:] = assessment.samples
            self._primed = True
        self.spoke[: len(idle)] = assessment.samples > known
        known[:] = assessment.samples
        for finding in assessment.findings:
            if finding.present:
                self.present_us[finding.agent] = assessment.now_us
        for cohort in assessment.cohorts:
            if cohort.present:
                self.cohort_present_us[cohort.key] = assessment.now_us


def _resized(values: NDArray[Code], room: int) -> NDArray[Code]:
    grown = np.zeros(room, dtype=values.dtype)
    grown[: len(values)] = values
    return grown
