"""Blocks of text become chunks of samples: every field parsed by column, broken rows set aside, agents numbered.

A chunk keeps only the columns that its file has, so that a recording with two vitals costs two and not nine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from immune.core.vitals import CONTEXT_FIELDS, MISSING, AgentIdentity, SampleBatch, Status, VitalSchema, task_key
from immune.ports import Desk
from immune.sources import columns as by_column
from immune.sources.formats import Binding, Turns
from immune.sources.parse import NO_TIME, parse_agent, parse_status, parse_word, show
from immune.sources.readers import Block, Broken, Column

CLOCKLESS_START_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z: where recordings without a clock begin."""
MAX_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """n samples: local agent number (n,) int32, time (n,) int64, where they stand, and the columns that their file has."""

    agent: NDArray[np.int32]
    at_us: NDArray[np.int64]
    file: NDArray[np.int32]
    line: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.agent)

    def take(self, rows: NDArray[Any] | slice) -> Chunk:
        """These rows, in this order."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Chunk(agent=self.agent[rows], at_us=self.at_us[rows], file=self.file[rows], line=self.line[rows], columns=columns)

    @classmethod
    def joined(cls, chunks: Sequence[Chunk]) -> Chunk:
        """All of them, one after the other; a column that one of them lacks is missing there."""
        dtypes = {name: column.dtype for chunk in chunks for name, column in chunk.columns.items()}
        columns = {
            name: np.concatenate([chunk.columns.get(name, np.full(len(chunk), blank_of(name), dtype=dtype)) for chunk in chunks])
            for name, dtype in dtypes.items()
        }
        return cls(
            agent=np.concatenate([chunk.agent for chunk in chunks]),
            at_us=np.concatenate([chunk.at_us for chunk in chunks]),
            file=np.concatenate([chunk.file for chunk in chunks]),
            line=np.concatenate([chunk.line for chunk in chunks]),
            columns=columns,
        )

    def batch(self, schema: VitalSchema, agent: NDArray[np.int32]) -> SampleBatch:
        """The samples with these roster indices."""
        batch = SampleBatch.blank(len(self), len(schema))
        batch.agent[:] = agent
        batch.at_us[:] = self.at_us
        for name, column in self.columns.items():
            if name in CONTEXT_FIELDS:
                batch.codes[:, CONTEXT_FIELDS.index(name)] = column
            elif name in _WHOLE:
                getattr(batch, name)[:] = column
            else:
                batch.values[:, schema.column(name)] = column
        return batch


_WHOLE: Mapping[str, int] = {"step": MISSING, "status": int(Status.UNSAID), "task_id": 0}


def blank_of(name: str) -> float:
    """What stands for missing in a column of a chunk."""
    if name in CONTEXT_FIELDS:
        return MISSING
    return _WHOLE.get(name, np.nan)


class LocalAgents:
    """The agents of a recording, numbered as their first good row comes; bounded like the fleet they will join."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.identities: list[AgentIdentity] = []
        self.rows = np.zeros(1024, dtype=np.int64)
        self._number: dict[str, int] = {}

    def number(self, agent_id: str, agent_type: str, service: str) -> int | None:
        """Number of an agent, a new one if there is room, else None. The first type and service seen stay."""
        known = self._number.get(agent_id)
        if known is not None:
            return known
        if len(self.identities) >= self.limit:
            return None
        self._number[agent_id] = len(self.identities)
        self.identities.append(AgentIdentity(agent_id=agent_id, type=agent_type, service=service))
        if len(self.identities) > len(self.rows):
            self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
        return len(self.identities) - 1

    def find(self, agent_id: str) -> int:
        """Number of a known agent, else -1."""
        return self._number.get(agent_id, -1)

    def count_rows(self, agent: NDArray[np.int32]) -> NDArray[np.int64]:
        """Which row of its agent each of these (n,) is, from 0, going on from the last call."""
        if not len(agent):
            return np.zeros(0, dtype=np.int64)
        order = np.argsort(agent, kind="stable")
        by_agent = agent[order]
        starts = np.flatnonzero(np.concatenate([[True], by_agent[1:] != by_agent[:-1]]))
        sizes = np.diff(np.append(starts, len(agent)))
        rank = np.empty(len(agent), dtype=np.int64)
        rank[order] = np.arange(len(agent)) - np.repeat(starts, sizes)
        rank += self.rows[agent]
        self.rows[by_agent[starts]] += sizes
        return rank


