"""The handle that simulated agents obey: containment levels, draining, canary work, and an account of what escaped."""

from __future__ import annotations

import numpy as np

from immune.core.events import LEVELS, Level
from immune.errors import InputError
from simulation.agents import Bools

NONE, THROTTLED, RESTRICTED, ISOLATED, EVICTED = range(len(LEVELS))
THROTTLE_EVERY = 3


class Control:
    """Levels of n agents, as asked for and as held.

    An obedient agent holds a level from the moment it is set; one that drains holds it once the step in progress is
    done, which is at most one tick later. A disobedient agent holds ``none`` whatever is set.
    """

    def __init__(self, n: int) -> None:
        self.asked = np.zeros(n, dtype=np.int8)
        self.held = np.zeros(n, dtype=np.int8)
        self.obeys: Bools = np.ones(n, dtype=np.bool_)
        self.canary = np.zeros(n, dtype=np.int64)
        self.canary_done = np.zeros(n, dtype=np.int64)
        self.escaped = np.zeros(n, dtype=np.int64)
        self.refused = np.zeros(n, dtype=np.int64)
        self._draining: Bools = np.zeros(n, dtype=np.bool_)
        self._anyone = False

    def set_level(self, index: int, level: Level, *, busy: bool) -> None:
        """Ask for a level; with `busy` the step in progress may finish first. Raises InputError for an unknown level."""
        if level not in LEVELS:
            raise InputError("unknown level", field="level", value=level, way_out="one of " + " ".join(LEVELS))
        self._anyone = True
        asked = LEVELS.index(level)
        self.asked[index] = asked
        self.canary[index] = 0
        drains = busy and asked >= ISOLATED
        self._draining[index] = drains
        if self.obeys[index] and not drains:
            self.held[index] = asked

    def set_obeys(self, index: int, *, obeys: bool) -> None:
        """Make an agent disobedient, or obedient again."""
        self._anyone = True
        self.obeys[index] = obeys
        self.held[index] = self.asked[index] if obeys else NONE

    def allow_canary(self, index: int, n: int) -> None:
        """Let an isolated agent do n steps. Raises InputError for a negative n or an agent that is not isolated."""
        if n < 0:
            raise InputError("canary work is a number of steps of at least 0", field="n", value=n)
        if self.asked[index] != ISOLATED:
            raise InputError("canary work is for isolated agents", field="level", value=LEVELS[int(self.asked[index])], way_out="isolate it first")
        self.canary[index] = n

    def level(self, index: int) -> Level:
        """The level that an agent really holds."""
        return LEVELS[int(self.held[index])]

    def may_work(self, tick: int) -> Bools | None:
        """Who may do a step in this tick, (n,); None stands for everyone."""
        if not self._anyone:
            return None
        held = self.held
        turn = (tick + np.arange(len(held))) % THROTTLE_EVERY == 0
        may: Bools = (held <= RESTRICTED) & ((held != THROTTLED) | turn) | (held == ISOLATED) & (self.canary > 0)
        return may

    def gone(self) -> Bools | None:
        """Who is evicted, (n,); None stands for nobody."""
        return self.held == EVICTED if self._anyone else None

    def without_tools(self) -> Bools | None:
        """Whose tools are off, (n,); None stands for nobody's."""
        return self.held == RESTRICTED if self._anyone else None

    def account(self, worked: Bools, ready: Bools) -> None:
        """Book one tick: canary steps used, attempts refused, work that escaped; then draining agents hold their level."""
        if not self._anyone:
            return
        isolated = self.asked >= ISOLATED
        canary = isolated & (self.canary > 0) & worked & self.obeys
        self.canary[canary] -= 1
        self.canary_done += canary
        self.escaped += isolated & worked & ~canary & ~(self._draining & self.obeys)
        self.refused += isolated & ready & ~worked
        self.held = np.where(self._draining & self.obeys, self.asked, self.held)
        self._draining[:] = False
