"""What is normal for each agent and stream: a level, a spread, a memory of the last residual; learned after scoring.

With x the scaled value, m the level and f what the place in the task adds (`cells`), the residual is ``r = x - m - f`` and
the innovation ``e = r - phi * r_before``: AR(1) whitening, so that a stream that remembers itself is not counted twice.
Level and spread are exponentially weighted with weight 1/n and 2/n first, then 1/`LEVEL_SPAN` and 1/`SPREAD_SPAN`; what is
learned is winsorised, so that one absurd value moves a level by hundredths of its spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena, Block
from immune.core.sentinel.surprise import Lent

LEVEL_SPAN = 300.0
SPREAD_SPAN = 400.0
PRIOR_SPREAD = 0.5
"""First guess of the sd of a log, before anything is known."""
CLIP = 4.0
"""Learn from at most this many spreads."""
SUSPECT_PACE = 0.25
"""How fast a level follows while its stream is suspected, against usual: slow faults stay visible, stale levels catch up."""
SPREAD_CLIP = 2.0
MEMORY_CLIP = 1.2
"""Tighter for spread and memory: three samples of a jump must not pass for a stream that remembers itself (measured: such a fault was missed)."""
RATE_SPAN = 600.0
"""Counts: samples that their mean remembers."""
PHI_MAX = 0.995
ANCHORED = ("level", "spread2", "own2", "lagged", "lagged2")
"""What a young stream goes back to when it comes under doubt."""
YOUNG = 200
"""Samples until which a stream is young in this sense."""
STEADY = np.float32(1.1)
"""Only where the type's block variance is below this in every stream: runs of surprise are otherwise first of all a lesson in dependence (without
it 4 false alarms instead of 1 in 6 agent-days of tasks that say nothing of themselves)."""
DOUBT, QUIET = np.float32(np.exp(3.3)), np.float32(np.exp(2.3))

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


_PHI_LOW, _PHI_HIGH = np.float32(-0.3), np.float32(PHI_MAX)


def _between(x: Floats, low: Floats | np.float32, high: Floats | np.float32) -> Floats:
    """`np.clip` without its overhead, which small fleets feel."""
    bounded: Floats = np.minimum(np.maximum(x, low), high)
    return bounded


def declare(arena: Arena, streams: int, continuous: int) -> None:
    """The arrays of this file, over agents."""
    arena.declare("count", np.float32, lead=(streams,))
    arena.declare("level", np.float32, lead=(streams,))
    arena.declare("level_prior", np.float32, lead=(continuous,))
    arena.declare("spread2", np.float32, fill=PRIOR_SPREAD**2, lead=(continuous,))
    arena.declare("own2", np.float32, fill=PRIOR_SPREAD**2, lead=(continuous,))
    arena.declare("lagged", np.float32, lead=(continuous,))
    arena.declare("lagged2", np.float32, lead=(continuous,))
    arena.declare("before", np.float32, lead=(continuous,))
    arena.declare("anchor", np.float32, lead=(len(ANCHORED), continuous))
    arena.declare("anchored", np.bool_, lead=(continuous,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the place in a task says, each (continuous, n): see `cells`.

    shape   what it adds to the level · rough  how much wider innovations are here than elsewhere, as a factor
    doubt   how wrong the slope of the curve may be, in logs · times, visits  how often the type and the agent were here
    """

    shape: Floats
    rough: Floats
    doubt: Floats
    times: Floats
    visits: Floats


