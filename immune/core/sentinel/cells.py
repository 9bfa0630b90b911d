"""What the place in a task adds to the level: a curve over steps for each (agent, kind of task), learned with its type's.

An agent's context grows within a task and falls back at the next. The curve has a node at each of `NODES` steps and is interpolated
between them. The type's curve is learned from all its agents, an agent's own curve is what differs from it, shrunk by
``n / (n + 3)``. A place seen fewer than `SAY_FROM` times says nothing; then its surprise counts ``sqrt(n / (n + 3))``.
The number of curves is bounded; the least recently used of an agent gives way and is counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena

NODES = np.array([0, 1, 2, 3, 4, 6, 9, 13, 19, 28, 42, 63, 94, 141, 211, 276], dtype=np.float32)
SAY_FROM = 4.0
KINDS_PER_TYPE = 32
ROUGH_EVERY = 4
CELL_SPAN = 150.0
OFFSET_SPAN = 1000.0
ANY_KIND = -2
FREE = -3

NOVELTY_POWER = 1.0
_NOVELTY = (1 / np.append(np.diff(NODES), NODES[-1] - NODES[-2]) ** NOVELTY_POWER).astype(np.float32)
"""Samples of one task say little new of one another: between two nodes a task counts about once, however many of its steps lie there."""

Floats = NDArray[np.float32]
Index = NDArray[np.intp]


class Place:
    """Where n samples are: rows of the type's and the own curve (-1: none), node below, weight of the node above, whether it is known at all."""

    def __init__(self, type_row: Index, own_row: Index, step: NDArray[np.int32]) -> None:
        self.type_row = type_row
        self.own_row = own_row
        known = np.maximum(step, 0).astype(np.float32)
        self.low = np.clip(np.searchsorted(NODES, known, side="right") - 1, 0, len(NODES) - 2)
        span = NODES[self.low + 1] - NODES[self.low]
        self.weight = np.clip((known - NODES[self.low]) / span, 0, 1).astype(np.float32)
        self.placed = type_row >= 0
        self.novelty = _NOVELTY[self.low]

    def part(self, rows: slice) -> Place:
        """The same for some of the samples."""
        some = Place.__new__(Place)
        some.type_row, some.own_row = self.type_row[rows], self.own_row[rows]
        some.low, some.weight, some.placed, some.novelty = self.low[rows], self.weight[rows], self.placed[rows], self.novelty[rows]
        return some


