"""What the place in a task adds to the level: a curve over steps for each (agent, kind of task), learned with its type's.

An agent's context grows within a task and falls back at the next. The curve has a node at each of `NODES` steps and is interpolated
between them. The type's curve is learned from all its agents, an agent's own curve is what differs from it, shrunk by
``n / (n + 3)``. A place seen fewer than `SAY_FROM` times says nothing; then its surprise counts ``sqrt(n / (n + 3))``.
The number of curves is bounded; the least recently used of an agent gives way and is counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.arena import Arena

NODES = np.array([0, 1, 2, 3, 4, 6, 9, 13, 19, 28, 42, 63, 94, 141, 211, 276], dtype=np.float32)
SAY_FROM = 4.0
KINDS_PER_TYPE = 32
ROUGH_EVERY = 4
CELL_SPAN = 150.0
OFFSET_SPAN = 1000.0
ANY_KIND = -2
FREE = -3

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

    def part(self, rows: slice) -> Place:
        """The same for some of the samples."""
        some = Place.__new__(Place)
        some.type_row, some.own_row = self.type_row[rows], self.own_row[rows]
        some.low, some.weight, some.placed = self.low[rows], self.weight[rows], self.placed[rows]
        return some


class Cells:
    """All curves, in one bounded pool of rows (row, node, stream)."""

    def __init__(self, continuous: int, limit: int = 200_000) -> None:
        self.limit = limit
        self.evicted = 0
        self.refused = 0
        self._learned = 0
        self.curves = Arena()
        self.curves.declare("curve", np.float32, trail=(len(NODES), continuous))
        self.curves.declare("seen", np.float32, trail=(len(NODES), continuous))
        self.curves.declare("rough_seen", np.float32, fill=5.0, trail=(len(NODES), continuous))
        self.curves.declare("roughness", np.float32, fill=1.0, trail=(len(NODES), continuous))
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
        curve, seen, offset = self.curves["curve"], self.curves["seen"], self.curves["offset"]
        low, high, weight = place.low, place.low + 1, place.weight[:, None]

        def between(table: Floats, row: Index) -> Floats:
            value = table[row, low]
            value += weight * (table[row, high] - value)
            return value

        shape = between(curve, place.type_row) + offset[place.type_row]
        times = between(seen, place.type_row)
        own_times = between(seen, place.own_row)
        rough = between(self.curves["roughness"], place.type_row)
        own = between(curve, place.own_row) * (own_times / (own_times + 3))
        own[place.own_row < 0] = 0
        shape += own
        shape[~place.placed] = 0
        for table, value in ((times, 1e6), (own_times, 1e6), (rough, 1.0)):
            table[~place.placed] = value
        return shape, rough, times, own_times

    def learn(self, place: Place, growth: Floats, rest: Floats, size: Floats, learned: NDArray[np.bool_]) -> None:
        """Move the curves; all (n, continuous). growth: above the task's first step, NaN where unknown; rest: the
        residual; size: the standardised innovation's absolute value.
        """
        self._learn_offsets(place, rest, learned)
        if self._learned % ROUGH_EVERY == 0:
            nearest = place.low + (place.weight > 0.5)
            self._learn_nodes("roughness", "rough_seen", place.type_row, nearest, np.minimum(size, 5) * np.float32(1.25), learned.astype(np.float32))
        self._learned += 1
        grown = learned & ~np.isnan(growth)
        growth = np.where(grown, growth, 0)
        high = place.low + 1
        share = place.weight[:, None]
        row = np.concatenate([place.type_row, place.type_row, place.own_row, place.own_row])
        node = np.concatenate([place.low, high, place.low, high])
        count = len(rest)
        held = self.curves["curve"][row[2 * count :], node[2 * count :]]
        held[:count] += rest
        held[count:] += rest
        value = np.concatenate([growth, growth, held])
        weight = np.concatenate([grown * (1 - share), grown * share, learned * (1 - share), learned * share])
        self._learn_nodes("curve", "seen", row, node, value, weight)

    def _learn_offsets(self, place: Place, rest: Floats, learned: NDArray[np.bool_]) -> None:
        some = np.flatnonzero(place.type_row >= 0)
        rows, inverse = np.unique(place.type_row[some], return_inverse=True)
        total = np.zeros((len(rows), rest.shape[1]), dtype=np.float32)
        count = np.zeros_like(total)
        np.add.at(total, inverse, rest[some] * learned[some])
        np.add.at(count, inverse, learned[some].astype(np.float32))
        offset, weight = self.curves["offset"], self.curves["offset_seen"]
        before = weight[rows]
        after = np.minimum(before, np.float32(OFFSET_SPAN)) + count
        offset[rows] += np.divide(total, after + 2, out=np.zeros_like(total), where=count > 0)
        weight[rows] = np.minimum(before + count, np.float32(1e6))

    def _learn_nodes(self, table: str, times: str, row: Index, node: Index, value: Floats, weight: Floats) -> None:
        some = np.flatnonzero((row >= 0) & weight.any(axis=1))
        if not len(some):
            return
        places, inverse = np.unique(row[some] * len(NODES) + node[some], return_inverse=True)
        shape = (len(places), value.shape[1])
        total, weights = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        np.add.at(total, inverse, weight[some] * value[some])
        np.add.at(weights, inverse, weight[some])
        row, node = np.divmod(places, len(NODES))
        curve, seen = self.curves[table], self.curves[times]
        before = seen[row, node]
        remembered = np.minimum(before, np.float32(CELL_SPAN))
        after = remembered + weights
        held = curve[row, node]
        np.divide(remembered * held + total, after, out=held, where=weights > 0)
        curve[row, node] = held
        seen[row, node] = np.minimum(before + weights, np.float32(1e6))


def _directory(room: int) -> Arena:
    directory = Arena()
    directory.declare("kind", np.int32, fill=FREE, trail=(room,))
    directory.declare("row", np.int32, fill=-1, trail=(room,))
    directory.declare("used", np.int64, fill=-1, trail=(room,))
    return directory
