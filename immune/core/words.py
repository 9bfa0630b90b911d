"""What people and agents have said that bears on judging: changes announced, alarms called false, sickness reported, symptoms muted.

Words move how much evidence is asked for, within the policy's bounds; they never touch evidence, and never a hard limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from immune.core.policy import DetectionPolicy
from immune.core.state import RunState, symptom_key

US = 1_000_000
REPORTERS_COUNT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """announced: cohorts (field, value), ``("fleet", "")`` for all · the rest by `symptom_key`, reports by agent id; times are until when."""

    announced: tuple[tuple[str, str], ...] = ()
    eased: Mapping[str, int] = field(default_factory=dict)
    muted: Mapping[str, int] = field(default_factory=dict)
    reports: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)

    def more_nats(self, agent_id: str, vital: str, direction: str, policy: DetectionPolicy, now_us: int) -> float:
        """How much more evidence (less, if negative) is asked for before this symptom, the strongest of its agent, is an alarm."""
        if not (self.eased or self.muted or self.reports):
            return 0.0
        if max(self.muted.get(symptom_key(agent_id, vital), 0), self.muted.get(symptom_key(agent_id, ""), 0)) > now_us:
            return math.inf
        eased = min(policy.ease_max_nats, policy.ease_nats * self.eased.get(symptom_key(agent_id, vital, direction), 0))
        since_us = now_us - round(policy.report_for_s * US)
        reporters = sum(at_us >= since_us for _, at_us in self.reports.get(agent_id, ()))
        return eased - policy.report_nats * min(reporters, REPORTERS_COUNT)


def words_of(state: RunState, now_us: int) -> Words:
    """What has been said in a run and still counts."""
    cohorts = [cohort.partition("=") for cohort, until_us, _ in state.announced if until_us > now_us]
    announced = tuple(dict.fromkeys((name, "" if name == "fleet" else value) for name, _, value in cohorts))
    return Words(announced=announced, eased=state.eased, muted=state.muted, reports=state.reports)
