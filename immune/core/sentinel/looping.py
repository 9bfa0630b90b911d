"""Progress without change: the same tool with the same size, again and again, while context, input and latency go on.

A step that used a tool is a repeat when tool, number of calls and output size are exactly those of the agent's step before. What a model writes to
call a tool is its output, so the same call has the same size; that the context grows by it hides it from `stuck`. The bet is that of `stuck`,
against how often repeats came so far, told apart by whether the step before was one (polling comes in runs):
with q that share, taken too large by a fifth, a repeat multiplies by ``1 + STAKE (1 / q - 1)``, any other such step by ``1 - STAKE``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena, Block

STAKE = 0.5
SHARE = np.float32(0.5)
"""Of the one place among the agent's processes that this and `stuck` share."""
FIRST_REPEATS = 1.0
FIRST_CHANCES = np.array([20.0, 8.0], dtype=np.float32)[:, None]
"""Before anything is known: one repeat in so many steps, after another step and after a repeat."""
TOO_LARGE = 1.2
"""The share of repeats is taken so many times as large as it was seen."""
GROUND = np.float32(np.exp(4.0))
"""Evidence above this teaches nothing: a loop must not teach that loops are usual while it begins."""
FORGET_AT = 4000.0
CALLS = 1
"""Where the number of calls stands in ``loop_before``."""

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]


def declare(arena: Arena) -> None:
    """The arrays of this file, over agents; of the step before: tool (a code, -1 unsaid), calls, output tokens, whether it was a repeat."""
    arena.declare("loop_before", np.float32, fill=np.nan, lead=(3,))
    arena.declare("loop_again", np.bool_)
    arena.declare("loop_repeats", np.float32, lead=(2,))
    arena.declare("loop_chances", np.float32, lead=(2,))
    arena.declare("loop_sr", np.float32)
    arena.declare("loop_onset", np.int64)


def together(frozen: Floats, looped: Floats) -> Floats:
    """The e-detector of their one place: of `stuck` and of this file, each by half."""
    total: Floats = SHARE * frozen + SHARE * looped
    return total


def advance(
    block: Block,
    tool: NDArray[np.int32],
    calls: NDArray[np.float64],
    output: NDArray[np.float64],
    ready: Mask,
    learning: Mask,
    at_us: NDArray[np.int64],
    cap: np.float32,
) -> Floats:
    """Take in one sample each: code of the tool, tool calls and output tokens, NaN where missing, all (n,); returns the e-detector, (n,)."""
    sr: Floats = block["loop_sr"]
    used = (calls >= 1) | (tool >= 0)
    used &= output > 0
    if not np.count_nonzero(used):
        block["loop_again"][...] = False
        return sr
    step = np.empty((3, len(tool)), dtype=np.float32)
    step[0], step[CALLS], step[2] = tool, calls, output
    np.copyto(step[CALLS], -1, where=np.isnan(calls))
    before, again = block["loop_before"], block["loop_again"]
    repeat = np.logical_and.reduce(step == before, axis=0)
    repeat &= used
    repeats, chances = block["loop_repeats"], block["loop_chances"]
    factor: Floats | np.float32 = np.float32(1 - STAKE)
    if np.count_nonzero(repeat):
        q = (repeats + np.float32(FIRST_REPEATS)) / (chances + FIRST_CHANCES)
        q = np.minimum(np.where(again, q[1], q[0]) * np.float32(TOO_LARGE), np.float32(1))
        factor = np.where(repeat, 1 + np.float32(STAKE) * (1 / q - 1), factor)
    calm = sr < GROUND
    np.copyto(sr, np.minimum((sr + 1) * factor, cap), where=used & ready)
    np.copyto(block["loop_onset"], at_us, where=used & ~repeat)
    taught = used & learning
    taught &= calm | ~ready
    after_one = taught & again
    _count(chances, repeats, taught ^ after_one, after_one, repeat)
    np.copyto(before, step, where=used)
    again[...] = repeat
    full = chances >= FORGET_AT
    if np.count_nonzero(full):
        repeats[full] *= np.float32(0.5)
        chances[full] *= np.float32(0.5)
    return sr


def _count(chances: Floats, repeats: Floats, after_another: Mask, after_one: Mask, repeat: Mask) -> None:
    """One more chance, and where it came a repeat, after another step and after a repeat."""
    for row, taught in enumerate((after_another, after_one)):
        if np.count_nonzero(taught):
            chances[row] += taught
            repeats[row] += taught & repeat
