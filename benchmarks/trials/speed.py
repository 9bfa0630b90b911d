"""What a sample costs: CPU time and bytes of state."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from workloads import START_US, Fleet, struck

from trials.watching import SCHEMA, US, sentinel_over


def speed(agents: int, ticks: int, shape: str) -> dict[str, Any]:
    """CPU nanoseconds per vital sample: the fastest half of the later ticks, and their median; bytes of state per agent."""
    fleet = Fleet(shape, agents, 3)
    sentinel = sentinel_over(fleet.roster, fleet.lexicon)
    spent = []
    for t, batch in struck(fleet, [], ticks):
        began = time.process_time()
        sentinel.observe(batch, START_US + t * US)
        spent.append((time.process_time() - began) / (len(batch) * len(SCHEMA)) * 1e9)
    later = sorted(spent[ticks // 4 :])
    fast = float(np.mean(later[: max(1, len(later) // 2)]))
    return {
        "ns": fast,
        "ns_median": float(np.median(later)),
        "us_per_call": fast * agents * len(SCHEMA) / 1000,
        "bytes": sentinel.arena.nbytes / sentinel.arena.capacity,
    }
