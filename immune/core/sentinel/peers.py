"""What an agent may borrow from the others of its type until it has enough samples of its own.

Per type and stream: the pooled bins of everyone's standardised residuals, the mean level with its spread between agents,
the mean spread within. A type with a single agent lends nothing; a wide guess stands in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena, Rows
from immune.core.sentinel.surprise import BINS, BORROWED, LONE_BORROWED, RARE_SLOTS, SLOTS, Lent, lone_prior

POOL_LIMIT = 40_000.0
DEPTH_LIMIT = 300.0
REFRESH_ROUNDS = 16
KNOWN_FROM = 15
"""An agent speaks for its type from this many samples on."""
GUESS_WEIGHT = 8.0
HUMBLE = 20.0
HUMBLE_MAX = 12.0
"""Surprise counts ``sqrt(n / (n + h))`` after n samples, h = `HUMBLE` for counts, ``2 HUMBLE (1 + phi) / (1 - phi)``, at most `HUMBLE_MAX`
times it, for the rest: level and spread are themselves uncertain, the more so the less the samples differ."""
PHI_LOOSE = 0.4
MEMORY_WEIGHT = 200.0
LONE_MEMORY_WEIGHT = 25.0
"""The type's phi counts as this many samples: without it a young agent took a jump of its level for memory, and the jump vanished
(measured: 14 of 24 latency faults after 60 samples were missed)."""
"""An agent without peers is taken to be without memory until it shows some."""
LEVEL_PRIOR_MAX = 20.0
COMMON_FROM = 4
COMMON_CLIP = 0.3
"""A type of at least four moves as a whole (a tide, another mix of requests); one agent moves this mean by at most .3 / n."""

_ROWS = np.arange(256)[:, None]

Floats = NDArray[np.float32]


class Peers:
    """Borrowed calibration, by type code."""

    def __init__(self, streams: int, continuous: int, *, borrowed: float = BORROWED) -> None:
        """borrowed: samples that the type's ranks count for at most, in an agent that has none of its own."""
        self.arena = Arena()
        self._continuous, self._borrowed = continuous, np.float32(borrowed)
        self.arena.declare("pool", np.float32, trail=(streams, BINS))
        self.arena.declare("share", np.float32, trail=(streams, SLOTS))
        self.arena.declare("depth", np.float32, trail=(streams,))
        self.arena.declare("borrowed", np.float32, trail=(streams,))
        self.arena.declare("level", np.float32, trail=(continuous,))
        self.arena.declare("level_weight", np.float32, trail=(continuous,))
        self.arena.declare("spread2", np.float32, trail=(continuous,))
        self.arena.declare("phi", np.float32, trail=(continuous,))
        self.arena.declare("common", np.float32, trail=(continuous,))
        self.arena.declare("wander2", np.float32, trail=(continuous,))
        self.arena.declare("apart2", np.float32, trail=(continuous,))
        self.arena.declare("voters", np.float32, trail=(streams,))
        self.arena.declare("calibration", np.float32, fill=1.0, trail=(streams,))
        self._gathered: dict[tuple[int, int], Lent] = {}

    def grow(self, types: int) -> None:
        """Make room for this many types."""
        old = self.arena.size
        if types > old:
            self._gathered.clear()
            self.arena.grow(types)
            self._share(slice(old, types))

    def lent(self, types: NDArray[np.int32], rows: Rows | None = None) -> Lent:
        """What agents of these types, (n,), may borrow; kept until the next `refresh` for neighbours, named by their `rows`."""
        key = (rows.start, rows.stop) if isinstance(rows, slice) else None
        known = None if key is None else self._gathered.get(key)
        if known is None:
            known = self._gather(types)
            if key is not None:
                self._gathered[key] = known
        return known

    def _gather(self, types: NDArray[np.int32]) -> Lent:
        arena, streams = self.arena, self.arena["share"].shape[1]
        memory = np.abs(arena["phi"][types].T)
        humble = np.full((streams, len(types)), HUMBLE, dtype=np.float32)
        humble[: self._continuous] *= np.minimum(2 * (1 + memory) / (1 - memory), np.float32(HUMBLE_MAX))
        accompanied = arena["voters"][types].T[: self._continuous] >= 2
        dependent = np.ones((streams, len(types)), dtype=np.bool_)
        dependent[: self._continuous] = arena["phi"][types].T > PHI_LOOSE
        return Lent(
            share=arena["share"].reshape(-1),
            rare=np.ascontiguousarray(arena["share"][:, self._continuous :, :RARE_SLOTS].transpose(1, 2, 0)[..., types]),
            place=(types.astype(np.intp) * streams + np.arange(streams)[:, None]) * SLOTS,
            borrowed=np.ascontiguousarray(arena["borrowed"][types].T),
            depth=np.ascontiguousarray(arena["depth"][types].T),
            calibration=np.ascontiguousarray(arena["calibration"][types].T),
            humble=humble,
            dependent=dependent,
            memory=np.where(accompanied, arena["phi"][types].T, np.float32(0)),
            memory_weight=np.where(accompanied, np.float32(MEMORY_WEIGHT), np.float32(LONE_MEMORY_WEIGHT)),
            common=np.ascontiguousarray(arena["common"][types].T),
            wander=np.ascontiguousarray(np.sqrt(arena["wander2"][types]).T),
            apart=np.ascontiguousarray(np.sqrt(arena["apart2"][types]).T),
        )

    def forget_gathered(self) -> None:
        """What types lend has changed."""
        self._gathered.clear()

    def learn(self, types: NDArray[np.int32], bins: NDArray[np.int8], learned: NDArray[np.bool_]) -> None:
        """Pool the bins, (streams, n), of samples that were learned."""
        streams, pool = len(bins), self.arena["pool"]
        flat = (types[None, :].astype(np.intp) * streams + _ROWS[:streams]) * BINS + bins
        size = self.arena.size * streams * BINS
        if size < flat.size:
            pool[: self.arena.size] += np.bincount(flat[learned], minlength=size).reshape(self.arena.size, streams, BINS).astype(np.float32)
        else:
            np.add.at(pool.reshape(-1), flat[learned], np.float32(1))

    def refresh(self, types: NDArray[np.int32], count: Floats, level: Floats, own2: Floats, calibration: Floats, phi: Floats) -> None:
        """Sum the members up: count, level (streams, agents) and own2 (continuous, agents) of the agents' baselines."""
        size, known, smooth = self.arena.size, count >= KNOWN_FROM, self._continuous
        sums, arena = _TypeSums(types, size, known), self.arena
        members = sums.of(None)
        at_least_one = np.maximum(members, 1)
        arena["voters"][:size] = members
        arena["calibration"][:size] = np.where(members > 0, sums.of(calibration) / at_least_one, 1)
        sums, members, at_least_one = _TypeSums(types, size, known[:smooth]), members[:, :smooth], at_least_one[:, :smooth]
        arena["phi"][:size] = sums.of(phi) / at_least_one
        level = level[:smooth]
        mean = sums.of(level) / at_least_one
        within = sums.of(own2) / at_least_one
        apart = sums.of((level.astype(np.float64) - mean.T[:, types]) ** 2) / np.maximum(members - 1, 1)
        arena["level"][:size], arena["spread2"][:size] = mean, within
        arena["level_weight"][:size] = np.where(members >= 3, np.minimum(within / (apart + 1e-6), LEVEL_PRIOR_MAX), 0)
        arena["apart2"][:size] = np.where(members >= 3, apart, 0)
        self._share(slice(0, size))
        self._gathered.clear()

    def move_together(self, types: NDArray[np.int32], drifted: Floats) -> None:
        """How far each type has moved as a whole: the winsorised mean of its agents' last blocks against their references, (continuous, agents)."""
        size = self.arena.size
        sums = _TypeSums(types, size, ~np.isnan(drifted))
        members, total = sums.of(None), sums.of(np.minimum(np.maximum(drifted, -COMMON_CLIP), COMMON_CLIP))
        self.arena["common"][:size] = np.where(members >= COMMON_FROM, total / (members + 2), 0)

    def _share(self, rows: slice) -> None:
        pool, voters = self.arena["pool"][rows], self.arena["voters"][rows]
        total = pool.sum(axis=2)
        pool *= np.minimum(1, np.float32(POOL_LIMIT) / np.maximum(total, 1))[:, :, None]
        lends = voters >= 2
        cumulated = np.cumsum(pool[:, :, ::-1], axis=2)[:, :, ::-1]
        smooth = np.arange(pool.shape[1]) < self._continuous
        guessed = np.where(smooth, np.float32(GUESS_WEIGHT), np.float32(0))
        share = self.arena["share"][rows]
        weight = np.where(lends, cumulated[:, :, 0] + guessed, np.float32(1))[:, :, None]
        share[:, :, :BINS] = (cumulated + guessed[:, None] * lone_prior()[:BINS]) / np.maximum(weight, 1)
        share[~lends] = lone_prior()
        others = cumulated[:, :, 0] * (voters - 1) / np.maximum(voters, 1)
        alone = np.where(smooth, np.float32(LONE_BORROWED), np.float32(0))
        self.arena["borrowed"][rows] = np.where(lends, np.minimum(self._borrowed, others), alone)
        self.arena["depth"][rows] = np.where(lends, np.minimum(others, np.float32(DEPTH_LIMIT)), alone)


class _TypeSums:
    """Sums over the agents of each type, of the streams where they are known: `of` gives (types, streams)."""

    def __init__(self, types: NDArray[np.int32], size: int, known: NDArray[np.bool_]) -> None:
        self._shape = (len(known), size)
        self._known = known
        self._at = (types + np.arange(len(known))[:, None] * size)[known]

    def of(self, values: NDArray[np.float32] | NDArray[np.float64] | None) -> NDArray[np.float64]:
        weights = None if values is None else values[self._known].astype(np.float64)
        total = np.bincount(self._at, weights=weights, minlength=self._shape[0] * self._shape[1])
        return total.reshape(self._shape).T.astype(np.float64)
