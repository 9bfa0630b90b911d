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
_STEPS = np.arange(NODES[-1] + 1, dtype=np.float32)
_LOW = np.clip(np.searchsorted(NODES, _STEPS, side="right") - 1, 0, len(NODES) - 2)
_ABOVE = ((_STEPS - NODES[_LOW]) / (NODES[_LOW + 1] - NODES[_LOW])).astype(np.float32)
"""Of each step the node below and the weight of the node above; later steps are as the last."""
_NOVELTY = (1 / np.append(np.diff(NODES), NODES[-1] - NODES[-2]) ** NOVELTY_POWER).astype(np.float32)[_LOW]
"""Samples of one task say little new of one another: between two nodes a task counts about once, however many of its steps lie there."""

Floats = NDArray[np.float32]
Index = NDArray[np.intp]


class Place:
    """Where n samples are: rows of the type's and the own curve (-1: none), node below, weight of the node above, whether it is known at all."""

    def __init__(self, type_row: Index, own_row: Index, step: NDArray[np.int32]) -> None:
        self.type_row = type_row
        self.own_row = own_row
        known = np.minimum(np.maximum(step, 0), len(_STEPS) - 1)
        self.low, self.weight, self.novelty = _LOW.take(known), _ABOVE.take(known), _NOVELTY.take(known)
        self.placed = type_row >= 0

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
        placed = np.flatnonzero((step >= 0) | (kinds >= 0))
        if not len(placed):
            return None
        any_kind = np.full(len(placed), ANY_KIND, dtype=np.int32)
        if len(placed) == len(agents):
            type_row = self._rows(self.types, types.astype(np.intp), kinds, round_number)
            return Place(type_row, self._rows(self.agents, agents, any_kind, round_number), step)
        type_row, own_row = np.full((2, len(agents)), -1, dtype=np.intp)
        type_row[placed] = self._rows(self.types, types[placed].astype(np.intp), kinds[placed], round_number)
        own_row[placed] = self._rows(self.agents, agents[placed], any_kind, round_number)
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
        room = directory["kind"].shape[1]
        match = directory["kind"].take(owners, axis=0) == kinds[:, None]
        slot = match.argmax(axis=1)
        found = match.reshape(-1).take(np.arange(0, match.size, room) + slot)
        for position in np.flatnonzero(~found).tolist():
            slot[position] = self._open(directory, int(owners[position]), int(kinds[position]))
        place = owners * room + slot % room
        directory["used"].reshape(-1)[place] = round_number
        row: Index = directory["row"].reshape(-1).take(place).astype(np.intp)
        row[slot < 0] = -1
        return row

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
        at = np.concatenate([place.type_row, place.own_row])
        at *= len(NODES)
        at.reshape(2, n)[...] += place.low
        nodes = self._flat("nodes")
        found = nodes.take(at, axis=0)
        above = nodes.take(at + 1, axis=0)
        above -= found
        above.reshape(2, n, -1)[...] *= place.weight[:, None]
        found += above
        of_type, own = np.ascontiguousarray(found.reshape(2, n, -1).transpose(0, 2, 1))  # samples side by side: the rest is several times faster
        rough = self._flat("rough").take(at[:n] + (place.weight > 0.5), axis=0).T
        times, own_times = of_type[width:], own[width:]
        times *= place.novelty
        own_times *= place.novelty
        effect = own[:width] * (own_times / (own_times + 3))
        nowhere = place.own_row < 0
        if np.count_nonzero(nowhere):
            effect[:, nowhere] = 0
        shape = of_type[:width] + effect
        shape += self.curves["offset"].take(place.type_row, axis=0).T
        unplaced = ~place.placed
        if np.count_nonzero(unplaced):
            for table, value in ((shape, 0.0), (times, 1e6), (own_times, 1e6), (rough, 1.0)):
                table[:, unplaced] = value
        return shape.T, rough.T, times.T, own_times.T

    def learn(self, place: Place, growth: Floats, rest: Floats, size: Floats, learned: NDArray[np.bool_]) -> None:
        """Move the curves; all (n, continuous). growth: above the task's first step, NaN where unknown; rest: the
        residual; size: the standardised innovation's absolute value.
        """
        gate = learned.T.astype(np.float32)
        if self._learned % ROUGH_EVERY == 0:
            self._learn_roughness(place, np.minimum(size.T, np.float32(5)) * np.float32(1.25), gate)
        self._learned += 1
        self._learn_own(place, rest.T, gate)
        self._learn_types(place, growth.T, rest.T, gate)

    def _flat(self, name: str) -> Floats:
        table = self.curves[name]
        return table.reshape(-1, table.shape[-1])

    def _learn_own(self, place: Place, rest: Floats, gate: Floats) -> None:
        """Every agent is here once, so that its nodes are moved without grouping."""
        at, weight = place.own_row * len(NODES) + place.low, place.weight
        some = np.flatnonzero(place.own_row >= 0)
        if len(some) < len(at):
            at, weight, gate, rest = at[some], weight[some], gate[:, some], rest[:, some]
        nodes, width, n = self._flat("nodes"), self._width, len(at)
        both = np.concatenate([at, at + 1])
        held, seen = np.ascontiguousarray(nodes.take(both, axis=0).T).reshape(2, width, 2, n)
        gates = gate[:, None] * np.stack([1 - weight, weight])
        _average(held, seen, gates * rest[:, None], gates)
        nodes[both] = np.concatenate([held, seen]).reshape(2 * width, 2 * n).T

    def _learn_types(self, place: Place, growth: Floats, rest: Floats, gate: Floats) -> None:
        grown = gate * ~np.isnan(growth)
        growth = np.where(grown > 0, growth, np.float32(0))
        above = place.weight
        below = 1 - above
        parts = [rest * gate, gate, growth * below, grown * below, growth * above, grown * above]
        at, sums = _grouped(place.type_row * len(NODES) + place.low, place.placed, np.concatenate(parts))
        if not len(at):
            return
        width = self._width
        self._move(at, sums[:, 2 * width : 3 * width], sums[:, 3 * width : 4 * width])
        self._move(at + 1, sums[:, 4 * width : 5 * width], sums[:, 5 * width :])
        row = at // len(NODES)
        starts = _firsts(row)
        summed = np.add.reduceat(sums[:, : 2 * width], starts, axis=0)
        total, count = summed[:, :width], summed[:, width:]
        rows, offset, weight = row[starts], self.curves["offset"], self.curves["offset_seen"]
        before = weight[rows]
        offset[rows] += total / (np.minimum(before, np.float32(OFFSET_SPAN)) + count + 2)
        weight[rows] = np.minimum(before + count, np.float32(1e6))

    def _learn_roughness(self, place: Place, size: Floats, gate: Floats) -> None:
        nearest = place.low + (place.weight > 0.5)
        at, sums = _grouped(place.type_row * len(NODES) + nearest, place.placed, np.concatenate([size * gate, gate]))
        if not len(at):
            return
        total, weight = sums[:, : self._width], sums[:, self._width :]
        rough, seen = self._flat("rough"), self._flat("rough_seen")
        before, held = seen[at], rough[at]
        remembered = np.minimum(before, np.float32(CELL_SPAN))
        rough[at] = np.where(weight > 0, (remembered * held + total) / (remembered + weight), held)
        seen[at] = np.minimum(before + weight, np.float32(1e6))

    def _move(self, at: Index, total: Floats, weight: Floats) -> None:
        """Weighted means at these nodes, each here once: `total` is a weighted sum of values."""
        nodes, width = self._flat("nodes"), self._width
        found = nodes.take(at, axis=0)
        held, before = found[:, :width], found[:, width:]
        _average(held, before, total - weight * held, weight)
        nodes[at] = found


