"""What a page and a live view show, as frozen types. Whoever composes fills them; rendering reads nothing else.

Times are integer microseconds UTC, arrays are (n,) in ascending time. A field named ``…_us`` that is 0 means "not yet".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from immune.core.state import IncidentState

Tone = Literal["plain", "good", "warn", "bad"]
MarkKind = Literal["onset", "opened", "closed", "proposed", "fact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment on a chart, with a few words."""

    at_us: int
    text: str
    kind: MarkKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A shaded stretch of a chart. ``to_us`` 0 means that it still goes on at the right edge."""

    from_us: int
    to_us: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """What the baseline expected: all (n,), in the chart's unit, NaN before it is learned."""

    at_us: NDArray[np.int64]
    expected: NDArray[np.floating]
    low: NDArray[np.floating]
    high: NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChartSpec:
    """One line over time, with what was expected of it.

    at_us, value  (n,); not-a-number values leave a gap
    from_us, to_us  the window shown; 0 takes the ends of the line
    log      True or False forces the scale; None takes a logarithmic one for positive values over a factor of 30
    """

    title: str
    unit: str
    at_us: NDArray[np.int64]
    value: NDArray[np.floating]
    band: Band | None = None
    marks: tuple[Mark, ...] = ()
    spans: tuple[Span, ...] = ()
    from_us: int = 0
    to_us: int = 0
    log: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentCard:
    """An incident as the journal tells it, with charts of the vitals that speak."""

    incident: IncidentState
    charts: tuple[ChartSpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """One agent in the fleet's table. `worst_severity` is the highest of all its incidents in the run; `samples` None: not counted."""

    agent_id: str
    type: str
    service: str
    state: str
    worst_severity: float
    incidents: int
    last_seen_us: int
    samples: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """A figure of the account: what it counts, how many, and a word on it."""

    name: str
    value: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """A whole run for people.

    title       what was watched, in a few words
    source      where the samples came from
    mode        ``observe``, ``recommend`` or ``act``
    fleet       every agent, in any order; the page shows the worst first and says how many it leaves out
    cards       every incident, in any order
    counters    samples, rejections by reason, losses
    journal_events, journal_head, journal_verified   the ledger behind the page; None when it was not checked
    policy_text the whole policy in force, as TOML
    notes       sentences that belong to this run, for instance that a part was fast-forwarded
    """

    title: str
    run_id: str
    from_us: int
    to_us: int
    source: str
    mode: str
    version: str
    fleet: tuple[FleetRow, ...]
    cards: tuple[IncidentCard, ...]
    counters: tuple[Counter, ...] = ()
    journal_events: int = 0
    journal_head: str = ""
    journal_verified: bool | None = None
    policy_version: str = ""
    policy_text: str = ""
    threshold_nats: float = float("nan")
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAgent:
    """One agent on the screen.

    state         its word: learning, healthy, suspected, sick, silent, idle, or a containment level
    baseline      (samples so far, samples needed) while learning
    nats          evidence, to be read against the view's threshold
    last_seen_us  time of its newest sample, 0 if none came yet
    """

    agent_id: str
    type: str
    state: str
    severity: float = 0.0
    nats: float = 0.0
    baseline: tuple[int, int] | None = None
    last_seen_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveIncident:
    """One incident on the screen; `proposed` is the containment asked for, or ``none``."""

    incident_id: str
    who: str
    looks_like: str
    confidence: float
    severity: float
    onset_us: int
    opened_us: int
    closed_us: int = 0
    proposed: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One line of "what just happened"."""

    at_us: int
    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveView:
    """Everything on the screen at one moment.

    phase      what is going on, in words: ``fast-forward: ten healthy minutes`` or ``live``
    virtual    time jumps instead of passing
    done_s, total_s   progress of the phase, in seconds of the run; total 0 hides the bar
    threshold_nats    where evidence becomes an alarm
    happened   newest last
    footer     a hint on what keys do or where the report will be
    """

    title: str
    run_id: str
    mode: str
    phase: str
    virtual: bool
    now_us: int
    done_s: float
    total_s: float
    threshold_nats: float
    agents: tuple[LiveAgent, ...]
    incidents: tuple[LiveIncident, ...] = ()
    happened: tuple[Happening, ...] = ()
    counters: tuple[Counter, ...] = field(default=())
    footer: str = ""
