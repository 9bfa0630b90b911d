"""What runs beside an engine that mirrors to InfluxDB: writer and mirror of one run, and the folder in which they keep what they must."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from immune.clock import Clock
from immune.core.vitals import Roster, SampleBatch, VitalSchema
from immune.errors import StoreUnavailableError, UnknownIdError
from immune.ports import Journal, Telemetry
from immune.settings import InfluxSettings
from immune.stores.influx.courier import Courier
from immune.stores.influx.letters import DeadLetters
from immune.stores.influx.mark import Mark
from immune.stores.influx.mirror import JournalMirror
from immune.stores.influx.spool import Waiting
from immune.stores.influx.vitals import Encoder
from immune.stores.influx.writer import VitalsWriter
from immune.stores.samples import MINUTE_US, minute_of

FOLDER = "influx"
MB = 1024 * 1024
DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both companions of one run."""

    writer: VitalsWriter
    mirror: JournalMirror

    @property
    def trouble(self) -> str:
        """What troubles either; empty while all is well."""
        return self.writer.courier.trouble or self.mirror.courier.trouble


def pair(
    target: InfluxSettings,
    *,
    folder: Path,
    run_id: str,
    roster: Roster,
    schema: VitalSchema,
    journal: Journal,
    clock: Clock,
    say: Callable[[str], None],
    telemetry: Callable[[], Telemetry] | None = None,
) -> Pair:
    """Writer and mirror of a run. `telemetry` opens a handle on what is measured already, so that nothing of it is left out.

    `folder` is where both keep what they must; it belongs to one process at a time.
    """
    letters = DeadLetters(folder)
    mark = Mark(folder / f"{run_id}.vitals.json", target)
    writer = VitalsWriter(
        encoder=Encoder(run_id, roster, schema),
        courier=Courier(target=target, clock=clock, say=say),
        waiting=Waiting(folder / "spool", target.spool_mb * MB),
        letters=letters,
        mark=mark,
        clock=clock,
        backlog=(lambda: backlog(telemetry, run_id, *_span(mark, journal, run_id, clock.now_us()))) if telemetry else None,
    )
    mirror = JournalMirror(
        run_id=run_id,
        journal=journal,
        courier=Courier(target=target, clock=clock, say=_quiet),
        letters=letters,
        mark=Mark(folder / f"{run_id}.events.json", target),
        clock=clock,
        held=lambda run: asyncio.to_thread(held, target, run),
    )
    return Pair(writer=writer, mirror=mirror)


def _quiet(_: str) -> None:
    """The writer says what troubles the server; once is enough."""


def _span(mark: Mark, journal: Journal, run_id: str, now_us: int) -> tuple[int, int]:
    """From the mark, or else the first event, to now; a run in virtual time ends when its last event says so."""
    first = next(journal.read(run_id, limit=1), None)
    last = next((run.last_at_us for run in journal.runs() if run.run_id == run_id), now_us)
    return max(mark.value, first.at_us if first else 0), max(last + MINUTE_US, now_us if last > now_us - DAY_US else 0)


def backlog(telemetry: Callable[[], Telemetry], run_id: str, from_us: int, to_us: int) -> Iterator[SampleBatch]:
    """What a telemetry store holds of a span, a minute at a time; each step opens its own handle, so any thread may take it."""
    for minute in range(minute_of(from_us), minute_of(to_us) + 1):
        try:
            store = telemetry()
        except StoreUnavailableError:
            return
        try:
            piece = store.samples(run_id, minute * MINUTE_US, (minute + 1) * MINUTE_US)
        except UnknownIdError:
            return
        finally:
            store.close()
        if len(piece):
            yield piece


def held(target: InfluxSettings, run_id: str) -> int | None:
    """How many events of a run the server holds; None when it does not say."""
    from immune.stores.influx.asking import Asker  # noqa: PLC0415  (takes most of a second to import)
    from immune.stores.influx.reading import InfluxJournal  # noqa: PLC0415

    asker = Asker(target, timeout_ms=5000)
    try:
        return InfluxJournal(asker).count(run_id)
    except StoreUnavailableError:
        return None
    finally:
        asker.close()
