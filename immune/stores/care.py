"""Care of a journal: copies of it that are checked before anybody relies on them, and the way back."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from immune.core.events import iso
from immune.errors import ImmuneError, InputError, JournalBrokenError, RefusedError, StoreUnavailableError
from immune.ports import RunInfo
from immune.stores.journal_sqlite import FILE_NAME, SqliteJournal
from immune.stores.lock import WriterLock
from immune.stores.sqlite import make_directory, sync_directory, unavailable
from immune.stores.witness import Sighting, Witness, compare

BESIDE = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A run of a restored copy that lacks what was once witnessed, or differs from it."""

    run_id: str
    seq: int
    head: str
    witnessed: Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore brought back. `kept` is where the journal that was there before lies now."""

    runs: Sequence[RunInfo]
    behind: Sequence[Behind]
    kept: Path | None


def checked(path: Path) -> list[RunInfo]:
    """The runs of a journal file or data directory, every chain checked, newest first. Raises JournalBrokenError, StoreUnavailableError."""
    with SqliteJournal.open_read_only(path) as journal:
        runs = journal.runs()
        for run in runs:
            journal.verify(run.run_id)
    return runs


@contextmanager
def readable(data_dir: Path) -> Iterator[Path]:
    """Where the journal of a data directory can be read, whatever its disk is like.

    A log that was not put away in order can only be read where there is room for an index beside it; on a disk that is full or
    read-only that is in a copy elsewhere, gone afterwards. Raises StoreUnavailableError.
    """
    try:
        SqliteJournal.open_read_only(data_dir).close()
    except StoreUnavailableError as error:
        with ExitStack() as stack:
            try:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="immune-")))
                for name in (FILE_NAME, FILE_NAME + "-wal"):
                    if (data_dir / name).exists():
                        shutil.copyfile(data_dir / name, folder / name)
            except OSError:
                raise error from None
            yield folder
    else:
        yield data_dir


def back_up(data_dir: Path, target: Path, *, force: bool = False) -> list[RunInfo]:
    """Copy the journal of a data directory to a file while its writer goes on; the copy is checked before it gets its name.

    Raises InputError for a file that exists (unless forced) or that is the journal itself, JournalBrokenError for a copy that
    does not hold, StoreUnavailableError; then there is no new copy, and an old one is as it was.
    """
    if target.exists() and (not force or _same(target, data_dir / FILE_NAME)):
        raise InputError("this file exists already", field="FILE", value=str(target), way_out="name a new file, or allow it with --force")
    with _draft_of(target) as draft:
        with SqliteJournal.open_read_only(data_dir) as journal:
            journal.backup(draft)
        runs = checked(draft)
        _put(draft, target)
    return runs


def restore(source: Path, data_dir: Path, witness: Witness, now_us: int, *, force: bool = False) -> Restored:
    """Make a checked copy the journal of a data directory. What is there already is kept beside it, and only replaced if forced.

    An older copy is taken, told of, and marked in the witness as accepted. Raises WriterHeldError while somebody writes there,
    RefusedError for a journal that would be replaced, InputError, JournalBrokenError, StoreUnavailableError; then nothing changed.
    """
    target = data_dir / FILE_NAME
    if _same(source, target):
        raise InputError("this is the journal itself", field="FILE", value=str(source), way_out="name a backup of it")
    checked(source)
    make_directory(data_dir)
    lock = WriterLock(data_dir)
    lock.take(f"restore pid {os.getpid()}", now_us)
    try:
        if target.exists() and not force:
            raise RefusedError("there is a journal already", field="data_dir", value=str(target), way_out="--force keeps it beside and replaces it")
        with _draft_of(target) as draft:
            with SqliteJournal.open_read_only(source) as journal:
                journal.backup(draft)
            checked(draft)
            kept = _set_aside(data_dir, now_us) if target.exists() else None
            for suffix in BESIDE:
                target.with_name(target.name + suffix).unlink(missing_ok=True)
            _put(draft, target)
        runs = checked(data_dir)
        return Restored(runs=runs, behind=_accept(data_dir, runs, witness, now_us), kept=kept)
    finally:
        lock.drop()


def _accept(data_dir: Path, runs: Sequence[RunInfo], witness: Witness, now_us: int) -> list[Behind]:
    behind = []
    with SqliteJournal.open_read_only(data_dir) as journal:
        for run in runs:
            sightings = witness.sightings(run.run_id)
            try:
                compare(journal, run.run_id, sightings)
            except JournalBrokenError:
                newest = max(sightings, key=lambda one: one.seq)
                behind.append(Behind(run_id=run.run_id, seq=run.events, head=run.head, witnessed=newest))
                witness.note(now_us, run.run_id, run.events, run.head, "restored")
    return behind


def _set_aside(data_dir: Path, now_us: int) -> Path:
    """A copy of the present journal beside it; byte for byte where it is too damaged to be read."""
    stamp = iso(now_us)[:26].replace(":", "").replace("-", "").replace(".", "-")
    present, kept = data_dir / FILE_NAME, data_dir / f"{FILE_NAME}.before-{stamp}"
    try:
        with SqliteJournal.open_read_only(data_dir) as journal:
            journal.backup(kept)
    except ImmuneError:
        _copy(present, kept)
        log = present.with_name(present.name + "-wal")
        if log.exists():
            _copy(log, kept.with_name(kept.name + "-wal"))
    return kept


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
        target.chmod(0o600)
    except OSError as error:
        raise unavailable(error, target) from error


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


@contextmanager
def _draft_of(target: Path) -> Iterator[Path]:
    """A name beside the target for what is not finished; gone afterwards, whatever happens."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    if not target.parent.is_dir():
        raise InputError("no such directory", field="FILE", value=str(target.parent), way_out="make it first, or name another")
    try:
        yield draft
    finally:
        for suffix in ("", *BESIDE):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def _put(draft: Path, target: Path) -> None:
    """Give a finished file its name; durable when this returns."""
    try:
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        raise unavailable(error, target) from error
    sync_directory(target.parent)
