"""Evidence that adds up: Shiryaev-Roberts e-detectors for surprise g that is N(0, 1) when healthy.

``SR_t = (SR_{t-1} + 1) * exp(lambda * (s * g_t - delta) - lambda^2 / 2)`` for each size lambda, sign s and stream. While the mean
shift is at most delta, the factor has mean at most 1, so ``SR_t - t`` is a supermartingale, and so is that of any weighted mean of
them, whatever the dependence between streams: the expected number of samples to ``mean >= c`` is at least c
(Shin, Ramdas, Rinaldo, *E-detectors*, 2024; Pollak 1985). Putting an SR back to 0 at any time only lowers it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena

LAMBDAS = (0.3, 0.7, 1.4, 2.2, 3.2)
DELTA = 0.25
HEADROOM_NATS = 7.0
"""An SR is capped this far above what alone makes an alarm: a long incident stays bounded."""

DRIFT_FIRST = len(LAMBDAS)
DRIFT_PACES = (0.8, 2.0)
"""Sizes of the processes of `drift`, in sds of a block's mean."""
TAIL_ROW = DRIFT_FIRST + len(DRIFT_PACES)
ROWS = TAIL_ROW + 1
"""Processes of a stream and direction: one for each size, then those of `drift`, then that of `tail`."""

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SLOPES = np.array(LAMBDAS, dtype=np.float32)[:, None, None]
_FALL = -_SLOPES * np.float32(DELTA) - _SLOPES * _SLOPES * np.float32(0.5)
_SHARE = np.float32(1 / ROWS)
_BOTH = np.exp(2 * _FALL)


def declare(arena: Arena, streams: int) -> None:
    """The arrays of this file, over agents: sign 0 is up, 1 is down."""
    arena.declare("sr", np.float32, lead=(2, ROWS, streams))


def alarm_nats(period_s: float, false_alarms_per_agent_day: float) -> float:
    """Ln of the expected samples to a false alarm that the budget asks for: ``ln(86,400 / period / budget)``."""
    return math.log(86_400.0 / period_s / false_alarms_per_agent_day)


def cap_for(threshold_nats: float, processes: int) -> np.float32:
    """Where a single SR stops growing."""
    return np.float32(math.exp(min(80.0, threshold_nats + math.log(len(LAMBDAS) * processes) + HEADROOM_NATS)))


def advance(sr: Floats, g: Floats, seen: Mask, cap: np.float32, bets: Floats | None = None) -> Floats:
    """Take in one sample of each stream: sr (2, ROWS, streams, n) is changed; returns the mean over rows, (2, streams, n).

    bets (k, m, n), e-values of mean at most 1, stand in for the k largest lambdas, upwards, of the last m streams.
    """
    up = np.multiply(_SLOPES, g)
    up += _FALL
    np.exp(up, out=up)
    down = np.divide(_BOTH, up)
    if bets is not None:
        up[-bets.shape[0] :, -bets.shape[1] :] = bets
    swift = sr[:, : len(LAMBDAS)]
    if np.count_nonzero(seen) == seen.size:
        swift += np.float32(1)
    else:
        missing = ~seen
        np.copyto(up, np.float32(1), where=missing)
        np.copyto(down, np.float32(1), where=missing)
        swift += seen.astype(np.float32)
    swift[0] *= up
    swift[1] *= down
    np.minimum(swift, cap, out=swift)
    mean: Floats = np.add.reduce(sr, axis=1) * _SHARE
    return mean
