"""What both SQLite stores share: opening, refusing what is not theirs, and saying plainly why the disk said no."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from immune.errors import ImmuneError, SchemaTooNewError, StoreUnavailableError

BUSY_TIMEOUT_S = 5.0
LOG_LIMIT_BYTES = 16 * 1024 * 1024
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600

_WHY = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space; nothing was half written"),
    sqlite3.SQLITE_READONLY: ("the store cannot be written", "check who owns the data directory and that its disk is mounted writable"),
    sqlite3.SQLITE_IOERR: ("the disk reports an error", "check the disk's space, quota and health; nothing was half written"),
    sqlite3.SQLITE_CANTOPEN: ("the store cannot be opened", "check that the data directory exists and may be read"),
    sqlite3.SQLITE_PERM: ("the store may not be opened", "check who owns the data directory"),
    sqlite3.SQLITE_BUSY: ("another process keeps the store locked", "try again, or find the process that holds it"),
    sqlite3.SQLITE_LOCKED: ("the store is locked", "try again"),
    sqlite3.SQLITE_NOTADB: ("this is not a database", "move the file away or restore a backup"),
    sqlite3.SQLITE_CORRUPT: ("the store is damaged", "restore a backup, or move the file away to start anew"),
    sqlite3.SQLITE_NOMEM: ("there was no memory left for the store", "free some memory"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The shape of one kind of store: what marks its files, its version, and how to make an empty one."""

    what: str
    application_id: int
    version: int
    script: tuple[str, ...]
    page_size: int
    synchronous: str


def make_directory(path: Path) -> None:
    """Make a data directory for its owner alone, if need be. Raises StoreUnavailableError."""
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise unavailable(error, path) from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises StoreUnavailableError."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise unavailable(error, path) from error


def unavailable(error: OSError, path: Path) -> StoreUnavailableError:
    """The error for a file or directory that the system refuses."""
    reason = (error.strerror or str(error)).lower()
    return StoreUnavailableError(
        f"cannot use this path: {reason}", field="data_dir", value=str(path), way_out="choose another with --data-dir or --out, or mend its rights"
    )


def open_writable(path: Path, layout: Layout) -> sqlite3.Connection:
    """A connection that may write; makes the file if need be.

    Raises StoreUnavailableError, and SchemaTooNewError for a file of a newer version.
    """
    make_directory(path.parent)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))
    except OSError as error:
        raise unavailable(error, path) from error
    with guarded(path):
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            _prepare(connection, layout, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_readable(path: Path, layout: Layout) -> sqlite3.Connection:
    """A connection that cannot write, beside any writer. Raises StoreUnavailableError, SchemaTooNewError."""
    if not path.is_file():
        raise StoreUnavailableError(
            f"there is no {layout.what} here", field="data_dir", value=str(path), way_out="check --data-dir, or start a run first"
        )
    with guarded(path):
        try:
            return _connect_read_only(path, layout, "mode=ro")
        except sqlite3.OperationalError:
            # A read-only directory has no room for the shared-memory index that WAL needs; without a log to
            # read there is no writer either, and the file can be taken as it lies.
            log = path.with_name(path.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise
            return _connect_read_only(path, layout, "mode=ro&immutable=1")


def _connect_read_only(path: Path, layout: Layout, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        empty = _is_empty(connection, layout, path)
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    if empty:
        connection.close()
        raise StoreUnavailableError(f"this {layout.what} was never filled", field="data_dir", value=str(path), way_out="start a run first")
    return connection


def _prepare(connection: sqlite3.Connection, layout: Layout, path: Path) -> None:
    if _is_empty(connection, layout, path):
        connection.execute(f"PRAGMA page_size = {layout.page_size}")
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute(f"PRAGMA synchronous = {layout.synchronous}")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA recursive_triggers = ON")
    with transaction(connection, path):
        if _is_empty(connection, layout, path):
            for statement in layout.script:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {layout.application_id}")
            connection.execute(f"PRAGMA user_version = {layout.version}")


def _is_empty(connection: sqlite3.Connection, layout: Layout, path: Path) -> bool:
    version = number(connection, "PRAGMA user_version")
    mark = number(connection, "PRAGMA application_id")
    tables = number(connection, "SELECT count(*) FROM sqlite_master")
    if not tables and not version and not mark:
        return True
    if mark != layout.application_id:
        raise StoreUnavailableError(
            f"this database is not an immune {layout.what}", field="data_dir", value=str(path), way_out="choose another directory"
        )
    if version > layout.version:
        raise SchemaTooNewError(
            f"this {layout.what} was written by a newer version (format {version}, known up to {layout.version})",
            field="data_dir",
            value=str(path),
            way_out="upgrade immune to read it",
        )
    return False


def number(connection: sqlite3.Connection, query: str) -> int:
    """The one whole number that a query gives."""
    return int(connection.execute(query).fetchone()[0])


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into errors with a way out."""
    try:
        yield
    except sqlite3.Error as error:
        raise refusal(error, path) from error


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 where the error did not come from SQLite itself."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def refusal(error: sqlite3.Error, path: Path) -> ImmuneError:
    """The StoreUnavailableError that says what happened and what to do."""
    what, way_out = _WHY.get(primary_code(error), (f"the store failed: {error}", "run immune doctor"))
    return StoreUnavailableError(what, field=path.name, value=str(error), way_out=way_out)


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All or nothing; on return everything inside is as durable as the store's `synchronous` makes it."""
    with guarded(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


@contextmanager
def one_view(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Every read inside sees the same moment, whatever a writer does meanwhile."""
    with guarded(path):
        connection.execute("BEGIN")
        try:
            yield
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def located(path: Path, file_name: str) -> Path:
    """The store's file: of a data directory, or the path itself where it names a file (a backup)."""
    return path if path.is_file() else path / file_name
