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
SpanKind = Literal["sick", "held", "trial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment on a chart, with a few words."""

    at_us: int
    text: str
    kind: MarkKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A shaded stretch of a chart: an incident, containment in force, a probation. ``to_us`` 0: it still goes on at the right edge."""

    from_us: int
    to_us: int
    text: str
    kind: SpanKind = "sick"


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
class Moment:
    """One event, told: when, by whom, a word for its place in the course of things, a sentence, and the rule behind it."""

    at_us: int
    event_id: str
    actor: str
    stage: str
    text: str
    rule: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A stretch in which an agent was *seen* at a level of containment. ``to_us`` 0: it still is."""

    agent_id: str
    level: str
    from_us: int
    to_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A probation; `passed` is None while it runs."""

    agent_id: str
    plan_id: str
    from_us: int
    to_us: int = 0
    passed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CureRow:
    """How the plans of one treatment ended; `other` ones never started or still run."""

    treatment: str
    against: tuple[str, ...]
    verified: int
    undone: int
    handed: int
    other: int
    relapsed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRow:
    """One request to a person, and what became of it."""

    request_id: str
    subject: str
    asks: str
    severity: float
    rule: str
    asked_us: int
    decided_us: int
    by: str
    reason: str
    outcome: str
    became: str
    expires_us: int
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """How often an action helped for a pattern of symptoms, and did not."""

    signature: str
    action: str
    worked: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """What a run did.

    containments  ordered, by rule or by a person; `holds` are those that were seen in force
    share_max     the largest share of the fleet contained automatically at one time
    escaped       work done while isolated, None when nobody counted it
    would_have    agents for which containment was due and was not ordered
    alarms        orders that did not come into force
    ends          how plans ended: (in a word, how many)
    """

    containments: int
    by_people: int
    still: tuple[str, ...]
    share_max: float
    escaped: int | None
    held_agents: tuple[str, ...]
    healed_agents: tuple[str, ...]
    explained_agents: tuple[str, ...]
    waiting_agents: tuple[str, ...]
    owned_agents: tuple[str, ...]
    would_have: int
    holds: tuple[Hold, ...]
    trials: tuple[Trial, ...]
    alarms: tuple[Moment, ...]
    cures: tuple[CureRow, ...]
    ends: tuple[tuple[str, int], ...]
    approvals: tuple[ApprovalRow, ...]
    memory: tuple[MemoryRow, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentCard:
    """An incident as the journal tells it, with charts of the vitals that speak and what was done about it, in order.

    contained  whether a containment was ordered because of it
    holds      containment of its agents seen in force while it was open
    """

    incident: IncidentState
    charts: tuple[ChartSpec, ...] = ()
    moments: tuple[Moment, ...] = ()
    contained: bool = False
    holds: tuple[Hold, ...] = ()
    trials: tuple[Trial, ...] = ()


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
    acted       what was done, None when the caller knows nothing of it
    log, log_left_out   the decisions, newest last, and how many are not among them
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
    acted: Acted | None = None
    log: tuple[Moment, ...] = ()
    log_left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAgent:
    """One agent on the screen.

    state         its word: learning, healthy, suspected, sick, silent, idle, or a containment level
    doing         what is done about it, in a few words: ``probation 12/20``, ``waits for approval``
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
    doing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveIncident:
    """One incident on the screen; `proposed` is the containment asked for, or ``none``; `doing` is where its plan stands."""

    incident_id: str
    who: str
    looks_like: str
    confidence: float
    severity: float
    onset_us: int
    opened_us: int
    closed_us: int = 0
    proposed: str = "none"
    doing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAsk:
    """A request that waits for a person: what a yes would do, to whom, how far it reaches, and until when there is time."""

    request_id: str
    subject: str
    what: str
    severity: float
    reach: str
    expires_us: int
    granted: bool = False


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
    asks       requests that wait for a person, oldest first
    answer     how to answer them: ``[a] approve  [r] reject``
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
    asks: tuple[LiveAsk, ...] = ()
    answer: str = ""
