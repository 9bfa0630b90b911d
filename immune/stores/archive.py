"""A run as one file: a header line, then every envelope with the bytes of its body as they were hashed, as gzipped JSON lines.

An archive needs no store to be checked: the chain is computed again from what stands in it. A run leaves the journal only
after its archive was read back from the disk and found to hold.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from immune.core.events import GENESIS, Envelope
from immune.errors import InputError, JournalBrokenError, RefusedError, UnknownIdError, WriterHeldError
from immune.ports import Journal, RunInfo
from immune.stores.chain import Row, check_end, envelope_of, follow, row_of
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.lock import WriterLock
from immune.stores.sqlite import FILE_MODE, make_directory, sync_directory, unavailable
from immune.stores.telemetry_sqlite import SqliteTelemetry

FOLDER = "archive"
FORMAT = "immune run"
VERSION = 1
SUFFIX = ".jsonl.gz"


def write_archive(journal: Journal, run: RunInfo, path: Path) -> None:
    """Write a run to a new file and check it there; durable when this returns.

    Raises InputError for a file that exists, JournalBrokenError for a chain that does not hold, StoreUnavailableError; then
    there is no such file. It gets its name when it is whole: whatever dies before leaves a draft, which the next try writes over.
    """
    if path.exists():
        raise InputError("this file exists already", field="--out", value=str(path), way_out="name a new file")
    make_directory(path.parent)
    draft = path.with_name(f".{path.name}.part")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(handle, "wb") as file:
            _write(file, run, journal)
            file.flush()
            os.fsync(file.fileno())
        check_archive(draft, run)
        draft.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise unavailable(error, path) from error
    finally:
        draft.unlink(missing_ok=True)


def _write(file: BinaryIO, run: RunInfo, journal: Journal) -> None:
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:  # no time in it: equal runs make equal files
        packed.write(_line({"format": FORMAT, "version": VERSION, "run_id": run.run_id, "events": run.events, "head": run.head}))
        for envelope in journal.read(run.run_id, limit=run.events):
            row = row_of(envelope)
            packed.write(_line([*row[:8], row[8].decode(), *row[9:]]))


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def check_archive(path: Path, run: RunInfo | None = None) -> int:
    """Compute the chain of an archive again; the number of events. Raises JournalBrokenError, InputError, StoreUnavailableError."""
    header, rows = _open(path)
    run_id, promised = str(header["run_id"]), (int(header["events"]), str(header["head"]))
    events = check_end(run_id, follow(run_id, rows, 0, GENESIS), promised)
    if run is not None and (run_id, *promised) != (run.run_id, run.events, run.head):
        raise JournalBrokenError("the archive is of another run, or ends elsewhere", run_id=run.run_id, seq=min(events, run.events))
    return events


def read_archive(path: Path) -> Iterator[Envelope]:
    """The envelopes of an archive, in order; the chain is not checked here. Raises InputError, StoreUnavailableError."""
    header, rows = _open(path)
    return (envelope_of(str(header["run_id"]), *row) for row in rows)


def _open(path: Path) -> tuple[dict[str, Any], Iterator[Row]]:
    lines = _lines(path)
    header = next(lines, None)
    if not isinstance(header, dict) or not _is_ours(header):
        raise InputError("this is no archive of a run that this version can read", field="FILE", value=str(path), way_out="see `immune runs archive`")
    return header, _rows(lines, path)


def _is_ours(header: dict[str, Any]) -> bool:
    named = isinstance(header.get("run_id"), str) and isinstance(header.get("events"), int) and isinstance(header.get("head"), str)
    return named and (header.get("format"), header.get("version")) == (FORMAT, VERSION)


def _rows(lines: Iterator[Any], path: Path) -> Iterator[Row]:
    for line in lines:
        if not isinstance(line, list) or len(line) != 11 or not isinstance(line[8], str):
            raise InputError("a line of this archive is no event", field="FILE", value=str(path), way_out="use another copy")
        yield (line[0], line[1], line[2], line[3], line[4], line[5], line[6], line[7], line[8].encode(), line[9], line[10])


def _lines(path: Path) -> Iterator[Any]:
    try:
        with gzip.open(path, "rb") as packed:
            for line in packed:
                yield json.loads(line)
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise InputError(f"this archive is damaged: {error}", field="FILE", value=str(path), way_out="use another copy") from None
    except OSError as error:
        raise unavailable(error, path) from error


def put_away(data_dir: Path, run_id: str, path: Path, now_us: int) -> RunInfo:
    """Archive a run, check the archive, and only then delete the run from journal and telemetry; what is in the archive.

    Raises UnknownIdError, WriterHeldError for the run that a daemon writes, RefusedError for the one that the next daemon would
    take up again, and what `write_archive` raises; then the run is where it was.
    """
    lock = WriterLock(data_dir)
    with SqliteJournal(data_dir) as journal, SqliteTelemetry(data_dir) as telemetry:
        try:
            run = _free(journal, lock, run_id, now_us)
            journal.verify(run_id)
            if not _holds(path, run):
                write_archive(journal, run, path)
            telemetry.forget_run(run_id)  # first: after a crash in between, doing it again finishes it
            journal.forget_run(run_id, events=run.events, head=run.head)
        finally:
            lock.drop()
    return run


def _holds(path: Path, run: RunInfo) -> bool:
    """Whether an earlier try, cut short before anything was deleted, left the archive of this very run."""
    if not path.exists():
        return False
    try:
        check_archive(path, run)
    except (InputError, JournalBrokenError):
        return False
    sync_directory(path.parent)
    return True


def _free(journal: SqliteJournal, lock: WriterLock, run_id: str, now_us: int) -> RunInfo:
    runs = {run.run_id: run for run in journal.runs()}
    if run_id not in runs:
        raise UnknownIdError("no such run", field="RUN", value=run_id, way_out="see `immune runs`")
    try:
        lock.take(f"archive pid {os.getpid()}", now_us)
    except WriterHeldError:
        if lock.note_of_holder() in {journal.writer_of(run_id), ""}:
            raise
    if run_id == taken_up_next(list(runs.values())):
        raise RefusedError(
            "the next daemon would take this run up again",
            field="RUN",
            value=run_id,
            way_out="begin another: immune run --new",
        )
    return runs[run_id]


def taken_up_next(runs: list[RunInfo]) -> str | None:
    """The run that a daemon goes on with unless told otherwise: of runs newest first, the first live one."""
    return next((run.run_id for run in runs if run.run_id.startswith("live-")), None)
