"""Were these agents moved by one hand, or is each of them sick by itself?

Many that move together from outside are an outage. A few could as well be a few sick agents, and a few or many that begin to work otherwise
one after the other could be an infection that spreads: as a shared cause nobody would contain them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena

US = 1_000_000
MANY, CROWD = 5, 8
AT_ONCE_US = 20 * US
"""Onsets of agents that were changed together lie this close."""
BEFORE_US = 120 * US
HIT_AT_ONCE_US = 8 * US
"""Onsets of agents that something outside hit at one time; an error shows with the first call that fails."""
ALIKE = 0.4
"""Few that were hit at once were hit alike: their sizes lie this close, in logs, and two standard errors more."""
NEARLY_ALL = 0.8
NAMED_NATS = 6.0
"""A cohort in which so many of those that moved are by chance hardly once in 400 times is what they have in common."""
FEW_SHARE = 0.1
"""A few at once and alike are at least this share of what was hit."""
FAR = 1.0
"""Further out than this, in logs, agents are sick, however many began together, as long as nothing that people change is what they have in common:
nobody changes agents to 2.7 times their tokens without a new version, and an infection that spreads within seconds does (measured: five token
explosions of x3 to x7 were let go of, and learned after a quarter of an hour)."""
SIZED = ("cost_usd", "input_tokens", "output_tokens", "context_tokens", "tool_calls")
"""How far out a change of behaviour is, is read off these."""

Index = NDArray[np.intp]
Symptom = tuple[int, int]
"""(sign, stream), sign 0 up, 1 down."""


def outage(arena: Arena, field: str, members: int, symptom: Symptom, agents: Index) -> bool:
    """Whether something outside hit these agents of a cohort of so many `members`.

    Nearly all of it (a type is no place), a crowd, many within seconds or alike, or a few at once and alike.
    """
    whole = field != "type" and len(agents) >= NEARLY_ALL * members
    if whole or len(agents) >= CROWD:
        return True
    apart_us, alike = _apart_us(arena, symptom, agents), _alike(arena, symptom[1], agents)
    if len(agents) >= MANY:
        return alike or apart_us <= AT_ONCE_US
    return alike and len(agents) >= FEW_SHARE * members and apart_us <= HIT_AT_ONCE_US


def change(arena: Arena, symptom: Symptom, agents: Index, sized: Index) -> bool:
    """Whether one change made these agents work otherwise: at once or many, and no further than anyone would mean."""
    return (len(agents) >= MANY or _apart_us(arena, symptom, agents) <= AT_ONCE_US) and not far(arena, agents, sized)


def names(members: int, fleet: int, inside: int, moved: int) -> bool:
    """Whether so many of those that moved are of one cohort that chance is no explanation: Chernoff's bound for a binomial share."""
    share, usual = inside / moved, members / fleet
    if share <= usual:
        return False
    beyond = share * math.log(share / usual) + (0.0 if inside == moved else (1 - share) * math.log((1 - share) / (1 - usual)))
    return moved * beyond >= NAMED_NATS


def sizes(arena: Arena, rows: Index, agents: Index) -> NDArray[np.float64]:
    """How far out these agents are since the onset of each stream's evidence, in logs, (rows, agents)."""
    count, deviation, expected = arena["sums"][:3, rows[:, None], agents].astype(np.float64)
    count = np.maximum(count, 1)
    deviation, expected = deviation / count, expected / count
    ratio = np.maximum(expected + deviation + 0.5, 0.1) / np.maximum(expected + 0.5, 0.1)
    size: NDArray[np.float64] = np.where(rows[:, None] >= len(arena["own2"]), np.log(ratio), deviation)
    return size


def _apart_us(arena: Arena, symptom: Symptom, agents: Index) -> int:
    """How far apart these agents began, beside those that began up to `BEFORE_US` earlier: the last of a row of sick agents are no group."""
    sign, stream = symptom
    onset = arena["onset"][stream, : arena.size]
    earlier = arena["hot"][sign, stream, : arena.size] & (onset >= onset[agents].min() - BEFORE_US)
    began = onset[np.union1d(agents, np.flatnonzero(earlier))]
    first, last = np.quantile(began, (0.1, 0.9)) if len(began) >= MANY else (began.min(), began.max())
    return int(last - first)


def _alike(arena: Arena, stream: int, agents: Index) -> bool:
    size = sizes(arena, np.array([stream]), agents)[0]
    count, total = np.maximum(arena["sums"][0, stream, agents], 1), arena["sums"][1, stream, agents]
    variance = arena["own2"][stream, agents] if stream < len(arena["own2"]) else 1 / np.maximum(total / count, 0.1)
    doubt = variance / count
    apart = np.abs(size[:, None] - size) - 2 * np.sqrt(doubt[:, None] + doubt)
    return bool(apart.max() <= ALIKE)


def far(arena: Arena, agents: Index, sized: Index) -> bool:
    """Whether the middle one of these agents is further out than `FAR` on the stream where it is furthest out."""
    hot = arena["hot"][:, sized[:, None], agents].any(axis=0)
    return float(np.median(np.where(hot, np.abs(sizes(arena, sized, agents)), 0).max(axis=0))) > FAR
