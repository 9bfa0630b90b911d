"""Agents that fell silent together: a stopped service or a lost network, not many agents that died by themselves.

K agents whose last samples lie within `TOGETHER_US` are a group when they are at least three and a quarter of those that were heard
of then, or half of a cohort. A group keeps its key and its members for as long as they are silent, whoever falls silent later.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena
from immune.core.sentinel.cohorts import FIELDS

TOGETHER_US = 60_000_000
AT_LEAST = 3
OF_FLEET = 0.25
OF_COHORT = 0.5
KNOWN_FROM = 3

Codes = Callable[[str], NDArray[np.int32]]
Index = NDArray[np.intp]


@dataclass(slots=True, kw_only=True)
class Group:
    """Agents that fell silent together; `newest_us` is their last sample, `members` how many might have."""

    key: str
    field: str
    code: int
    newest_us: int
    members: int
    agents: set[int] = dataclasses.field(default_factory=set)


class Quiet:
    """The groups that are silent now."""

    def __init__(self) -> None:
        self.groups: list[Group] = []

    def advance(self, arena: Arena, silent: Index, codes: Codes) -> None:
        """Take in who is silent now, (n,) indices."""
        if not self.groups and len(silent) < AT_LEAST:
            return
        last, left = arena["last_at"][: arena.size], set(silent.tolist())
        for group in self.groups:
            group.agents &= left
            belongs = np.ones(arena.size, dtype=np.bool_) if not group.field else codes(group.field) == group.code
            group.agents |= {agent for agent in left if belongs[agent] and abs(int(last[agent]) - group.newest_us) <= TOGETHER_US}
            left -= group.agents
        self.groups = [group for group in self.groups if group.agents]
        if len(left) >= AT_LEAST:
            self._found(arena, np.array(sorted(left), dtype=np.intp), codes)

    def key_of(self, agent: int) -> str:
        """Key of the group of an agent, or ""."""
        return next((group.key for group in self.groups if agent in group.agents), "")

    def _found(self, arena: Arena, left: Index, codes: Codes) -> None:
        last = arena["last_at"][: arena.size]
        newest = int(last[left].max())
        heard = (arena["gap_count"][: arena.size] >= KNOWN_FROM) & (last >= newest - TOGETHER_US)
        together = left[last[left] >= newest - TOGETHER_US]
        best: tuple[float, str, int, Index, int] | None = None
        for name in FIELDS:
            of_field = codes(name)
            for code in np.unique(of_field[together]):
                inside, members = together[of_field[together] == code], int((heard & (of_field == code)).sum())
                share = len(inside) / max(members, 1)
                if code >= 0 and len(inside) >= AT_LEAST and share >= OF_COHORT and members < heard.sum() and (best is None or share > best[0]):
                    best = (share, name, int(code), inside, members)
        if best is None or len(best[3]) < 0.8 * len(together):
            members = int(heard.sum())
            if len(together) >= max(AT_LEAST, math.ceil(OF_FLEET * members)):
                best = (0.0, "", -1, together, members)
        if best is not None:
            _, name, code, agents, members = best
            key = f"{name or 'fleet'}:{code}:silent:{newest}"
            self.groups.append(Group(key=key, field=name, code=code, newest_us=newest, members=members, agents=set(agents.tolist())))

    def rows(self) -> list[dict[str, Any]]:
        """The groups as JSON."""
        return [{**asdict(group), "agents": sorted(group.agents)} for group in self.groups]

    def take(self, rows: list[dict[str, Any]]) -> None:
        """Take over what `rows` gave."""
        self.groups = [Group(**{**row, "agents": set(row["agents"])}) for row in rows]
