"""``immune doctor``: what works here and what does not, each with the way to mend it."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import typer

from immune.cli.output import DataDir, Json, emit, table
from immune.errors import ImmuneError

NOT_WELL = 1
ROOM_NEEDED_BYTES = 200 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at. `needed` tells a failure from a mere absence."""

    name: str
    works: bool
    needed: bool
    found: str
    mend: str = ""


def doctor(data_dir: DataDir = None, as_json: Json = False) -> None:
    """What works here and what does not, each with the way to fix it. Example: immune doctor --json"""
    from immune.settings import load_settings

    directory = load_settings(data_dir=data_dir).data_dir
    checks = [_python(), _sqlite(), _writable(directory), _room(directory), _journals(directory), _parquet()]

    def show() -> None:
        rows = [("ok" if c.works else "FAIL" if c.needed else "absent", c.name, c.found, "" if c.works else c.mend) for c in checks]
        table("", ("", "what", "found", "to mend"), rows, "")

    emit({"healthy": all(c.works or not c.needed for c in checks), "checks": [asdict(c) for c in checks]}, as_json, show)
    if any(c.needed and not c.works for c in checks):
        raise typer.Exit(NOT_WELL)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check(name="python", works=sys.version_info >= (3, 11), needed=True, found=version, mend="use Python 3.11 or newer")


def _sqlite() -> Check:
    import sqlite3

    return Check(
        name="sqlite",
        works=sqlite3.sqlite_version_info >= (3, 35),
        needed=True,
        found=sqlite3.sqlite_version,
        mend="use a Python with SQLite 3.35 or newer",
    )


def _nearest(directory: Path) -> Path:
    return next(path for path in (directory, *directory.absolute().parents) if path.exists())


def _writable(directory: Path) -> Check:
    import tempfile

    where = _nearest(directory)
    try:
        with tempfile.TemporaryFile(dir=where):
            works, found = True, str(directory)
    except OSError as error:
        works, found = False, f"{where}: {error.strerror}"
    return Check(name="data directory", works=works, needed=True, found=found, mend="make it writable, or name another with --data-dir")


def _room(directory: Path) -> Check:
    free = shutil.disk_usage(_nearest(directory)).free
    return Check(
        name="disk",
        works=free > ROOM_NEEDED_BYTES,
        needed=True,
        found=f"{free / 2**30:.1f} GiB free",
        mend="free some space, or name another --data-dir",
    )


def _journals(directory: Path) -> Check:
    from immune.bootstrap import open_stores_read_only

    if not (directory / "journal.db").exists():
        return Check(name="journal", works=True, needed=True, found="none yet")
    try:
        opened = open_stores_read_only(directory)
        try:
            runs = opened.journal.runs()
            if runs:
                opened.journal.verify(runs[0].run_id)
        finally:
            opened.close()
    except ImmuneError as error:
        return Check(name="journal", works=False, needed=True, found=str(error), mend=error.way_out)
    return Check(name="journal", works=True, needed=True, found=f"{len(runs)} runs, chain of the newest holds")


def _parquet() -> Check:
    return Check(name="parquet", works=find_spec("pyarrow") is not None, needed=False, found="pyarrow", mend="pip install 'immune[parquet]'")
