"""What is learned from one chunk after it was judged: calibration and ranks, levels and spreads, and what its place adds.

Nothing is learned from agents whose learning stopped (`Judgement.learning`), and little from streams under suspicion: what a fault shows must
not become normal by lasting.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel import baseline, surprise
from immune.core.sentinel.judging import Judgement
from immune.core.sentinel.memory import Memory
from immune.core.sentinel.reading import Reading

GROUND = np.float32(math.exp(4.0))
"""A stream with evidence above this teaches its spread, memory and calibration nothing, its level a quarter."""
GROUND_LOOSE = np.float32(math.exp(9.0))
"""The looser ground: for young streams and those whose type remembers itself (runs of surprise are first of all a lesson in dependence), and for
counts (leaving out lucky hits would make the next ones look rarer than they are: measured, 36 false alarms where there were none)."""
KNOWN_FROM = 60
"""Until this many samples a stream is young in this sense."""
HONEST_FROM = 200
"""From this many samples on the block variance learns from suspected samples too: rare long runs belong to it (measured: 34 false alarms in
11 agent-days of tasks that say nothing of themselves became 1); before, a fault of a young agent would pass for dependence."""

Mask = NDArray[np.bool_]


def learn(memory: Memory, reading: Reading, judgement: Judgement) -> None:
    """Take one chunk into the baselines of its agents, their types and their places."""
    block, smooth, count = reading.block, memory.table.continuous, reading.block["count"]
    residuals, learning = judgement.residuals, judgement.learning
    calm = _calm(reading, judgement, smooth)
    taught = judgement.told & learning
    settled = taught & calm & (count >= 3)
    surprise.learn_calibration(block, judgement.raw, judgement.judged & learning & (calm | (count >= HONEST_FROM)))
    surprise.learn_ranks(block, judgement.bins, settled)
    memory.peers.learn(reading.types, judgement.bins, settled)
    residuals.learn(reading.seen[:smooth], taught[:smooth], calm[:smooth])
    baseline.learn_counts(block, reading.x[smooth:], smooth, reading.seen[smooth:], learning)
    count += taught
    if reading.place is not None or reading.where is not None:
        _learn_places(memory, reading, judgement, calm[:smooth])
    for name in ("samples", "turn"):
        block[name] += 1


def _calm(reading: Reading, judgement: Judgement, smooth: int) -> Mask:
    """Streams that nothing speaks against, or too little to leave them out, (streams, n)."""
    block, lent = reading.block, reading.lent
    count, evidence = block["count"], np.maximum(*judgement.evidence)
    loose = (count < KNOWN_FROM) | lent.dependent
    calm: Mask = evidence < np.where(loose, GROUND_LOOSE, GROUND)
    young = count[:smooth] < baseline.YOUNG
    if np.count_nonzero(young):
        steady = ~np.logical_or.reduce(lent.dependent[:smooth] | (lent.calibration[:smooth] >= baseline.STEADY), axis=0)
        young &= steady & ~loose[:smooth]
        calm[:smooth] &= baseline.trusted(block, evidence[:smooth], young)
    return calm


def _learn_places(memory: Memory, reading: Reading, judgement: Judgement, calm: Mask) -> None:
    """What the samples say of their place in the task, their model and their tool."""
    block, residuals, smooth = reading.block, judgement.residuals, len(calm)
    learned = reading.seen[:smooth] & judgement.learning & calm
    rest = np.where(block["count"][:smooth] > 3, residuals.bounded_residual, np.float32(0))
    if reading.place is not None:
        memory.cells.learn(reading.place, judgement.grown.T, rest.T, np.abs(residuals.plain).T, learned.T)
    if reading.where is not None:
        memory.contexts.learn(reading.where, rest, learned, block["turn"], block["level"][:smooth])
