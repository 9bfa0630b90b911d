"""Exact facts of an agent, and when they last changed: provider, model, version, prompt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.arena import Arena, Rows
from immune.core.vitals import MISSING, Lexicon

FACTS = ("provider", "model", "version", "prompt_hash")
SAID = len(FACTS)
"""The facts are the first of the context fields, in the same order."""
RECENT_US = 600_000_000

Change = tuple[str, str, str, int]


def declare(arena: Arena) -> None:
    """The arrays of this file, over agents."""
    for name in ("fact", "fact_before"):
        arena.declare(name, np.int32, fill=MISSING, lead=(len(FACTS),))
    arena.declare("fact_at", np.int64, fill=-1, lead=(len(FACTS),))


def arrive(arena: Arena, agents: Rows, at_us: NDArray[np.int64], codes: NDArray[np.int32]) -> bool:
    """Take in what the samples of these agents (each once) say of themselves; True if anything became another than it was."""
    told = codes[:, :SAID].T
    held = arena["fact"][:, agents]
    different = (told != held) & (told != MISSING)
    if not different.any():
        return False
    changed = different & (held != MISSING)
    arena["fact"][:, agents] = np.where(different, told, held)
    arena["fact_before"][:, agents] = np.where(changed, held, arena["fact_before"][:, agents])
    arena["fact_at"][:, agents] = np.where(changed, at_us, arena["fact_at"][:, agents])
    return True


def changes(arena: Arena, lexicon: Lexicon, agent: int, onset_us: int, now_us: int) -> tuple[Change, ...]:
    """What changed from ten minutes before an onset on."""
    found = []
    for row, name in enumerate(FACTS):
        at_us = int(arena["fact_at"][row, agent])
        if at_us >= 0 and onset_us - RECENT_US <= at_us <= now_us:
            before, after = lexicon.word(int(arena["fact_before"][row, agent])), lexicon.word(int(arena["fact"][row, agent]))
            found.append((name, before, after, at_us))
    return tuple(found)
