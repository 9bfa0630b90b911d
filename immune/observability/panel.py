"""The instruments of one daemon: read at a look, heard as things happen, shown to whoever asks.

Everything here runs on the engine's own loop; a `Snapshot` may be taken to another thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from immune.core.events import Envelope
from immune.core.state import RunState
from immune.core.vitals import SampleBatch
from immune.hosting import Received
from immune.observability.distributions import Distribution, Example, Series
from immune.observability.genai import FleetMeter
from immune.observability.instruments import HISTOGRAMS, INSTRUMENTS
from immune.observability.look import ApiSide, Host, Look, Tallies
from immune.observability.prometheus import expose
from immune.observability.snapshot import Snapshot
from immune.observability.spans import Moment
from immune.observability.story import Story
from immune.ports import Clock, Companion

MEASURED = {
    "immune.detect": "immune.detection.delay",
    "immune.contain": "immune.containment.enforcement",
    "immune.approve": "immune.approval.wait",
    "immune.step": "immune.step.duration",
    "immune.plan": "immune.heal.duration",
    "immune.incident": "immune.incident.duration",
}
"""Span -> the histogram that its duration belongs to."""

HEARD_AGAIN_MAX = 20_000
"""Events heard again at a start, a tenth of a second of them: the gate does not answer before. What began earlier is in no histogram."""


@dataclass(slots=True, kw_only=True)
class Sides:
    """What stands beside the engine; filled in as the daemon is put together."""

    inbox: Received | None = None
    api: ApiSide | None = None
    companions: Sequence[Companion] = field(default_factory=tuple)


class Panel:
    """All instruments of one engine. Made after the engine was opened, before its first tick."""

    def __init__(self, engine: Host, clock: Clock, *, inbox: Received | None = None) -> None:
        self.engine = engine
        self.clock = clock
        self.sides = Sides(inbox=inbox)
        self.since_us = clock.now_us()
        self.distributions = {spec.name: Distribution(spec.bounds, spec.keys) for spec in HISTOGRAMS}
        self.tallies = Tallies()
        self._story = Story(engine.run_id)
        after_seq = max(0, begun_seq(engine.state) - 1, engine.state.seq - HEARD_AGAIN_MAX)
        for envelope in engine.journal.read(engine.run_id, after_seq=after_seq):
            self._story.hear(envelope)  # what ended before this process is not of its histograms
        engine.listeners.append(self._heard)
        self._meter = FleetMeter(engine.desk, self.distributions["gen_ai.client.operation.duration"], self.distributions["gen_ai.client.token.usage"])
        engine.sample_taps.append(self._saw)

    def close(self) -> None:
        """Listen no more."""
        if self._heard in self.engine.listeners:
            self.engine.listeners.remove(self._heard)
        if self._saw in self.engine.sample_taps:
            self.engine.sample_taps.remove(self._saw)

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """(body, content type) of ``GET /metrics`` for an Accept header."""
        return expose(self.snapshot(), accept)

    def snapshot(self) -> Snapshot:
        """Every instrument, now."""
        sides = self.sides
        look = Look(
            engine=self.engine,
            inbox=sides.inbox,
            api=sides.api,
            companions=sides.companions,
            tallies=self.tallies,
            now_us=self.clock.now_us(),
        )
        return Snapshot(
            at_us=look.now_us,
            since_us=self.since_us,
            run_since_us=self.engine.state.started_at_us or self.since_us,
            numbers=tuple((instrument, dict(instrument.read(look))) for instrument in INSTRUMENTS),
            histograms=tuple((spec, self._copy(spec.name)) for spec in HISTOGRAMS),
        )

    def _copy(self, name: str) -> dict[tuple[str, ...], Series]:
        series = self.distributions[name].series
        return {words: replace(one, counts=one.counts.copy(), examples=dict(one.examples)) for words, one in series.items()}

    def _saw(self, _now_us: int, batch: SampleBatch) -> None:
        self._meter.saw(batch)

    def _heard(self, envelopes: Sequence[Envelope], _view: Any) -> None:
        for envelope in envelopes:
            self.tallies.count(envelope)
            for moment in self._story.hear(envelope):
                self._measure(moment)

    def _measure(self, moment: Moment) -> None:
        name = MEASURED.get(moment.name)
        if name is not None and moment.words is not None:
            example = Example(value=moment.duration_s, at_us=moment.end_us, trace_id=moment.trace_id, span_id=moment.span_id)
            self.distributions[name].add(moment.words, moment.duration_s, example)


def begun_seq(state: RunState) -> int:
    """The first event of what is still open in a run, or its last one."""
    open_since = [state.seq]
    open_since += [state.incidents[key].opened_seq for key in state.open_incidents]
    open_since += [state.containments[key].seq for key in state.active_containments]
    open_since += [state.plans[key].seq for key in state.open_plans]
    open_since += [state.approvals[key].seq for key in state.open_approvals]
    return min(open_since)
