"""Healthy fleets: whoever alarms is a false alarm."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from workloads import DAY_S, START_US, Fleet, Population, Recorded, struck

from trials.rivals import RiverRules, SimpleRules
from trials.watching import US, Crossings, blamed, sentinel_over

RIVER_AGENTS, RIVER_S, RULES_S = 8, 1200, 7200
"""How much of each fleet river's detectors watch (at most a quarter of the time), and how long the simple rules."""


def quiet(shape: str, seed: int, agents: int, ticks: int, every_s: float = 1.0, *, rivals: bool = False) -> dict[str, Any]:
    """A healthy fleet of a shape."""
    return watch(Fleet(shape, agents, seed, every_s=every_s), ticks, rivals=rivals, every_s=every_s)


def recorded(folder: str, seed: int, agents: int, ticks: int, *, rivals: bool = False, mixed: bool = False) -> dict[str, Any]:
    """Real token traffic, dealt out at 1 Hz."""
    return watch(Recorded(sorted(Path(folder).glob("azure*.csv")), agents, seed, mixed=mixed), ticks, rivals=rivals)


def watch(fleet: Population, ticks: int, *, rivals: bool, every_s: float = 1.0) -> dict[str, Any]:
    """Crossings of ours over all ticks, of the rivals over as much as they can bear."""
    sentinel = sentinel_over(fleet.roster, fleet.lexicon)
    ours, rules = Crossings(fleet.n), _Rivals(fleet.n, every_s, ticks) if rivals else None
    causes: set[str] = set()
    on: Counter[str] = Counter()
    where: list[tuple[int, int, str, float]] = []
    samples, largest = 0, -9.0
    for t, batch in struck(fleet, [], ticks):
        found = sentinel.observe(batch, START_US + t * US)
        samples += len(batch)
        alarms = blamed(found)
        new = ours.see(t, np.array(sorted(finding.agent for finding in alarms), dtype=np.intp))
        for finding in alarms:
            if finding.agent in new and finding.evidence:
                on[finding.evidence[0].vital] += 1
                where.append((t, finding.agent, finding.evidence[0].vital, round(finding.evidence[0].ratio, 3)))
        causes |= {cohort.key for cohort in found.cohorts if cohort.alarm}
        largest = max(largest, float(found.nats[found.nats < found.threshold_nats].max(initial=-9.0)))
        if rules is not None:
            rules.see(t, batch)
    return {
        "days": fleet.n * ticks / DAY_S,
        "samples": samples,
        "false": ours.total,
        "by": len(ours.agents),
        "agents": fleet.n,
        "causes": len(causes),
        "on": dict(on),
        "where": where[:20],
        "largest_nats_below": largest,
        "rivals": rules.counts() if rules is not None else {},
    }


class _Rivals:
    """The rivals beside ours: crossings and alarmed samples per rule, and over how many agent-days and samples."""

    def __init__(self, agents: int, every_s: float, ticks: int) -> None:
        watched = min(RIVER_AGENTS, agents)
        self.simple, self.river = SimpleRules(agents), RiverRules(watched)
        self.river_s, self.simple_s = min(round(RIVER_S * every_s), ticks // 4), round(RULES_S * every_s)
        self.crossings = {name: Crossings(agents) for name in (*SimpleRules.names, *RiverRules.names)}
        self.exposure = dict.fromkeys(self.crossings, 0.0)
        self.calls = dict.fromkeys(self.crossings, 0)

    def see(self, t: int, batch: Any) -> None:
        for rules, until_s, agents in ((self.simple, self.simple_s, len(self.simple.count)), (self.river, self.river_s, self.river.agents)):
            if t >= until_s:
                continue
            for name, alarms in zip(rules.names, rules.see(batch), strict=True):
                self.crossings[name].see(t, np.flatnonzero(alarms))
                self.exposure[name] += agents / DAY_S
                self.calls[name] += int((batch.agent < agents).sum())

    def counts(self) -> dict[str, dict[str, float]]:
        return {
            name: {
                "days": self.exposure[name],
                "calls": self.calls[name],
                "crossings": seen.total,
                "samples": seen.samples,
                "by": len(seen.agents),
                "agents": self.river.agents if name in RiverRules.names else len(self.simple.count),
            }
            for name, seen in self.crossings.items()
        }
