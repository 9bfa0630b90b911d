"""A run's state and measurements as a `RunPage`: which charts an incident deserves, and which stretch of time they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from immune import __version__
from immune.core.evidence import SILENCE
from immune.core.policy import Policy
from immune.core.policy_file import canonical
from immune.core.sentinel.streams import CONTEXT_GROWTH, COST_PER_TOKEN, LATENCY_PER_OUTPUT_TOKEN
from immune.core.state import AgentState, IncidentState, RunState
from immune.core.vitals import VITALS
from immune.errors import StoreUnavailableError, UnknownIdError
from immune.ports import Journal, Telemetry, VitalSeries
from immune.reports.acted import acted
from immune.reports.chronicle import Chronicle, chronicle
from immune.reports.model import Band, ChartSpec, Counter, FleetRow, Hold, IncidentCard, Mark, RunPage, Span, Trial
from immune.reports.page import CHARTED_MAX, render, worst_first

US = 1_000_000
CHARTS_PER_INCIDENT = 2
BEFORE_US = 300 * US
BEFORE_SAMPLES = 60
AFTER_US = 120 * US

CHARTED_AS = {COST_PER_TOKEN: "cost_usd", LATENCY_PER_OUTPUT_TOKEN: "latency_ms", CONTEXT_GROWTH: "context_tokens"}
"""Ratios are judged but not stored; the vital that moves them is shown in their place."""
FALLBACK = ("latency_ms", "output_tokens", "input_tokens", "cost_usd")
"""Shown where the evidence names no vital: for silence, and when everything repeats."""
_NAMES = {spec.name: spec.label for spec in VITALS}


def write_page(path: Path, page: RunPage, *, extra_sections: Sequence[Markup] = ()) -> None:
    """Write the report page of a run to a file. Raises StoreUnavailableError when it cannot be written."""
    text = render(page, extra_sections=extra_sections)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreUnavailableError(
            f"cannot write the report: {error.strerror}",
            field="--out",
            value=str(path),
            way_out="name a directory that can be written, with room in it",
        ) from None


def run_page(
    state: RunState,
    telemetry: Telemetry,
    *,
    title: str,
    policy: Policy,
    threshold_nats: float = float("nan"),
    samples: Mapping[str, int] | None = None,
    counters: Sequence[Counter] = (),
    journal_verified: bool | None = None,
    journal: Journal | None = None,
    escaped: int | None = None,
    notes: Sequence[str] = (),
) -> RunPage:
    """The page of a run, read from its folded state and its measurements.

    samples  samples scored of each agent, if the caller knows them
    counters the caller's account (accepted, dropped …); rejections and losses on record are added
    journal  where the courses of incidents, what was seen in force, and the log come from; without it the page has none of them
    escaped  work done while isolated, if the caller counted it
    """
    told = chronicle(journal, state.run_id) if journal is not None else Chronicle()
    last_seen = _last_seen(telemetry, state.run_id)
    to_us = state.ended_at_us or max([state.at_us, *last_seen.values()])
    charted = {incident.incident_id for incident in worst_first(state.incidents.values())[:CHARTED_MAX]}
    return RunPage(
        title=title,
        run_id=state.run_id,
        from_us=state.started_at_us,
        to_us=to_us,
        source=state.source,
        mode=policy.mode,
        version=__version__,
        fleet=tuple(_fleet_row(state, agent, last_seen, samples) for agent in state.agents.values()),
        cards=tuple(_card(state, telemetry, told, incident, to_us, incident.incident_id in charted) for incident in state.incidents.values()),
        counters=(*counters, *_recorded(state, telemetry)),
        journal_events=state.seq,
        journal_head=state.head,
        journal_verified=journal_verified,
        policy_version=state.policy_version,
        policy_text=canonical(policy),
        threshold_nats=threshold_nats,
        notes=tuple(notes),
        acted=acted(state, told, escaped),
        log=told.log,
        log_left_out=told.left_out,
    )


def _card(state: RunState, telemetry: Telemetry, told: Chronicle, incident: IncidentState, run_end_us: int, charted: bool) -> IncidentCard:
    until_us = (incident.closed_at_us or run_end_us) + AFTER_US
    holds = tuple(h for h in told.holds if h.agent_id in incident.agents and incident.opened_at_us <= h.from_us <= until_us)
    trials = tuple(t for t in told.trials if t.agent_id in incident.agents and incident.opened_at_us <= t.from_us <= until_us)
    return IncidentCard(
        incident=incident,
        charts=incident_charts(telemetry, state.run_id, incident, run_end_us, holds, trials) if charted else (),
        moments=told.moments.get(incident.incident_id, ()),
        contained=any(c.incident_id == incident.incident_id for c in state.containments.values()),
        holds=holds,
        trials=trials,
    )


def incident_charts(
    telemetry: Telemetry, run_id: str, incident: IncidentState, run_end_us: int, holds: Sequence[Hold] = (), trials: Sequence[Trial] = ()
) -> tuple[ChartSpec, ...]:
    """The vitals that speak, strongest first, of the agent concerned; of a shared cause, the strongest vital of two members."""
    vitals = _vitals_that_speak(telemetry.vitals(run_id), incident)
    wanted = [(agent, vital) for agent in incident.agents[:2] for vital in vitals[: 1 if len(incident.agents) > 1 else None]]
    charts = []
    for agent, vital in wanted:
        series = _series(telemetry, run_id, agent, vital)
        if series is not None and len(series.value):
            spans = _spans(agent, holds, trials)
            charts.append(_chart(telemetry, run_id, incident, agent, series, run_end_us, spans))
        if len(charts) == CHARTS_PER_INCIDENT:
            break
    return tuple(charts)


def _vitals_that_speak(stored: Sequence[str], incident: IncidentState) -> list[str]:
    named = [CHARTED_AS.get(note.vital, note.vital) for note in incident.evidence if note.vital != SILENCE]
    shown = [vital for vital in dict.fromkeys(named) if vital in stored]
    return shown or [vital for vital in FALLBACK if vital in stored][:1]


def _series(telemetry: Telemetry, run_id: str, agent: str, vital: str) -> VitalSeries | None:
    """What is stored, or None when it has been forgotten."""
    try:
        return telemetry.series(run_id, agent, vital)
    except UnknownIdError:
        return None


def _spans(agent: str, holds: Sequence[Hold], trials: Sequence[Trial]) -> tuple[Span, ...]:
    """Where an agent was held, and where it was on probation: the lighter over the darker."""
    held = [Span(from_us=h.from_us, to_us=h.to_us, text=h.level, kind="held") for h in holds if h.agent_id == agent]
    tried = [Span(from_us=t.from_us, to_us=t.to_us, text="probation", kind="trial") for t in trials if t.agent_id == agent]
    return (*held, *tried)


def _chart(
    telemetry: Telemetry, run_id: str, incident: IncidentState, agent: str, series: VitalSeries, run_end_us: int, spans: tuple[Span, ...]
) -> ChartSpec:
    before = int(np.searchsorted(series.at_us, incident.onset_us)) - BEFORE_SAMPLES
    from_us = max(int(series.at_us[0]), min(incident.onset_us - BEFORE_US, int(series.at_us[max(0, before)])))
    to_us = min(run_end_us, incident.closed_at_us + AFTER_US) if incident.closed_at_us else run_end_us
    window = slice(*np.searchsorted(series.at_us, [from_us, to_us + 1]))
    bands = telemetry.bands(run_id, agent, series.vital)
    title, _, unit = _NAMES.get(series.vital, series.vital).partition(", ")
    return ChartSpec(
        title=f"{title} of {agent}" if len(incident.agents) > 1 else title,
        unit=unit,
        at_us=series.at_us[window],
        value=series.value[window],
        band=Band(at_us=bands.at_us, expected=bands.expected, low=bands.low, high=bands.high) if len(bands.at_us) else None,
        marks=_marks(incident),
        spans=(Span(from_us=incident.onset_us, to_us=incident.closed_at_us, text=incident.incident_id), *spans),
        from_us=from_us,
        to_us=to_us,
    )


def _marks(incident: IncidentState) -> tuple[Mark, ...]:
    marks = [Mark(at_us=incident.onset_us, text="first symptom", kind="onset"), Mark(at_us=incident.opened_at_us, text="alarm", kind="opened")]
    if incident.closed_at_us:
        marks.append(Mark(at_us=incident.closed_at_us, text=incident.outcome.replace("_", " "), kind="closed"))
    marks += [Mark(at_us=fact.at_us, text=f"other {fact.field.replace('_', ' ')}", kind="fact") for fact in incident.changed]
    return tuple(marks)


def _fleet_row(state: RunState, agent: AgentState, last_seen: Mapping[str, int], samples: Mapping[str, int] | None) -> FleetRow:
    own = [incident for incident in state.incidents.values() if agent.agent_id in incident.agents and incident.scope == "agent"]
    return FleetRow(
        agent_id=agent.agent_id,
        type=agent.type,
        service=agent.service,
        state=agent.word,
        worst_severity=max((incident.peak_severity for incident in own), default=0.0),
        incidents=len(own),
        last_seen_us=last_seen.get(agent.agent_id, 0),
        samples=None if samples is None else samples.get(agent.agent_id, 0),
    )


def _last_seen(telemetry: Telemetry, run_id: str) -> dict[str, int]:
    names = telemetry.agents(run_id)
    latest = telemetry.latest(run_id)
    return {names[index]: int(at_us) for index, at_us in zip(latest.agent, latest.at_us, strict=True) if index < len(names)}


def _recorded(state: RunState, telemetry: Telemetry) -> tuple[Counter, ...]:
    reasons = ", ".join(f"{reason.replace('_', ' ')}: {number:,}" for reason, number in sorted(state.rejected.items()))
    return (
        Counter(name="Samples stored", value=telemetry.counts(state.run_id)),
        Counter(name="Samples rejected", value=sum(state.rejected.values()), note=reasons),
        Counter(name="Samples lost", value=state.lost_samples),
    )
