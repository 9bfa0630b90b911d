"""Other detectors on the same samples: rules that people write first, and river's detectors at their defaults.

The rules are vectorised over the fleet and look at every vital as it is. River's look at one agent and vital at a time, at
``log1p`` of sizes (which favours them), and are Python objects, so they watch a part of each fleet; every table says how large.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from immune.core.vitals import SampleBatch
from trials.watching import SCHEMA

SIMPLE = ("3-sigma", "6-sigma of logs", "EWMA", "frozen 15")
RIVER = ("ADWIN", "PageHinkley", "HalfSpaceTrees")
LEARN_FIRST = 15
HST_QUANTILE = 0.999
UNITS = np.where(np.array(SCHEMA.names) == "cost_usd", 1e6, 1.0)

Mask = NDArray[np.bool_]


class SimpleRules:
    """A 3-sigma point rule; the same at 6 sigma of ``log1p``, which by the normal law alarms once in 5 years of one vital at 1 Hz; an EWMA z
    rule (span 50, 5-sample window) that learns before it checks; a baseline frozen after 15 samples.
    """

    names = SIMPLE

    def __init__(self, agents: int) -> None:
        shape = (agents, len(SCHEMA))
        self.count = np.zeros((agents, 1))
        self.mean, self.square = np.zeros((2, *shape)), np.zeros((2, *shape))
        self.slow, self.slow2, self.fast = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.first, self.first2 = np.zeros(shape), np.zeros(shape)

    def see(self, batch: SampleBatch) -> Mask:
        """Who alarms, (rules, agents); each rule scores and learns in its own order."""
        alarms = np.zeros((len(SIMPLE), len(self.count)), dtype=bool)
        rows, x = batch.agent, np.nan_to_num(batch.values)
        n = self.count[rows]
        known = n[:, 0] >= LEARN_FIRST
        for rule, (wide, scaled) in enumerate(((3, x), (6, np.log1p(np.abs(x) * UNITS)))):
            mean, square = self.mean[rule, rows], self.square[rule, rows]
            sd = np.sqrt(np.maximum(square / np.maximum(n - 1, 1), 1e-12))
            alarms[rule, rows] = known & (np.abs(scaled - mean) > wide * sd).any(axis=1)
            step = scaled - mean
            self.mean[rule, rows] = mean = mean + step / (n + 1)
            self.square[rule, rows] = square + step * (scaled - mean)
        weight = np.maximum(2 / 51, 1 / (n + 1))
        slow, slow2 = self.slow[rows], self.slow2[rows]
        self.slow[rows] = slow = slow + weight * (x - slow)
        self.slow2[rows] = slow2 = slow2 + weight * (x * x - slow2)
        self.fast[rows] = fast = self.fast[rows] + np.maximum(1 / 3, 1 / (n + 1)) * (x - self.fast[rows])
        spread = np.sqrt(np.maximum(slow2 - slow * slow, 1e-12))
        alarms[2, rows] = known & (np.abs(fast - slow) > 3 * spread).any(axis=1)
        early = n < LEARN_FIRST
        self.first[rows] += np.where(early, x, 0) / LEARN_FIRST
        self.first2[rows] += np.where(early, x * x, 0) / LEARN_FIRST
        first = self.first[rows]
        frozen = np.sqrt(np.maximum(self.first2[rows] - first * first, 1e-12))
        alarms[3, rows] = known & (np.abs(fast - first) > 3 * frozen).any(axis=1)
        self.count[rows] += 1
        return alarms


class RiverRules:
    """River's ADWIN and PageHinkley on every vital, HalfSpaceTrees with a quantile filter on all vitals together; the first `agents` agents."""

    names = RIVER

    def __init__(self, agents: int) -> None:
        from river import anomaly, compose, drift, preprocessing

        self.agents = agents
        self._single: list[list[list[Any]]] = [[[make() for _ in SCHEMA.specs] for _ in range(agents)] for make in (drift.ADWIN, drift.PageHinkley)]
        self._joint = [
            (compose.Pipeline(preprocessing.MinMaxScaler()), anomaly.QuantileFilter(anomaly.HalfSpaceTrees(seed=agent), q=HST_QUANTILE))
            for agent in range(agents)
        ]
        self._seen = np.zeros(agents, dtype=int)

    def see(self, batch: SampleBatch) -> Mask:
        """Who alarms, (rules, agents watched)."""
        alarms = np.zeros((len(RIVER), self.agents), dtype=bool)
        some = batch.agent < self.agents
        sizes = np.log1p(np.abs(batch.values[some]) * UNITS)
        for agent, row in zip(batch.agent[some].tolist(), sizes.tolist(), strict=True):
            told = {name: value for name, value in zip(SCHEMA.names, row, strict=True) if value == value}  # noqa: PLR0124 - NaN means unsaid
            for rule, detectors in enumerate(self._single):
                for detector, value in zip(detectors[agent], row, strict=True):
                    if value == value:  # noqa: PLR0124
                        detector.update(value)
                        alarms[rule, agent] |= detector.drift_detected
            scaler, trees = self._joint[agent]
            scaler.learn_one(told)
            scaled = scaler.transform_one(told)
            if self._seen[agent] > 250:
                alarms[2, agent] = trees.classify(trees.score_one(scaled))
            trees.learn_one(scaled)
            self._seen[agent] += 1
        return alarms
