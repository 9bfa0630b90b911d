"""A whole run that is over, brought to InfluxDB at once: imported, made up for after a crash, or played in virtual time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from immune.clock import SystemClock
from immune.core.fold import fold
from immune.core.state import RunState
from immune.core.vitals import VITALS, AgentIdentity, Roster, VitalSchema
from immune.errors import UnknownIdError
from immune.ports import Journal
from immune.settings import InfluxSettings
from immune.stores.influx.beside import pair
from immune.stores.influx.writer import PROFILE_EVERY_US, VitalsWriter
from immune.stores.telemetry_sqlite import SqliteTelemetry

AGENTS_MAX = 1_000_000


async def fill_run(target: InfluxSettings, data_dir: Path, journal: Journal, run_id: str, say: Callable[[str], None]) -> None:
    """Bring all events and all samples that are here. What the server does not take is not kept: `check` tells of it."""
    state = fold(RunState(), journal.read(run_id))
    roster = Roster(limit=AGENTS_MAX)
    for agent in sorted(state.agents.values(), key=lambda agent: agent.index):
        roster.enroll(AgentIdentity(agent_id=agent.agent_id, type=agent.type, service=agent.service))
    telemetry = partial(SqliteTelemetry.open_read_only, data_dir)
    store = telemetry()
    try:
        vitals = store.vitals(run_id)
    finally:
        store.close()
    if not vitals:
        raise UnknownIdError("no measurements of this run", field="RUN", value=run_id, way_out="see immune runs")
    folder = Path(tempfile.mkdtemp(prefix="immune-fill-"))  # not the daemon's: it may be running
    try:
        both = pair(
            target,
            folder=folder,
            run_id=run_id,
            roster=roster,
            schema=VitalSchema.with_extra(vitals[len(VITALS) :]),
            journal=journal,
            clock=SystemClock(),
            say=say,
            telemetry=telemetry,
        )
        await both.writer.bring_backlog()
        await _bring_profiles(both.writer, data_dir, run_id)
        await both.mirror.bring_all()
        await both.writer.close()
        await both.mirror.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _bring_profiles(writer: VitalsWriter, data_dir: Path, run_id: str) -> None:
    with SqliteTelemetry.open_read_only(data_dir) as store:
        for at_us, bands in store.profiles(run_id, PROFILE_EVERY_US):
            writer.take_bands(at_us, bands)
            await writer.bring_taken()
