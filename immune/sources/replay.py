"""A recorded fleet as a source: files in, samples in order of time out.

What is kept in memory: one file that is in order of time and larger than `stream_over_bytes` is read as it is needed, some
thousand rows at a time. Anything else (several files to merge, no clock, rows out of order) is read at `open` and held, about
24 bytes a row and 8 more for each vital that the file has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from immune.core.intake import NEVER_US, falls_behind, repeats
from immune.core.vitals import SampleBatch, Status
from immune.errors import EnrolmentRefusedError, InputError
from immune.ports import Desk
from immune.sources.chunks import Chunk, ChunkParser, LocalAgents
from immune.sources.columns import times
from immune.sources.formats import Binding, bind, check_names, notes_on, stem
from immune.sources.parse import FIELDS, NO_TIME, STATUSES, US, RefusedValueError, parse_agent, show
from immune.sources.readers import Broken, Reader, open_reader

STREAM_OVER_BYTES = 256 << 20
UNORDERED_SHARE = 1 / 3
"""A file in which more rows than this would be late is not in order of arrival at all, and is sorted."""
_UNKNOWN, _REFUSED = -1, -2
HINTS = {
    "bad_time": ": at is ISO 8601 or seconds since 1970, not milliseconds",
    "bad_status": f": status is {', '.join(word for word in STATUSES if word)}, or empty",
    "not_a_number": ": a number has a decimal point and nothing between its digits",
    "missing_agent": ": every row needs an agent, or leave the column out",
}
"""What a refused value should have been, said where nothing else of a file could be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """One row that was not taken."""

    path: str
    line: int
    field: str
    value: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Rejections:
    """Rows that were not taken: exact counts by reason, and the first hundred in full."""

    limit: int = 100
    first: list[RejectedRow] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many rows."""
        return sum(self.counts.values())

    def add(self, path: str, broken: Broken) -> None:
        """Count one row."""
        self.counts[broken.reason] = self.counts.get(broken.reason, 0) + 1
        if len(self.first) < self.limit:
            self.first.append(RejectedRow(path=path, line=broken.line, field=broken.field, value=broken.value, reason=broken.reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    reader: Reader
    binding: Binding
    parser: ChunkParser

    def bytes_unpacked(self) -> int:
        packing = {".gz": 8, ".parquet": 4, ".pq": 4}
        return self.reader.path.stat().st_size * packing.get(self.reader.path.suffix.lower(), 1)


class ReplaySource:
    """Samples of recorded files, merged in order of time.

    Within a file, a row older than an earlier row of its agent is rejected as `late` and one of the same time as
    `duplicate`: that is how they arrived. Only a file with so many of them that it cannot be in order of arrival (newest
    first, shuffled) is sorted instead, and a note says so.

    An agent is enrolled when its first sample is collected, as it would be in life.
    """

    name = "replay"

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        mapping: Mapping[str, str] | None = None,
        vitals: Sequence[str] = (),
        period_us: int = US,
        stream_over_bytes: int = STREAM_OVER_BYTES,
    ) -> None:
        if not paths:
            raise InputError("no file to replay", field="FILE", way_out="name at least one CSV, JSONL or Parquet file")
        if period_us <= 0:
            raise InputError("not a period", field="--period", value=period_us / US, way_out="give seconds greater than 0")
        self._paths = [Path(path) for path in paths]
        self._mapping = dict(mapping or {})
        self._vitals = tuple(vitals)
        self._period_us = period_us
        self._stream_over_bytes = stream_over_bytes
        self._rejections = Rejections()
        self.notes: list[str] = []
        self.accepted = 0
        self.first_us = 0
        """Time of the first sample, microseconds UTC; known after `open`, like all below."""
        self.last_us = 0
        self._pending: Chunk | None = None
        self._cursor = 0
        self._more: Iterator[Chunk] = iter(())
        self._streamed: Reader | None = None

    @property
    def rows(self) -> int:
        """Rows read so far: accepted and rejected, blank lines left out. All rows, unless the file is streamed."""
        return self.accepted + self._rejections.total

    @property
    def rejections(self) -> list[RejectedRow]:
        """The first hundred rows that were not taken."""
        return list(self._rejections.first)

    @property
    def rejected(self) -> dict[str, int]:
        """How many rows were not taken so far, by reason."""
        return dict(self._rejections.counts)

    @property
    def exhausted(self) -> bool:
        """Whether every sample has been collected."""
        return self.next_us is None

    @property
    def next_us(self) -> int | None:
        """Time of the next sample to collect; None at the end. A caller in a hurry can skip what lies between."""
        if self._pending is None or self._cursor >= len(self._pending):
            return None
        return int(self._pending.at_us[self._cursor])

    def progress(self) -> float:
        """How much has been collected, 0 to 1."""
        if self.exhausted:
            return 1.0
        if self._streamed is not None:
            return min(0.999, self._streamed.fraction())
        return self._cursor / max(1, self.accepted)

    def open(self, desk: Desk) -> None:
        """Read the files (a large one: look through it). Raises InputError if one of them gives nothing to replay."""
        for name in self._vitals:
            desk.schema.column(name)
        self._desk = desk
        self._agents = LocalAgents(desk.roster.limit)
        self._index = np.full(1024, _UNKNOWN, dtype=np.int32)
        self._files = self._bound_files(desk)
        streamed = self._files[0] if len(self._files) == 1 and self._can_stream(self._files[0]) else None
        if streamed is not None:
            self._streamed = streamed.reader
            self._more = self._streaming(streamed)
            self._pending = next(self._more, None)
            self._check_usable(streamed, self.accepted, {})
        else:
            self._pending = self._merged([self._loaded(number) for number in range(len(self._files))])
            self.last_us = int(self._pending.at_us[-1])
        if self._pending is not None:
            self.first_us = int(self._pending.at_us[0])

    async def collect(self, now_us: int) -> SampleBatch:
        """All samples up to `now_us` that were not collected before, in order of time."""
        parts = []
        while self._pending is not None:
            end = int(np.searchsorted(self._pending.at_us, now_us, side="right"))
            if end > self._cursor:
                parts.append(self._enrolled(self._pending.take(slice(self._cursor, end))))
                self._cursor = end
            if end < len(self._pending):
                break
            following = next(self._more, None)
            if following is None:
                break
            self._pending, self._cursor = following, 0
        return SampleBatch.concatenate(parts, len(self._desk.schema))

    async def close(self) -> None:
        """Let go of files and memory; nothing is left to collect."""
        self._pending, self._more = None, iter(())

    def _bound_files(self, desk: Desk) -> list[_File]:
        readers = [open_reader(path) for path in self._paths]
        check_names([reader.header for reader in readers], self._mapping, self._vitals)
        extra = [spec.name for spec in desk.schema.specs if spec.name not in FIELDS]
        files = []
        for number, reader in enumerate(readers):
            binding = bind(reader.path, reader.header, self._mapping, extra)
            self.notes += notes_on(reader.path, binding)
            parser = ChunkParser(desk, binding, self._agents, file=number, agent_id=whole_file_agent(reader.path, binding), period_us=self._period_us)
            files.append(_File(reader=reader, binding=binding, parser=parser))
        return files

    def _chunks(self, file: _File) -> Iterator[Chunk]:
        for block in file.reader.blocks(file.binding.wanted):
            chunk, broken = file.parser.parse(block)
            for row in broken:
                self._rejections.add(str(file.reader.path), row)
            if len(chunk):
                self.accepted += len(chunk)
                yield chunk

    def _loaded(self, number: int) -> Chunk:
        file = self._files[number]
        before = dict(self._rejections.counts)
        chunks = list(self._chunks(file))
        self._check_usable(file, len(chunks), before)
        loaded = self._in_order_of_arrival(Chunk.joined(chunks), file.reader.path)
        return loaded if "at" in file.binding.columns else _ending(loaded)

    def _in_order_of_arrival(self, chunk: Chunk, path: Path) -> Chunk:
        late = falls_behind(chunk.agent, chunk.at_us)
        behind = int(np.count_nonzero(late))
        if behind > UNORDERED_SHARE * len(chunk):
            self.notes.append(f"{path.name}: {behind} of {len(chunk)} rows are older than an earlier row of their agent: sorted by time")
            return chunk.take(np.argsort(chunk.at_us, kind="stable"))
        return self._without(chunk, late, "late")

    def _merged(self, files: list[Chunk]) -> Chunk:
        chunk = Chunk.joined(files)
        chunk = chunk.take(np.argsort(chunk.at_us, kind="stable"))
        return self._without(chunk, repeats(chunk.agent, chunk.at_us), "duplicate")

    def _without(self, chunk: Chunk, rejected: NDArray[np.bool_], reason: str) -> Chunk:
        """The chunk without these rows, which are counted."""
        if not rejected.any():
            return chunk
        self._reject_times(chunk, np.flatnonzero(rejected), "at", reason)
        return chunk.take(~rejected)

    def _reject_times(self, chunk: Chunk, rows: NDArray[np.intp], name: str, reason: str) -> None:
        self.accepted -= len(rows)
        for row in rows.tolist():
            agent_id = self._agents.identities[int(chunk.agent[row])].agent_id
            value = agent_id if name == "agent" else f"{_iso(int(chunk.at_us[row]))} of {agent_id}"
            broken = Broken(line=int(chunk.line[row]), field=name, value=show(value), reason=reason)
            self._rejections.add(str(self._paths[int(chunk.file[row])]), broken)

    def _check_usable(self, file: _File, usable: int, before: Mapping[str, int]) -> None:
        if usable:
            return
        here = {reason: n - before.get(reason, 0) for reason, n in self._rejections.counts.items() if n > before.get(reason, 0)}
        counted = ", ".join(f"{n} {reason}" for reason, n in here.items())
        first = next((row for row in self._rejections.first if row.path == str(file.reader.path)), None)
        way_out = f"rejected: {counted}" if counted else "there are no rows below the header"
        if first is not None:
            way_out += f"; line {first.line}: {first.field} {first.value!r}: {first.reason}{HINTS.get(first.reason, '')}"
        raise InputError("no usable row", field="file", value=str(file.reader.path), way_out=way_out)

    def _can_stream(self, file: _File) -> bool:
        """Whether the file is large and in order of time; finds its last time on the way."""
        column = file.binding.columns.get("at")
        if column is None or file.bytes_unpacked() <= self._stream_over_bytes:
            return False
        last_us = NO_TIME
        for block in file.reader.blocks([column]):
            at_us = times(block.columns[column])[0] if block.columns else np.zeros(0, dtype=np.int64)
            at_us = at_us[at_us != NO_TIME]
            if not len(at_us):
                continue
            if at_us[0] < last_us or (at_us[1:] < at_us[:-1]).any():
                self.notes.append(f"{file.reader.path.name}: not in order of time, so it is held in memory")
                return False
            last_us = int(at_us[-1])
        self.last_us = last_us
        return True

    def _streaming(self, file: _File) -> Iterator[Chunk]:
        last_us = np.full(1024, NEVER_US, dtype=np.int64)
        for chunk in self._chunks(file):
            last_us = _grown(last_us, len(self._agents.identities), NEVER_US)
            again = repeats(chunk.agent, chunk.at_us) | (chunk.at_us == last_us[chunk.agent])
            fresh = self._without(chunk, again, "duplicate")
            np.maximum.at(last_us, fresh.agent, fresh.at_us)
            if len(fresh):
                yield fresh

    def _enrolled(self, chunk: Chunk) -> SampleBatch:
        """The samples with roster indices; agents seen for the first time are enrolled, or refused if there is no room."""
        self._index = _grown(self._index, len(self._agents.identities), _UNKNOWN)
        new = np.flatnonzero(self._index[chunk.agent] == _UNKNOWN)
        for number in dict.fromkeys(chunk.agent[new].tolist()):
            try:
                self._index[number] = self._desk.roster.enroll(self._agents.identities[number])
            except EnrolmentRefusedError:
                self._index[number] = _REFUSED
        index = self._index[chunk.agent]
        refused = index == _REFUSED
        if refused.any():
            self._reject_times(chunk, np.flatnonzero(refused), "agent", "fleet_full")
            chunk, index = chunk.take(~refused), index[~refused]
        return chunk.batch(self._desk.schema, index)


def whole_file_agent(path: Path, binding: Binding) -> str:
    """The agent that a file without an agent column is. Raises InputError if its name cannot be an id."""
    if "agent" in binding.columns:
        return ""
    try:
        return parse_agent(stem(path))
    except RefusedValueError:
        what = "a file without an agent column is one agent, but its name cannot be an id"
        raise InputError(what, field="file", value=show(str(path)), way_out="rename the file, or use --map agent=COLUMN") from None


def _ending(chunk: Chunk) -> Chunk:
    """A file without a clock cannot tell silence from its end: the last row of each agent says that it is done."""
    _, from_behind = np.unique(chunk.agent[::-1], return_index=True)
    status = chunk.columns.get("status", np.zeros(len(chunk), dtype=np.int8)).copy()
    status[len(chunk) - 1 - from_behind] = Status.DONE
    return replace(chunk, columns={**chunk.columns, "status": status})


def _grown(array: NDArray[Any], size: int, fill: int) -> NDArray[Any]:
    if size <= len(array):
        return array
    return np.concatenate([array, np.full(max(size, 2 * len(array)) - len(array), fill, dtype=array.dtype)])


def _iso(at_us: int) -> str:
    return str(np.datetime64(at_us, "us")) + "Z"