class Cells:
    """All curves, in one bounded pool of rows: ``nodes`` (row, node, what it adds to each stream, then how often it was seen)."""

    def __init__(self, continuous: int, limit: int = 200_000) -> None:
        self.limit = limit
        self.evicted = 0
        self.refused = 0
        self._learned = 0
        self.curves = Arena()
        self._width = continuous
        self.curves.declare("nodes", np.float32, trail=(len(NODES), 2 * continuous))
        self.curves.declare("rough", np.float32, fill=1.0, trail=(len(NODES), continuous))
        self.curves.declare("rough_seen", np.float32, fill=5.0, trail=(len(NODES), continuous))
        self.curves.declare("offset", np.float32, trail=(continuous,))
        self.curves.declare("offset_seen", np.float32, trail=(continuous,))
        self.agents = _directory(1)
        self.types = _directory(KINDS_PER_TYPE)

    @property
    def counters(self) -> list[int]:
        """Rounds learned, curves evicted, curves refused."""
        return [self._learned, self.evicted, self.refused]

    @counters.setter
    def counters(self, values: list[int]) -> None:
        self._learned, self.evicted, self.refused = values

    def grow(self, agents: int, types: int) -> None:
        """Make room for agents and types."""
        self.agents.grow(agents)
        self.types.grow(types)

    def place(self, agents: Index, types: NDArray[np.int32], kinds: NDArray[np.int32], step: NDArray[np.int32], round_number: int) -> Place | None:
        """Places of n samples, or None when none says where it is."""
        placed = (step >= 0) | (kinds >= 0)
        if not placed.any():
            return None
        type_row = np.full(len(agents), -1, dtype=np.intp)
        own_row = np.full(len(agents), -1, dtype=np.intp)
        type_row[placed] = self._rows(self.types, types[placed].astype(np.intp), kinds[placed], round_number)
        own_row[placed] = self._rows(self.agents, agents[placed], np.full(int(placed.sum()), ANY_KIND, dtype=np.int32), round_number)
        return Place(type_row, own_row, step)

    def forget(self, agents: Index) -> None:
        """Forget these agents' own curves; the rows stay theirs."""
        rows = self.agents["row"][agents]
        self.curves.clear(rows[rows >= 0].astype(np.intp))

    def pack(self) -> list[bytes]:
        """Curves and directories as bytes."""
        return [self.curves.pack(), self.agents.pack(), self.types.pack()]

    def unpack(self, parts: list[bytes]) -> None:
        """Take over what `pack` wrote."""
        for arena, content in zip((self.curves, self.agents, self.types), parts, strict=True):
            arena.unpack(content)

    def _rows(self, directory: Arena, owners: Index, kinds: NDArray[np.int32], round_number: int) -> Index:
        held = directory["kind"][owners]
        match = held == kinds[:, None]
        slot = match.argmax(axis=1)
        missing = np.flatnonzero(~match[np.arange(len(owners)), slot])
        for position in missing:
            slot[position] = self._open(directory, int(owners[position]), int(kinds[position]))
        row = np.where(slot >= 0, directory["row"][owners, slot], -1)
        directory["used"][owners, slot] = round_number
        return row.astype(np.intp)

    def _open(self, directory: Arena, owner: int, kind: int) -> int:
        held = directory["kind"][owner]
        again = np.flatnonzero(held == kind)
        if len(again):
            return int(again[0])
        free = np.flatnonzero(held == FREE)
        if len(free) and self.curves.size < self.limit:
            slot = int(free[0])
            directory["row"][owner, slot] = self.curves.size
            self.curves.grow(self.curves.size + 1)
        elif len(free) == len(held):
            self.refused += 1
            return -1
        else:
            taken = np.flatnonzero(held != FREE)
            slot = int(taken[directory["used"][owner, taken].argmin()])
            self.evicted += 1
            self.curves.clear(np.array([directory["row"][owner, slot]]))
        directory["kind"][owner, slot] = kind
        return slot

    def expected(self, place: Place) -> tuple[Floats, Floats, Floats, Floats]:
        """(what the place adds to the level, how rough it is there, how often the type and the agent were there), each (n, continuous)."""
        n, width = len(place.low), self._width
        nodes = self._flat("nodes")
        at = np.concatenate([place.type_row, place.own_row]) * len(NODES)
        at[:n] += place.low
        at[n:] += place.low
        weight = place.weight[:, None]
        found = nodes.take(at, axis=0)
        above = nodes.take(at + 1, axis=0)
        above -= found
        above[:n] *= weight
        above[n:] *= weight
        found += above
        rough = self._flat("rough").take(at[:n] + (place.weight > 0.5), axis=0)
        times, own_times = found[:n, width:], found[n:, width:]
        times *= place.novelty[:, None]
        own_times *= place.novelty[:, None]
        own = found[n:, :width] * (own_times / (own_times + 3))
        nowhere = place.own_row < 0
        if np.count_nonzero(nowhere):
            own[nowhere] = 0
        shape = found[:n, :width] + own
        shape += self.curves["offset"].take(place.type_row, axis=0)
        unplaced = ~place.placed
        if np.count_nonzero(unplaced):
            for table, value in ((shape, 0.0), (times, 1e6), (own_times, 1e6), (rough, 1.0)):
                table[unplaced] = value
        return shape, rough, times, own_times

    def learn(self, place: Place, growth: Floats, rest: Floats, size: Floats, learned: NDArray[np.bool_]) -> None:
        """Move the curves; all (n, continuous). growth: above the task's first step, NaN where unknown; rest: the
        residual; size: the standardised innovation's absolute value.
        """
        gate = learned.astype(np.float32)
        if self._learned % ROUGH_EVERY == 0:
            self._learn_roughness(place, np.minimum(size, np.float32(5)) * np.float32(1.25), gate)
        self._learned += 1
        self._learn_own(place, rest, gate)
        self._learn_types(place, growth, rest, gate)

    def _flat(self, name: str) -> Floats:
        table = self.curves[name]
        return table.reshape(-1, table.shape[-1])

    def _learn_own(self, place: Place, rest: Floats, gate: Floats) -> None:
        """Every agent is here once, so that its nodes are moved without grouping."""
        some = np.flatnonzero(place.own_row >= 0)
        at = place.own_row[some] * len(NODES) + place.low[some]
        share = place.weight[some, None]
        gate, rest = gate[some], rest[some]
        for index, weight in ((at, gate * (1 - share)), (at + 1, gate * share)):
            self._move(index, weight * rest, weight, against_itself=True)

    def _learn_types(self, place: Place, growth: Floats, rest: Floats, gate: Floats) -> None:
        grown = gate * ~np.isnan(growth)
        growth = np.where(grown > 0, growth, np.float32(0))
        share = place.weight[:, None]
        parts = [rest * gate, gate, growth * (1 - share), grown * (1 - share), growth * share, grown * share]
        at, sums = _grouped(place.type_row * len(NODES) + place.low, place.placed, np.concatenate(parts, axis=1))
        if not len(at):
            return
        width = self._width
        self._move(at, sums[:, 2 * width : 3 * width], sums[:, 3 * width : 4 * width])
        self._move(at + 1, sums[:, 4 * width : 5 * width], sums[:, 5 * width :])
        row = at // len(NODES)
        starts = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
        total, count = np.split(np.add.reduceat(sums[:, : 2 * width], starts, axis=0), 2, axis=1)
        rows, offset, weight = row[starts], self.curves["offset"], self.curves["offset_seen"]
        before = weight[rows]
        offset[rows] += total / (np.minimum(before, np.float32(OFFSET_SPAN)) + count + 2)
        weight[rows] = np.minimum(before + count, np.float32(1e6))

    def _learn_roughness(self, place: Place, size: Floats, gate: Floats) -> None:
        nearest = place.low + (place.weight > 0.5)
        at, sums = _grouped(place.type_row * len(NODES) + nearest, place.placed, np.concatenate([size * gate, gate], axis=1))
        if not len(at):
            return
        total, weight = np.split(sums, 2, axis=1)
        rough, seen = self._flat("rough"), self._flat("rough_seen")
        before, held = seen[at], rough[at]
        remembered = np.minimum(before, np.float32(CELL_SPAN))
        rough[at] = np.where(weight > 0, (remembered * held + total) / (remembered + weight), held)
        seen[at] = np.minimum(before + weight, np.float32(1e6))

    def _move(self, at: Index, total: Floats, weight: Floats, *, against_itself: bool = False) -> None:
        """Weighted means at these nodes, each here once: `total` is a weighted sum of values, or of what they are above the mean."""
        nodes, width = self._flat("nodes"), self._width
        found = nodes.take(at, axis=0)
        held, before = found[:, :width], found[:, width:]
        remembered = np.minimum(before, np.float32(CELL_SPAN))
        if not against_itself:
            total = total - weight * held
        held += total / np.maximum(remembered + weight, np.float32(1e-9))
        before += weight
        np.minimum(before, np.float32(1e6), out=before)
        nodes[at] = found


def _grouped(at: Index, some: NDArray[np.bool_], summands: Floats) -> tuple[Index, Floats]:
    """(places, sums of the rows of `summands` at each), places ascending."""
    chosen = np.flatnonzero(some)
    if not len(chosen):
        return chosen, summands[:0]
    order = chosen[np.argsort(at[chosen], kind="stable")]
    at = at[order]
    starts = np.flatnonzero(np.concatenate([[True], at[1:] != at[:-1]]))
    return at[starts], np.add.reduceat(summands[order], starts, axis=0)


def _directory(room: int) -> Arena:
    directory = Arena()
    directory.declare("kind", np.int32, fill=FREE, trail=(room,))
    directory.declare("row", np.int32, fill=-1, trail=(room,))
    directory.declare("used", np.int64, fill=-1, trail=(room,))
    return directory
