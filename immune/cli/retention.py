"""``immune runs archive`` and ``immune runs prune``: old runs leave the data directory as files that can be checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from immune.cli.output import DataDir, Json, emit, out
from immune.cli.reading import Id, stores
from immune.cli.reading import runs as runs
from immune.errors import InputError, RefusedError

if TYPE_CHECKING:
    from immune.ports import RunInfo

DAY_US = 86_400_000_000
Out = Annotated[Path | None, typer.Option("--out", help="Where the archive goes (archive/RUN.jsonl.gz of the data directory).", show_default=False)]
Keep = Annotated[int | None, typer.Option("--keep", min=0, metavar="N", help="Archive all but the newest N runs.", show_default=False)]
OlderThan = Annotated[
    float | None, typer.Option("--older-than", min=0, metavar="DAYS", help="Archive runs whose last event is older.", show_default=False)
]


@runs.command("archive")
def archive(run_id: Id, data_dir: DataDir = None, file: Out = None, as_json: Json = False) -> None:
    """Write a run to one file, check it, then delete the run here, its measurements too. Example: immune runs archive run-1"""
    from immune.clock import SystemClock

    _tell([_put_away(_directory(data_dir), run_id, file, SystemClock().now_us())], [], as_json)


@runs.command("prune")
def prune(data_dir: DataDir = None, keep: Keep = None, older_than: OlderThan = None, as_json: Json = False) -> None:
    """Archive old runs, each as `runs archive` does. What a daemon writes, or would take up again, stays. Example: immune runs prune --keep 5"""
    from immune.clock import SystemClock

    if (keep is None) == (older_than is None):
        raise InputError("one of the two is needed", field="--keep", value=keep, way_out="give --keep N or --older-than DAYS")
    now_us = SystemClock().now_us()
    with stores(data_dir) as opened:
        found = opened.journal.runs()
    old = found[keep:] if keep is not None else [run for run in found if run.last_at_us < now_us - (older_than or 0) * DAY_US]
    done, left = [], []
    for run in old:
        try:
            done.append(_put_away(_directory(data_dir), run.run_id, None, now_us))
        except RefusedError as refused:
            left.append((run.run_id, refused.what))
    _tell(done, left, as_json)


@runs.command("rebuild")
def rebuild(
    from_influx: Annotated[str, typer.Option("--from-influx", metavar="RUN", help="The run to make anew from InfluxDB alone.")],
    data_dir: DataDir = None,
    config: Annotated[Path | None, typer.Option("--config", help="immune.toml with a table influx.", show_default=False)] = None,
    vitals: Annotated[bool, typer.Option("--vitals", help="Bring the samples back too.")] = False,
    as_json: Json = False,
) -> None:
    """Write a fresh journal from InfluxDB alone, and check its chain. Example: immune runs rebuild --from-influx run-1 --data-dir fresh"""
    from immune.cli.influx import target_of
    from immune.clock import SystemClock
    from immune.settings import load_settings
    from immune.stores.influx.checking import rebuild as rebuild_run

    directory = load_settings(config=config, data_dir=data_dir).data_dir
    rebuilt = rebuild_run(target_of(config), from_influx, directory, SystemClock().now_us(), vitals=vitals)
    document = {"run_id": rebuilt.run_id, "events": rebuilt.events, "head": rebuilt.head, "state_hash": rebuilt.state_hash}

    def show() -> None:
        out.print(f"{rebuilt.run_id}: {rebuilt.events} events from InfluxDB in {directory}, chain holds, head {rebuilt.head}", markup=False)

    emit(document, as_json, show)


def _directory(data_dir: Path | None) -> Path:
    from immune.settings import load_settings

    with stores(data_dir):  # an empty journal is not made here: what is not there is said
        return load_settings(data_dir=data_dir).data_dir


def _put_away(directory: Path, run_id: str, file: Path | None, now_us: int) -> tuple[RunInfo, Path]:
    from immune.bootstrap import check_run_id
    from immune.stores.archive import FOLDER, SUFFIX, put_away

    path = file or directory / FOLDER / (check_run_id(run_id) + SUFFIX)
    return put_away(directory, run_id, path, now_us), path


def _tell(done: list[tuple[RunInfo, Path]], left: list[tuple[str, str]], as_json: bool) -> None:
    document = {
        "archived": [{"run_id": run.run_id, "events": run.events, "head": run.head, "file": str(path)} for run, path in done],
        "left": [{"run_id": run_id, "why": why} for run_id, why in left],
    }

    def show() -> None:
        for run, path in done:
            out.print(f"{run.run_id}: {run.events} events archived and checked in {path}, head {run.head}", markup=False)
        for run_id, why in left:
            out.print(f"{run_id}: left here, {why}", markup=False)
        if not done and not left:
            out.print("nothing to archive", markup=False)

    emit(document, as_json, show)
