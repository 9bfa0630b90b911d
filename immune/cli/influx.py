"""``immune influx``: setting InfluxDB up, bringing a run there, and holding both sides against each other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from immune.cli.output import DataDir, Json, emit, err, out
from immune.errors import InputError

if TYPE_CHECKING:
    from immune.settings import InfluxSettings

NOT_COMPLETE = 1

app = typer.Typer(help="InfluxDB: set it up, bring a run there, check that nothing is missing.", no_args_is_help=True)

Config = Annotated[Path | None, typer.Option("--config", help="immune.toml with a table influx.", show_default=False)]
Run = Annotated[str | None, typer.Argument(metavar="RUN", help="Which run; the newest one unless given.", show_default=False)]
Retention = Annotated[int, typer.Option("--retention-days", min=0, help="How long the bucket keeps points; 0 is for ever.")]
NoToken = Annotated[bool, typer.Option("--no-token", help="Make no token for the daemon.")]


def target_of(config: Path | None) -> InfluxSettings:
    """Where InfluxDB is. Raises InputError when nobody said."""
    from immune.settings import load_influx

    target = load_influx(config=config)
    if target is None:
        way_out = "set INFLUXDB_V2_URL, INFLUXDB_V2_ORG, INFLUXDB_V2_TOKEN and INFLUXDB_V2_BUCKET, or a table [influx] in immune.toml"
        raise InputError("no InfluxDB is configured", field="INFLUXDB_V2_URL", value="", way_out=way_out)
    return target


@app.command("setup")
def setup(config: Config = None, retention_days: Retention = 0, no_token: NoToken = False, as_json: Json = False) -> None:
    """Make buckets, downsampling and a token that may do no more than it must; again changes nothing. Example: immune influx setup"""
    from immune.stores.influx.administer import set_up

    done = set_up(target_of(config), retention_days=retention_days, with_token=not no_token)

    def show() -> None:
        for made in done.made:
            out.print(f"made: {made}", markup=False)
        if not done.made:
            out.print("everything was there already", markup=False)
        out.print(f"points go to {done.bucket}, minutes of the vitals to {done.long_bucket} (task {done.task})", markup=False)
        if done.token:
            out.print("token for the daemon, shown this once:", markup=False)
            out.print(f"  export INFLUXDB_V2_TOKEN={done.token}", markup=False, soft_wrap=True)

    emit(asdict(done), as_json, show)


@app.command("check")
def check(run_id: Run = None, data_dir: DataDir = None, config: Config = None, as_json: Json = False) -> None:
    """Count both sides of a run: n of n vitals, n of n events, head equal. Exits 1 if something is missing. Example: immune influx check"""
    from immune.bootstrap import find_run
    from immune.cli.reading import stores
    from immune.stores.influx.checking import reconcile

    target = target_of(config)
    with stores(data_dir) as opened:
        found = reconcile(target, opened.journal, opened.telemetry, find_run(opened.journal, run_id))

    def show() -> None:
        out.print(f"{found.run_id}: {found.sentence()}", markup=False)
        if not found.complete:
            err.print(f"bring what is missing: immune influx fill {found.run_id}", markup=False)

    emit({**asdict(found), "complete": found.complete}, as_json, show)
    if not found.complete:
        raise typer.Exit(NOT_COMPLETE)


@app.command("fill")
def fill(run_id: Run = None, data_dir: DataDir = None, config: Config = None, as_json: Json = False) -> None:
    """Bring a whole run to InfluxDB: all events and vitals that are here; what is there already stays as it is. Example: immune influx fill"""
    import asyncio

    from immune.bootstrap import find_run
    from immune.cli.reading import stores
    from immune.settings import load_settings
    from immune.stores.influx.checking import reconcile
    from immune.stores.influx.filling import fill_run

    target = target_of(config)
    directory = load_settings(data_dir=data_dir).data_dir
    with stores(data_dir) as opened:
        run = find_run(opened.journal, run_id)
        asyncio.run(fill_run(target, directory, opened.journal, run, say=lambda text: err.print(text, markup=False)))
        found = reconcile(target, opened.journal, opened.telemetry, run)
    emit({**asdict(found), "complete": found.complete}, as_json, lambda: out.print(f"{run}: {found.sentence()}", markup=False))
    if not found.complete:
        raise typer.Exit(NOT_COMPLETE)


@app.command("forget")
def forget(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run whose points go.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really delete.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Delete all points of a run in InfluxDB; what is here stays. Example: immune influx forget run-1 --yes"""
    from immune.bootstrap import check_run_id
    from immune.stores.influx.administer import forget_run

    target = target_of(config)
    if not yes:
        raise InputError("this deletes every point of the run", field="--yes", value=False, way_out="add --yes to do it")
    forget_run(target, check_run_id(run_id))
    emit({"run_id": run_id, "bucket": target.bucket}, as_json, lambda: out.print(f"{run_id}: gone from bucket {target.bucket}", markup=False))
