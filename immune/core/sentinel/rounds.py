"""How a batch is cut before it is scored: into rounds with one sample of an agent each, and rounds into chunks that stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Rows

CHUNK = 1024
"""Agents handled at once: their working arrays stay in the cache."""

Index = NDArray[np.intp]


def rounds_of(agents: NDArray[np.int32]) -> Iterator[Index | None]:
    """Samples by round: in each round an agent has one sample, ordered by agent. None stands for all samples as they are."""
    if not len(agents):
        return
    if len(agents) == 1 or np.count_nonzero(agents[1:] > agents[:-1]) == len(agents) - 1:
        yield None
        return
    order = np.argsort(agents, kind="stable")
    ordered = agents[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    turn = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    for number in range(int(turn.max()) + 1):
        yield order[turn == number]


def chunks_of(agents: Index) -> Iterator[tuple[Rows, slice]]:
    """(rows of the arena, samples of the round), about `CHUNK` agents each; a slice where the agents are neighbours."""
    pieces = math.ceil(len(agents) / CHUNK)
    for piece in range(pieces):
        part = slice(piece * CHUNK, min(len(agents), (piece + 1) * CHUNK))
        yield neighbours(agents[part]), part


def neighbours(agents: Index) -> Rows:
    """Ascending agents as a slice where none is left out between the first and the last."""
    first, last = int(agents[0]), int(agents[-1])
    return slice(first, last + 1) if last - first + 1 == len(agents) else agents
