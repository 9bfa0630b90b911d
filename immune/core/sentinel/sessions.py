"""Agents that come and go: ids that live for one session, and the rows of memory that they give back.

A type is **of sessions** when its agents keep joining *and* leaving: joining at `TIMES` different times (of ten seconds) after its first minute,
at least half of all its ids, and leaving at `LEAVINGS` different times, that is silent for `LEFT_S` and not back since. A fleet that
is started one by one has no leavers, an outage silences all at one time. There an id that falls silent within the usual life of its kind (twice
the longest of those that left, at least `SHORT_LIFE_S`) has most likely ended: it is idle, not silent. One that has lived longer is
missed as everywhere. The first leavers of such a type are missed, too, and a short session cannot be told from a stall within one.

Rows (`seats`) are what an agent has in the arrays of the sentinel. An agent of which nothing was heard for `GONE_S`, whose session has ended or
that was retired, gives its row back to whoever comes next; nobody whose learning is stopped (an incident is open) does. It counts as
new when it comes back. Its number in the roster never changes; as long as nobody left, rows and numbers are the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from immune.core.evidence import CohortFinding, Finding
from immune.core.sentinel.arena import Arena
from immune.core.vitals import Roster

US = 1_000_000
TIME_US = 10 * US
FIRST_US = 60 * US
TIMES = 5
LEAVINGS = 3
LEFT_S = 90.0
SHORT_LIFE_S = 900.0
GONE_S = 600.0
LIFE_FACTOR = 2.0

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]
Scalar = TypeVar("Scalar", np.float32, np.int64, np.bool_)


class Seats:
    """Which row each agent of the roster has: `of` (agents,), -1 for none; `who` (rows,), -1 for a free one."""

    def __init__(self) -> None:
        self.of = np.zeros(0, dtype=np.int32)
        self.who = np.zeros(0, dtype=np.int32)
        self.free: list[int] = []
        self.left = 0
        """How many have given a row back."""

    @property
    def plain(self) -> bool:
        """Rows and numbers are the same."""
        return not self.left

    def seat(self, agents: Sequence[int]) -> None:
        """Give these agents, who have none, a row each: free rows first, the lowest first, then new ones."""
        rows = [heapq.heappop(self.free) for _ in range(min(len(self.free), len(agents)))]
        known, fresh = len(self.who), len(agents) - len(rows)
        rows += range(known, known + fresh)
        self.who = np.concatenate([self.who, np.full(fresh, -1, dtype=np.int32)])
        self.who[rows] = agents
        self.of[list(agents)] = rows

    def enroll(self, size: int) -> None:
        """Rows for the agents that joined the roster, which has `size` now."""
        known = len(self.of)
        self.of = np.concatenate([self.of, np.full(size - known, -1, dtype=np.int32)])
        self.seat(range(known, size))

    def leave(self, rows: Index) -> None:
        """These rows are free again."""
        self.of[self.who[rows]] = -1
        self.who[rows] = -1
        for row in rows.tolist():
            heapq.heappush(self.free, row)
        self.left += len(rows)

    def rows(self, agents: Iterable[int]) -> Index:
        """Rows of those of these agents that have one."""
        rows = self.of[np.array(list(agents), dtype=np.intp)]
        return rows[rows >= 0].astype(np.intp)

    def over_roster(self, over_rows: NDArray[Scalar], absent: float) -> NDArray[Scalar]:
        """An array over rows (its first axis) as one over the roster."""
        if self.plain:
            return over_rows
        out = np.full((len(self.of), *over_rows.shape[1:]), absent, dtype=over_rows.dtype)
        taken = np.flatnonzero(self.who[: len(over_rows)] >= 0)
        out[self.who[taken]] = over_rows[taken]
        return out

    def named(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Findings about rows as findings about agents."""
        return findings if self.plain else tuple(replace(finding, agent=int(self.who[finding.agent])) for finding in findings)

    def named_cohorts(self, cohorts: tuple[CohortFinding, ...]) -> tuple[CohortFinding, ...]:
        """The same for shared causes."""
        return cohorts if self.plain else tuple(replace(cohort, agents=self.agents(cohort.agents)) for cohort in cohorts)

    def agents(self, rows: Iterable[int]) -> tuple[int, ...]:
        """Who sits there, in order."""
        return tuple(rows) if self.plain else tuple(sorted(int(self.who[row]) for row in rows if self.who[row] >= 0))

    def pack(self) -> list[int]:
        """As numbers: how many left, how many agents the roster had, then who sits in each row."""
        return [self.left, len(self.of), *self.who.tolist()] if self.left else [0, len(self.of)]

    def unpack(self, numbers: list[int]) -> None:
        """Take over what `pack` gave."""
        self.left, size, *who = numbers
        self.who = np.array(who if self.left else range(size), dtype=np.int32)
        self.of = np.full(size, -1, dtype=np.int32)
        taken = np.flatnonzero(self.who >= 0)
        self.of[self.who[taken]] = taken
        self.free = np.flatnonzero(self.who < 0).tolist()


