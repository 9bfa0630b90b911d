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
CLOCK_SKEW_MAX_S = 30


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
    checks = [_python(), _sqlite(), _writable(directory), _room(directory), _journals(directory), _parquet(), *_influx(), _collector()]

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


def _collector() -> Check:
    from immune.errors import InputError
    from immune.observability.probe import probe

    try:
        answered = probe()
    except InputError as error:
        return Check(name="collector", works=False, needed=True, found=str(error), mend=error.way_out)
    if answered is None:
        mend = "set OTEL_EXPORTER_OTLP_ENDPOINT to send traces and metrics somewhere"
        return Check(name="collector", works=False, needed=False, found="none is named", mend=mend)
    return Check(name="collector", works=answered.works, needed=True, found=answered.found, mend=answered.mend)


def _influx() -> list[Check]:
    """Server, token and bucket in one, and the clocks; only where an InfluxDB is configured."""
    from immune.clock import SystemClock
    from immune.settings import load_influx

    target = load_influx()
    if target is None:
        mend = "set INFLUXDB_V2_URL, INFLUXDB_V2_ORG, INFLUXDB_V2_TOKEN and INFLUXDB_V2_BUCKET"
        return [Check(name="influxdb", works=False, needed=False, found="not configured", mend=mend)]
    from immune.stores.influx.administer import look

    found = look(target, SystemClock().now_us())
    where = f"{found.version} at {target.url}, bucket {target.bucket}".strip()
    server = Check(name="influxdb", works=not found.error, needed=True, found=found.error or where, mend=found.mend)
    if found.error:
        return [server]
    apart = Check(
        name="influxdb clock",
        works=abs(found.skew_s) < CLOCK_SKEW_MAX_S,
        needed=True,
        found=f"{found.skew_s:+.0f} s from ours",
        mend="let both machines follow a time server (NTP)",
    )
    return [server, apart]


def _parquet() -> Check:
    return Check(name="parquet", works=find_spec("pyarrow") is not None, needed=False, found="pyarrow", mend="pip install 'immune[parquet]'")
