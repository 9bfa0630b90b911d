"""A run's vitals as a replay file: one row a sample, so that what was simulated can be judged again like any recording."""

from __future__ import annotations

import csv
from io import StringIO
from math import isnan
from pathlib import Path
from types import TracebackType
from typing import Self

from immune.core.events import iso
from immune.core.vitals import CONTEXT_FIELDS, SampleBatch, Status
from immune.errors import StoreUnavailableError
from immune.ports import AgentSource, Desk

BEFORE_CONTEXT = ("at", "agent", "type", "service")
AFTER_CONTEXT = ("task_id", "step", "status")
STATUS_WORDS = tuple("" if status is Status.UNSAID else status.name.lower() for status in Status)
FLUSH_CHARACTERS = 1 << 16
REMEMBERED_CONTEXTS = 10_000


class Recording:
    """Writes batches to a CSV file of the replay format; what a sample does not say stays empty, never 0.

    Numbers keep every digit, so that a replay scores exactly what was scored live. Raises StoreUnavailableError when
    the file cannot be written.
    """

    def __init__(self, path: Path, desk: Desk) -> None:
        self._path = path
        self._desk = desk
        self._buffer = StringIO()
        self._whos: dict[int, str] = {}
        self._contexts: dict[tuple[int, ...], str] = {}
        self._integer = [spec.integer for spec in desk.schema.specs]
        self.samples = 0
        try:
            self._file = path.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise self._unwritable(error) from None
        self._buffer.write(_csv_fields([*BEFORE_CONTEXT, *CONTEXT_FIELDS, *AFTER_CONTEXT, *desk.schema.names]) + "\n")

    def write(self, batch: SampleBatch) -> None:
        """Append the samples of a batch, in its order."""
        columns = zip(
            batch.agent.tolist(),
            batch.at_us.tolist(),
            map(tuple, batch.codes.tolist()),
            batch.task_id.tolist(),
            batch.step.tolist(),
            batch.status.tolist(),
            batch.values.tolist(),
            strict=True,
        )
        lines = []
        for agent, at_us, codes, task_id, step, status, values in columns:
            task = f"{task_id:x}" if task_id else ""
            place = f"{task},{step if step >= 0 else ''},{STATUS_WORDS[status]}"
            numbers = ",".join(map(_number, values, self._integer))
            lines.append(f"{iso(at_us)},{self._who(agent)},{self._words(codes)},{place},{numbers}\n")
        self._buffer.write("".join(lines))
        self.samples += len(batch)
        if self._buffer.tell() >= FLUSH_CHARACTERS:
            self._flush()

    def _who(self, agent: int) -> str:
        known = self._whos.get(agent)
        if known is None:
            who = self._desk.roster.identities[agent]
            known = self._whos[agent] = _csv_fields([who.agent_id, who.type, who.service])
        return known

    def _words(self, codes: tuple[int, ...]) -> str:
        known = self._contexts.get(codes)
        if known is None:
            if len(self._contexts) >= REMEMBERED_CONTEXTS:
                self._contexts.clear()
            known = self._contexts[codes] = _csv_fields([self._desk.lexicon.word(code) for code in codes])
        return known

    def close(self) -> None:
        """Write what is left and close the file; again is harmless."""
        if not self._file.closed:
            self._flush()
            self._file.close()

    def _flush(self) -> None:
        try:
            self._file.write(self._buffer.getvalue())
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None
        self._buffer.seek(0)
        self._buffer.truncate()

    def _unwritable(self, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"cannot write the recording: {error.strerror}", field="out", value=str(self._path), way_out="choose another directory or free some space"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class RecordedSource:
    """A source that writes down whatever another source says."""

    def __init__(self, source: AgentSource, path: Path) -> None:
        self.name = source.name
        self.recording: Recording | None = None
        self._source = source
        self._path = path

    def open(self, desk: Desk) -> None:
        """Open the source and the file. Raises StoreUnavailableError."""
        self._source.open(desk)
        self.recording = Recording(self._path, desk)

    async def collect(self, now_us: int) -> SampleBatch:
        """What the source says, written down."""
        batch = await self._source.collect(now_us)
        if self.recording is not None:
            self.recording.write(batch)
        return batch

    async def close(self) -> None:
        """Close both."""
        await self._source.close()
        if self.recording is not None:
            self.recording.close()


def _csv_fields(fields: list[str]) -> str:
    """These fields as they stand in a CSV line, quoted where they must be."""
    line = StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _number(value: float, whole: bool) -> str:
    if isnan(value):
        return ""
    return str(int(value)) if whole else repr(value)
