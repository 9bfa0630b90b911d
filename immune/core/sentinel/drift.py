"""Slow harm: means of blocks of samples against a reference that hardly moves, where the baseline of `baseline` follows within minutes.

A leak, a creep or a frog that is boiled slowly moves the adaptive level along with it. Here the residual against a reference of
`REFERENCE_SPAN` samples is averaged over `BLOCK` samples; with v the variance of such means (from differences of neighbours, so that a
drift does not widen it) ``g = (|mean| - TOLERANCE) / sqrt(v)``, capped, drives two more Shiryaev-Roberts processes of the stream, for each pace
``SR <- (SR + BLOCK) exp(pace (±g - MARGIN) - pace^2 / 2)`` once a block. Adding `BLOCK` once a block is adding 1 a sample: ``SR_t - t`` is a
supermartingale in samples, like those of the other rows that `eprocess` averages (adding 1 a block threw ln 32 = 3.5 nats away).

Real traffic has tides: answers grow and shrink by half within hours, in every agent at a time of its own. So the tolerance is at least `WANDER`
times how far the other agents of the type wander (`wander`). An agent that is nobody's like has no such yardstick.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena, Block
from immune.core.sentinel.eprocess import DRIFT_FIRST, DRIFT_PACES
from immune.core.sentinel.surprise import Lent

BLOCK = 32
REFERENCE_FROM = 300
REFERENCE_SPAN = 2500.0
SETTLING = 2.0
"""A sample moves the reference by ``1 / (SETTLING n + 1)`` of its distance until that is ``1 / REFERENCE_SPAN``: what 300 samples said was one phase
of a tide more often than not. Half the pace of a mean of all samples, so that a fault which begins early does not take its own reference along."""
APART = 2.0
OLD_AT = 1500.0
"""Until so many samples the agent may also be, less and less, as far from its reference as twice the distance at which the levels of its type lie
apart: agents that are alike and wander are found at many levels."""
TOLERANCE = 0.08
"""A day's tide and the reference's own error, in logs: slower or smaller moves are no drift."""
MARGIN = 0.15
"""On top of the tolerance: the block variance is itself a guess."""
G_MAX = 4.5
VARIANCE_SPAN = 20.0
SLOW_SPAN = 8.0
"""Blocks that an agent's slow deviation remembers; without any wandering it keeps ``1 / (2 SLOW_SPAN - 1)`` of a block's variance."""
WANDER = 5.0
"""An agent may be so many times as far away as the others of its type wander: nobody is asked to be steadier than they are."""
WANDER_ROUNDS = 32
WANDER_FROM = 8
"""Agents of a type from which on it has a wandering of its own; below, that of the whole fleet stands in."""
TRIMMED = 0.15
"""The largest deviations do not count: the sick must not excuse the sick."""
WANDER_FADE = 0.996
"""In 32 rounds; what a type was once seen to do is remembered for about two hours at 1 Hz."""
VARIANCE_MIN = 0.03**2
ROWS = slice(DRIFT_FIRST, DRIFT_FIRST + len(DRIFT_PACES))

_PACES = np.array(DRIFT_PACES, dtype=np.float32)[:, None]
_FALL = -_PACES * np.float32(MARGIN) - _PACES * _PACES * np.float32(0.5)

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def declare(arena: Arena, continuous: int) -> None:
    """The arrays of this file, over agents."""
    arena.declare("reference", np.float32, fill=np.nan, lead=(continuous,))
    arena.declare("drift_sum", np.float32, lead=(continuous,))
    arena.declare("drift_left", np.uint8, fill=BLOCK, lead=(continuous,))
    arena.declare("drift_mean", np.float32, fill=np.nan, lead=(continuous,))
    arena.declare("drift_variance", np.float32, lead=(continuous,))
    arena.declare("drift_slow", np.float32, lead=(continuous,))


def advance(block: Block, residual: Floats, phi: Floats, told: Mask, taught: Mask, lent: Lent, cap: np.float32) -> None:
    """Take in one sample of the continuous streams: residual against the adaptive level and its memory phi, told where it may be judged,
    taught where learned. All (continuous, n).
    """
    rows = len(residual)
    level, count, reference = block["level"][:rows], block["count"][:rows], block["reference"]
    fresh = (count >= REFERENCE_FROM) & np.isnan(reference)
    if np.count_nonzero(fresh):
        np.copyto(reference, level, where=fresh)
        memory = np.maximum((1 + phi) / (1 - phi), block["calibration"][:rows])
        np.copyto(block["drift_variance"], block["own2"] * np.maximum(memory, 1) * np.float32(1.5 / BLOCK), where=fresh)
    known = told & (count >= REFERENCE_FROM)
    if not np.count_nonzero(known):
        return
    above = residual + (level - reference)
    total, left = block["drift_sum"], block["drift_left"]
    width = 5 * np.sqrt(block["own2"]) + 1
    bounded = np.minimum(np.maximum(above, -width), width)
    np.add(total, bounded, out=total, where=known)
    np.subtract(left, known.view(np.uint8), out=left)
    span = np.minimum(count * np.float32(SETTLING) + np.float32(1), np.float32(REFERENCE_SPAN))
    np.add(reference, bounded / span, out=reference, where=known & taught)
    full = left == 0
    if np.count_nonzero(full):
        _close(block, full, lent, cap)


def _close(block: Block, full: Mask, lent: Lent, cap: np.float32) -> None:
    rows, columns = np.nonzero(full)
    mean = block["drift_sum"][rows, columns] / np.float32(BLOCK)
    apart = mean - lent.common[rows, columns]
    unruly = np.maximum(np.float32(0.4) * lent.calibration[rows, columns] + np.float32(0.4), np.float32(1))
    variance, before = block["drift_variance"][rows, columns], block["drift_mean"][rows, columns]
    wide = np.sqrt(np.maximum(variance, np.float32(VARIANCE_MIN)) * unruly)
    young = np.maximum((OLD_AT - block["count"][rows, columns]) * np.float32(1 / (OLD_AT - REFERENCE_FROM)), 0)
    allowed = np.maximum(np.float32(WANDER) * lent.wander[rows, columns], np.float32(APART) * young * lent.apart[rows, columns])
    allowed = np.maximum(allowed, np.float32(TOLERANCE))
    g = np.sign(apart) * np.minimum(np.maximum(np.abs(apart) - allowed, 0) / wide, np.float32(G_MAX))
    sr = block["sr"]
    for sign, direction in enumerate((g, -g)):
        held = sr[sign, ROWS][:, rows, columns]
        sr[sign, ROWS][:, rows, columns] = np.minimum((held + np.float32(BLOCK)) * np.exp(_PACES * direction + _FALL), cap)
    step = np.nan_to_num(mean - before)
    moved = np.minimum(step * step / 2, 9 * np.maximum(variance, np.float32(VARIANCE_MIN)))
    known = ~np.isnan(before)
    block["drift_variance"][rows, columns] = np.where(known, variance + (moved - variance) * np.float32(1 / VARIANCE_SPAN), variance)
    slow = block["drift_slow"][rows, columns]
    block["drift_slow"][rows, columns] = slow + (apart - slow) * np.float32(1 / SLOW_SPAN)
    block["drift_mean"][rows, columns] = mean
    block["drift_sum"][rows, columns] = 0
    block["drift_left"][rows, columns] = BLOCK


def wander(arena: Arena, types: NDArray[np.int32], held: Floats) -> None:
    """How far the agents of each type wander from their references, each by itself: the mean square of their slow deviations without the
    largest ones and beyond the noise, into held, (types, continuous). Real traffic has tides that every agent meets at a time of its own.
    """
    size = arena.size
    known = ~np.isnan(arena["drift_mean"][:, :size])
    square = np.where(known, arena["drift_slow"][:, :size] ** 2, np.float32(np.inf))
    noise = np.where(known, arena["drift_variance"][:, :size] * np.float32(1 / (2 * SLOW_SPAN - 1)), 0)
    everyone = _beyond_noise(square, noise, known)
    order = np.argsort(types, kind="stable")
    firsts = np.searchsorted(types[order], np.arange(len(held) + 1))
    for code, (first, last) in enumerate(pairwise(firsts)):
        mine = order[first:last]
        now = everyone
        if len(mine) >= WANDER_FROM:
            own = _beyond_noise(square[:, mine], noise[:, mine], known[:, mine])
            now = np.where(np.count_nonzero(known[:, mine], axis=1) >= WANDER_FROM, own, everyone)
        np.maximum(now, held[code] * np.float32(WANDER_FADE), out=held[code])


def _beyond_noise(square: Floats, noise: Floats, known: Mask) -> Floats:
    """Mean of each row of squares without its largest (at least one), less the mean noise; 0 where fewer than three are left."""
    n = np.count_nonzero(known, axis=1)
    kept = n - np.maximum(np.ceil(TRIMMED * n), 1).astype(np.intp)
    ordered = np.sort(square, axis=1)
    smallest = np.arange(square.shape[1]) < kept[:, None]
    mean = np.where(smallest, ordered, 0).sum(axis=1) / np.maximum(kept, 1)
    beyond = np.maximum(mean - noise.sum(axis=1) / np.maximum(n, 1), 0)
    return np.where(kept >= 3, beyond, 0).astype(np.float32)


def start_anew(arena: Arena, agents: NDArray[np.intp]) -> None:
    """What these agents do now is the reference: a shared cause that has passed may have left them changed."""
    for name in ("reference", "drift_sum", "drift_left", "drift_mean", "drift_slow"):
        arena.refill(name, agents)
    arena["sr"][:, ROWS, :, agents] = 0


def still(block: Block, columns: NDArray[np.intp]) -> tuple[Mask, Mask]:
    """Which streams of these agents were beyond the tolerance in their last block, up and down, each (continuous, n)."""
    mean = block["drift_mean"][:, columns]
    return mean > TOLERANCE, mean < -TOLERANCE
