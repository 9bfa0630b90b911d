"""A demo that is mirrored to InfluxDB: beside the ticks in real time, all at once after a run in virtual time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from immune.bootstrap import Stores
from immune.clock import SystemClock
from immune.companions import tap_for_influx
from immune.errors import ImmuneError, InputError, UnreachableError
from immune.runtime.engine import Engine
from immune.runtime.supervisor import Failure, Supervisor
from immune.settings import InfluxSettings, load_influx
from showcase.choices import Choices


def influx_target(*, required: bool) -> InfluxSettings | None:
    """Where the environment says that InfluxDB is. If it is asked for, it must be said, and be there: InputError, UnreachableError."""
    target = load_influx()
    if required and target is None:
        way_out = "set INFLUXDB_V2_URL, INFLUXDB_V2_ORG, INFLUXDB_V2_TOKEN and INFLUXDB_V2_BUCKET"
        raise InputError("no InfluxDB is configured", field="--influx", value=True, way_out=way_out)
    if required and target is not None:
        from immune.stores.influx.administer import look

        found = look(target, SystemClock().now_us())
        if found.error:
            raise UnreachableError(f"there is no InfluxDB to go to ({found.error})", field="--influx", value=target.url, way_out=found.mend)
    return target


@asynccontextmanager
async def mirrored(engine: Engine, choices: Choices) -> AsyncIterator[None]:
    """Writer and mirror beside a live demo; what was fast-forwarded before is brought as well."""
    if choices.influx is None:
        yield
        return
    clock = SystemClock()
    both = tap_for_influx(choices.influx, engine, choices.out, clock, _say)

    def failed(failure: Failure) -> None:
        _say(f"{failure.child} failed ({failure.error}), restarting in {failure.restart_in_s:g} s")

    supervisor = Supervisor(clock, failed)
    for companion in (both.writer, both.mirror):
        supervisor.start(companion.name, companion.run)
    try:
        yield
    finally:
        await supervisor.stop()
        await both.writer.bring_backlog()  # on a slow machine the live part may be over before the minutes before it were brought
        await asyncio.gather(both.writer.close(), both.mirror.close())


def bring_all(choices: Choices, stores: Stores) -> None:
    """After a run in virtual time: nothing ran beside it, so nothing of it depends on a server."""
    from immune.stores.influx.filling import fill_run

    if choices.influx is not None:
        asyncio.run(fill_run(choices.influx, choices.out, stores.journal, choices.run_id, _say))


def held_against(target: InfluxSettings, stores: Stores, run_id: str) -> dict[str, Any]:
    """Both sides of the run, for the report."""
    from immune.stores.influx.checking import reconcile

    try:
        found = reconcile(target, stores.journal, stores.telemetry, run_id)
    except ImmuneError as error:
        return {"url": target.url, "bucket": target.bucket, "complete": False, "sentence": f"influx: {error}"}
    return {
        "url": target.url,
        "bucket": target.bucket,
        "vitals": found.vitals_there,
        "events": found.events_there,
        "complete": found.complete,
        "sentence": found.sentence(),
    }


def query_to_paste(target: InfluxSettings, run_id: str) -> str:
    """Where the run is, and a question to begin with."""
    return (
        f"InfluxDB: {target.url}, organisation {target.org}, bucket {target.bucket}; to begin with:\n"
        f'  from(bucket: "{target.bucket}") |> range(start: 0) |> filter(fn: (r) => r._measurement == "infection_event" and r.run_id == "{run_id}")'
    )


def _say(text: str) -> None:
    sys.stderr.write(f"immune: {text}\n")
