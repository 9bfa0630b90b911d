"""What runs beside the engine: each companion is built here from the settings, and supervised by the daemon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from immune.bootstrap import Stores
from immune.clock import Clock
from immune.core import events as ev
from immune.core.policy import Policy
from immune.observability.companion import OtelCompanion
from immune.observability.courier import Courier
from immune.observability.cursor import Cursor
from immune.observability.otel_settings import read_otel_settings
from immune.observability.panel import Panel
from immune.ports import Companion
from immune.runtime.engine import Engine
from immune.runtime.watchdog import Stall, Watchdog
from immune.settings import InfluxSettings, Settings
from immune.stores.influx.beside import FOLDER, Pair, pair
from immune.stores.telemetry_sqlite import SqliteTelemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a companion may be built from."""

    settings: Settings
    policy: Policy
    engine: Engine
    stores: Stores
    clock: Clock
    say: Callable[[str], None]
    panel: Panel


def watchdog(beside: Beside) -> Companion:
    """Always: whoever watches others is watched."""

    def recovered(stall: Stall) -> None:
        event = ev.LoopStalled(since_us=stall.since_us, for_s=round(stall.for_s, 3), where=stall.where)
        beside.engine.note("daemon", event, beside.clock.now_us())

    return Watchdog(beside.clock, say=beside.say, recovered=recovered, dump=beside.settings.data_dir / "stall.txt")


def otel(beside: Beside) -> Companion | None:
    """Where the standard OTEL settings name a collector."""
    settings = read_otel_settings()
    if settings is None:
        return None
    cursor = Cursor(beside.settings.data_dir / "otel.json")
    return OtelCompanion(settings, beside.panel, beside.clock, cursor=cursor, courier=Courier("otel"), say=beside.say)


def tap_for_influx(target: InfluxSettings, engine: Engine, data_dir: Path, clock: Clock, say: Callable[[str], None]) -> Pair:
    """Writer and mirror of an engine's run; they are told of each tick from now on."""
    both = pair(
        target,
        folder=data_dir / FOLDER,
        run_id=engine.run_id,
        roster=engine.desk.roster,
        schema=engine.desk.schema,
        journal=engine.journal,
        clock=clock,
        say=say,
        telemetry=partial(SqliteTelemetry.open_read_only, data_dir),
    )
    engine.sample_taps.append(both.writer.take)
    engine.band_taps.append(both.writer.take_bands)
    engine.listeners.append(lambda envelopes, _: both.mirror.notice(envelopes))
    return both


def influx(beside: Beside) -> list[Companion]:
    """Where the settings name an InfluxDB."""
    target = beside.settings.influx
    if target is None:
        return []
    both = tap_for_influx(target, beside.engine, beside.settings.data_dir, beside.clock, beside.say)
    return [both.writer, both.mirror]


BUILDERS: tuple[Callable[[Beside], Companion | None], ...] = (watchdog, otel)
"""One per kind of companion; None where the settings do not ask for it."""


def companions(beside: Beside) -> list[Companion]:
    """The companions that the settings ask for."""
    return [*(companion for build in BUILDERS if (companion := build(beside)) is not None), *influx(beside)]