class ChunkParser:
    """Parses the blocks of one file."""

    def __init__(self, desk: Desk, binding: Binding, agents: LocalAgents, *, file: int, agent_id: str, period_us: int) -> None:
        self._desk = desk
        self._file = file
        self._binding = binding
        self._agents = agents
        self._whole_file_agent = agent_id
        self._period_us = period_us
        self._task_keys: dict[str, int] = {}

    def parse(self, block: Block) -> tuple[Chunk, list[Broken]]:
        """The good rows in file order, and the others by line."""
        broken = block.broken
        sheet = _Sheet(block, self._binding)
        ids, types, services = self._identities(sheet)
        at_us = self._times(sheet)
        columns = {spec.name: sheet.take(spec.name, lambda c, top=spec.max_value: by_column.numbers(c, top)) for spec in self._desk.schema.specs}
        words = {name: sheet.take(name, lambda c: by_column.distinct(c, parse_word, "")) for name in (*CONTEXT_FIELDS, "task_id")}
        columns["step"] = sheet.take("step", by_column.steps)
        columns["status"] = sheet.status()
        good = sheet.good_rows()
        numbers = self._numbers(sheet, good, ids, types, services)
        if sheet.refused:
            good, numbers = good[numbers >= 0], numbers[numbers >= 0]
            broken = sorted([*broken, *sheet.broken()], key=lambda row: row.line)
        kept = {name: column[good] for name, column in columns.items() if column is not None}
        for name, said in words.items():
            if said is not None:
                kept[name] = self._coded(name, said)[good]
        time = at_us[good] if at_us is not None else CLOCKLESS_START_US + self._agents.count_rows(numbers) * self._period_us
        file = np.full(len(good), self._file, dtype=np.int32)
        return Chunk(agent=numbers, at_us=time, file=file, line=block.line[good], columns=kept), broken

    def _identities(self, sheet: _Sheet) -> tuple[list[str], list[str], list[str]]:
        ids = sheet.take("agent", lambda c: by_column.distinct(c, parse_agent, ""))
        kinds, services = (sheet.take(name, lambda c: by_column.distinct(c, parse_word, "")) for name in ("type", "service"))
        n = sheet.n
        return ids or [self._whole_file_agent] * n, kinds or [""] * n, services or [""] * n

    def _times(self, sheet: _Sheet) -> NDArray[np.int64] | None:
        at_us: NDArray[np.int64] | None = sheet.take("at", by_column.times)
        if at_us is not None:
            for row in np.flatnonzero(at_us == NO_TIME).tolist():
                sheet.refuse(row, "at", "missing_time")
        return at_us

    def _numbers(self, sheet: _Sheet, good: NDArray[np.intp], ids: list[str], types: list[str], services: list[str]) -> NDArray[np.int32]:
        """Local agent numbers of the good rows; -1 for those whose agent there is no room for."""
        rows = good.tolist()
        find = self._agents.find
        numbers = np.array([find(ids[row]) for row in rows], dtype=np.int32)
        for place in np.flatnonzero(numbers < 0).tolist():
            row = rows[place]
            number = self._agents.number(ids[row], types[row], services[row])
            if number is None:
                sheet.refuse(row, "agent", "fleet_full")
            else:
                numbers[place] = number
        return numbers

    def _coded(self, name: str, words: list[str]) -> NDArray[Any]:
        if name == "task_id":
            return np.array([self._task_key(word) for word in words], dtype=np.int64)
        code = {word: self._desk.lexicon.code(word) for word in dict.fromkeys(words)}
        return np.array([code[word] for word in words], dtype=np.int32)

    def _task_key(self, word: str) -> int:
        known = self._task_keys.get(word)
        if known is None:
            if len(self._task_keys) >= MAX_REMEMBERED:
                self._task_keys.clear()
            known = self._task_keys[word] = task_key(word)
        return known


class _Sheet:
    """One block seen through a binding, and what is wrong with its rows; of several faults the first one counts."""

    def __init__(self, block: Block, binding: Binding) -> None:
        self.n = len(block.line)
        self.refused: dict[int, tuple[str, str]] = {}
        self._block = block
        self._binding = binding

    def take(self, name: str, parse: Any) -> Any:
        """The parsed column of a field; None if the file does not have it."""
        column = self._column(name)
        if column is None:
            return None
        parsed, reasons = parse(column)
        for row, reason in reasons.items():
            self.refuse(row, name, reason)
        return parsed

    def status(self) -> NDArray[np.int8] | None:
        """Status by row: the file's own, or what the party whose turn it is says."""
        turns = self._binding.turns
        if turns is not None and "status" not in self._binding.columns and self.n:
            return np.array([parse_status(turns.status.get(str(party), "")) for party in self._parties(turns)], dtype=np.int8)
        listed = self.take("status", lambda c: by_column.distinct(c, parse_status, Status.UNSAID))
        return None if listed is None else np.array(listed, dtype=np.int8)

    def refuse(self, row: int, name: str, reason: str) -> None:
        """Set a row aside."""
        self.refused.setdefault(row, (name, reason))

    def good_rows(self) -> NDArray[np.intp]:
        """The rows without a fault so far."""
        if not self.refused:
            return np.arange(self.n)
        good = np.ones(self.n, dtype=np.bool_)
        good[list(self.refused)] = False
        return np.flatnonzero(good)

    def broken(self) -> Iterable[Broken]:
        """Every row set aside, in order."""
        for row, (name, reason) in sorted(self.refused.items()):
            value = self._value(name, row)
            yield Broken(line=int(self._block.line[row]), field=name, value=show(value), reason=reason)

    def _value(self, name: str, row: int) -> object:
        column = self._column(name)
        value = "" if column is None else column[row]
        return value.item() if isinstance(value, np.generic) else value

    def _column(self, name: str) -> Column | None:
        if name in self._binding.constants:
            return (self._binding.constants[name],) * self.n
        place = self._binding.columns.get(name)
        if place is None or not self.n:
            return None
        column = self._block.columns[place]
        turns = self._binding.turns
        if turns is not None and name in turns.only:
            allowed = turns.only[name]
            return tuple(value if party in allowed else "" for value, party in zip(column, self._parties(turns), strict=True))
        return column

    def _parties(self, turns: Turns) -> Column:
        return self._block.columns[turns.column]
