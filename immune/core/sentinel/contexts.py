"""What another model or tool adds to an agent's level: a cell for each (model, tool) that an agent uses beside its main one.

The cell's effect is added to the level before anything is judged. A new cell starts from what its type has learned of the same model and tool, else
from nothing, that is from the agent's own level: **a changed model is never a blind spot**, its deviation is judged from the first sample on.
Only a new tool of a known model is judged more humbly at first, ``sqrt((n + 1) / (n + 4))`` after n visits: one tool may well differ from the next.

An effect is learned where contexts *alternate*: at samples that come within `ALTERNATE` of one in the main context. Who changes for good has
nothing to compare with, teaches the cell nothing more, and is judged against its old level; after `MOVED` samples without the main context,
all of them learned, the new one becomes the main one. What agents that alternate learn is also their type's, and so lent to the next.

Cells are bounded: `ROOM` for an agent, `TYPE_ROOM` for a type, in a pool of at most `limit` agents; the least recently used gives way and is counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena
from immune.core.vitals import CONTEXT_FIELDS

ROOM = 6
TYPE_ROOM = 32
MODEL, TOOL = CONTEXT_FIELDS.index("model"), CONTEXT_FIELDS.index("tool")
TOOLS = 4098
"""Codes of a tool, so that one number names model and tool."""
ALTERNATE = 8
MOVED = 300
SPAN = 60.0
YOUNG = 60
PRIOR_YOUNG, PRIOR_TYPE, PRIOR = 3.0, 10.0, 60.0
"""How many samples the first value of an effect counts for: in a young agent, where it is the type's, and otherwise."""
SHARE_MAX = 0.8
TYPE_FROM = 60.0
"""Samples from which a type lends an effect."""
TYPE_SPAN = 2000.0
FREE = -1

Floats = NDArray[np.float32]
Index = NDArray[np.intp]


class Where:
    """Which cell n samples are in: row and slot (n,), row -1 in the main context; new_tool (n,): only the tool is new to the agent."""

    def __init__(
        self, row: Index, slot: Index, type_code: Index, type_slot: Index, alternates: NDArray[np.bool_], new_tool: NDArray[np.bool_]
    ) -> None:
        self.row, self.slot, self.type_code, self.type_slot = row, slot, type_code, type_slot
        self.alternates, self.new_tool = alternates, new_tool

    def part(self, rows: slice) -> Where:
        """The same for some of the samples."""
        return Where(self.row[rows], self.slot[rows], self.type_code[rows], self.type_slot[rows], self.alternates[rows], self.new_tool[rows])


def declare(arena: Arena) -> None:
    """The arrays of this file, over agents."""
    arena.declare("main_context", np.int32, fill=FREE)
    arena.declare("main_turn", np.int64)
    arena.declare("context_row", np.int32, fill=-1)


