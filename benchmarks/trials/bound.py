"""The bound: the idealised detector's run length, the product's, and what each departure from the proof costs.

The idealised detector is the product's own arithmetic (`eprocess.advance`) over exact ranks: every residual among all before it, ties
broken at random, nothing forgotten, nothing estimated. There the theorem of docs/sentinel.md holds and is checked. The departures are
switched off or on one at a time in the product, at a budget so loose that alarms can be counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from workloads import START_US, STRONG, Fleet, struck

from immune.core.sentinel import baseline, eprocess, judging, learning, peers, surprise, tail
from trials.hunts import slow, strong, sustained
from trials.watching import BUDGET, US, sentinel_over

LOOSE_BUDGET = 100.0
"""False alarms per agent-day for the ablations: 864 samples each at 1 Hz, so that a few agent-days show what changes."""
WHOLE = np.float32(eprocess.ROWS / len(eprocess.LAMBDAS))
LOOSE_THRESHOLDS = (100.0, 300.0, 864.0)


def margin(delta: float) -> list[Any]:
    """Patches that give the e-detectors another margin."""
    slopes = eprocess._SLOPES  # noqa: SLF001
    fall = -slopes * np.float32(delta) - slopes * slopes * np.float32(0.5)
    return [patch.object(eprocess, "_FALL", fall), patch.object(eprocess, "_BOTH", np.exp(2 * fall)), patch.object(eprocess, "DELTA", delta)]


def ideal(seed: int, delta: float, c: float, streams: int, runs: int) -> dict[str, Any]:
    """Run lengths of the mean e-detector over `streams` by exact ranks of t-distributed data, to a limit of 20 c (censored there)."""
    with ExitStack() as stack:
        for change in margin(delta):
            stack.enter_context(change)
        lengths = _run_lengths(np.random.default_rng([seed, 21]), c, streams, runs, round(20 * c), shift_at=None, shift=0.0)
        delays = {}
        for shift in (1.0, 2.0, 3.0):
            found = _run_lengths(np.random.default_rng([seed, 22]), 8.64e7, streams, max(20, runs // 8), 1600, shift_at=1000, shift=shift)
            delays[str(shift)] = float(np.median(found)) - 1000
    return {"delta": delta, "c": c, "sum": float(lengths.sum()), "runs": runs, "censored": int((lengths >= round(20 * c)).sum()), "delays": delays}


def _run_lengths(
    rng: np.random.Generator, c: float, streams: int, runs: int, limit: int, *, shift_at: int | None, shift: float
) -> NDArray[np.float64]:
    """Samples until the mean reaches c, (runs,); from `shift_at` on one stream has moved by `shift` sds."""
    past = np.full((streams, runs, limit), np.inf, dtype=np.float32)
    sr = np.zeros((2, eprocess.ROWS, streams, runs), dtype=np.float32)
    length = np.full(runs, float(limit))
    alive = np.arange(runs)
    for t in range(limit):
        x = rng.standard_t(5, (streams, len(alive))).astype(np.float32) / np.float32(math.sqrt(5 / 3))
        if shift_at is not None and t >= shift_at:
            x[0] += np.float32(shift)
        greater = (past[:, alive, :t] > x[:, :, None]).sum(axis=2)
        past[:, alive, t] = x
        p = (greater + rng.random(x.shape)) / (t + 1)
        g = (-ndtri(np.clip(p, surprise.MIN_P, 1 - surprise.MIN_P))).astype(np.float32)
        block = sr[:, :, :, alive]
        # the rows of `drift` and `tail` stay 0 here: without them the weights of the sizes sum to exactly 1, the tightest case
        mean = eprocess.advance(block, g, np.ones(g.shape, dtype=np.bool_), np.float32(1e30)).mean(axis=(0, 1)) * WHOLE
        sr[:, :, :, alive] = block
        done = mean >= c
        if shift_at is not None and t < shift_at:
            done[:] = False
        if done.any():
            length[alive[done]] = t + 1
            alive = alive[~done]
            if not len(alive):
                break
    return length


def run_length(seed: int, shape: str, agents: int, ticks: int, thresholds: tuple[float, ...], budget: float = BUDGET) -> dict[str, Any]:
    """The whole product on a shape: agent-samples at risk and first crossings at each threshold (in expected samples)."""
    fleet = Fleet(shape, agents, seed)
    sentinel = sentinel_over(fleet.roster, fleet.lexicon, budget)
    exposure, crossed = np.zeros(len(thresholds)), np.zeros((len(thresholds), agents), dtype=bool)
    level = np.log(np.array(thresholds))[:, None]
    for t, batch in struck(fleet, [], ticks):
        found = sentinel.observe(batch, START_US + t * US)
        exposure += (~crossed).sum(axis=1)
        crossed |= found.nats >= level
    return {"shape": shape, "set": list(thresholds), "exposure": exposure.tolist(), "alarms": crossed.sum(axis=1).tolist()}


# --- departures, one at a time


def _no_forgetting() -> list[Any]:
    return [patch.object(surprise, "FORGET_FROM", 21_000), patch.object(surprise, "FORGET_AT", 21_000)]


def _fast_forgetting() -> list[Any]:
    return [patch.object(surprise, "FORGET_AT", 256)]


def _no_whitening() -> list[Any]:
    def no_memory(self: Any, types: Any, rows: Any = None) -> Any:
        lent = lend(self, types, rows)
        lent.memory[...] = 0
        return lent

    lend = peers.Peers.lent
    zero = np.float32(0)
    return [patch.object(baseline, "_PHI_LOW", zero), patch.object(baseline, "_PHI_HIGH", zero), patch.object(peers.Peers, "lent", no_memory)]


def _no_widening() -> list[Any]:
    return [patch.object(surprise, "widening", lambda own, count, lent: np.ones_like(own))]


def _nothing_borrowed() -> list[Any]:
    def alone(self: Any, types: Any, rows: Any = None) -> Any:
        lent = lend(self, types, rows)
        np.minimum(lent.borrowed, np.float32(1e-3), out=lent.borrowed)
        np.minimum(lent.depth, np.float32(1e-3), out=lent.depth)
        return lent

    lend = peers.Peers.lent
    return [patch.object(peers.Peers, "lent", alone)]


def _always_learning() -> list[Any]:
    huge = np.float32(1e30)
    return [
        patch.object(judging, "HOLD_SHARE", 1e6),
        patch.object(learning, "GROUND", huge),
        patch.object(learning, "GROUND_LOOSE", huge),
        patch.object(baseline, "SUSPECT_PACE", 1.0),
    ]


def _no_tail() -> list[Any]:
    return [patch.object(tail, "advance", lambda *arguments: None)]


DEPARTURES: dict[str, Callable[[], list[Any]]] = {
    "as it is": list,
    "nothing forgotten": _no_forgetting,
    "calibration remembers 256 samples only": _fast_forgetting,
    "no whitening": _no_whitening,
    "no widening by block variance": _no_widening,
    "nothing borrowed from peers": _nothing_borrowed,
    "learning never stops": _always_learning,
    "no tail model beyond the ranks": _no_tail,
    "no margin (delta = 0)": lambda: margin(0.0),
}


@contextmanager
def departed(name: str) -> Iterator[None]:
    """The product with one departure switched, for the time of the block."""
    with ExitStack() as stack:
        for change in DEPARTURES[name]():
            stack.enter_context(change)
        yield


def departure(name: str, shape: str, seed: int, agents: int, ticks: int) -> dict[str, Any]:
    """Run lengths of a healthy fleet at the loose budget."""
    with departed(name):
        return {"departure": name, **run_length(seed, shape, agents, ticks, LOOSE_THRESHOLDS, LOOSE_BUDGET)}


def departure_power(name: str, seed: int) -> dict[str, Any]:
    """What the same switch does to finding: strong faults after 60 and 900 samples, slow harm, faults that last an hour."""
    with departed(name):
        young, old, creeping, lasting = strong(seed, 60), strong(seed, 900), slow(seed), sustained(seed)
    return {
        "departure": name,
        "young": [delay for _, delay in young["delays"]],
        "old": [delay for _, delay in old["delays"]],
        "slow": [delay for _, delay in creeping["delays"]],
        "held": lasting["held"],
        "lasting": len(STRONG),
    }