class Residuals:
    """One round of the continuous streams against their baselines. All arrays (continuous, n), float32."""

    def __init__(self, block: Block, x: Floats, fresh: Mask, floors: Floats, around: Surroundings | None, lent: Lent) -> None:
        """x: scaled values, 0 where missing · fresh (n,): the sample begins a task, nothing is carried over."""
        self._block = block
        level, own2 = block["level"][: len(x)], block["own2"]
        self.count = block["count"][: len(x)]
        self.expected = level if around is None else level + around.shape
        self.residual = x - self.expected
        phi = block["lagged"] / np.maximum(block["lagged2"], np.float32(1e-8))
        phi = _between(phi * (1 + 4 / (self.count + 4)), _PHI_LOW, _PHI_HIGH)
        self.phi: Floats = np.asarray(phi + (lent.memory - phi) * (lent.memory_weight / (self.count + lent.memory_weight)), dtype=np.float32)
        self.carried = block["before"] * ~fresh
        spread = np.maximum(np.sqrt(block["spread2"]), floors)
        self.own = np.maximum(np.sqrt(own2), floors)
        unknown = self.carried == 0
        scale = np.where(unknown, self.own, spread)
        innovation = self.residual - self.phi * self.carried
        self.innovation = innovation
        self.plain = self.z = innovation / scale
        if around is not None:
            scale = np.maximum(scale * _between(around.rough, np.float32(0.2), np.float32(5.0)), floors)
            scale = np.sqrt(scale**2 + np.where(unknown, 0, around.doubt) ** 2)
            self.z = innovation / scale
        self._young = 1 + 10 / (self.count + 1)
        width = self.own * (np.float32(CLIP) * self._young)
        self.bounded_residual = _between(self.residual, -width, width)

    def learn(self, seen: Mask, taught: Mask, calm: Mask) -> None:
        """Move the baselines: where the stream has a sample, may be learned, is without suspicion; all (continuous, n)."""
        block, count = self._block, self.count
        gate = taught.astype(np.float32)
        clipped, first = self.bounded_residual, count == 0
        begins = np.count_nonzero(first) > 0
        if begins:
            clipped = np.where(first, self.residual, clipped)
        weight = gate / np.minimum(count + 1 + block["level_prior"], np.float32(LEVEL_SPAN))
        level = block["level"][: len(count)]
        level += weight * clipped * np.where(calm, np.float32(1), np.float32(SUSPECT_PACE))
        gate *= ~first & calm if begins else calm
        weight = gate / np.minimum(count * np.float32(0.5) + 1, np.float32(SPREAD_SPAN))
        spread2, own2, lagged, before = block["spread2"], block["own2"], block["lagged"], block["before"]
        limit = np.float32(SPREAD_CLIP) * self.own * self._young
        floor = -limit
        bounded = _between(self.innovation, floor, limit)
        spread2 += weight * (bounded * bounded - spread2)
        bounded = _between(self.residual, floor, limit)
        own2 += weight * (bounded * bounded - own2)
        weight *= self.carried != 0
        limit = np.float32(MEMORY_CLIP) * self.own * self._young
        floor = -limit
        here, past = _between(self.residual, floor, limit), _between(self.carried, floor, limit)
        lagged += weight * (here * past - lagged)
        lagged2 = block["lagged2"]
        lagged2 += weight * (past * past - lagged2)
        limit = np.float32(6) * self.own
        np.copyto(before, _between(self.residual, -limit, limit), where=seen & ~first if begins else seen)


def trusted(block: Block, evidence: Floats, young: Mask) -> Mask:
    """Where learning goes on as usual, as far as this file has a say; evidence of the stronger direction, all (continuous, n).

    A young stream whose evidence passes `DOUBT` goes back to what was usual when it was last below `QUIET`, and is learned as a suspected one until
    it is below that again. What a fault teaches between its onset and the doubt weighs little in an old stream, but of 60 samples it is a tenth, and
    a jump that has entered spread and memory makes itself invisible (measured: 12 of 300 strong faults after 60 samples were missed, now 5).
    """
    rows, kept, anchored = len(evidence), block["anchor"], block["anchored"]
    back = (evidence >= DOUBT) & young & anchored
    if np.count_nonzero(back):
        for name, held in zip(ANCHORED, kept, strict=True):
            np.copyto(block[name][:rows], held, where=back)
        anchored &= ~back
    quiet = evidence < QUIET
    for name, held in zip(ANCHORED, kept, strict=True):
        np.copyto(held, block[name][:rows], where=quiet)
    anchored |= quiet
    sound: Mask = ~young | anchored
    return sound


def memory(arena: Arena, agents: int) -> Floats:
    """Phi of every agent, (continuous, agents)."""
    phi: Floats = np.clip(arena["lagged"][:, :agents] / np.maximum(arena["lagged2"][:, :agents], np.float32(1e-8)), -0.3, PHI_MAX)
    return phi


def learn_counts(block: Block, x: Floats, first_row: int, seen: Mask, learning: Mask) -> None:
    """The mean of each count stream, for people and ratios; calibration keeps its own record."""
    count, level = block["count"][first_row:], block["level"][first_row:]
    weight = (seen & learning) / np.minimum(count + 1, np.float32(RATE_SPAN))
    ceiling = 4 * level + 4
    level += weight.astype(np.float32) * (np.minimum(x, np.where(count == 0, x, ceiling)) - level)
