"""What people ask of one run, answered from the embedded stores; and how facts become rows, the same for every store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from immune.core.vitals import SampleBatch
from immune.ports import ActionRow, ApprovalRow, IncidentRow, Journal, Telemetry, VitalSeries
from immune.stores.influx.facts import ACTION, APPROVAL, INFECTION, Known, fact_of

Told = Mapping[str, str | bool | int | float | None]
"""One fact, flat: its tags and fields, `seq`, `at_us`, `agent` and `actor`."""


class StoreReader:
    """A reader over a journal and a telemetry store."""

    def __init__(self, journal: Journal, telemetry: Telemetry) -> None:
        self.journal = journal
        self.telemetry = telemetry

    def agents(self, run_id: str) -> tuple[str, ...]:
        """The run's agent ids, in roster order."""
        return self.telemetry.agents(run_id)

    def series(
        self, run_id: str, agent_id: str, vital: str, *, from_us: int = 0, to_us: int | None = None, every_us: int | None = None
    ) -> VitalSeries:
        """One vital of one agent; with `every_us` the mean of each such span. Raises UnknownIdError."""
        series = self.telemetry.series(run_id, agent_id, vital, from_us=from_us, to_us=to_us)
        return series if every_us is None else downsampled(series, every_us)

    def latest(self, run_id: str) -> SampleBatch:
        """The newest sample of every agent that has one."""
        return self.telemetry.latest(run_id)

    def incidents(self, run_id: str) -> list[IncidentRow]:
        """Every incident, in order of opening."""
        return incident_rows(self._told(run_id, INFECTION))

    def approvals(self, run_id: str) -> list[ApprovalRow]:
        """Every request, in order of asking."""
        return approval_rows(self._told(run_id, APPROVAL))

    def actions(self, run_id: str) -> list[ActionRow]:
        """Every step done or undone, in order."""
        return action_rows(self._told(run_id, ACTION))

    def _told(self, run_id: str, measurement: str) -> Iterator[Told]:
        known = Known()
        for envelope in self.journal.read(run_id):
            event = envelope.event()
            known.remember(envelope.subject, event)
            fact = fact_of(known, envelope, event)
            if fact is not None and fact.measurement == measurement:
                yield {**fact.tags, **fact.fields, "agent": fact.agent, "seq": envelope.seq, "at_us": envelope.at_us, "actor": envelope.actor}


def downsampled(series: VitalSeries, every_us: int) -> VitalSeries:
    """The mean of each span of so many µs, counted from 1970, at its start; spans without a value are left out."""
    start = series.at_us // every_us * every_us
    at_us, place, count = np.unique(start, return_inverse=True, return_counts=True)
    total = np.zeros(len(at_us))
    np.add.at(total, place, series.value)
    return VitalSeries(vital=series.vital, at_us=at_us, value=total / count)


def incident_rows(told: Iterable[Told]) -> list[IncidentRow]:
    """Incidents from `infection_event`, in order of seq."""
    rows: dict[str, IncidentRow] = {}
    for one in told:
        key, at_us = _text(one, "incident_id"), _whole(one, "at_us")
        known = rows.get(key)
        if one["phase"] == "closed":
            if known is not None:
                rows[key] = replace(known, closed_at_us=at_us, outcome=_text(one, "outcome"))
            continue
        rows[key] = IncidentRow(
            incident_id=key,
            agent=known.agent if known else _text(one, "agent"),
            infection=_text(one, "infection"),
            severity=_number(one, "severity"),
            opened_at_us=known.opened_at_us if known else at_us,
            closed_at_us=0,
            outcome="",
        )
    return list(rows.values())


def approval_rows(told: Iterable[Told]) -> list[ApprovalRow]:
    """Requests from `approval_event`, in order of seq; the last word counts."""
    rows: dict[str, ApprovalRow] = {}
    for one in told:
        key, at_us = _text(one, "request_id"), _whole(one, "at_us")
        known = rows.get(key)
        asked = one["decision"] == "requested"
        rows[key] = ApprovalRow(
            request_id=key,
            agent=_text(one, "agent"),
            plan_id=_text(one, "plan_id"),
            severity=_number(one, "severity"),
            requested_at_us=known.requested_at_us if known else at_us,
            decision=_text(one, "decision"),
            decided_at_us=0 if asked else at_us,
            by="" if asked else _text(one, "actor"),
        )
    return list(rows.values())


def action_rows(told: Iterable[Told]) -> list[ActionRow]:
    """Steps from `action_log`, in order of seq."""
    return [
        ActionRow(
            seq=_whole(one, "seq"),
            at_us=_whole(one, "at_us"),
            agent=_text(one, "agent"),
            plan_id=_text(one, "plan_id"),
            action=_text(one, "action"),
            trigger=_text(one, "trigger"),
            decision=_text(one, "decision"),
            direction=_text(one, "direction"),
            outcome=_text(one, "outcome"),
            success=None if (success := one.get("success")) is None else bool(success),
        )
        for one in told
    ]


def _text(told: Told, name: str) -> str:
    return str(told.get(name) or "")


def _whole(told: Told, name: str) -> int:
    return int(told.get(name) or 0)


def _number(told: Told, name: str) -> float:
    return float(told.get(name) or 0.0)
