"""What runs beside the engine: each companion is built here from the settings, and supervised by the daemon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from immune.bootstrap import Stores
from immune.clock import Clock
from immune.core import events as ev
from immune.core.duty import Duty
from immune.core.notices import Notice
from immune.core.policy import Policy
from immune.notify.config import load_channels
from immune.notify.notifier import Notifier
from immune.observability.companion import OtelCompanion
from immune.observability.courier import Courier
from immune.observability.cursor import Cursor
from immune.observability.otel_settings import read_otel_settings
from immune.observability.panel import Panel
from immune.ports import Companion
from immune.reports.sentences import say
from immune.runtime.engine import Engine
from immune.runtime.watchdog import Stall, Watchdog
from immune.settings import InfluxSettings, Settings
from immune.stores.influx.beside import FOLDER, Pair, pair
from immune.stores.journal_sqlite import FILE_NAME
from immune.stores.links import noted_address, page_link
from immune.stores.retention import Retention
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
    config: Path | None = None


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
    engine.tidying.taps.append(both.writer.take_bands)
    engine.listeners.append(lambda envelopes, _: both.mirror.notice(envelopes))
    return both


def influx(beside: Beside) -> list[Companion]:
    """Where the settings name an InfluxDB."""
    target = beside.settings.influx
    if target is None:
        return []
    both = tap_for_influx(target, beside.engine, beside.settings.data_dir, beside.clock, beside.say)
    return [both.writer, both.mirror]


def notifier(beside: Beside) -> Companion | None:
    """Where the configuration names channels."""
    channels = load_channels(beside.config, beside.clock)
    if not channels:
        return None
    engine, settings = beside.engine, beside.settings

    def link(notice: Notice) -> str:
        # where it listens may be another port than the wanted one: a free one was asked for, or that one was taken
        address = settings.dashboard_url or noted_address(settings.data_dir) or settings.dashboard_address
        return address + page_link(settings.data_dir, notice.page, beside.clock.now_us())

    teller = Notifier(
        {spec.channel.name: spec.way for spec in channels},
        Duty([spec.channel for spec in channels]),
        beside.clock,
        state=lambda: engine.state,
        tell=say,
        link=link,
        record=lambda subject, told: engine.note(subject, told, beside.clock.now_us()),
        run_id=engine.run_id,
    )
    engine.listeners.append(lambda envelopes, view: teller.hear(envelopes, view.state))
    return teller


def retention(beside: Beside) -> Companion | None:
    """Where runs are kept in files."""
    if not (beside.settings.data_dir / FILE_NAME).exists():
        return None
    return Retention(beside.settings.data_dir, beside.clock, age_s=beside.policy.limits.run_retention_s, say=beside.say)


BUILDERS: tuple[Callable[[Beside], Companion | None], ...] = (watchdog, otel, notifier, retention)
"""One per kind of companion; None where the settings do not ask for it."""


def companions(beside: Beside) -> list[Companion]:
    """The companions that the settings ask for."""
    return [*(companion for build in BUILDERS if (companion := build(beside)) is not None), *influx(beside)]
