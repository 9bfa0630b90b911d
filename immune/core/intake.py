"""The gate at the edge: which samples may reach a baseline, and what is counted instead.

A sample is taken whole or not at all: one absurd vital means that the others cannot be trusted either. NaN stands for
"the sample does not say" and is fine. Only what is taken moves an agent's clock forward.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from immune.core.vitals import Roster, SampleBatch, VitalSchema

NEVER_US = np.iinfo(np.int64).min
"""The last time of an agent that has not been heard of."""

REASONS: tuple[str, ...] = ("unknown_agent", "infinite", "negative", "absurd", "future", "late", "duplicate")
"""Why a sample is rejected, in the order in which the reasons are tried; each sample counts under one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """The samples that were taken, ordered by time within each agent, and how many were not, by reason."""

    batch: SampleBatch
    rejected: dict[str, int] = field(default_factory=dict)


class Intake:
    """Screens batches for one roster; remembers the time of each agent's last good sample.

    `max_skew_us` is how far ahead of `now` a source's clock may be.
    """

    def __init__(self, roster: Roster, schema: VitalSchema, max_skew_us: int) -> None:
        self.roster = roster
        self.max_skew_us = max_skew_us
        self._limits = np.array([spec.max_value for spec in schema.specs])
        self._last_us = np.full(max(64, len(roster)), NEVER_US, dtype=np.int64)

    @property
    def last_us(self) -> NDArray[np.int64]:
        """Time of the last sample taken of each agent, shape (agents,), `NEVER_US` before the first. A copy."""
        self._grow()
        return self._last_us[: len(self.roster)].copy()

    def recall(self, last_us: NDArray[np.int64]) -> None:
        """Remember again how far each agent, in roster order, had been read before a restart."""
        self._grow()
        np.maximum(self._last_us[: len(last_us)], last_us, out=self._last_us[: len(last_us)])

    def accept_earlier_clock(self, now_us: int) -> int:
        """Take back times that lie further ahead than any source's clock may: then it was ours that lied, and has been set right.

        Without that every agent would be late, hence unseen, until the clock has caught up. How many agents it was.
        """
        self._grow()
        ahead = self._last_us > now_us + self.max_skew_us
        self._last_us[ahead] = now_us
        return int(ahead[: len(self.roster)].sum())

    def screen(self, batch: SampleBatch, now_us: int) -> Screened:
        """What may be scored of this batch. An already ordered batch without faults is returned as it is."""
        if not len(batch):
            return Screened(batch=batch)
        self._grow()
        rejected: dict[str, int] = {}
        batch = self._without_broken(batch, now_us, rejected)
        if _goes_back(batch.at_us):
            batch = batch.take(np.argsort(batch.at_us, kind="stable"))
        batch = self._without_stale(batch, rejected)
        np.maximum.at(self._last_us, batch.agent, batch.at_us)
        return Screened(batch=batch, rejected=rejected)

    def _grow(self) -> None:
        short = len(self.roster) - len(self._last_us)
        if short > 0:
            room = max(short, len(self._last_us))
            self._last_us = np.concatenate([self._last_us, np.full(room, NEVER_US, dtype=np.int64)])

    def _without_broken(self, batch: SampleBatch, now_us: int, rejected: dict[str, int]) -> SampleBatch:
        values, agent = batch.values, batch.agent
        future = batch.at_us > now_us + self.max_skew_us
        foreign = agent.view(np.uint32) >= len(self.roster)
        # Comparisons with NaN are false, so two passes over the values settle the usual case.
        outside = _any((values > self._limits) | (values < 0))
        bad = future | foreign | outside
        if not bad.any():
            return batch
        infinite = _any(np.isinf(values))
        negative = _any(values < 0)
        count_first(rejected, {"unknown_agent": foreign, "infinite": infinite, "negative": negative, "absurd": outside, "future": future})
        return batch.take(~bad)

    def _without_stale(self, batch: SampleBatch, rejected: dict[str, int]) -> SampleBatch:
        last = self._last_us[batch.agent]
        late = batch.at_us < last
        again = (batch.at_us == last) | repeats(batch.agent, batch.at_us)
        stale = late | again
        if not stale.any():
            return batch
        count_first(rejected, {"late": late, "duplicate": again})
        return batch.take(~stale)


def count_first(rejected: dict[str, int], reasons: dict[str, NDArray[np.bool_]]) -> None:
    """Add to `rejected` how many samples each mask (n,) holds; a sample in several counts under the first."""
    seen: NDArray[np.bool_] | None = None
    for reason, mask in reasons.items():
        fresh = mask if seen is None else mask & ~seen
        count = int(np.count_nonzero(fresh))
        if count:
            rejected[reason] = rejected.get(reason, 0) + count
        seen = mask if seen is None else seen | mask


def repeats(agent: NDArray[np.int32], at_us: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which samples (n,) have the agent and time of an earlier one. Times must not go back within an agent."""
    found = np.zeros(len(agent), dtype=np.bool_)
    if len(agent) < 2 or bool((agent[1:] > agent[:-1]).all()):
        return found
    order = np.argsort(agent, kind="stable")
    by_agent, by_time = agent[order], at_us[order]
    found[order[1:]] = (by_agent[1:] == by_agent[:-1]) & (by_time[1:] == by_time[:-1])
    return found


def falls_behind(agent: NDArray[np.int32], at_us: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which samples (n,) are older than an earlier one of the same agent, in the order given."""
    order = np.argsort(agent, kind="stable")
    by_agent, by_time = agent[order], at_us[order]
    same = by_agent[1:] == by_agent[:-1]
    behind = np.zeros(len(agent), dtype=np.bool_)
    if not bool((same & (by_time[1:] < by_time[:-1])).any()):
        return behind
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    for start, end in zip(starts, [*starts[1:], len(agent)], strict=True):
        piece = by_time[start:end]
        behind[order[start:end]] = piece < np.maximum.accumulate(piece)
    return behind


def _goes_back(at_us: NDArray[np.int64]) -> bool:
    return bool((at_us[1:] < at_us[:-1]).any())


def _any(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows (n,) of a mask (n, k) hold anything."""
    rows: NDArray[np.bool_] = np.logical_or.reduce(mask, axis=1)
    return rows
