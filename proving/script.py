"""What goes wrong in one history, and when: made from a seed, or cut down from one.

Everything that differs between two histories is in their scripts: a fault that is taken out leaves all others as they are.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

STORMY_TICKS = 60


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """Something that happens at a tick. `a`, `b`, `c` choose among what is there then."""

    tick: int
    what: str
    a: int = 0
    b: int = 0
    c: int = 0

    def __str__(self) -> str:
        return f"{self.tick:>3} s  {self.what} {self.a} {self.b} {self.c}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What holds during a whole history."""

    seed: int = 0
    mode: str = "act"
    cures: float = 1.0
    replaceable: bool = True
    agents: int = 6
    ticks: int = STORMY_TICKS
    eyes: Literal["symptoms", "sentinel"] = "symptoms"
    """Who looks at the samples: counted symptoms, quick to alarm, or the real sentinel, which has to learn first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One history."""

    setting: Setting
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return "\n".join([repr(self.setting), *map(str, self.faults)])


WEIGHTS: dict[str, float] = {
    "sick": 5.0,
    "well": 1.5,
    "say": 9.0,
    "agree": 5.0,
    "hand": 7.0,
    "crash": 9.0,
    "restart": 0.7,
    "disk": 1.6,
    "sample": 2.5,
    "obey": 0.7,
    "outage": 0.5,
    "join": 0.5,
    "roles": 0.9,
    "stall": 0.6,
    "second": 0.5,
    "take_over": 0.5,
    "telemetry": 0.3,
    "burst": 0.4,
}
"""How often each sort of fault comes, relative to the others."""


def write(seed: int, *, ticks: int = STORMY_TICKS) -> Script:
    """The history of a seed."""
    rng = random.Random(seed)
    setting = Setting(
        seed=seed,
        mode=rng.choice(("act", "act", "act", "act", "recommend", "observe")),
        cures=rng.choice((0.0, 0.5, 1.0, 1.0)),
        replaceable=rng.random() < 0.8,
    )
    words, weights = list(WEIGHTS), list(WEIGHTS.values())
    count = rng.randrange(8, 40)
    faults = [Fault(rng.randrange(1, 8), "sick", rng.randrange(1 << 16), rng.randrange(1 << 16))]
    for _ in range(count):
        what = rng.choices(words, weights)[0]
        faults.append(Fault(rng.randrange(ticks), what, rng.randrange(1 << 16), rng.randrange(1 << 16), rng.randrange(1 << 16)))
    return Script(setting=setting, faults=tuple(sorted(faults)))


LEARNING_TICKS = 240
"""What the real sentinel gets to see before anything goes wrong."""


def write_for_the_sentinel(seed: int) -> Script:
    """The history of a seed under the eyes of the real sentinel: the same faults, after it has learnt what is normal."""
    script = write(seed, ticks=2 * STORMY_TICKS)
    faults = tuple(replace(fault, tick=fault.tick + LEARNING_TICKS) for fault in script.faults)
    return Script(setting=replace(script.setting, eyes="sentinel", ticks=LEARNING_TICKS + 2 * STORMY_TICKS), faults=faults)
