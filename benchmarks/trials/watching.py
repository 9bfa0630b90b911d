"""The sentinel as the product sets it up, and how its alarms are counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.evidence import Assessment, Finding
from immune.core.policy import DetectionPolicy
from immune.core.sentinel.watch import Sentinel
from immune.core.vitals import Lexicon, Roster, VitalSchema

SCHEMA = VitalSchema()
US = 1_000_000
QUIET_S = 60
"""A new crossing of the same agent counts after this long without one: after that its incident would have closed (`close_after_s`)."""
BUDGET = 0.001


def sentinel_over(roster: Roster, lexicon: Lexicon, budget: float = BUDGET, seed: int = 7) -> Sentinel:
    """A sentinel as the product sets it up."""
    policy = DetectionPolicy(false_alarms_per_agent_day=budget)
    return Sentinel(roster=roster, lexicon=lexicon, schema=SCHEMA, policy=policy, period_us=US, seed=seed)


def blamed(assessment: Assessment) -> list[Finding]:
    """Findings over which an agent would be quarantined, if severity asked for it: alarms that no shared cause explains."""
    return [finding for finding in assessment.findings if finding.alarm and not finding.explained_by]


class Crossings:
    """Counts crossings: an agent that alarms after `QUIET_S` without."""

    def __init__(self, agents: int) -> None:
        self.last = np.full(agents, -QUIET_S - 1)
        self.total = self.samples = 0
        self.agents: set[int] = set()

    def see(self, t: int, alarms: NDArray[np.intp]) -> list[int]:
        """Agents (indices) that alarm at t; those of them whose crossing is new."""
        new: list[int] = alarms[t - self.last[alarms] > QUIET_S].tolist()
        self.total += len(new)
        self.samples += len(alarms)
        self.agents |= set(new)
        self.last[alarms] = t
        return new
