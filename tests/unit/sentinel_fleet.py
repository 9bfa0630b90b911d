"""A small fleet for the tests of the sentinel: independent lognormal vitals, whole numbers where they belong."""

from __future__ import annotations

import copy
import functools

import numpy as np

from immune.core.evidence import Assessment
from immune.core.policy import DetectionPolicy
from immune.core.sentinel.watch import Sentinel
from immune.core.vitals import AgentIdentity, Lexicon, Roster, SampleBatch, Status, VitalSchema

SCHEMA = VitalSchema()
LATENCY, INPUT, OUTPUT, COST, TOOLS, RETRIES, ERRORS, CONTEXT, CONFIDENCE = range(len(SCHEMA))
START_US = 1_767_225_600_000_000
US = 1_000_000


class Watch:
    """A roster, a sentinel over it, and healthy vitals by seed."""

    def __init__(self, agents: int, *, seed: int = 1, budget: float = 0.001, enrolled: int | None = None, types: int = 1) -> None:
        self.agents, self.rng, self.types = agents, np.random.default_rng(seed), types
        self.roster, self.lexicon = Roster(), Lexicon()
        for index in range(agents if enrolled is None else enrolled):
            self.enroll(index)
        policy = DetectionPolicy(false_alarms_per_agent_day=budget)
        self.sentinel = Sentinel(roster=self.roster, lexicon=self.lexicon, schema=SCHEMA, policy=policy, period_us=US, seed=5)
        self.usual = np.exp(np.random.default_rng(99).normal(0, 0.3, (agents, 4)))

    def enroll(self, index: int) -> None:
        self.roster.enroll(AgentIdentity(agent_id=f"a{index}", type=f"kind{index % self.types}", service="shop"))

    def healthy(self) -> np.ndarray:
        n, rng, usual = self.agents, self.rng, self.usual
        noise = np.exp(0.4 * rng.normal(size=(n, 4)))
        values = np.empty((n, len(SCHEMA)))
        values[:, LATENCY] = 900 * usual[:, 0] * noise[:, 0]
        values[:, INPUT] = np.rint(1500 * usual[:, 1] * noise[:, 1])
        values[:, OUTPUT] = np.rint(300 * usual[:, 2] * noise[:, 2])
        values[:, COST] = 3e-6 * values[:, INPUT] + 12e-6 * values[:, OUTPUT]
        values[:, TOOLS], values[:, RETRIES], values[:, ERRORS] = rng.poisson(1.0, n), rng.poisson(0.08, n), rng.poisson(0.02, n)
        values[:, CONTEXT] = np.rint(4000 * usual[:, 3] * noise[:, 3])
        values[:, CONFIDENCE] = rng.beta(16, 4, n)
        return values

    def run(self, first: int, last: int, change=None, sentinel: Sentinel | None = None) -> list[Assessment]:  # type: ignore[no-untyped-def]
        """Ticks ``first … last - 1``; `change(tick, values)` alters the vitals in place."""
        watched = sentinel or self.sentinel
        assessments = []
        for tick in range(first, last):
            values = self.healthy()
            if change is not None:
                change(tick, values)
            assessments.append(watched.observe(batch(tick, values), at(tick)))
        return assessments


@functools.cache
def _warmed(agents: int, ticks: int, seed: int, types: int) -> Watch:
    watch = Watch(agents, seed=seed, types=types)
    watch.run(0, ticks)
    return watch


def learned(agents: int = 8, ticks: int = 200, *, seed: int = 3, types: int = 1) -> Watch:
    """A copy of its own of a fleet that has sent healthy vitals for ticks ``0 … ticks - 1``; the warm-up is run once a session."""
    return copy.deepcopy(_warmed(agents, ticks, seed, types))


def at(tick: int) -> int:
    return START_US + tick * US


def batch(tick: int, values: np.ndarray, agents: np.ndarray | None = None) -> SampleBatch:
    """One sample of each agent at a tick."""
    made = SampleBatch.blank(len(values))
    made.agent[:] = np.arange(len(values)) if agents is None else agents
    made.at_us[:] = at(tick)
    made.values[:] = values
    made.status[:] = Status.WORKING
    return made


def alarms(assessments: list[Assessment]) -> set[int]:
    """Agents that were an alarm of their own in any of these."""
    return {finding.agent for a in assessments for finding in a.findings if finding.alarm and not finding.explained_by}
