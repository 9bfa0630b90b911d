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
from immune.stores.influx.mirror import Held, JournalMirror
from immune.stores.influx.spool import Waiting
from immune.stores.influx.vitals import Encoder
from immune.stores.influx.writer import VitalsWriter
from immune.stores.samples import MINUTE_US, minute_of

FOLDER = "influx"
EVENTS = ".events.json"
MB = 1024 * 1024
DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both companions of one run."""

    writer: VitalsWriter
    mirror: JournalMirror


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
    letters, made_us = DeadLetters(folder), clock.now_us()
    once = _Once(say)
    mark = Mark(folder / f"{run_id}.vitals.json", target)
    writer = VitalsWriter(
        encoder=Encoder(run_id, roster, schema),
        courier=Courier(target=target, clock=clock, say=once),
        waiting=Waiting(folder / "spool", target.spool_mb * MB),
        letters=letters,
        mark=mark,
        clock=clock,
        backlog=(lambda: backlog(telemetry, run_id, *_span(mark, journal, run_id, made_us))) if telemetry else None,
    )
    courier = Courier(target=target, clock=clock, say=once)

    def mirror_of(run: str, ask: Held | None) -> JournalMirror:
        events = Mark(folder / f"{run}{EVENTS}", target)
        return JournalMirror(run_id=run, journal=journal, courier=courier, letters=letters, mark=events, clock=clock, held=ask)

    mirror = mirror_of(run_id, lambda run: asyncio.to_thread(held, target, run))
    mirror.elders = [mirror_of(run, None) for run in unfinished(target, folder, journal) if run != run_id]
    return Pair(writer=writer, mirror=mirror)


def unfinished(target: InfluxSettings, folder: Path, journal: Journal) -> list[str]:
    """Runs of which some events were brought and some were not, because a crash or a dead server came in between."""
    runs = sorted(path.name.removesuffix(EVENTS) for path in folder.glob(f"*{EVENTS}"))
    return [run for run in runs if 0 < Mark(folder / f"{run}{EVENTS}", target).value < journal.head(run)[0]]


class _Once:
    """Both couriers meet the same trouble; people hear of it from whoever met it first."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = ""

    def __call__(self, text: str) -> None:
        sort = text.split(" (", 1)[0]
        if sort != self._last:
            self._last = sort
            self._say(text)


def _span(mark: Mark, journal: Journal, run_id: str, made_us: int) -> tuple[int, int]:
    """From the mark, or else the first event, to now, or to its end if the run is over; a fast-forwarded run may be a little ahead of now."""
    first = next(journal.read(run_id, limit=1), None)
    last_us = next((run.last_at_us for run in journal.runs() if run.run_id == run_id), made_us)
    still_on = last_us > made_us - DAY_US
    return max(mark.value, first.at_us if first else 0), (max(last_us, made_us) if still_on else last_us) + MINUTE_US


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
