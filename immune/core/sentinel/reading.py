"""One chunk of samples as read: scaled streams, what is known around each sample, and what its agent borrows from its type."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel import standing
from immune.core.sentinel.arena import Block, Rows
from immune.core.sentinel.baseline import Surroundings
from immune.core.sentinel.cells import Cells, Place
from immune.core.sentinel.contexts import Contexts, Where
from immune.core.sentinel.hashing import uniforms
from immune.core.sentinel.memory import Memory
from immune.core.sentinel.peers import Peers
from immune.core.sentinel.surprise import Lent
from immune.core.vitals import CONTEXT_FIELDS, SampleBatch

TOOL = CONTEXT_FIELDS.index("tool")

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One chunk of n samples, one of each agent in `block`.

    x, seen, uniform    scaled values (0 where missing), whether there was one, uniforms in (0, 1), each (streams, n)
    values, repeats     raw: all vitals (vitals, n), the continuous ones as float32
    types, at_us, tool  (n,)
    step, steps         place in the task, and steps since the last sample within the same task (0 where one begins, -1 unknown), (n,)
    place, where        cells of task and step, and of model and tool, if any are known
    around, lent        what these say of the samples, and what the agents' types do
    """

    block: Block
    x: Floats
    seen: Mask
    uniform: Floats
    values: NDArray[np.float64]
    repeats: Floats
    types: NDArray[np.int32]
    at_us: NDArray[np.int64]
    tool: NDArray[np.int32]
    step: NDArray[np.int32]
    steps: NDArray[np.int32]
    place: Place | None
    where: Where | None
    around: Surroundings | None
    lent: Lent


def read(
    memory: Memory, rows: Rows, types: NDArray[np.int32], batch: SampleBatch, keys: NDArray[np.uint64], place: Place | None, where: Where | None
) -> Reading:
    """Read one chunk: samples of the agents in `rows`, in their order; `keys` are those of `hashing.sample_keys`."""
    table, block, values = memory.table, memory.arena.block(rows), batch.values.T
    uniform, dither = uniforms(keys, len(table))
    steps = standing.task_steps(block, batch.task_id, batch.step)
    growth = table.context_growth(values[table.context_column], block["context_before"], np.where(steps > 0, steps, 0))
    x = table.scaled(values, growth, (steps == 0) & (batch.step == 0), dither[: table.continuous])
    np.copyto(block["context_before"], values[table.context_column].astype(np.float32))
    seen: Mask = ~np.isnan(x)
    np.copyto(x, 0, where=~seen)
    _begin(block, memory.peers, types, seen[: table.continuous])
    return Reading(
        block=block,
        x=x,
        seen=seen,
        uniform=uniform,
        values=values,
        repeats=values[table.columns[: table.first_ratio]].astype(np.float32),
        types=types,
        at_us=batch.at_us,
        tool=batch.codes[:, TOOL],
        step=batch.step,
        steps=steps,
        place=place,
        where=where,
        around=_around(memory.cells, memory.contexts, block, place, where),
        lent=memory.peers.lent(types, block.rows),
    )


def _begin(block: Block, peers: Peers, types: NDArray[np.int32], seen: Mask) -> None:
    """An agent's first sample of a continuous stream starts from its type's level, as far as the type's agents agree."""
    smooth = len(seen)
    first = (block["count"][:smooth] == 0) & seen & (block["samples"] == 0)
    if not np.count_nonzero(first):
        return
    arena = peers.arena
    weight = arena["level_weight"][types].T
    lends = first & (weight > 0)
    np.copyto(block["level"][:smooth], arena["level"][types].T, where=lends)
    np.copyto(block["level_prior"], weight, where=lends)
    spread2 = arena["spread2"][types].T
    lends = first & (spread2 > 0)
    np.copyto(block["spread2"], spread2, where=lends)
    np.copyto(block["own2"], spread2, where=lends)


def _around(cells: Cells, contexts: Contexts, block: Block, place: Place | None, where: Where | None) -> Surroundings | None:
    """What the place in the task, the model and the tool add."""
    around = None if place is None else _in_task(cells, block, place)
    if where is None:
        return around
    effect, visits = contexts.expected(where)
    if around is None:
        often = np.full_like(effect, 1e6)
        return Surroundings(shape=effect, rough=np.ones_like(effect), doubt=np.zeros_like(effect), times=often, visits=np.minimum(often, visits))
    return replace(around, shape=around.shape + effect, visits=np.minimum(around.visits, visits))


def _in_task(cells: Cells, block: Block, place: Place) -> Surroundings:
    """What the place in the task says; the doubt is half the curve's slope here at first, less with each visit."""
    shape, rough, times, visits = (np.ascontiguousarray(part.T) for part in cells.expected(place))
    before = block["shape_before"]
    doubt = np.abs(shape - before) * (np.float32(0.5) / np.sqrt(1 + visits))
    before[...] = shape
    return Surroundings(shape=shape, rough=rough, doubt=doubt, times=times, visits=visits)
