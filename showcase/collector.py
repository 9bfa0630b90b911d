"""A demo whose traces and metrics go to a collector, where the OTEL settings name one: beside the ticks, or all at once afterwards."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from immune.clock import SystemClock
from immune.observability.companion import OtelCompanion
from immune.observability.courier import Courier
from immune.observability.cursor import Cursor
from immune.observability.otel_settings import read_otel_settings
from immune.observability.panel import Panel
from immune.runtime.supervisor import Failure, Supervisor

PATIENCE_S = 5.0
"""A demo that is over waits so long for a collector that does not answer."""


def companion_of(panel: Panel, out: Path) -> OtelCompanion | None:
    """What carries this demo's telemetry, None where no collector is named. Raises InputError for settings that cannot be meant."""
    settings = read_otel_settings()
    if settings is None:
        return None
    return OtelCompanion(settings, panel, SystemClock(), cursor=Cursor(out / "otel.json"), courier=Courier("otel"), say=_say)


@asynccontextmanager
async def told(panel: Panel, out: Path) -> AsyncIterator[None]:
    """Telemetry goes out while the demo lives."""
    companion = companion_of(panel, out)
    if companion is None:
        yield
        return

    def failed(failure: Failure) -> None:
        _say(f"{failure.child} failed ({failure.error}), restarting in {failure.restart_in_s:g} s")

    supervisor = Supervisor(SystemClock(), failed)
    supervisor.start(companion.name, companion.run)
    try:
        yield
    finally:
        await supervisor.stop()
        await companion.close()


def tell_all(panel: Panel, out: Path) -> None:
    """After a run in virtual time, beside which nothing ran: all of its spans, and its numbers as they are at the end."""
    companion = companion_of(panel, out)
    if companion is not None:
        asyncio.run(_tell_all(companion))


async def _tell_all(companion: OtelCompanion) -> None:
    await companion.warm_up()
    await companion.close(PATIENCE_S)  # beside a daemon it is a fraction of a second: there the next start goes on, and here is none
    found = companion.health()
    left = [f"the spans of {found['events_behind']} events"] if found["events_behind"] else []
    if companion.settings.metrics and not found["metric_exports"]:
        left.append("the metrics")
    if left:
        _say(f"the collector at {companion.settings.place} did not take {' and '.join(left)} within {PATIENCE_S:g} s; the journal keeps the events")


def _say(text: str) -> None:
    sys.stderr.write(f"immune: {text}\n")