class Contexts:
    """All cells; ``cells`` over agents with more than one context, ``types`` over types."""

    def __init__(self, continuous: int, limit: int = 100_000) -> None:
        self.limit = limit
        self.evicted = 0
        self.refused = 0
        self._width = continuous
        self.cells = _pool(ROOM, continuous)
        self.types = _pool(TYPE_ROOM, continuous)
        self._free: list[int] = []

    @property
    def counters(self) -> list[int]:
        """Cells evicted, agents refused, then the free rows."""
        return [self.evicted, self.refused, *self._free]

    @counters.setter
    def counters(self, values: list[int]) -> None:
        self.evicted, self.refused, *self._free = values

    def grow(self, types: int) -> None:
        """Make room for types."""
        self.types.grow(types)

    def find(self, arena: Arena, agents: Index, types: NDArray[np.int32], codes: NDArray[np.int32], round_number: int) -> Where | None:
        """Where n samples are, or None when all are in their agent's main context."""
        said = codes[:, MODEL] + codes[:, TOOL]
        if not np.count_nonzero(said > -2):
            return None
        key = (codes[:, MODEL] + 1) * TOOLS + codes[:, TOOL] + 1
        main, turn = arena["main_context"][agents], arena["turn"][agents]
        first = (main == FREE) & (key > 0)
        if np.count_nonzero(first):
            arena["main_context"][agents[first]] = key[first]
            main = np.where(first, key, main)
        other = (key != main) & (key > 0)
        arena["main_turn"][agents] = np.where(other, arena["main_turn"][agents], turn)
        if not np.count_nonzero(other):
            return None
        row, slot = np.full(len(agents), -1, dtype=np.intp), np.zeros(len(agents), dtype=np.intp)
        type_slot = np.full(len(agents), -1, dtype=np.intp)
        some = np.flatnonzero(other)
        row[some] = self._rows(arena, agents[some])
        some = some[row[some] >= 0]
        type_slot[some] = self._slots(self.types, types[some].astype(np.intp), key[some], round_number)
        slot[some] = self._slots(self.cells, row[some], key[some], round_number, lenders=(types[some], type_slot[some]))
        alternates = turn - arena["main_turn"][agents] <= ALTERNATE
        new_tool = other & (key // TOOLS == main // TOOLS)
        return Where(row, slot, types.astype(np.intp), type_slot, alternates, new_tool)

    def expected(self, where: Where) -> tuple[Floats, Floats]:
        """(what each sample's cell adds to the level, how often the agent was in it), (continuous, n) and (n,)."""
        shape = np.zeros((self._width, len(where.row)), dtype=np.float32)
        visits = np.full(len(where.row), 1e6, dtype=np.float32)
        some = np.flatnonzero(where.row >= 0)
        shape[:, some] = self.cells["effect"][where.row[some], where.slot[some]].T
        visits[some] = np.where(where.new_tool[some], self.cells["seen"][where.row[some], where.slot[some]], visits[some])
        return shape, visits

    def learn(self, where: Where, rest: Floats, learned: NDArray[np.bool_], count: Floats, level: Floats) -> None:
        """Move the effects; rest, learned, level (continuous, n) · count (n,) samples of the agent.

        The level was learned over all contexts: what an effect takes over is taken off it by the cell's share of the samples.
        """
        some = np.flatnonzero((where.row >= 0) & where.alternates)
        if not len(some):
            return
        row, slot, gate = where.row[some], where.slot[some], learned[:, some].T.astype(np.float32)
        seen, prior = self.cells["seen"][row, slot], self.cells["prior"][row, slot]
        prior = np.where(count[some] < YOUNG, np.minimum(prior, np.float32(PRIOR_YOUNG)), prior)
        share = np.minimum(seen / np.maximum(count[some], 1), np.float32(SHARE_MAX))
        moved = gate * rest[:, some].T / ((np.minimum(seen, np.float32(SPAN)) + prior + 1) * (1 - share))[:, None]
        self.cells["effect"][row, slot] += moved
        level[:, some] -= (moved * share[:, None]).T
        self.cells["seen"][row, slot] = np.minimum(seen + gate.max(axis=1), np.float32(1e6))
        kind, place = where.type_code[some], where.type_slot[some]
        held = self.types["seen"][kind, place]
        apart = self.cells["effect"][row, slot] - self.types["effect"][kind, place]
        gate *= (seen > PRIOR_TYPE)[:, None]
        weight = gate / (np.minimum(held, np.float32(TYPE_SPAN)) + np.bincount(kind)[kind])[:, None]
        np.add.at(self.types["effect"], (kind, place), apart * weight)
        np.add.at(self.types["seen"], (kind, place), gate.max(axis=1))

    def settle(self, arena: Arena, agents: Index) -> None:
        """Who has left its main context for good has another one from now on; its level and reference stay where its samples are."""
        rows = arena["context_row"][agents]
        gone = agents[(rows >= 0) & (arena["turn"][agents] - arena["main_turn"][agents] > MOVED) & ~arena["held"][agents]]
        for agent in gone.tolist():
            row = int(arena["context_row"][agent])
            slot = int(self.cells["used"][row].argmax())
            effect = self.cells["effect"][row, slot]
            arena["level"][: self._width, agent] += effect
            arena["reference"][:, agent] += effect
            arena["main_context"][agent] = self.cells["key"][row, slot]
            self.forget(arena, np.array([agent]))

    def known_model(self, arena: Arena, agent: int, model: int) -> bool:
        """Whether this agent has used this model before, as far as is remembered."""
        row = int(arena["context_row"][agent])
        keys = [int(arena["main_context"][agent]), *(self.cells["key"][row].tolist() if row >= 0 else [])]
        return any(key // TOOLS - 1 == model for key in keys if key >= 0)

    def forget(self, arena: Arena, agents: Index) -> None:
        """Give back the cells of these agents."""
        rows = arena["context_row"][agents]
        rows = rows[rows >= 0]
        self.cells.clear(rows.astype(np.intp))
        self._free += rows.tolist()
        arena["context_row"][agents] = -1
        arena["main_turn"][agents] = arena["turn"][agents]

    def pack(self) -> list[bytes]:
        """Cells of agents and types as bytes."""
        return [self.cells.pack(), self.types.pack()]

    def unpack(self, parts: list[bytes]) -> None:
        """Take over what `pack` wrote."""
        for arena, content in zip((self.cells, self.types), parts, strict=True):
            arena.unpack(content)

    def _rows(self, arena: Arena, agents: Index) -> Index:
        rows = arena["context_row"][agents]
        for agent in agents[rows < 0].tolist():
            if self._free:
                arena["context_row"][agent] = self._free.pop()
            elif self.cells.size < self.limit:
                arena["context_row"][agent] = self.cells.size
                self.cells.grow(self.cells.size + 1)
            else:
                self.refused += 1
        held: Index = arena["context_row"][agents].astype(np.intp)
        return held

    def _slots(
        self, pool: Arena, owners: Index, keys: NDArray[np.int32], round_number: int, lenders: tuple[NDArray[np.int32], Index] | None = None
    ) -> Index:
        match = pool["key"][owners] == keys[:, None]
        slot: Index = match.argmax(axis=1)
        for position in np.flatnonzero(~match.any(axis=1)).tolist():
            lender = None if lenders is None else (int(lenders[0][position]), int(lenders[1][position]))
            slot[position] = self._open(pool, int(owners[position]), int(keys[position]), lender)
        pool["used"][owners, slot] = round_number
        return slot

    def _open(self, pool: Arena, owner: int, key: int, lender: tuple[int, int] | None) -> int:
        again = np.flatnonzero(pool["key"][owner] == key)
        if len(again):
            return int(again[0])
        slot = int(pool["used"][owner].argmin())
        self.evicted += int(pool["key"][owner, slot] != FREE)
        pool["key"][owner, slot], pool["seen"][owner, slot], pool["effect"][owner, slot] = key, 0, 0
        pool["prior"][owner, slot] = PRIOR
        if lender is not None and self.types["seen"][lender] >= TYPE_FROM:
            pool["effect"][owner, slot] = self.types["effect"][lender]
            pool["prior"][owner, slot] = PRIOR_TYPE
        return slot


def _pool(room: int, continuous: int) -> Arena:
    pool = Arena()
    pool.declare("key", np.int32, fill=FREE, trail=(room,))
    pool.declare("used", np.int64, fill=-1, trail=(room,))
    pool.declare("seen", np.float32, trail=(room,))
    pool.declare("prior", np.float32, fill=PRIOR, trail=(room,))
    pool.declare("effect", np.float32, trail=(room, continuous))
    return pool
