"""Hard limits: what no agent may spend, whatever explains it and whatever was said. A comparison, no statistics.

Per sample (tokens, tool calls), and per agent and hour (cost, counted in hours of its own, from its first sample on).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from immune.core.policy import DetectionPolicy
from immune.core.sentinel.arena import Arena, Rows
from immune.core.vitals import VitalSchema

US = 1_000_000
HOUR_US = 3600 * US
SHOWN_US = 60 * US
"""A breach stands for this long after the last sample that showed it."""
VITALS = ("cost_usd", "output_tokens", "tool_calls")
"""Under which vital a breach of each limit is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits in the order of `VITALS`, infinite where there is none, and the columns they look at."""

    ceilings: NDArray[np.float64]
    cost: int
    tokens: tuple[int, int]
    tools: int

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return bool(np.isfinite(self.ceilings).any())


def limits_of(policy: DetectionPolicy, schema: VitalSchema) -> Limits:
    """The hard limits of a policy."""
    said = np.array(limits_of_policy(policy), dtype=np.float64)
    tokens = (schema.column("input_tokens"), schema.column("output_tokens"))
    return Limits(ceilings=np.where(said > 0, said, np.inf), cost=schema.column("cost_usd"), tokens=tokens, tools=schema.column("tool_calls"))


def limits_of_policy(policy: DetectionPolicy) -> tuple[float, float, float]:
    """The limits in the order of `VITALS`, 0 where there is none."""
    return policy.hard_usd_per_hour, policy.hard_tokens, policy.hard_tool_calls


def declare(arena: Arena) -> None:
    """The arrays of this file, over agents."""
    arena.declare("spent_usd", np.float64)
    arena.declare("spent_since", np.int64)
    arena.declare("breach_at", np.int64, fill=-1)
    arena.declare("breach_of", np.int8)
    arena.declare("breach_value", np.float64)


def arrive(arena: Arena, agents: Rows, at_us: NDArray[np.int64], values: NDArray[np.float64], limits: Limits) -> None:
    """Take in samples of these agents (each once), values (n, vitals)."""
    known = np.nan_to_num(values)
    since, spent = arena["spent_since"][agents], arena["spent_usd"][agents]
    over = at_us - since >= HOUR_US
    spent = np.where(over, 0.0, spent) + known[:, limits.cost]
    arena["spent_since"][agents] = np.where(over, at_us, since)
    arena["spent_usd"][agents] = spent
    used = np.stack([spent, known[:, limits.tokens[0]] + known[:, limits.tokens[1]], known[:, limits.tools]])
    times = used / limits.ceilings[:, None]
    breached = times.max(axis=0) > 1
    if not np.count_nonzero(breached):
        return
    worst = times.argmax(axis=0)
    for name, now in (("breach_at", at_us), ("breach_of", worst), ("breach_value", used[worst, np.arange(len(worst))])):
        arena[name][agents] = np.where(breached, now, arena[name][agents])


def standing(arena: Arena, now_us: int) -> NDArray[np.bool_]:
    """Whose breach still stands, (agents,)."""
    at_us = arena["breach_at"][: arena.size]
    stands: NDArray[np.bool_] = (at_us >= 0) & (at_us >= now_us - SHOWN_US)
    return stands