def _average(held: Floats, seen: Floats, total: Floats, weight: Floats) -> None:
    """Take a weighted sum of what values are above their means into the means `held`, which were seen so often."""
    held += total / np.maximum(np.minimum(seen, np.float32(CELL_SPAN)) + weight, np.float32(1e-9))
    seen += weight
    np.minimum(seen, np.float32(1e6), out=seen)


def _grouped(at: Index, some: NDArray[np.bool_], summands: Floats) -> tuple[Index, Floats]:
    """(places, sums of the summands (k, n) at each, (places, k)), places ascending."""
    chosen, rows = np.flatnonzero(some), np.ascontiguousarray(summands.T)
    if not len(chosen):
        return chosen, rows[:0]
    order = chosen[np.argsort(at[chosen], kind="stable")]
    at = at[order]
    starts = _firsts(at)
    return at[starts], np.add.reduceat(rows.take(order, axis=0), starts, axis=0)


def _firsts(ordered: Index) -> Index:
    """Where each value of an ordered array, which is not empty, comes first."""
    first = np.empty(len(ordered), dtype=np.bool_)
    first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return np.flatnonzero(first)


def _directory(room: int) -> Arena:
    directory = Arena()
    directory.declare("kind", np.int32, fill=FREE, trail=(room,))
    directory.declare("row", np.int32, fill=-1, trail=(room,))
    directory.declare("used", np.int64, fill=-1, trail=(room,))
    return directory
