"""Which agent falls ill of what, when, for how long and how badly: drawn by seed, before the first tick.

All times are seconds after the warm-up. A long run is drawn window by window, so that an endless one can be too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from simulation.agents import Cast
from simulation.draws import stream
from simulation.infections import CREEPING, STRENGTHS, STRONG, SUBTLE, InfectionKind
from simulation.outages import SHARE_FIELD, Outage

OutageChoice = Literal["drawn", "none", "always"]
OUTAGE_CHOICES: tuple[OutageChoice, ...] = get_args(OutageChoice)

WINDOW_S = 1800.0
SHORT_RUN_S = 300.0
HEALTHY_START_S = 20.0
HEALTHY_END_S = 120.0
IMMUNE_AFTER_S = 600.0
NEVER_ILL = -1.0
INFECTIONS_PER_WINDOW = (6, 8)
DURATION_S = (120.0, 400.0)
CREEPING_DURATION_S = (400.0, 600.0)
STRONG_SHARE = 0.55
JITTER_OF_SLOT = 0.45
APART_S = 90.0

SHORT_ONSETS = (4 / 60, 10 / 60, 18 / 60)
SHORT_JITTER = 1.5 / 60
MOST_HARMFUL: tuple[InfectionKind, ...] = ("token_explosion", "tool_loop")

OUTAGE_CHANCE = 0.5
STAGGERED_CHANCE = 0.4
ERRORS_CHANCE = 0.4
STAGGER_S = 300.0
BEFORE_OUTAGE_S, AFTER_OUTAGE_S = 120.0, 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedInfection:
    """One infection to come: `agent` is an id, `at_s` counts from the end of the warm-up, `strength` see `STRENGTHS`."""

    agent: str
    kind: InfectionKind
    at_s: float
    duration_s: float
    strength: float

    @property
    def end_s(self) -> float:
        """When it ends by itself."""
        return self.at_s + self.duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Everything that will befall a fleet, in order of onset."""

    infections: tuple[PlannedInfection, ...] = ()
    outages: tuple[Outage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosPlan:
    """How much is drawn: `rate` multiplies the usual six to eight infections in half an hour; 0 draws none."""

    rate: float = 1.0
    outage: OutageChoice = "drawn"


def draw_schedule(seed: int, duration_s: float, cast: Cast, plan: ChaosPlan | None = None) -> Schedule:
    """What befalls this cast in a run of this length after the warm-up, by seed alone."""
    plan = plan or ChaosPlan()
    if duration_s < SHORT_RUN_S:
        return _draw_short(stream(seed, "chaos", 0), duration_s, cast, plan)
    windows = max(1, round(duration_s / WINDOW_S))
    width_s = duration_s / windows
    infections: list[PlannedInfection] = []
    outages: list[Outage] = []
    free_from: dict[str, float] = {}
    for window in range(windows):
        drawn = draw_window(seed, window, width_s, cast, plan, free_from)
        infections.extend(drawn.infections)
        outages.extend(drawn.outages)
    return Schedule(infections=tuple(infections), outages=tuple(outages))


def draw_window(seed: int, window: int, width_s: float, cast: Cast, plan: ChaosPlan, free_from: dict[str, float]) -> Schedule:
    """One window of a long run; `free_from` says since when an agent may fall ill again, and is kept up to date.

    Whoever has been well for longest is next; nobody is taken who is ill or was within the last ten minutes.
    """
    rng = stream(seed, "chaos", window)
    start_s = window * width_s
    outages = _draw_outage(rng, start_s, width_s, cast, plan)
    low, high = INFECTIONS_PER_WINDOW
    wanted = round(int(rng.integers(low, high + 1)) * plan.rate * width_s / WINDOW_S)
    count = min(len(cast), max(2, wanted)) if plan.rate else 0
    onsets = _onsets(rng, count, _open_spans(start_s, width_s, count, outages))
    infections = []
    order = [cast.ids[i] for i in rng.permutation(len(cast))]
    for kind, at_s in zip(_draw_kinds(rng, count), onsets, strict=True):
        planned = _draw_infection(rng, kind, at_s)
        agent = min(order, key=lambda agent_id: free_from.get(agent_id, NEVER_ILL))
        if free_from.get(agent, NEVER_ILL) <= at_s:
            infections.append(planned.of(agent))
            free_from[agent] = at_s + planned.duration_s + IMMUNE_AFTER_S
    return Schedule(infections=tuple(infections), outages=outages)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unassigned:
    kind: InfectionKind
    at_s: float
    duration_s: float
    strength: float

    def of(self, agent: str) -> PlannedInfection:
        return PlannedInfection(agent=agent, kind=self.kind, at_s=self.at_s, duration_s=self.duration_s, strength=self.strength)


def _draw_infection(rng: np.random.Generator, kind: InfectionKind, at_s: float) -> _Unassigned:
    bounds = CREEPING_DURATION_S if kind in CREEPING else DURATION_S
    duration_s = round(float(rng.uniform(*bounds)), 1)
    return _Unassigned(kind=kind, at_s=round(at_s, 1), duration_s=duration_s, strength=draw_strength(rng, kind))


def draw_strength(rng: np.random.Generator, kind: InfectionKind) -> float:
    """A strength of this kind, uniform in its logarithm."""
    low, high = STRENGTHS[kind]
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))), 3)


