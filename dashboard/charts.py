"""Vitals of one agent as columns for charts: values thinned without losing a peak, the learned band, marks, shaded stretches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from dashboard.projection import Projection
from dashboard.site import Site
from immune.core import acts
from immune.core.events import Envelope
from immune.core.evidence import SILENCE
from immune.core.state import AgentState, IncidentState
from immune.core.vitals import VITALS
from immune.errors import ImmuneError, UnknownIdError
from immune.ports import BandSeries, Telemetry, VitalSeries
from immune.reports.from_run import CHARTED_AS
from immune.reports.words import in_words

Document = dict[str, Any]
US = 1_000_000
DEFAULT_SPAN_US = 900 * US
COURSE_KINDS = (acts.EnforcementObserved.kind, acts.ProbationStarted.kind, acts.ProbationEnded.kind)
LABELS = {spec.name: spec.label for spec in VITALS}


def vitals_of(site: Site, run_id: str) -> list[Document]:
    """``{name, label, unit}`` of every stored vital of a run."""
    try:
        with site.sources.telemetry() as telemetry:
            names = telemetry.vitals(run_id)
    except ImmuneError:
        names = ()
    return [_named(name) for name in names]


def _named(name: str) -> Document:
    label, _, unit = LABELS.get(name, name.replace("_", " ")).partition(", ")
    return {"name": name, "label": label, "unit": unit}


def sample_count(site: Site, run_id: str, agent_id: str) -> int | None:
    """How many samples of an agent are stored, by the vital that has the most."""
    try:
        with site.sources.telemetry() as telemetry:
            return max((len(telemetry.series(run_id, agent_id, vital).value) for vital in telemetry.vitals(run_id)), default=0)
    except ImmuneError:
        return None


def series_document(
    site: Site, projection: Projection, agent: AgentState, vitals: Sequence[str], *, from_us: int, to_us: int, points: int
) -> Document:
    """Columns of the asked vitals (all for none) in a window; the newest quarter of an hour unless one is named."""
    state = projection.state
    newest_us = projection.seen_us.get(agent.agent_id, 0) if not projection.past else 0
    end_us = to_us or max(state.at_us, newest_us)
    start_us = from_us or max(0, end_us - DEFAULT_SPAN_US)
    with site.sources.telemetry() as telemetry:
        wanted = [name for name in telemetry.vitals(projection.run_id) if not vitals or name in vitals]
        found = [_vital(telemetry, projection.run_id, agent.agent_id, name, (start_us, end_us + 1), points) for name in wanted]
    return {
        "run_id": projection.run_id,
        "agent": agent.agent_id,
        "from_us": start_us,
        "to_us": end_us,
        "vitals": found,
        **_course(site, projection, agent, start_us, end_us),
    }


def _vital(telemetry: Telemetry, run_id: str, agent_id: str, name: str, window: tuple[int, int], points: int) -> Document:
    try:
        series = telemetry.series(run_id, agent_id, name, from_us=window[0], to_us=window[1])
        bands = telemetry.bands(run_id, agent_id, name, from_us=max(0, window[0] - 120 * US), to_us=window[1])
    except UnknownIdError:
        return {**_named(name), "at_us": [], "value": [], "band": None, "samples": 0}
    at_us, value = thinned(series, points)
    return {**_named(name), "at_us": at_us.tolist(), "value": _figures(value), "band": _band(bands, points), "samples": len(series.value)}


def _band(bands: BandSeries, points: int) -> Document | None:
    if not len(bands.at_us):
        return None
    step = max(1, -(-len(bands.at_us) // points))
    rows = slice(None, None, step)
    return {
        "at_us": bands.at_us[rows].tolist(),
        "expected": _figures(bands.expected[rows]),
        "low": _figures(bands.low[rows]),
        "high": _figures(bands.high[rows]),
    }


def _figures(values: NDArray[np.floating[Any]]) -> list[float | None]:
    """Five significant digits: what a chart can show; null for no figure."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values.tolist()]


