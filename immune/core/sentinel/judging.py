"""One chunk of samples as judged: innovation -> surprise -> evidence -> the agent's statistic, and who may be learned from.

Scores only: nothing that is judged here was learned from the same samples. What baselines take from them afterwards is in `learning`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel import baseline, drift, episodes, eprocess, kin, looping, standing, stuck, surprise, tail
from immune.core.sentinel.arena import Block
from immune.core.sentinel.cells import SAY_FROM
from immune.core.sentinel.reading import Reading
from immune.core.sentinel.streams import StreamTable

HOLD_SHARE = 0.5
"""Learning stops at this share of the threshold, in nats."""

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What evidence is held against.

    threshold_nats  where it becomes an alarm · cap  where a process stops to grow, in expected samples
    period_s        the fleet's clock: the usual time between samples · min_samples  from which on a stream is judged
    """

    threshold_nats: float
    cap: np.float32
    period_s: float
    min_samples: int

    @property
    def hold_nats(self) -> float:
        """Where learning stops."""
        return HOLD_SHARE * self.threshold_nats


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One chunk of n samples as scored.

    bins, raw      (streams, n): where the residual lies among past ones, and its surprise before any widening
    judged, told   (streams, n): samples that count as evidence, and those that may teach a baseline
    evidence       (2, streams, n): mean e-detector, up and down
    learning       (n,): agents that are learned from · grown  (continuous, n): growth within the task
    """

    residuals: baseline.Residuals
    bins: NDArray[np.int8]
    raw: Floats
    judged: Mask
    told: Mask
    evidence: Floats
    learning: Mask
    grown: Floats


def judge(reading: Reading, table: StreamTable, bar: Bar) -> Judgement:
    """Score one chunk; every process of its agents advances by one sample."""
    block, x, smooth, around, lent = reading.block, reading.x, table.continuous, reading.around, reading.lent
    grown = standing.task_growth(block, x[:smooth], reading.seen[:smooth], reading.step, reading.steps)
    residuals = baseline.Residuals(block, x[:smooth], reading.steps == 0, table.floors, around, lent)
    count = block["count"]
    known = count >= bar.min_samples
    judged = reading.seen & known
    bins = np.concatenate([surprise.z_bins(residuals.z), surprise.count_bins(x[smooth:])])
    raw = surprise.surprise(surprise.p_values(block, bins, lent, reading.uniform))
    g = raw * np.sqrt(count / (count + lent.humble))
    wide: Floats = surprise.widening(block["calibration"], count, lent)
    g /= wide
    told = reading.seen if around is None else reading.seen.copy()
    if around is not None:
        times, visits = around.times, around.visits
        g[:smooth] *= np.sqrt(times / (times + 3) * (visits + 1) / (visits + 4))
        judged[:smooth] &= times >= SAY_FROM
        told[:smooth] &= (times >= SAY_FROM) | (reading.step <= 0)
    np.copyto(g, 0, where=~judged)
    kin.advance(block, np.concatenate([residuals.residual + block["level"][:smooth], x[smooth:]]), told, smooth)
    bets = surprise.rare_bets(block, bins[smooth:], smooth, lent)
    learning = ~block["held"] & ((block["nats"] < bar.hold_nats) | standing.probing(block))
    drift.advance(block, residuals.residual, residuals.phi, reading.seen[:smooth] & told[:smooth], told[:smooth] & learning, lent, bar.cap)
    tail.advance(block, residuals.z, judged[:smooth], learning, lent, wide[:smooth], bar.cap)
    evidence = eprocess.advance(block["sr"], g, judged, bar.cap, bets)
    repeating = _repeating(reading, table, learning, bar)
    expected = _expected(block, residuals, evidence, smooth)
    nats = _nats(block, evidence * table.counted, repeating, known, bar)
    standing.advance(block, evidence, g, judged, reading.seen, x - expected, expected, nats, reading.at_us, bar.threshold_nats)
    return Judgement(residuals=residuals, bins=bins, raw=raw, judged=judged, told=told, evidence=evidence, learning=learning, grown=grown)


def _repeating(reading: Reading, table: StreamTable, learning: Mask, bar: Bar) -> Floats:
    """Evidence that an agent is stuck or goes in circles, (n,)."""
    block, values = reading.block, reading.values
    ready = block["samples"] >= bar.min_samples
    frozen = stuck.advance(block, reading.repeats, ready, learning, reading.at_us, bar.cap)
    calls, output = values[table.tool_column], values[table.output_column]
    looped = looping.advance(block, reading.tool, calls, output, ready, learning, reading.at_us, bar.cap)
    return looping.together(frozen, looped)


def _expected(block: Block, residuals: baseline.Residuals, evidence: Floats, smooth: int) -> Floats:
    """What was expected of each stream, (streams, n): where the drift process says most, what its slow reference expected."""
    slow = np.maximum.reduce(block["sr"][:, drift.ROWS, :smooth], axis=(0, 1)) > np.maximum(*evidence[:, :smooth])
    usual = residuals.expected + np.where(slow, block["reference"] - block["level"][:smooth], np.float32(0))
    return np.concatenate([usual, block["level"][smooth:]])


def _nats(block: Block, counted: Floats, repeating: Floats, known: Mask, bar: Bar) -> Floats:
    """Ln of the mean over streams, signs and the stall process, on the scale of the fleet's clock.

    An agent with another pace than the period has another number of samples a day, hence another threshold; the difference
    is taken off here, so that one threshold serves all.
    """
    active = np.maximum(np.add.reduce(known, axis=0, dtype=np.float32), np.float32(1))
    total = np.add.reduce(counted.reshape(-1, len(active)), axis=0) + repeating
    statistic = episodes.mix(block, total / (2 * active + 1))
    paced = block["pace_count"] >= bar.min_samples
    pace = np.where(paced, np.minimum(np.maximum(block["pace"], np.float32(0.001)), np.float32(600)), np.float32(bar.period_s))
    nats: Floats = np.log(np.maximum(statistic, np.float32(1e-3)) * (pace * np.float32(1 / bar.period_s)))
    return nats
