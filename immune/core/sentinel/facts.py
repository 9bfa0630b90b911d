"""Exact facts of an agent, and when they last changed: provider, model, version, prompt."""

from __future__ import annotations

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
    alike: dict[tuple[str, str, str], list[int]] = {}
    for agent in agents:
        for name, before, after, at_us in changes(arena, lexicon, agent, onset_us, now_us):
            alike.setdefault((name, before, after), []).append(at_us)
    return tuple((*change, min(times)) for change, times in alike.items() if 2 * len(times) > len(agents))


def changes(arena: Arena, lexicon: Lexicon, agent: int, onset_us: int, now_us: int) -> tuple[Change, ...]:
    """What changed from ten minutes before an onset on."""
    found = []
    for row, name in enumerate(FACTS):
        at_us = int(arena["fact_at"][row, agent])
        if at_us >= 0 and onset_us - RECENT_US <= at_us <= now_us:
            before, after = lexicon.word(int(arena["fact_before"][row, agent])), lexicon.word(int(arena["fact"][row, agent]))
            found.append((name, before, after, at_us))
    return tuple(found)