def thinned(series: VitalSeries, points: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """At most about `points` samples: of every bucket the lowest and the highest, in the order in which they came."""
    count = len(series.value)
    if count <= points:
        return series.at_us, series.value
    edges = np.linspace(0, count, max(1, points // 2) + 1).astype(np.int64)
    kept = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if start < end:
            bucket = series.value[start:end]
            kept += sorted({start + int(np.argmin(bucket)), start + int(np.argmax(bucket))})
    rows = np.array(kept, dtype=np.int64)
    return series.at_us[rows], series.value[rows]


def _course(site: Site, projection: Projection, agent: AgentState, start_us: int, end_us: int) -> Document:
    """Marks and shaded stretches: incidents, containment as it was seen in force, probations."""
    state = projection.state
    own = [one for one in state.incidents.values() if agent.agent_id in one.agents and (one.closed_at_us or end_us) >= start_us]
    spans: list[Document] = [{"kind": "sick", "from_us": one.onset_us, "to_us": one.closed_at_us, "text": one.incident_id} for one in own]
    with site.concerning(projection, [agent.agent_id]) as journal:
        spans += _held_and_tried(journal.read(projection.run_id), agent.agent_id)
    marks = [mark for one in own for mark in _marks(one)]
    return {
        "marks": [one for one in marks if start_us <= one["at_us"] <= end_us],
        "spans": [one for one in spans if one["to_us"] == 0 or one["to_us"] >= start_us],
    }


def _marks(incident: IncidentState) -> list[Document]:
    """First symptom, alarm (with the vitals that spoke), end, and exact facts that changed."""
    vitals = sorted({CHARTED_AS.get(note.vital, note.vital) for note in incident.evidence if note.vital != SILENCE})
    found: list[Document] = [
        {"kind": "onset", "at_us": incident.onset_us, "text": "first symptom"},
        {"kind": "opened", "at_us": incident.opened_at_us, "text": "alarm", "vitals": vitals},
    ]
    if incident.closed_at_us:
        found.append({"kind": "closed", "at_us": incident.closed_at_us, "text": in_words(incident.outcome)})
    found += [{"kind": "fact", "at_us": fact.at_us, "text": f"other {in_words(fact.field)}"} for fact in incident.changed]
    return [{**one, "incident": incident.incident_id} for one in found]


def _held_and_tried(envelopes: Iterable[Envelope], agent_id: str) -> list[Document]:
    """Where an agent was held, as its connector saw it, and where it was on probation; 0 ends what still goes on."""
    found: list[Document] = []
    held: Document | None = None
    tried: Document | None = None
    for envelope in envelopes:
        event = envelope.event() if envelope.subject == agent_id and envelope.kind in COURSE_KINDS else None
        if isinstance(event, acts.EnforcementObserved):
            if held is not None:
                held["to_us"] = envelope.at_us
            held = {"kind": "held", "from_us": envelope.at_us, "to_us": 0, "text": event.after} if event.after != "none" else None
            found += [held] if held is not None else []
        elif isinstance(event, acts.ProbationStarted):
            tried = {"kind": "trial", "from_us": envelope.at_us, "to_us": 0, "text": "probation"}
            found.append(tried)
        elif isinstance(event, acts.ProbationEnded) and tried is not None:
            tried |= {"to_us": envelope.at_us, "passed": event.passed}
            tried = None
    return found


def grafana_link(site: Site, projection: Projection, agent_id: str) -> str | None:
    """Where the same agent and window are in Grafana, where an address was set."""
    if not site.options.grafana_url:
        return None
    to_ms = projection.state.at_us // 1000
    window = f"from={to_ms - 900_000}&to={to_ms}"
    return f"{site.options.grafana_url.rstrip('/')}?var-agent={quote(agent_id, safe='')}&var-run={quote(projection.run_id, safe='')}&{window}"
