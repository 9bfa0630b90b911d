"""The journal in one SQLite file: write-ahead log, fsync before anything is acknowledged, one chain per run.

Tables: `events` holds the envelopes as stored, `runs` one row a run with its writer's epoch and the end of its chain.
Keeping the end beside the chain makes `head` cheap and shows a chain that was cut at its end. Triggers refuse UPDATE
and DELETE; they only stop accidents, `verify` finds what was done with them out of the way. `events` has a row id:
without one an event of 800 bytes would take an overflow page of its own, 4.6 kB against 1.0 kB, and half the append rate.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Self

from immune.core.events import GENESIS, Draft, Envelope, seal
from immune.errors import InputError, JournalBrokenError, RefusedError, StoreUnavailableError
from immune.ports import RunInfo
from immune.stores.chain import Row, check_end, check_expected, check_reached, check_writer, envelope_of, follow, row_of
from immune.stores.lock import WriterLock
from immune.stores.sqlite import (
    FILE_MODE,
    Layout,
    guarded,
    located,
    one_view,
    open_readable,
    open_writable,
    primary_code,
    transaction,
    unavailable,
)

FILE_NAME = "journal.db"
SNAPSHOTS_KEPT = 3
PAGE_ROWS = 1024
_BEFORE_ALL = -(2**63)

LAYOUT = Layout(
    what="journal",
    application_id=0x494D4A4C,
    version=1,
    page_size=4096,
    synchronous="FULL",
    script=(
        """CREATE TABLE runs (
            run INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE,
            epoch INTEGER NOT NULL, holder TEXT NOT NULL, acquired_at_us INTEGER NOT NULL,
            events INTEGER NOT NULL DEFAULT 0, first_at_us INTEGER NOT NULL DEFAULT 0, last_at_us INTEGER NOT NULL DEFAULT 0,
            head TEXT NOT NULL)""",
        """CREATE TABLE events (
            run_id TEXT NOT NULL REFERENCES runs (run_id), seq INTEGER NOT NULL, at_us INTEGER NOT NULL, kind TEXT NOT NULL,
            schema INTEGER NOT NULL, subject TEXT NOT NULL, correlation_id TEXT NOT NULL, causation_id TEXT NOT NULL,
            actor TEXT NOT NULL, body BLOB NOT NULL, prev_hash TEXT NOT NULL, hash TEXT NOT NULL,
            UNIQUE (run_id, seq))""",
        """CREATE TABLE snapshots (
            run_id TEXT NOT NULL REFERENCES runs (run_id), name TEXT NOT NULL, seq INTEGER NOT NULL, digest BLOB NOT NULL,
            content BLOB NOT NULL, PRIMARY KEY (run_id, name, seq))""",
        "CREATE TRIGGER events_are_not_edited BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are never edited'); END",
        "CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END",
    ),
)

_COLUMNS = "seq, at_us, kind, schema, subject, correlation_id, causation_id, actor, body, prev_hash, hash"
_PAGE = f"SELECT {_COLUMNS} FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608  (our own column names)
_INSERT = f"INSERT INTO events (run_id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_ACQUIRE = """INSERT INTO runs (run_id, epoch, holder, acquired_at_us, head) VALUES (?, 1, ?, ?, ?)
    ON CONFLICT (run_id) DO UPDATE SET epoch = epoch + 1, holder = excluded.holder, acquired_at_us = excluded.acquired_at_us
    RETURNING epoch"""
_ADVANCE = """UPDATE runs SET events = ?, last_at_us = ?, head = ?, first_at_us = CASE events WHEN 0 THEN ? ELSE first_at_us END
    WHERE run_id = ?"""
_FORGET_SNAPSHOTS = """DELETE FROM snapshots WHERE run_id = ?1 AND name = ?2 AND seq NOT IN
    (SELECT seq FROM snapshots WHERE run_id = ?1 AND name = ?2 ORDER BY seq DESC LIMIT ?3)"""
_NO_DELETIONS = "events_are_not_deleted"
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_MISUSE}
"""Failures that say nothing about the chain."""


class SqliteJournal:
    """The journal of a data directory. To be used from one thread."""

    def __init__(self, data_dir: Path, *, read_only: bool = False) -> None:
        """Raises StoreUnavailableError, and SchemaTooNewError for a journal of a newer version."""
        self.path = located(data_dir, FILE_NAME) if read_only else data_dir / FILE_NAME
        self._connection = open_readable(self.path, LAYOUT) if read_only else open_writable(self.path, LAYOUT)
        self._lock = None if read_only else WriterLock(data_dir)
        self._held: dict[str, int] = {}

    @classmethod
    def open_read_only(cls, path: Path) -> Self:
        """A handle on the journal of a data directory, or on one journal file, that cannot write. Any process may have one."""
        return cls(path, read_only=True)

    def acquire(self, run_id: str, holder: str, now_us: int, *, take_over: bool = False) -> int:
        """Become the writer of a run; the new fencing epoch, higher than any before.

        A second call on the same handle takes over from the first. Raises WriterHeldError while another handle,
        here or in another process, writes to this data directory; StoreUnavailableError. With `take_over` the other one
        loses the lock, and with the new epoch its right to write.
        """
        self._writable().take(holder, now_us, by_force=take_over)
        try:
            with transaction(self._connection, self.path):
                if take_over:  # the other one may be writing another run of this directory
                    self._connection.execute("UPDATE runs SET epoch = epoch + 1 WHERE run_id <> ?", (run_id,))
                epoch = int(self._connection.execute(_ACQUIRE, (run_id, holder, now_us, GENESIS)).fetchone()[0])
        except StoreUnavailableError:
            self._drop_idle_lock()
            raise
        self._held[run_id] = epoch
        return epoch

    def release(self, run_id: str, epoch: int) -> None:
        """Stop being the writer; nothing happens if somebody took over."""
        if self._held.get(run_id) == epoch:
            del self._held[run_id]
        self._drop_idle_lock()

    def confirm(self, run_id: str, epoch: int) -> None:
        """Return while this epoch may write: one row read, 10 µs. Raises FencedError, StoreUnavailableError."""
        with guarded(self.path):
            self._check(run_id, epoch)

    def append(self, run_id: str, drafts: Sequence[Draft], *, expected_seq: int, epoch: int) -> list[Envelope]:
        """Make these events durable in one transaction; they are on the disk when this returns.

        Raises AppendConflictError, FencedError, InputError for what cannot be stored, StoreUnavailableError; then
        nothing was written.
        """
        if not drafts:
            return []
        self._writable()
        with transaction(self._connection, self.path):
            head = self._check(run_id, epoch)
            check_expected(run_id, head[0], expected_seq)
            try:
                sealed = seal(run_id, tuple(drafts), *head)
                self._connection.executemany(_INSERT, [(run_id, *row_of(envelope)) for envelope in sealed])
                self._connection.execute(_ADVANCE, (sealed[-1].seq, sealed[-1].at_us, sealed[-1].hash, sealed[0].at_us, run_id))
            except (OverflowError, UnicodeEncodeError) as error:
                raise InputError(f"an event cannot be stored: {error}", field="drafts") from None
        return sealed

    def adopt(self, run_id: str, envelopes: Sequence[Envelope], holder: str, now_us: int) -> int:
        """Take a whole run over as it was recorded elsewhere, byte for byte, in one transaction; how many events.

        Raises RefusedError for a run that is here already, JournalBrokenError for a chain that does not hold,
        WriterHeldError, StoreUnavailableError; then nothing was written.
        """
        if self.head(run_id)[0]:
            raise RefusedError("this run is recorded here already", field="run", value=run_id, way_out="name another data directory")
        end = follow(run_id, map(row_of, envelopes), 0, GENESIS)
        epoch = self.acquire(run_id, holder, now_us)
        try:
            with transaction(self._connection, self.path):
                self._connection.executemany(_INSERT, ((run_id, *row_of(envelope)) for envelope in envelopes))
                if envelopes:
                    self._connection.execute(_ADVANCE, (end[0], envelopes[-1].at_us, end[1], envelopes[0].at_us, run_id))
        finally:
            self.release(run_id, epoch)
        return len(envelopes)

    def save_snapshot(self, run_id: str, seq: int, name: str, content: bytes, *, epoch: int) -> None:
        """Keep a snapshot; the newest three of a name stay.

        Raises FencedError, AppendConflictError for a seq that the journal has not reached, StoreUnavailableError.
        """
        self._writable()
        with transaction(self._connection, self.path):
            check_reached(run_id, seq, self._check(run_id, epoch)[0])
            self._connection.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)", (run_id, name, seq, _digest(content), content))
            self._connection.execute(_FORGET_SNAPSHOTS, (run_id, name, SNAPSHOTS_KEPT))

    def read(self, run_id: str, *, after_seq: int = 0, limit: int | None = None) -> Iterator[Envelope]:
        """Events after a seq, in order, a page at a time; others may append meanwhile."""
        left = limit
        while left is None or left > 0:
            with guarded(self.path):
                rows = self._page(run_id, after_seq, PAGE_ROWS if left is None else min(left, PAGE_ROWS))
            if not rows:
                return
            for row in rows:
                yield envelope_of(run_id, *row)
            after_seq = rows[-1][0]
            left = None if left is None else left - len(rows)

    def head(self, run_id: str) -> tuple[int, str]:
        """(last seq, its hash); (0, genesis) for an unknown run."""
        with guarded(self.path):
            row = self._connection.execute("SELECT events, head FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        return (row[0], row[1]) if row else (0, GENESIS)

    def writer_of(self, run_id: str) -> str:
        """The name that the newest writer of a run gave; "" for an unknown run."""
        with guarded(self.path):
            row = self._connection.execute("SELECT holder FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        return str(row[0]) if row else ""

    def verify(self, run_id: str) -> int:
        """Check the whole chain and where it ends; the number of events. Raises JournalBrokenError at the first bad seq."""
        with one_view(self._connection, self.path):
            return check_end(run_id, self._walk(run_id), self.head(run_id))

    def _walk(self, run_id: str) -> tuple[int, str]:
        seq, prev_hash, after_seq, limit = 0, GENESIS, _BEFORE_ALL, PAGE_ROWS
        while True:
            try:
                rows = self._page(run_id, after_seq, limit)
            except sqlite3.DatabaseError as error:
                if primary_code(error) in _PASSING:
                    raise
                if limit == 1:
                    raise JournalBrokenError(f"the event cannot be read ({error})", run_id=run_id, seq=seq + 1) from error
                limit = 1  # a page fails as a whole; one by one, the first bad seq is known
                continue
            if not rows:
                return seq, prev_hash
            seq, prev_hash = follow(run_id, rows, seq, prev_hash)
            after_seq = seq

    def runs(self) -> list[RunInfo]:
        """Every run that has events, the newest first."""
        with guarded(self.path):
            rows = self._connection.execute(
                "SELECT run_id, events, first_at_us, last_at_us, head FROM runs WHERE events > 0 ORDER BY run DESC"
            ).fetchall()
        return [RunInfo(run_id=row[0], events=row[1], first_at_us=row[2], last_at_us=row[3], head=row[4]) for row in rows]

    def load_snapshot(self, run_id: str, name: str) -> tuple[int, bytes] | None:
        """The newest snapshot of this name that is whole: (seq, content), or None."""
        with guarded(self.path):
            rows = self._connection.execute(
                "SELECT seq, content, digest FROM snapshots WHERE run_id = ? AND name = ? ORDER BY seq DESC", (run_id, name)
            ).fetchall()
        return next(((seq, content) for seq, content, digest in rows if _digest(content) == digest), None)

    def backup(self, path: Path) -> None:
        """Copy the journal to a new file, in one consistent state, while the writer goes on.

        Raises InputError for a file that exists, StoreUnavailableError.
        """
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))
        except FileExistsError:
            raise InputError("this file exists already", field="path", value=str(path), way_out="name a new file for the backup") from None
        except OSError as error:
            raise unavailable(error, path) from error
        with guarded(path), closing(sqlite3.connect(path, isolation_level=None)) as copy:
            self._connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file that can be carried about

    def forget_run(self, run_id: str, *, events: int, head: str) -> None:
        """Delete a run for good: its events, snapshots and row. For retention, after its archive was checked.

        The caller names the end of the chain that it has archived. The triggers step aside within this one transaction only.
        Raises AppendConflictError when the run ends elsewhere, StoreUnavailableError; then everything is as it was.
        """
        self._writable()
        with transaction(self._connection, self.path):
            found = self.head(run_id)
            if found != (events, head):
                check_expected(run_id, found[0], events)
                raise JournalBrokenError("the run does not end as its archive does", run_id=run_id, seq=events)
            self._connection.execute(f"DROP TRIGGER {_NO_DELETIONS}")
            for table in ("snapshots", "events", "runs"):
                self._connection.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))  # noqa: S608  (our own table names)
            self._connection.execute(next(statement for statement in LAYOUT.script if _NO_DELETIONS in statement))

    def close(self) -> None:
        """Let go of the file and of being the writer; nothing happens the second time."""
        with guarded(self.path):
            self._connection.close()
        self._held.clear()
        self._drop_idle_lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _page(self, run_id: str, after_seq: int, limit: int) -> list[Row]:
        return self._connection.execute(_PAGE, (run_id, after_seq, limit)).fetchall()

    def _check(self, run_id: str, epoch: int) -> tuple[int, str]:
        row = self._connection.execute("SELECT events, head, epoch, holder FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        events, head, current, holder = row or (0, GENESIS, 0, "nobody")
        check_writer(run_id, epoch, current=current, held=self._held.get(run_id), holder=holder)
        return events, head

    def _drop_idle_lock(self) -> None:
        if self._lock is not None and not self._held:
            self._lock.drop()

    def _writable(self) -> WriterLock:
        if self._lock is None:
            raise RefusedError("this handle only reads", field="journal", value=str(self.path), way_out="write through the daemon that owns it")
        return self._lock


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
