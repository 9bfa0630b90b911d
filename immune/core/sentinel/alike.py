"""How alike the steps of one task are, learned by type: what a long task's mean says more than a short one's.

The mean of n steps of a task has variance ``between + within / n``. With ``alike = between / within`` a task of n steps says as much as
``n / (1 + n alike)`` independent steps. Weighted least squares of squared distances from what is usual on 1/n give both parts, weights
``1 / variance^2`` as far as it is known; `GUESSED` tasks that a guess made up come first. Distances are in the agent's own variance
at its usual number of steps, so that agents of a type need not be equally noisy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena

ALIKE = 1 / 64
"""The guess: at 64 steps a task counts half of them."""
ALIKE_MIN, ALIKE_MAX = 1 / 1000, 0.5
GUESSED = 60.0
"""Tasks that the guess counts for: to tell 1/64 from 0 takes about 250."""
SPAN = 2000.0
"""Tasks that are remembered."""
OUTLIER = 9.0
"""A squared distance counts for at most so many times what is expected of it."""
_SUMS = 5
_SPREAD = np.array([1 / 3, 1.0, 3.0])

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Types = NDArray[np.int32]


def declare(arena: Arena) -> None:
    """The array of this file, over types: sums of the weights w, of w/n, w/n^2, w square, w square/n."""
    arena.declare("alike", np.float32, trail=(_SUMS,))


def of_types(arena: Arena, types: Types) -> Floats:
    """Between over within for agents of these types, (n,)."""
    weight, per, per2, square, square_per = arena["alike"][types].T
    between, within = square * per2 - square_per * per, square_per * weight - square * per
    known = (weight > 0) & (within > 0)
    ratio = np.where(known, between / np.where(known, within, 1), np.where(weight > 0, np.float32(ALIKE_MAX), np.float32(ALIKE)))
    alike: Floats = np.minimum(np.maximum(ratio, np.float32(ALIKE_MIN)), np.float32(ALIKE_MAX)).astype(np.float32)
    return alike


def learn(arena: Arena, types: Types, steps: Floats, usual: Floats, expected: Floats, square: Floats) -> None:
    """Take in n tasks: their types, steps, the usual steps of their agents, and their squared distance, expected and measured, each (n,)."""
    if not len(types):
        return
    sums = arena["alike"]
    codes, place, times = np.unique(types, return_inverse=True, return_counts=True)
    new = sums[codes, 0] == 0
    if np.count_nonzero(new):
        sums[codes[new]] = _guess((np.bincount(place, usual) / times)[new])
    sums[codes] *= (1 - np.minimum(times / SPAN, 0.5))[:, None].astype(np.float32)
    told = np.minimum(square, OUTLIER * expected)
    np.add.at(sums, types, _summands(expected, 1 / steps, told).astype(np.float32))


def _guess(usual: Doubles) -> Doubles:
    """Sums of made up tasks of a third of, just and three times the usual steps, (types,): they show exactly `ALIKE`."""
    per = 1 / (usual[:, None] * _SPREAD + 0.5)
    expected = (ALIKE + per) / (ALIKE + 1 / usual[:, None])
    total: Doubles = GUESSED / len(_SPREAD) * _summands(expected, per, expected).sum(axis=1)
    return total


def _summands(expected: NDArray[np.floating], per: NDArray[np.floating], square: NDArray[np.floating]) -> Doubles:
    weight = np.asarray(expected, dtype=np.float64) ** -2
    return np.stack([weight, weight * per, weight * per * per, weight * square, weight * square * per], axis=-1)
