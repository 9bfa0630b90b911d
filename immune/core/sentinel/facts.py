"""Exact facts of an agent, and when they last changed: provider, model, version, prompt."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena, Rows
from immune.core.vitals import CONTEXT_FIELDS, MISSING, Lexicon

FACTS = CONTEXT_FIELDS[:4]
SAID = len(FACTS)
"""The facts are the first of the context fields, in the same order."""
RECENT_US = 600_000_000

Change = tuple[str, str, str, int]
AgentChange = tuple[int, str, str, str, int]
CodedChange = tuple[int, int, int, int, int]
"""(agent, row of `FACTS`, code before, code after, at_us)."""


def declare(arena: Arena) -> None:
    """The arrays of this file, over agents."""
    for name in ("fact", "fact_before"):
        arena.declare(name, np.int32, fill=MISSING, lead=(len(FACTS),))
    arena.declare("fact_at", np.int64, fill=-1, lead=(len(FACTS),))


def arrive(arena: Arena, agents: Rows, at_us: NDArray[np.int64], codes: NDArray[np.int32]) -> list[CodedChange]:
    """Take in what the samples of these agents (each once) say of themselves; returns what became another than it was."""
    told = codes[:, :SAID].T
    held = arena["fact"][:, agents]
    different = (told != held) & (told != MISSING)
    if not np.count_nonzero(different):
        return []
    changed = different & (held != MISSING)
    row, column = np.nonzero(changed)
    index = agents.start + column if isinstance(agents, slice) else agents[column]
    before, after, at = held[row, column], told[row, column], at_us[column]
    arena["fact"][:, agents] = np.where(different, told, held)
    arena["fact_before"][row, index], arena["fact_at"][row, index] = before, at
    return sorted(zip(index.tolist(), row.tolist(), before.tolist(), after.tolist(), at.tolist(), strict=True))


def in_words(changed: list[CodedChange], lexicon: Lexicon) -> tuple[AgentChange, ...]:
    """Changes as (agent, field, before, after, at_us)."""
    return tuple((agent, FACTS[row], lexicon.word(before), lexicon.word(after), at_us) for agent, row, before, after, at_us in changed)


def in_common(arena: Arena, lexicon: Lexicon, agents: list[int], onset_us: int, now_us: int) -> tuple[Change, ...]:
    """What most of these agents changed alike from ten minutes before an onset on, with the first time that one did."""
    alike: dict[tuple[int, int, int], list[int]] = {}
    for _, row, before, after, at_us in _recent(arena, agents, onset_us, now_us):
        alike.setdefault((row, before, after), []).append(at_us)
    most = [(change, min(times)) for change, times in alike.items() if 2 * len(times) > len(agents)]
    return tuple((FACTS[row], lexicon.word(before), lexicon.word(after), at_us) for (row, before, after), at_us in most)


def changes(arena: Arena, lexicon: Lexicon, agents: list[int], onsets_us: list[int], now_us: int) -> list[tuple[Change, ...]]:
    """What changed in each of these agents from ten minutes before its onset on."""
    found: list[list[Change]] = [[] for _ in agents]
    for place, row, before, after, at_us in _recent(arena, agents, np.array(onsets_us), now_us):
        found[place].append((FACTS[row], lexicon.word(before), lexicon.word(after), at_us))
    return [tuple(of_agent) for of_agent in found]


def _recent(arena: Arena, agents: list[int], onset_us: int | NDArray[np.int64], now_us: int) -> Iterator[CodedChange]:
    """Changes from ten minutes before an onset on, with the agent's place in the list instead of its number; one agent after the other."""
    if not agents:
        return iter(())
    at_us = arena["fact_at"].take(agents, axis=1)
    place, row = np.nonzero(((at_us >= 0) & (at_us >= onset_us - RECENT_US) & (at_us <= now_us)).T)
    chosen = np.array(agents)[place]
    columns = (place, row, arena["fact_before"][row, chosen], arena["fact"][row, chosen], at_us[row, place])
    return zip(*(column.tolist() for column in columns), strict=True)
