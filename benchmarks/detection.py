"""The table of what the sentinel must show: false alarms, recall, delay, outages, run length, names, speed.

    python benchmarks/detection.py [--quick | --full] [--seed 1000] [--only NAME ...] [--data DIR] [--json]

Fleets and faults come from benchmarks/workloads.py. Three simple rules see the same samples: a 3-sigma point rule, an EWMA
z rule that learns before it checks, and a baseline frozen after 15 samples (and river's, where it is installed). A rate of 0
comes with its 95 % bound, 3 / agent-days; shares come with their Wilson interval. A false alarm is a crossing by a healthy agent
that no shared cause explains, also of one that crossed before (after ten quiet minutes).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from workloads import (
    DAY_S,
    LATENCY,
    START_US,
    STRONG,
    US,
    Fault,
    Fleet,
    azure,
    strong_fault,
    struck,
)

from immune.core.diagnosis import differential
from immune.core.evidence import Assessment
from immune.core.intake import Intake
from immune.core.policy import DetectionPolicy
from immune.core.sentinel.watch import Sentinel
from immune.core.vitals import Lexicon, Roster, SampleBatch, VitalSchema
from immune.infections import CATALOGUE

SCHEMA = VitalSchema()
QUIET_S = 600
"""A new crossing of the same agent counts after this long without one."""


def sentinel_over(roster: Roster, lexicon: Lexicon, budget: float = 0.001) -> Sentinel:
    """A sentinel as the product sets it up."""
    policy = DetectionPolicy(false_alarms_per_agent_day=budget)
    return Sentinel(roster=roster, lexicon=lexicon, schema=SCHEMA, policy=policy, period_us=US, seed=7)


def blamed(assessment: Assessment) -> set[int]:
    """Agents that would be quarantined."""
    return {finding.agent for finding in assessment.findings if finding.alarm and not finding.explained_by}


# --- simple rules on the same samples


class SimpleRules:
    """Three rules over every vital, agent by agent: which agents alarm at a tick, (rules, agents)."""

    names = ("3-sigma", "EWMA", "frozen 15")

    def __init__(self, agents: int) -> None:
        shape = (agents, len(SCHEMA))
        self.count = np.zeros((agents, 1))
        self.mean, self.square = np.zeros(shape), np.zeros(shape)
        self.slow, self.slow2, self.fast = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.first, self.first2 = np.zeros(shape), np.zeros(shape)

    def see(self, batch: SampleBatch) -> np.ndarray:
        """Score and learn, each in the order of the rule."""
        alarms = np.zeros((3, len(self.count)), dtype=bool)
        rows, x = batch.agent, np.nan_to_num(batch.values)
        n = self.count[rows]
        mean, square = self.mean[rows], self.square[rows]
        sd = np.sqrt(np.maximum(square / np.maximum(n - 1, 1), 1e-12))
        known = n[:, 0] >= 15
        alarms[0, rows] = known & (np.abs(x - mean) > 3 * sd).any(axis=1)
        step = x - mean
        self.mean[rows] = mean = mean + step / (n + 1)
        self.square[rows] = square + step * (x - mean)
        weight = np.maximum(2 / 51, 1 / (n + 1))
        slow, slow2 = self.slow[rows], self.slow2[rows]
        self.slow[rows] = slow = slow + weight * (x - slow)
        self.slow2[rows] = slow2 = slow2 + weight * (x * x - slow2)
        self.fast[rows] = fast = self.fast[rows] + np.maximum(1 / 3, 1 / (n + 1)) * (x - self.fast[rows])
        spread = np.sqrt(np.maximum(slow2 - slow * slow, 1e-12))
        alarms[1, rows] = known & (np.abs(fast - slow) > 3 * spread).any(axis=1)
        early = n < 15
        self.first[rows] += np.where(early, x, 0) / 15
        self.first2[rows] += np.where(early, x * x, 0) / 15
        first = self.first[rows]
        frozen = np.sqrt(np.maximum(self.first2[rows] - first * first, 1e-12))
        alarms[2, rows] = known & (np.abs(fast - first) > 3 * frozen).any(axis=1)
        self.count[rows] += 1
        return alarms


class Crossings:
    """Counts crossings: an agent that alarms after `QUIET_S` without."""

    def __init__(self, agents: int) -> None:
        self.last = np.full(agents, -QUIET_S - 1)
        self.total, self.agents = 0, set[int]()

    def see(self, t: int, alarms: np.ndarray) -> None:
        """Agents (indices) that alarm at t."""
        new = alarms[t - self.last[alarms] > QUIET_S]
        self.total += len(new)
        self.agents |= set(new.tolist())
        self.last[alarms] = t


# --- parts: each runs by itself in a process, returns counts


def quiet(shape: str, seed: int, agents: int, ticks: int, every_s: float = 1.0) -> dict[str, Any]:
    """A healthy fleet: whoever alarms is a false alarm."""
    fleet = Fleet(shape, agents, seed, every_s=every_s)
    sentinel, rules = sentinel_over(fleet.roster, fleet.lexicon), SimpleRules(agents)
    ours, theirs = Crossings(agents), [Crossings(agents) for _ in SimpleRules.names]
    samples, causes = 0, set()
    for t, batch in struck(fleet, [], ticks):
        found = sentinel.observe(batch, START_US + t * US)
        samples += len(batch)
        ours.see(t, np.array(sorted(blamed(found)), dtype=int))
        causes |= {cohort.key for cohort in found.cohorts}
        for rule, alarms in zip(theirs, rules.see(batch), strict=True):
            rule.see(t, np.flatnonzero(alarms))
    return {
        "days": agents * ticks / DAY_S,
        "samples": samples,
        "false": ours.total,
        "by": len(ours.agents),
        "causes": len(causes),
        **{f"false {name}": rule.total for name, rule in zip(SimpleRules.names, theirs, strict=True)},
    }


def _hunt(fleet: Fleet, faults: list[Fault], ticks: int, *, bad: dict[int, float] | None = None) -> dict[str, Any]:
    """Delays in samples of each fault (None: missed), what it was named, and the same for the simple rules."""
    sentinel, rules = sentinel_over(fleet.roster, fleet.lexicon), SimpleRules(fleet.n)
    intake = Intake(fleet.roster, SCHEMA, max_skew_us=US)
    by_agent = {fault.agent: fault for fault in faults}
    delay: dict[int, int] = {}
    named: list[tuple[float, bool]] = []
    theirs: list[dict[int, int]] = [{} for _ in SimpleRules.names]
    for t, sound in struck(fleet, faults, ticks):
        batch = sound
        if bad and t in bad:
            batch.values[0, LATENCY] = bad[t]
        if bad:
            batch = intake.screen(batch, START_US + t * US).batch
        found = sentinel.observe(batch, START_US + t * US)
        for finding in found.findings:
            fault = by_agent.get(finding.agent)
            if fault is None or not finding.alarm or finding.explained_by or t < fault.start or finding.agent in delay:
                continue
            delay[finding.agent] = t - fault.start + 1
            told = differential(finding, CATALOGUE, now_us=found.now_us, threshold_nats=found.threshold_nats).hypotheses[0]
            named.append((told.confidence, told.kind == fault.kind))
        if not bad:
            for first, alarms in zip(theirs, rules.see(batch), strict=True):
                for agent, fault in by_agent.items():
                    if t >= fault.start and alarms[agent]:
                        first.setdefault(agent, t - fault.start + 1)
    return {
        "delays": [(fault.kind, delay.get(fault.agent)) for fault in faults],
        "named": named,
        **{f"delays {name}": [first.get(f.agent) for f in faults] for name, first in zip(SimpleRules.names, theirs, strict=True)},
    }


def strong(seed: int, history: int, shape: str = "deploys") -> dict[str, Any]:
    """One fault of each strong kind in a fleet of 24, `history` samples after the first."""
    rng = np.random.default_rng([seed, history])
    fleet = Fleet(shape, 24, seed)
    agents = rng.permutation(24)[: len(STRONG)]
    faults = [strong_fault(kind, int(agent), history + int(rng.integers(0, 20)), rng) for kind, agent in zip(STRONG, agents, strict=True)]
    return _hunt(fleet, faults, min(history + 20 + 180, 1799))


def slow(seed: int) -> dict[str, Any]:
    """Leak x2 and cost creep x2 in ten minutes, drift x1.6: caught until ten minutes after their full size."""
    rng = np.random.default_rng([seed, 5])
    agents = rng.permutation(12)[:3]
    fleet = Fleet("diurnal", 12, seed, noise=(0.25, 0.6))
    fleet.noise[agents[2]] = 0.6
    faults = [
        Fault(kind="context_leak", agent=int(agents[0]), start=900, size=2.0, ramp_s=600),
        Fault(kind="cost_creep", agent=int(agents[1]), start=900, size=2.0, ramp_s=600),
        Fault(kind="prompt_drift", agent=int(agents[2]), start=900, size=1.6, ramp_s=300),
    ]
    return _hunt(fleet, faults, 900 + 1200)


def leak_in_tasks(seed: int) -> dict[str, Any]:
    """A leak and a drift in agents whose context grows within tasks anyway."""
    rng = np.random.default_rng([seed, 6])
    agents = rng.permutation(12)[:2]
    fleet = Fleet("tasks", 12, seed)
    faults = [
        Fault(kind="context_leak", agent=int(agents[0]), start=900, size=2.0, ramp_s=600),
        Fault(kind="prompt_drift", agent=int(agents[1]), start=900, size=1.6, ramp_s=300),
    ]
    return _hunt(fleet, faults, 900 + 1200)


def drift_over_tasks(seed: int) -> dict[str, Any]:
    """Output x1.3 at lognormal .8 in an agent with tasks: found within about 30 tasks."""
    fleet = Fleet("tasks", 12, seed, noise=(0.8, 0.8))
    return _hunt(fleet, [Fault(kind="prompt_drift", agent=seed % 12, start=1200, size=1.3)], 1200 + 30 * 14)


def boiling(seed: int, step: float) -> dict[str, Any]:
    """A little more every ten samples: caught before it has doubled?"""
    until = 900 + 10 * int(np.log(2) / np.log(step))
    faults = [
        Fault(kind="boiling_latency", agent=1, start=900, size=step),
        Fault(kind="boiling_output", agent=7, start=900, size=step),
    ]
    return _hunt(Fleet("diurnal", 12, seed, noise=(0.25, 0.25)), faults, until)


def bad_values(seed: int) -> dict[str, Any]:
    """The delays of a run with one NaN, one inf and one 1e30 before the faults, and of the same run without."""
    rng = np.random.default_rng([seed, 8])
    faults = [strong_fault("latency_spike", 0, 400, rng), strong_fault("token_explosion", 5, 410, rng)]
    clean = _hunt(Fleet("deploys", 12, seed), faults, 520, bad={10_000: 0.0})
    dirty = _hunt(Fleet("deploys", 12, seed), faults, 520, bad={200: np.nan, 250: np.inf, 300: 1e30})
    change = max(abs((a or 10_000) - (b or 10_000)) for (_, a), (_, b) in zip(clean["delays"], dirty["delays"], strict=True))
    return {"change": change}


def outage(seed: int, agents: int, share: float, over_s: int) -> dict[str, Any]:
    """Latency and errors of a share of the fleet, at once or one after the other."""
    rng = np.random.default_rng([seed, 9])
    fleet = Fleet("diurnal", agents, seed, services=8 if agents > 20 else 5)
    hit = rng.permutation(agents)[: round(share * agents)] if agents > 20 else np.arange(seed % 5, agents, 5)
    factor = rng.uniform(2.5, 5.0)
    faults = [Fault(kind="latency_spike", agent=int(a), start=900 + int(rng.uniform(0, over_s)), size=factor) for a in hit]
    faults += [Fault(kind="error_burst", agent=f.agent, start=f.start, size=0.4) for f in faults]
    sentinel = sentinel_over(fleet.roster, fleet.lexicon)
    known, before, after, bystanders, keys = None, set[int](), set[int](), set[int](), set[str]()
    held_after_known = 0
    for t, batch in struck(fleet, faults, 900 + over_s + 120):
        found = sentinel.observe(batch, START_US + t * US)
        if t < 900:
            continue
        now = blamed(found)
        bystanders |= now - set(hit.tolist())
        if found.cohorts and known is None:
            known = t - 900 + 1
        keys |= {cohort.key for cohort in found.cohorts}
        (before if known is None else after).update(now & set(hit.tolist()))
        if known is not None and t - 900 + 1 >= known + 10:
            held_after_known = max(held_after_known, len(now & set(hit.tolist())))
    return {
        "hit": len(hit),
        "known": known,
        "incidents": len(keys),
        "bystanders": len(bystanders),
        "blamed_before": len(before),
        "blamed_after": len(after - before),
        "still_blamed": held_after_known,
        "agents": agents,
    }


def sustained(seed: int) -> dict[str, Any]:
    """Faults that last an hour: still an alarm in the last minute?"""
    rng = np.random.default_rng([seed, 10])
    fleet = Fleet("diurnal", 12, seed)
    faults = [strong_fault(kind, 2 * index, 900, rng) for index, kind in enumerate(STRONG[:5])]
    sentinel = sentinel_over(fleet.roster, fleet.lexicon)
    last: set[int] = set()
    for t, batch in struck(fleet, faults, 900 + 3600):
        found = blamed(sentinel.observe(batch, START_US + t * US))
        if t >= 900 + 3540:
            last |= found
    return {"faults": len(faults), "held": len(last & {fault.agent for fault in faults})}


def run_length(seed: int, agents: int, ticks: int, budget: float) -> dict[str, Any]:
    """Exchangeable vitals and a budget that can be counted: agent-samples per first alarm, against the set ones."""
    fleet = Fleet("gaussian", agents, seed)
    sentinel = sentinel_over(fleet.roster, fleet.lexicon, budget)
    exposure, alarmed = 0, np.zeros(agents, dtype=bool)
    for t, batch in struck(fleet, [], ticks):
        found = sentinel.observe(batch, START_US + t * US)
        exposure += int((~alarmed).sum())
        alarmed |= found.nats >= sentinel.threshold_nats
    return {"exposure": exposure, "alarms": int(alarmed.sum()), "set": DAY_S / budget}


def real_traffic(path: str, agents: int) -> dict[str, Any]:
    """Alarms over a file of real requests."""
    roster, ticks = azure(Path(path), agents)
    sentinel = sentinel_over(roster, Lexicon())
    ours, last, vitals = Crossings(agents), 0, []
    for t, batch in ticks:
        found = sentinel.observe(batch, int(batch.at_us[-1]) if len(batch) else last + US)
        last = found.now_us
        now = blamed(found)
        before = ours.total
        ours.see(t, np.array(sorted(now), dtype=int))
        if ours.total > before:
            vitals += [finding.evidence[0].vital for finding in found.findings if finding.agent in now]
    return {"days": agents * t / DAY_S, "false": ours.total, "by": len(ours.agents), "on": sorted(set(vitals)), "file": Path(path).name}


def speed(agents: int, ticks: int, shape: str) -> dict[str, Any]:
    """CPU nanoseconds per vital sample, the faster half of the ticks, and bytes of state per agent."""
    fleet = Fleet(shape, agents, 3)
    sentinel = sentinel_over(fleet.roster, fleet.lexicon)
    batches = [batch for _, batch in struck(fleet, [], ticks)]
    spent = []
    for t, batch in enumerate(batches):
        began = time.process_time()
        sentinel.observe(batch, START_US + t * US)
        spent.append((time.process_time() - began) / (len(batch) * len(SCHEMA)) * 1e9)
    half = sorted(spent[ticks // 4 :])[: max(1, len(spent) * 3 // 8)]
    return {
        "ns": float(np.mean(half)),
        "us_per_call": float(np.mean(half)) * agents * len(SCHEMA) / 1000,
        "bytes": sentinel.arena.nbytes / sentinel.arena.capacity,
    }


def river_rules(seed: int) -> dict[str, Any]:
    """River's detectors on one latency stream each: false alarms per agent-day and delay of a x4 step."""
    from river import drift

    rng = np.random.default_rng(seed)
    counts: dict[str, list[float]] = {}
    for name, make in (("ADWIN", drift.ADWIN), ("PageHinkley", drift.PageHinkley)):
        false, delays = 0, []
        for _ in range(20):
            detector, found = make(), None
            for t, x in enumerate(np.log(900) + 0.5 * rng.standard_normal(3000) + np.where(np.arange(3000) >= 2700, np.log(4), 0)):
                detector.update(float(x))
                if detector.drift_detected and t < 2700:
                    false += 1
                elif detector.drift_detected and found is None:
                    found = t - 2700 + 1
            delays.append(found or 10_000)
        counts[name] = [false / (20 * 2700 / DAY_S), float(np.median(delays))]
    return {"river": counts}


