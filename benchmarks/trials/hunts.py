"""Faults in otherwise healthy fleets: how many are found, after how many samples, and what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from workloads import DAY_S, LATENCY, START_US, STRONG, Fault, Fleet, strong_fault, struck

from immune.core.diagnosis import differential
from immune.core.evidence import Finding
from immune.core.intake import Intake
from immune.infections import CATALOGUE
from trials.rivals import RiverRules, SimpleRules
from trials.watching import SCHEMA, US, blamed, sentinel_over

SOON = 180
"""Samples within which a strong fault must be known."""
OTHER_KINDS = ("confidence_collapse", "prompt_injection", "frozen")


def strong(seed: int, history: int, shape: str = "deploys", *, beside: bool = False, river: bool = False) -> dict[str, Any]:
    """One fault of each strong kind in a fleet of 24, `history` samples after the first."""
    rng = np.random.default_rng([seed, history])
    fleet = Fleet(shape, 24, seed)
    agents = rng.permutation(24)[: len(STRONG)]
    faults = [strong_fault(kind, int(agent), history + int(rng.integers(0, 20)), rng) for kind, agent in zip(STRONG, agents, strict=True)]
    return hunt(fleet, faults, dict.fromkeys(STRONG, SOON), beside=beside, river=river)


def from_birth(seed: int, joins: int) -> dict[str, Any]:
    """Agents that join at second `joins` and are sick from their first sample on, among 46 healthy ones of the same types.

    No row of the table; are they caught against their type?
    """
    rng = np.random.default_rng([seed, 13])
    fleet = Fleet("lognormal", 48, seed)
    agents = rng.permutation(48)[:2]
    faults = [
        Fault(kind="token_explosion", agent=int(agents[0]), start=joins, size=8.0),
        Fault(kind="error_burst", agent=int(agents[1]), start=joins, size=1.5),
    ]
    return hunt(fleet, faults, {"token_explosion": 600, "error_burst": 600}, joins=joins)


def other_kinds(seed: int) -> dict[str, Any]:
    """Collapsed confidence, symptoms of a prompt injection, an agent that repeats itself: no row of the table, part of the diagnosis."""
    rng = np.random.default_rng([seed, 11])
    agents = rng.permutation(24)[: len(OTHER_KINDS)]
    faults = [strong_fault(kind, int(agent), 900 + int(rng.integers(0, 20)), rng) for kind, agent in zip(OTHER_KINDS, agents, strict=True)]
    return hunt(Fleet("diurnal", 24, seed), faults, dict.fromkeys(OTHER_KINDS, SOON))


def slow(seed: int, *, beside: bool = False) -> dict[str, Any]:
    """Leak x2 and cost creep x2 in ten minutes, drift x1.6 at noise .6: caught until ten minutes after their full size."""
    rng = np.random.default_rng([seed, 5])
    agents = rng.permutation(12)[:3]
    fleet = Fleet("diurnal", 12, seed, noise=(0.25, 0.6))
    fleet.noise[agents[2]] = 0.6
    faults = [
        Fault(kind="context_leak", agent=int(agents[0]), start=900, size=2.0, ramp_s=600),
        Fault(kind="cost_creep", agent=int(agents[1]), start=900, size=2.0, ramp_s=600),
        Fault(kind="prompt_drift", agent=int(agents[2]), start=900, size=1.6, ramp_s=300),
    ]
    return hunt(fleet, faults, {fault.kind: fault.ramp_s + 600 for fault in faults}, beside=beside)


def slow_in_tasks(seed: int, *, beside: bool = False) -> dict[str, Any]:
    """A leak and a drift in agents whose context grows within tasks anyway."""
    rng = np.random.default_rng([seed, 6])
    agents = rng.permutation(12)[:2]
    faults = [
        Fault(kind="context_leak", agent=int(agents[0]), start=900, size=2.0, ramp_s=600),
        Fault(kind="prompt_drift", agent=int(agents[1]), start=900, size=1.6, ramp_s=300),
    ]
    return hunt(Fleet("tasks", 12, seed), faults, {fault.kind: fault.ramp_s + 600 for fault in faults}, beside=beside)


def drift_over_tasks(seed: int, history: int, *, beside: bool = False) -> dict[str, Any]:
    """Output x1.3 at lognormal .8 in an agent with tasks, `history` samples (14 a task) after the first: found within the next 30 tasks?"""
    fleet = Fleet("tasks", 12, seed, noise=(0.8, 0.8))
    fault = Fault(kind="prompt_drift", agent=seed % 12, start=history, size=1.3)
    return hunt(fleet, [fault], {"prompt_drift": 30 * 14}, tasks_after=30, beside=beside)


def boiling(seed: int, step: float, *, beside: bool = False) -> dict[str, Any]:
    """A little more every ten samples: caught before it has doubled?"""
    before_double = 10 * int(np.log(2) / np.log(step))
    faults = [
        Fault(kind="boiling_latency", agent=1, start=900, size=step),
        Fault(kind="boiling_output", agent=7, start=900, size=step),
    ]
    limits = {fault.kind: before_double for fault in faults}
    return hunt(Fleet("diurnal", 12, seed, noise=(0.25, 0.25)), faults, limits, beside=beside)


def of_size(seed: int, factor: float) -> dict[str, Any]:
    """Latency times a factor in four agents of 24, noise .25 to .6: delay against size."""
    rng = np.random.default_rng([seed, 12])
    agents = rng.permutation(24)[:4]
    faults = [Fault(kind="latency_spike", agent=int(agent), start=900 + 200 * index, size=factor) for index, agent in enumerate(agents)]
    return {"factor": factor, **hunt(Fleet("diurnal", 24, seed), faults, {"latency_spike": 600}, beside=True)}


def bad_values(seed: int) -> dict[str, Any]:
    """Delays with one NaN, one inf and one 1e30 before the faults; without them; and with these samples simply missing."""
    rng = np.random.default_rng([seed, 8])
    faults = [strong_fault("latency_spike", 0, 400, rng), strong_fault("token_explosion", 5, 410, rng)]
    limits = {fault.kind: 110 for fault in faults}
    clean = hunt(Fleet("deploys", 12, seed), faults, limits, bad={10_000: 0.0})
    dirty = hunt(Fleet("deploys", 12, seed), faults, limits, bad={200: np.nan, 250: np.inf, 300: 1e30})
    missing = hunt(Fleet("deploys", 12, seed), faults, limits, bad={200: np.nan, 250: None, 300: None})

    def changes(other: dict[str, Any]) -> list[int]:
        return [abs((a or 10_000) - (b or 10_000)) for (_, a), (_, b) in zip(other["delays"], dirty["delays"], strict=True)]

    return {"changes": changes(clean), "beyond_missing": changes(missing)}


def sustained(seed: int) -> dict[str, Any]:
    """Faults that last an hour, all kinds that send samples: still an alarm in the last minute?"""
    rng = np.random.default_rng([seed, 10])
    fleet = Fleet("diurnal", 24, seed)
    faults = [strong_fault(kind, 3 * index, 900, rng) for index, kind in enumerate(STRONG)]
    sentinel = sentinel_over(fleet.roster, fleet.lexicon)
    last: set[int] = set()
    for t, batch in struck(fleet, faults, 900 + 3600):
        found = {finding.agent for finding in blamed(sentinel.observe(batch, START_US + t * US))}
        if t >= 900 + 3540:
            last |= found
    return {"faults": len(faults), "held": len(last & {fault.agent for fault in faults})}


def hunt(
    fleet: Fleet,
    faults: list[Fault],
    limits: dict[str, int],
    *,
    bad: Mapping[int, float | None] | None = None,
    beside: bool = False,
    river: bool = False,
    tasks_after: int = 0,
    joins: int = 0,
) -> dict[str, Any]:
    """Delays in samples of each fault (None: not within its limit), what it was called, who else was blamed, and the rivals' delays.

    limits: samples by kind · beside: the simple rules watch too, with `river` river's as well · bad: latencies of agent 0 by tick, before the intake
    (None: no sample) · tasks_after: the limit is so many tasks instead · joins: the sick send nothing before this second.
    """
    sentinel = sentinel_over(fleet.roster, fleet.lexicon)
    intake = Intake(fleet.roster, SCHEMA, max_skew_us=US)
    rivals: list[SimpleRules | RiverRules] = []
    if beside:
        rivals += [SimpleRules(fleet.n), *([RiverRules(fleet.n)] if river else [])]
    theirs: dict[str, dict[int, int]] = {name: {} for rules in rivals for name in rules.names}
    sick = {fault.agent: fault for fault in faults}
    delay: dict[int, int] = {}
    named: list[dict[str, Any]] = []
    wrongly: set[int] = set()
    tasks, enough = Counter[int](), dict[int, int]()
    ticks = max(fault.start + (4 * limits[fault.kind] if tasks_after else limits[fault.kind]) for fault in faults)
    for t, sound in struck(fleet, faults, ticks):
        batch, now_us = sound if t >= joins else sound.take(~np.isin(sound.agent, list(sick))), START_US + t * US
        if bad is not None:
            value = bad.get(t, 0.0)
            if value is None:
                batch = batch.take(batch.agent > 0)
            elif t in bad:
                batch.values[0, LATENCY] = value
            batch = intake.screen(batch, now_us).batch
        for finding in blamed(found := sentinel.observe(batch, now_us)):
            fault = sick.get(finding.agent)
            if fault is None or t < fault.start:
                wrongly.add(finding.agent)
            elif finding.agent not in delay:
                delay[finding.agent] = t - fault.start + 1
                named.append(_named(finding, fault.kind, now_us, found.threshold_nats))
        for rules in rivals:
            for name, alarms in zip(rules.names, rules.see(batch), strict=True):
                for agent, fault in sick.items():
                    if t >= fault.start and alarms[agent]:
                        theirs[name].setdefault(agent, t - fault.start + 1)
        if tasks_after:
            ended = [agent for agent, fault in sick.items() if t >= fault.start and fleet.ends[agent]]
            tasks.update(ended)
            enough |= {agent: t + 1 - sick[agent].start for agent in ended if tasks[agent] == tasks_after}
            if len(enough) == len(sick):
                break
    within = {agent: enough.get(agent, ticks) if tasks_after else limits[fault.kind] for agent, fault in sick.items()}
    return {
        "delays": [(fault.kind, _in_time(delay.get(fault.agent), within[fault.agent])) for fault in faults],
        "sizes": [(round(fault.size, 2), round(float(fleet.noise[fault.agent, 0]), 2)) for fault in faults],
        "named": named,
        "wrongly": len(wrongly),
        "healthy_days": (fleet.n - len(faults)) * ticks / DAY_S,
        "rivals": {name: [_in_time(first.get(fault.agent), within[fault.agent]) for fault in faults] for name, first in theirs.items()},
    }


def _in_time(delay: int | None, limit: int) -> int | None:
    return delay if delay is not None and delay <= limit else None


def _named(finding: Finding, kind: str, now_us: int, threshold_nats: float) -> dict[str, Any]:
    """The differential at the alarm: top confidence, whether right, and the rank of the true kind (0: not in the list)."""
    told = differential(finding, CATALOGUE, now_us=now_us, threshold_nats=threshold_nats)
    kinds = [hypothesis.kind for hypothesis in told.hypotheses]
    rank = kinds.index(kind) + 1 if kind in kinds else 0
    return {"kind": kind, "told": kinds[0], "confidence": told.hypotheses[0].confidence, "right": rank == 1, "rank": rank}
