"""A run here held against the same run in InfluxDB, and the way back: a journal made anew from InfluxDB alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from immune.core.fold import canonical_hash, fold
from immune.core.state import RunState
from immune.core.vitals import VITALS, VitalSchema
from immune.errors import UnknownIdError
from immune.ports import Journal, Telemetry
from immune.settings import InfluxSettings
from immune.stores.influx.asking import Asker
from immune.stores.influx.reading import InfluxJournal, InfluxTelemetry
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.samples import MINUTE_US, minute_of
from immune.stores.telemetry_sqlite import SqliteTelemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """Both sides of a run. Vitals that only the server still has were forgotten here by retention."""

    run_id: str
    vitals_here: int
    vitals_there: int
    events_here: int
    events_there: int
    head_here: str
    head_there: str

    @property
    def complete(self) -> bool:
        """Whether everything that is here is there."""
        same_head = (self.events_here, self.head_here) == (self.events_there, self.head_there)
        return same_head and self.vitals_there >= self.vitals_here

    def sentence(self) -> str:
        """For people, in one line."""
        heads = "head equal" if self.head_here == self.head_there else "HEAD DIFFERS"
        vitals, events = f"{self.vitals_there} of {self.vitals_here} vitals", f"{self.events_there} of {self.events_here} events"
        return f"influx: {vitals}, {events}, {heads}"


def reconcile(target: InfluxSettings, journal: Journal, telemetry: Telemetry, run_id: str) -> Reconciled:
    """Count both sides and compare the heads. Raises StoreUnavailableError."""
    asker = Asker(target)
    try:
        there = InfluxJournal(asker)
        events, (_, head_there) = there.count(run_id), there.head(run_id)
        vitals = InfluxTelemetry(asker).counts(run_id)
    finally:
        asker.close()
    seq, head_here = journal.head(run_id)
    return Reconciled(
        run_id=run_id,
        vitals_here=telemetry.counts(run_id),
        vitals_there=vitals,
        events_here=seq,
        events_there=events,
        head_here=head_here,
        head_there=head_there,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A journal made anew."""

    run_id: str
    events: int
    head: str
    state_hash: str


def rebuild(target: InfluxSettings, run_id: str, data_dir: Path, now_us: int, *, vitals: bool = False) -> Rebuilt:
    """Write a run's journal from InfluxDB alone, and with `vitals` its samples too.

    Raises UnknownIdError, RefusedError, JournalBrokenError, StoreUnavailableError; then no journal was written.
    """
    asker = Asker(target)
    try:
        envelopes = list(InfluxJournal(asker).read(run_id))
        if not envelopes:
            raise UnknownIdError("InfluxDB holds no such run", field="--from-influx", value=run_id, way_out="name one that was mirrored there")
        with SqliteJournal(data_dir) as journal:
            journal.adopt(run_id, envelopes, "rebuild", now_us)
        with SqliteTelemetry(data_dir) as store:
            _bring_back(InfluxTelemetry(asker), store, run_id, (envelopes[0].at_us, envelopes[-1].at_us) if vitals else None)
    finally:
        asker.close()
    state = fold(RunState(), envelopes)
    return Rebuilt(run_id=run_id, events=len(envelopes), head=envelopes[-1].hash, state_hash=canonical_hash(state))


def _bring_back(there: InfluxTelemetry, here: SqliteTelemetry, run_id: str, span_us: tuple[int, int] | None) -> None:
    """Vitals and agents by name, and the samples of a span, a minute at a time."""
    vitals = there.vitals(run_id)
    here.begin(run_id, VitalSchema.with_extra(vitals[len(VITALS) :]))
    here.name_agents(run_id, 0, there.agents(run_id))
    if span_us is None or not vitals:
        return
    for minute in range(minute_of(span_us[0]) - 1, minute_of(span_us[1]) + 2):
        samples = there.samples(run_id, minute * MINUTE_US, (minute + 1) * MINUTE_US)
        here.write(run_id, minute * 60, minute * MINUTE_US, samples)