# --- what is run, and how it is summed up


@dataclass(slots=True)
class Row:
    """One line of the table."""

    measure: str
    must: str
    goal: str
    measured: str
    met: bool | None
    simple: str = ""
    raw: dict[str, Any] = field(default_factory=dict)


Job = tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]


def jobs(options: argparse.Namespace) -> list[Job]:
    """Everything to run, longest first."""
    seed, full = options.seed, options.full
    parts: list[Job] = []
    agents, ticks, fleets = (1000, DAY_S // 4, 3) if full else (240, 3600, 1)
    for shape in ("gaussian", "lognormal", "gamma", "diurnal", "deploys", "ar", "tasks", "tasks_unsaid"):
        parts += [(f"quiet {shape}", quiet, (shape, seed + n, agents, ticks)) for n in range(fleets)]
    for every in (5.0, 12.0, 30.0):
        parts += [(f"sparse {every:g}", quiet, ("sparse", seed + n, agents, ticks, every)) for n in range(fleets)]
    many = 10 if full else 1
    parts += [("strong 900", strong, (seed + n, 900)) for n in range(14 * many)]
    parts += [("strong 60", strong, (seed + n, 60)) for n in range(24 * many)]
    parts += [("strong tasks", strong, (seed + n, 900, "tasks")) for n in range(8 * many)]
    parts += [("slow", slow, (seed + n,)) for n in range(6 * many)]
    parts += [("slow tasks", leak_in_tasks, (seed + n,)) for n in range(6 * many)]
    parts += [("drift 1.3", drift_over_tasks, (seed + n,)) for n in range(6 * many)]
    parts += [(f"boiling {step}", boiling, (seed + n, step)) for step in (1.005, 1.01) for n in range(3 * many)]
    parts += [("bad values", bad_values, (seed + n,)) for n in range(2 * many)]
    parts += [("outage at once", outage, (seed + n, 200, 0.3, 1)) for n in range(2 * many)]
    parts += [("outage staggered", outage, (seed + n, 200, 0.3, 300)) for n in range(2 * many)]
    parts += [("outage small", outage, (seed + n, 15, 0.2, 60)) for n in range(4 * many)]
    parts += [("sustained", sustained, (seed + n,)) for n in range(many)]
    parts += [("run length", run_length, (seed + n, 300, 2000, 100.0)) for n in range(many)]
    parts += [("speed 15", speed, (15, 400, "deploys")), ("speed 1000", speed, (1000, 60, "deploys")), ("speed tasks", speed, (1000, 60, "tasks"))]
    if full:
        parts += [("speed 100000", speed, (100_000, 8, "deploys"))]
    if importlib.util.find_spec("river"):
        parts += [("river", river_rules, (seed,))]
    if options.data:
        for path in sorted(Path(options.data).glob("azure*.csv")):
            parts += [(f"real {path.stem} as {n}", real_traffic, (str(path), n)) for n in (1, 20)]
    wanted = options.only
    return [job for job in parts if not wanted or any(job[0].startswith(name) for name in wanted)]


def run_all(parts: list[Job], workers: int) -> dict[str, list[dict[str, Any]]]:
    """Every part in processes of its own; results by name in a fixed order."""
    results: dict[int, dict[str, Any]] = {}
    alone = [index for index, job in enumerate(parts) if job[0].startswith("speed")]
    with ProcessPoolExecutor(max_workers=workers) as pool:
        waiting = {pool.submit(work, *arguments): index for index, (_, work, arguments) in enumerate(parts) if index not in alone}
        for done in as_completed(waiting):
            results[waiting[done]] = done.result()
            print(f"\r{len(results)} of {len(parts)}  ", end="", file=sys.stderr)
    for index in alone:
        results[index] = parts[index][1](*parts[index][2])
    print(file=sys.stderr)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for index, (name, _, _) in enumerate(parts):
        by_name.setdefault(name, []).append(results[index])
    return by_name


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share."""
    if not n:
        return 0.0, 1.0
    z, share = 1.96, hits / n
    middle, width = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float((middle - width) / (1 + z * z / n)), float((middle + width) / (1 + z * z / n))


def rate(parts: list[dict[str, Any]], key: str = "false") -> tuple[float, float, str]:
    """(crossings per agent-day, upper bound, as text)."""
    days, count = sum(p["days"] for p in parts), sum(p[key] for p in parts)
    upper = 3 / days if not count else (count + 2 * np.sqrt(count) + 2) / days
    return count / days, upper, f"{count / days:.3g} ({count} by {sum(p['by'] for p in parts)} in {days:.0f} days, < {upper:.2g})"


def share_row(name: str, must: float, goal: float, hits: int, n: int, extra: str = "", simple: str = "") -> Row:
    """A row of a share that should be high."""
    low, high = wilson(hits, n)
    return Row(name, f"{must:g}", f"{goal:g}", f"{hits / n:.3f} [{low:.2f}, {high:.2f}] of {n}{extra}", hits / n >= must, simple)


def table(found: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """The table: must and goal beside what was measured."""
    rows: list[Row] = []
    limits = dict.fromkeys(("gaussian", "lognormal", "gamma", "diurnal", "deploys"), (0.01, 0.001))
    limits |= {"ar": (0.1, 0.01), "tasks": (0.1, 0.01), "tasks_unsaid": (1.0, 0.1)}
    for shape, (must, goal) in limits.items():
        if parts := found.get(f"quiet {shape}"):
            value, _, text = rate(parts)
            simple = " · ".join(f"{name} {rate(parts, f'false {name}')[0]:.0f}" for name in SimpleRules.names)
            rows.append(Row(f"false alarms per agent-day, {shape}", f"{must:g}", f"{goal:g}", text, value <= must, simple, {"rate": value}))
    for every in (5, 12, 30):
        if parts := found.get(f"sparse {every}"):
            calls, count = sum(p["samples"] for p in parts), sum(p["false"] for p in parts)
            text = f"{1000 * count / calls:.2g} ({count} in {calls:,} calls, < {1000 * (count + 3) / calls:.1g})"
            simple = " · ".join(f"{name} {1000 * sum(p[f'false {name}'] for p in parts) / calls:.1f}" for name in SimpleRules.names)
            rows.append(Row(f"false episodes per 1,000 calls, one per {every} s", "0.005", "0.0005", text, 1000 * count / calls <= 0.005, simple))
    for history, must, goal, limit in ((900, 0.99, 1.0, (15, 60)), (60, 0.95, 0.99, (25, 120))):
        if parts := found.get(f"strong {history}"):
            rows += _strong_rows(history, must, goal, limit, parts)
    if parts := found.get("strong tasks"):
        rows += list(_strong_rows(900, 0.99, 1.0, (15, 60), parts, "tasks: "))[:2]
    for name, kinds, must, goal in (
        ("slow", ("context_leak", "cost_creep", "prompt_drift"), 0.8, 0.95),
        ("slow tasks", ("context_leak", "prompt_drift"), 0.8, 0.95),
        ("drift 1.3", ("prompt_drift",), 0.5, 0.9),
        ("boiling 1.005", ("boiling_latency", "boiling_output"), 0.95, 0.99),
        ("boiling 1.01", ("boiling_latency", "boiling_output"), 0.95, 0.99),
    ):
        for kind in kinds if found.get(name) else ():
            delays = [delay for part in found[name] for k, delay in part["delays"] if k == kind]
            caught = [delay for delay in delays if delay]
            middle = f", median {np.median(caught):.0f} samples" if caught else ""
            rows.append(share_row(f"{name}: {kind} caught in time", must, goal, len(caught), len(delays), middle))
    rows += _other_rows(found)
    return rows


def _strong_rows(history: int, must: float, goal: float, limit: tuple[int, int], parts: list[dict[str, Any]], where: str = "") -> Iterable[Row]:
    delays = [(kind, delay) for part in parts for kind, delay in part["delays"]]
    caught = [delay for _, delay in delays if delay and delay <= 180]
    missed = sorted(kind for kind, delay in delays if not delay or delay > 180)
    simple = []
    for name in SimpleRules.names:
        theirs = [delay for part in parts for delay in part[f"delays {name}"]]
        simple.append(f"{name} {sum(d is not None and d <= 180 for d in theirs) / len(theirs):.2f}")
    named = [pair for part in parts for pair in part["named"]]
    yield share_row(
        f"{where}recall of strong kinds after {history} samples",
        must,
        goal,
        len(caught),
        len(delays),
        f"; missed {missed}" if missed else "",
        " · ".join(simple),
    )
    median, p95 = np.median(caught), np.quantile(caught, 0.95)
    yield Row(
        "  delay in samples, median / p95",
        f"{limit[0]} / {limit[1]}",
        "8 / 40" if history == 900 else "15 / 60",
        f"{median:.0f} / {p95:.0f}",
        bool(median <= limit[0] and p95 <= limit[1]),
    )
    if history == 900:
        right = sum(hit for _, hit in named)
        yield share_row("  diagnosis top-1 at the alarm", 0.85, 0.95, right, len(named))
        error = calibration_error(named)
        yield Row("  calibration error of its confidence", "0.1", "0.05", f"{error:.3f} of {len(named)}", error <= 0.1)


def calibration_error(named: list[tuple[float, bool]]) -> float:
    """Mean distance between confidence and share right, over five bins."""
    total = 0.0
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = [(confidence, hit) for confidence, hit in named if low <= min(confidence, 0.999) < low + 0.2]
        if inside:
            total += abs(sum(c for c, _ in inside) - sum(h for _, h in inside))
    return total / max(1, len(named))


def _other_rows(found: dict[str, list[dict[str, Any]]]) -> Iterable[Row]:
    if parts := found.get("sustained"):
        yield share_row("fault still an alarm after an hour", 1.0, 1.0, sum(p["held"] for p in parts), sum(p["faults"] for p in parts))
    if parts := found.get("bad values"):
        change = max(p["change"] for p in parts)
        yield Row("one NaN, inf, 1e30 changes a later delay by", "0", "0", f"{change} samples", change == 0)
    if parts := found.get("outage at once"):
        incidents, known = max(p["incidents"] for p in parts), [p["known"] for p in parts]
        others = sum(p["bystanders"] for p in parts) / sum(p["agents"] - p["hit"] for p in parts)
        members = sum(p["blamed_before"] + p["blamed_after"] for p in parts)
        text = f"{incidents}, {100 * others:.1f} %, {known} ticks; members blamed {members} of {sum(p['hit'] for p in parts)}"
        yield Row(
            "outage of 30 % of 200: incidents, bystanders, ticks",
            "1, ≤ 1 %, 10",
            "1, 0, 3",
            text,
            incidents == 1 and others <= 0.01 and max(k or 999 for k in known) <= 10,
        )
    for name, must in (("outage staggered", 0.05), ("outage small", None)):
        if parts := found.get(name):
            hit, before = sum(p["hit"] for p in parts), sum(p["blamed_before"] for p in parts)
            still = sum(p["still_blamed"] for p in parts)
            what = "over 5 minutes, 30 % of 200" if must else "over a minute, a service of 3 among 15"
            later, known = sum(p["blamed_after"] for p in parts), [p["known"] for p in parts]
            text = f"{before} of {hit} before it is known, {later} after, {still} still 10 s after; known at {known} s"
            met = before <= 0.05 * sum(p["agents"] for p in parts) and not still if must else None
            yield Row(f"outage {what}: members blamed", "5 % of the fleet; all released" if must else "", "1 %", text, met)
    if parts := found.get("run length"):
        exposure, alarms, wanted = sum(p["exposure"] for p in parts), sum(p["alarms"] for p in parts), parts[0]["set"]
        ratio = exposure / max(alarms, 3) / wanted
        yield Row(
            "run length over the set one, exchangeable vitals",
            "≥ 1",
            "≥ 1",
            f"{'>' if alarms < 3 else ''}{ratio:.1f} ({alarms} alarms in {exposure:,} samples)",
            ratio >= 1,
        )
    for name, what in (("speed 1000", "1,000 agents"), ("speed tasks", "1,000 agents with tasks"), ("speed 100000", "100,000 agents")):
        if parts := found.get(name):
            yield Row(f"CPU ns per vital sample, {what}", "400", "200", f"{parts[0]['ns']:.0f}", parts[0]["ns"] <= 400)
    if parts := found.get("speed 15"):
        yield Row("CPU µs per call, 15 agents", "400", "", f"{parts[0]['us_per_call']:.0f}", parts[0]["us_per_call"] <= 400)
        yield Row("bytes of state per agent, without curves", "8,192", "5,120", f"{parts[0]['bytes']:,.0f}", parts[0]["bytes"] <= 8192)
    for name, parts in found.items():
        if name.startswith("real"):
            yield Row(
                f"false alarms, {name}", "0.01 / day", "0.001", f"{parts[0]['false']} in {parts[0]['days']:.2f} days, on {parts[0]['on']}", None
            )
        if name == "river":
            yield Row("river on one latency stream: false per day, delay of x4", "", "", json.dumps(parts[0]["river"]), None)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="The sentinel's table: must, goal, measured.")
    parser.add_argument("--quick", action="store_true", help="the default: under two minutes on two quiet cores")
    parser.add_argument("--full", action="store_true", help="at least 600 agent-days a scenario")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=[], help="parts whose names begin so, e.g. quiet 'strong 60' outage")
    parser.add_argument("--data", default="", help="folder with azure*.csv")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = run_all(jobs(options), options.workers)
    rows = table(found)
    if options.json:
        print(
            json.dumps(
                {"benchmark": "detection", "seed": options.seed, "full": options.full, "rows": [row_json(row) for row in rows], "parts": found},
                indent=1,
                default=float,
            )
        )
        return
    print(f"{'measure':<52} {'must':>12} {'goal':>9}   measured")
    for row in rows:
        mark = {True: "met", False: "MISSED", None: ""}[row.met]
        print(f"{row.measure:<52} {row.must:>12} {row.goal:>9}   {row.measured}  {mark}{'   | ' + row.simple if row.simple else ''}")


def row_json(row: Row) -> dict[str, Any]:
    """A row as JSON."""
    return {"measure": row.measure, "must": row.must, "goal": row.goal, "measured": row.measured, "met": row.met, "simple_rules": row.simple}


if __name__ == "__main__":
    main()
