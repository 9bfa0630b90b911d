"""Causes that many agents share: a provider that slows down, a service that fails, a part of the fleet that is hit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.agents import Bools, Cast, Ints
from simulation.draws import stream
from simulation.infections import Effects

SHARE_FIELD = "share"
"""The field of an outage that hits a random part of the fleet; its value is the part, e.g. ``0.3``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A shared cause; times in seconds after the warm-up.

    field      ``provider``, ``service``, ``model``, ``type`` or ``share``; `value` says which (or which part)
    ratio      latency of the members against normal
    error_rate errors per step on top of slowness, 0 for none
    stagger_s  members are reached one after the other within this long; 0: all at once
    """

    at_s: float
    duration_s: float
    field: str
    value: str
    ratio: float
    error_rate: float = 0.0
    stagger_s: float = 0.0

    @property
    def cause(self) -> str:
        """What the members have in common, for people: ``provider harbor``."""
        return f"{self.field} {self.value}"


class ActiveOutage:
    """An outage on a cast: who is reached when, and its effect tick by tick."""

    def __init__(self, outage: Outage, cast: Cast, seed: int, number: int) -> None:
        rng = stream(seed, "outage", number)
        self.outage = outage
        self.members: Ints = self._reached(cast, rng)
        self.after_s = np.sort(rng.uniform(0.0, outage.stagger_s, len(self.members))) if outage.stagger_s else np.zeros(len(self.members))
        rng.shuffle(self.members)
        self._hit: Bools = np.zeros(len(self.members), dtype=np.bool_)

    def _reached(self, cast: Cast, rng: np.random.Generator) -> Ints:
        if self.outage.field == SHARE_FIELD:
            count = max(1, round(float(self.outage.value) * len(cast)))
            return rng.choice(len(cast), size=count, replace=False).astype(np.int64)
        return np.array(cast.members(self.outage.field, self.outage.value), dtype=np.int64)

    def apply(self, effects: Effects, age_s: float) -> None:
        """Slow the members that have been reached by now."""
        newly = (self.after_s <= age_s) & ~self._hit
        if not newly.any():
            return
        self._hit |= newly
        rows = self.members[newly]
        effects.outage_latency[rows] = np.maximum(effects.outage_latency[rows], self.outage.ratio)
        if self.outage.error_rate:
            effects.outage_error_rate.update(dict.fromkeys(rows.tolist(), self.outage.error_rate))

    def lift(self, effects: Effects) -> None:
        """Let go of all members; an outage that overlaps has to be told to `renew`."""
        effects.outage_latency[self.members] = 1.0
        for index in self.members.tolist():
            effects.outage_error_rate.pop(index, None)

    def renew(self) -> None:
        """Reach the members again at the next tick."""
        self._hit[:] = False