def _draw_kinds(rng: np.random.Generator, count: int) -> list[InfectionKind]:
    """Distinct as far as there are enough kinds, more than half of them strong, in random order."""
    strong = _cycled(rng, STRONG, int(np.ceil(count * STRONG_SHARE)))
    subtle = _cycled(rng, SUBTLE, count - len(strong))
    drawn = strong + subtle
    return [drawn[i] for i in rng.permutation(count)]


def _cycled(rng: np.random.Generator, kinds: tuple[InfectionKind, ...], count: int) -> list[InfectionKind]:
    order = rng.permutation(len(kinds))
    return [kinds[order[i % len(kinds)]] for i in range(count)]


def _open_spans(start_s: float, width_s: float, count: int, outages: tuple[Outage, ...]) -> list[tuple[float, float]]:
    """When infections may begin: not in the healthy ends, and clear of an outage if that leaves enough room."""
    whole = (start_s + HEALTHY_START_S, start_s + width_s - HEALTHY_END_S)
    if not outages:
        return [whole]
    outage = outages[0]
    before = (whole[0], max(whole[0], outage.at_s - BEFORE_OUTAGE_S))
    after = (min(whole[1], outage.at_s + outage.duration_s + AFTER_OUTAGE_S), whole[1])
    room_s = before[1] - before[0] + after[1] - after[0]
    return [before, after] if room_s >= count * (APART_S + 1.0) else [whole]


def _onsets(rng: np.random.Generator, count: int, spans: list[tuple[float, float]]) -> list[float]:
    """Onsets in even slots of the open time, each a little late in its slot, so that two never come close together where there is room."""
    if not count:
        return []
    slot_s = sum(high - low for low, high in spans) / count
    jitter = min(JITTER_OF_SLOT, max(0.05, 1.0 - (APART_S + 1.0) / slot_s))
    places = (np.arange(count) + jitter * rng.random(count)) * slot_s
    return [_into_spans(float(place), spans) for place in places]


def _into_spans(place_s: float, spans: list[tuple[float, float]]) -> float:
    for low, high in spans:
        if place_s < high - low:
            return low + place_s
        place_s -= high - low
    return spans[-1][1]


def _draw_outage(rng: np.random.Generator, start_s: float, width_s: float, cast: Cast, plan: ChaosPlan) -> tuple[Outage, ...]:
    chance, place, kind, which, long, slow, errs, many, staggers = rng.random(9).tolist()
    if plan.outage == "none" or (plan.outage == "drawn" and chance >= OUTAGE_CHANCE) or len(cast) < 2:
        return ()
    stagger_s = min(STAGGER_S, width_s / 6) if staggers < STAGGERED_CHANCE else 0.0
    name, value = _draw_common(cast, kind, which)
    return (
        Outage(
            at_s=round(start_s + width_s * (0.25 + 0.35 * place), 1),
            duration_s=round(stagger_s + min(120.0 + 180.0 * long, width_s / 6), 1),
            field=name,
            value=value,
            ratio=round(2.5 + 2.5 * slow, 3),
            error_rate=round(0.5 + 0.5 * many, 3) if errs < ERRORS_CHANCE else 0.0,
            stagger_s=stagger_s,
        ),
    )


def _draw_common(cast: Cast, kind: float, which: float) -> tuple[str, str]:
    """What the members of an outage have in common."""
    if kind < 0.3:
        return SHARE_FIELD, "0.3"
    name = "provider" if kind < 0.65 else "service"
    words = sorted({cast.provider(i) for i in range(len(cast))} if name == "provider" else set(cast.services))
    return name, words[int(which * len(words))]


def _draw_short(rng: np.random.Generator, duration_s: float, cast: Cast, plan: ChaosPlan) -> Schedule:
    """A short run (a live demo): two or three strong infections in its first third, that stay; an outage only if asked for.

    The first is one of those that do most harm, so that a person in front of the screen is asked something.
    """
    count = min(len(cast), int(rng.integers(2, 4))) if plan.rate else 0
    first = MOST_HARMFUL[int(rng.integers(len(MOST_HARMFUL)))]
    kinds = (first, *_cycled(rng, tuple(kind for kind in STRONG if kind != first), count - 1))[:count]
    agents = rng.permutation(len(cast))[:count]
    infections = tuple(
        PlannedInfection(
            agent=cast.ids[agent],
            kind=kind,
            at_s=round(duration_s * (onset + SHORT_JITTER * float(rng.uniform(-1, 1))), 1),
            duration_s=duration_s,
            strength=max(draw_strength(rng, kind), draw_strength(rng, kind)),
        )
        for kind, agent, onset in zip(kinds, agents, SHORT_ONSETS[:count], strict=True)
    )
    outages = _draw_outage(rng, 0.0, duration_s, cast, plan) if plan.outage == "always" else ()
    return Schedule(infections=infections, outages=outages)
