"""What whole tasks show, over many agents at once: mild drifts are found, and healthy agents are left alone."""

from __future__ import annotations

import math

import numpy as np

from immune.core.sentinel import alike, episodes
from immune.core.sentinel.arena import Arena
from immune.core.sentinel.eprocess import alarm_nats
from immune.core.sentinel.judging import HOLD_SHARE

MEMBERS, KINDS, STEPS = 3, 3, 14
THRESHOLD = alarm_nats(1.0, 0.001)
NATS_MAX = np.float32(math.exp(THRESHOLD + 20))


class Working:
    """Agents in types of three that do one task of 14 steps on average after the other, a step a second; only the output of a step varies freely."""

    def __init__(self, types: int, seed: int, noise: tuple[float, float], between: float = 0.0) -> None:
        self.n, self.rng, self.between = types * MEMBERS, np.random.default_rng(seed), between
        self.types = np.repeat(np.arange(types, dtype=np.int32), MEMBERS)
        self.arena = Arena()
        episodes.declare(self.arena)
        self.arena.declare("held", np.bool_)
        self.arena.declare("nats", np.float32)
        self.arena.grow(self.n)
        self.episodes = episodes.Episodes(np.arange(4), seed, NATS_MAX)
        self.episodes.grow(self.n, types)
        self.noise = self.rng.uniform(*noise, self.n)
        self.kind, self.steps, self.total = self._kinds(self.n), np.zeros(self.n, dtype=np.int64), np.zeros(self.n)
        self.shift = self.rng.normal(0, between, self.n)
        self.ended = np.zeros(self.n, dtype=np.int64)
        self.highest = np.full(self.n, -9.0)

    def _kinds(self, n: int) -> np.ndarray:
        return self.rng.integers(0, KINDS, n)

    def run(self, begin: int, end: int, drift: float = 0.0, until: int = 10**9) -> None:
        """Seconds begin to end; the first of each type writes more by `drift` in logs; nobody's evidence counts after its task number `until`."""
        self.ended[:], self.highest[:] = 0, -9.0
        first = np.arange(self.n) % MEMBERS == 0
        for t in range(begin, end):
            self.total += self.noise * self.rng.standard_normal(self.n) + self.shift + 5.5 + drift * first
            self.steps += 1
            over = np.flatnonzero(self.rng.random(self.n) < 1 / STEPS)
            self._end(over, t)
            if t % episodes.FLUSH_ROUNDS == episodes.FLUSH_ROUNDS - 1:
                self.episodes.flush(self.arena, self.types, HOLD_SHARE * THRESHOLD)
                statistic = episodes.SHARE * self.arena["ep_statistic"][: self.n]
                nats = np.log(np.maximum(statistic, 1e-6))
                self.arena["nats"][: self.n] = nats
                np.maximum(self.highest, np.where(self.ended <= until, nats, -9.0), out=self.highest)

    def _end(self, agents: np.ndarray, t: int) -> None:
        free = agents[~self.arena["ep_waits"][agents]]
        n, done = self.steps[free], self.arena["ep_done"]
        done[:, free] = np.stack([n, n, 1000 * n, 0.001 * n, n, np.ones(len(free)), self.total[free] / n])
        self.arena["ep_done_row"][free] = self.types[free] * KINDS + self.kind[free]
        self.arena["ep_done_at"][free] = t * 1_000_000
        self.arena["ep_waits"][free] = True
        self.ended[agents] += 1
        self.steps[agents], self.total[agents] = 0, 0
        self.kind[agents], self.shift[agents] = self._kinds(len(agents)), self.rng.normal(0, self.between, len(agents))


def test_a_drift_of_three_tenths_in_loud_agents_is_found_within_thirty_tasks_after_two_hundred_and_fifty() -> None:
    fleet = Working(120, seed=1, noise=(0.8, 0.8))
    fleet.run(0, 3600)
    assert (fleet.highest < THRESHOLD).all()
    fleet.run(3600, 4400, drift=math.log(1.3), until=30)
    found = fleet.highest >= THRESHOLD
    assert found[::MEMBERS].mean() >= 0.42
    assert not found[np.arange(fleet.n) % MEMBERS > 0].any()


def test_healthy_agents_of_many_noises_are_left_alone_by_tests_over_tasks() -> None:
    fleet = Working(120, seed=4, noise=(0.25, 0.6), between=0.1)
    fleet.run(0, 4000)
    assert (fleet.highest >= THRESHOLD).sum() == 0, "16 agent-days"
    assert np.median(alike.of_types(fleet.episodes.peers.arena, np.arange(120, dtype=np.int32))) > alike.ALIKE, "what tasks have in common is seen"