def declare(arena: Arena) -> None:
    """The arrays of this file, over rows."""
    arena.declare("born_at", np.int64, fill=-1)
    arena.declare("left", np.bool_)


class Turnover:
    """Per type: when its ids joined and left, and how long those that left had lived."""

    def __init__(self) -> None:
        self.types = Arena()
        self.types.declare("first_at", np.int64, fill=-1)
        for name in ("join_time", "leave_time", "joined", "late", "life_us"):
            self.types.declare(name, np.int64)
        for name in ("join_times", "leave_times"):
            self.types.declare(name, np.int32)

    def join(self, types: NDArray[np.int32], at_us: NDArray[np.int64]) -> None:
        """Agents of these types, (n,), are heard for the first time."""
        arena = self.types
        for kind in np.unique(types).tolist():
            times = at_us[types == kind]
            if arena["first_at"][kind] < 0:
                arena["first_at"][kind] = times.min()
            arena["joined"][kind] += len(times)
            late = times[times >= arena["first_at"][kind] + FIRST_US]
            arena["late"][kind] += len(late)
            self._count("join", kind, late)

    def follow(self, arena: Arena, types: NDArray[np.int32], now_us: int) -> None:
        """Take in who has left since the last time, and who came back."""
        size = arena.size
        last, left = arena["last_at"][:size], arena["left"][:size]
        away = (last >= 0) & (last < now_us - round(LEFT_S * US))
        left &= away
        fresh = np.flatnonzero(away & ~left & ~arena["retired"][:size])
        if not len(fresh):
            return
        left[fresh] = True
        np.maximum.at(self.types["life_us"], types[fresh], last[fresh] - arena["born_at"][fresh])
        for kind in np.unique(types[fresh]).tolist():
            self._count("leave", kind, last[fresh[types[fresh] == kind]])

    def _count(self, what: str, kind: int, at_us: NDArray[np.int64]) -> None:
        """Count the times at which nobody had joined or left before."""
        newest = self.types[f"{what}_time"]
        fresh = np.unique(at_us // TIME_US)
        fresh = fresh[fresh > newest[kind]]
        if len(fresh):
            self.types[f"{what}_times"][kind] += len(fresh)
            newest[kind] = fresh[-1]

    @property
    def kinds(self) -> Mask:
        """Types that are of sessions."""
        arena = self.types
        comes_and_goes: Mask = (arena["join_times"] >= TIMES) & (arena["leave_times"] >= LEAVINGS) & (2 * arena["late"] >= arena["joined"])
        return comes_and_goes

    def ended(self, arena: Arena, types: NDArray[np.int32], rows: Index) -> Mask:
        """Those of these rows, not heard of for long, whose session has most likely ended."""
        life = arena["last_at"][rows] - arena["born_at"][rows]
        usual = np.maximum(LIFE_FACTOR * self.types["life_us"][types[rows]], SHORT_LIFE_S * US)
        ended: Mask = self.kinds[types[rows]] & (life <= usual) & ~arena["held"][rows]
        return ended

    def gone(self, arena: Arena, types: NDArray[np.int32], seats: Seats, now_us: int) -> Index:
        """Rows to be given back."""
        size = arena.size
        last = arena["last_at"][:size]
        quiet = np.flatnonzero((last >= 0) & (last < now_us - round(GONE_S * US)) & (seats.who[:size] >= 0) & ~arena["held"][:size])
        if not len(quiet):
            return quiet
        over = self.ended(arena, types, quiet)
        gone: Index = quiet[over | arena["retired"][quiet]]
        return gone


class Seating(Roster):
    """The roster by rows: whoever writes about rows gets the names of those who sit there."""

    def __init__(self, roster: Roster, seats: Seats) -> None:
        super().__init__()
        self.types, self.services = roster.types, roster.services
        self._roster, self._seats = roster, seats

    def agent_id(self, index: int) -> str:
        """Id of the agent in this row."""
        return self._roster.agent_id(int(self._seats.who[index]))
