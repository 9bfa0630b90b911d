"""The same vitals again and again: evidence that an agent is frozen though it still answers.

A bet on "all continuous vitals are exactly as before" against how often that happened in the past: with q that share, a repeat
multiplies by ``1 + STAKE * (1 / q - 1)``, anything else by ``1 - STAKE``; its mean is 1 while repeats are as rare as they were.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena, Block

STAKE = 0.5
FIRST_GUESS = 20.0
"""Before anything is known: one repeat in this many samples."""
FORGET_AT = 4000.0
VITALS_AT_LEAST = 2

Mask = NDArray[np.bool_]


def declare(arena: Arena, vitals: int) -> None:
    """The arrays of this file, over agents."""
    arena.declare("last_value", np.float32, fill=np.nan, lead=(vitals,))
    arena.declare("repeats", np.float32, fill=1.0)
    arena.declare("chances", np.float32, fill=FIRST_GUESS)
    arena.declare("stuck_sr", np.float32)
    arena.declare("stuck_onset", np.int64)


def advance(
    block: Block, values: NDArray[np.float32], judged: Mask, learning: Mask, at_us: NDArray[np.int64], cap: np.float32
) -> NDArray[np.float32]:
    """Take in one sample each, values (vitals, n), NaN where missing; returns the e-detector, (n,)."""
    before = block["last_value"]
    told = ~np.isnan(values)
    same = values == before
    same |= ~told
    enough = np.add.reduce(told, axis=0, dtype=np.int8) >= VITALS_AT_LEAST
    repeat = np.logical_and.reduce(same, axis=0) & enough
    if np.count_nonzero(repeat):
        repeat &= (values > 0).any(axis=0)
    np.copyto(before, values, where=told)
    repeats, chances, sr = block["repeats"], block["chances"], block["stuck_sr"]
    factor: NDArray[np.float32] | np.float32 = np.float32(1 - STAKE)
    if np.count_nonzero(repeat):
        q = repeats / chances
        factor = np.where(repeat, 1 + np.float32(STAKE) * (1 / q - 1), factor)
    np.copyto(sr, np.minimum((sr + 1) * factor, cap), where=judged & enough)
    np.copyto(block["stuck_onset"], at_us, where=enough & ~repeat)
    taught = learning & enough
    if np.count_nonzero(repeat):
        repeats += repeat & taught
    chances += taught
    full = chances >= FORGET_AT
    if np.count_nonzero(full):
        repeats[full] *= np.float32(0.5)
        chances[full] *= np.float32(0.5)
    return sr
