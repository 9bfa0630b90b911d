"""The one table of instruments. `/metrics`, the OTLP export and docs/observability.md are all made from it.

Names are OpenTelemetry's (dots, units apart); the Prometheus name follows by rule: dots become underscores, the unit is
spelled out at the end, counters end in ``_total``. What they may say comes from our own tables and never from outside, but for
model and provider names in ``gen_ai.*``, which are bounded in number and length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from immune import __version__
from immune.hosting import Received
from immune.observability.look import US, ApiSide, Look

Kind = Literal["counter", "updowncounter", "gauge"]
Readings = Mapping[tuple[str, ...], float]
"""Words of the attributes -> number."""

UNIT_WORDS = {"s": "seconds", "By": "bytes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """What is read at every look.

    unit    UCUM; ``{tick}`` counts things
    keys    names of the attributes, in the order of the words that `read` gives
    of_run  counted since the run began, whatever restarts came between; else since the process began
    """

    name: str
    unit: str
    kind: Kind
    says: str
    read: Callable[[Look], Readings]
    keys: tuple[str, ...] = ()
    of_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramSpec:
    """What is measured as it happens. `bounds` are upper edges, inclusive, in `unit`."""

    name: str
    unit: str
    says: str
    bounds: tuple[float, ...]
    keys: tuple[str, ...] = ()


def _counter(name: str, unit: str, says: str, read: Callable[[Look], Readings], keys: tuple[str, ...] = (), *, of_run: bool = False) -> Instrument:
    return Instrument(name=name, unit=unit, kind="counter", says=says, read=read, keys=keys, of_run=of_run)


def _up_down(name: str, unit: str, says: str, read: Callable[[Look], Readings], keys: tuple[str, ...] = (), *, of_run: bool = False) -> Instrument:
    return Instrument(name=name, unit=unit, kind="updowncounter", says=says, read=read, keys=keys, of_run=of_run)


def _gauge(name: str, unit: str, says: str, read: Callable[[Look], Readings], keys: tuple[str, ...] = ()) -> Instrument:
    return Instrument(name=name, unit=unit, kind="gauge", says=says, read=read, keys=keys)


def prometheus_name(name: str, unit: str, kind: str) -> str:
    """``immune.tick.lag`` in ``s`` -> ``immune_tick_lag_seconds``."""
    word = UNIT_WORDS.get(unit)
    base = name.replace(".", "_") + (f"_{word}" if word else "")
    return f"{base}_total" if kind == "counter" else base


def one(value: float) -> Readings:
    """A number by itself."""
    return {(): value}


def by(counts: Mapping[str, float]) -> Readings:
    """Numbers by the one word."""
    return {(key,): value for key, value in counts.items()}


def _build(look: Look) -> Readings:
    return {(__version__, look.engine.run_id, look.state.policy_version): 1}


def _companions_up(look: Look) -> Readings:
    return {(name,): not health.get("trouble") for name, health in look.beside.items()}


def _companions_say(look: Look) -> Readings:
    numbers = ((name, key, value) for name, health in look.beside.items() for key, value in health.items())
    return {(name, key): value for name, key, value in numbers if isinstance(value, int | float)}


def _inbox(read: Callable[[Received], Readings]) -> Callable[[Look], Readings]:
    return lambda look: {} if look.inbox is None else read(look.inbox)


def _api(read: Callable[[ApiSide], Readings]) -> Callable[[Look], Readings]:
    return lambda look: {} if look.api is None else read(look.api)


TICKS: tuple[Instrument, ...] = (
    _gauge("immune.build.info", "1", "Always 1; what runs here.", _build, ("version", "run_id", "policy")),
    _counter("immune.ticks", "{tick}", "Ticks done.", lambda look: one(look.engine.counters.ticks)),
    _counter("immune.ticks.skipped", "{tick}", "Ticks that came too late and were skipped.", lambda look: one(look.engine.counters.ticks_skipped)),
    _gauge("immune.tick.lag", "s", "How late the newest tick was.", lambda look: one(look.engine.counters.lag_us / US)),
    _counter("immune.samples", "{sample}", "Samples scored.", lambda look: one(look.engine.counters.samples)),
    _counter("immune.samples.rejected", "{sample}", "Samples turned away at the tick.", lambda look: by(look.engine.counters.rejected), ("reason",)),
)

FLEET: tuple[Instrument, ...] = (
    _up_down("immune.agents", "{agent}", "Enrolled agents.", lambda look: one(len(look.state.agents)), of_run=True),
    _up_down("immune.agents.health", "{agent}", "Agents by health.", lambda look: by(look.health), ("health",), of_run=True),
    _up_down("immune.agents.liveness", "{agent}", "Agents by liveness.", lambda look: by(look.liveness), ("liveness",), of_run=True),
    _up_down(
        "immune.agents.contained",
        "{agent}",
        "Agents by the containment that is observed in force.",
        lambda look: by(look.levels),
        ("level",),
        of_run=True,
    ),
    _up_down(
        "immune.agents.not_enforced",
        "{agent}",
        "Agents whose desired and observed containment differ.",
        lambda look: one(look.deviating),
        of_run=True,
    ),
)

ILLNESS: tuple[Instrument, ...] = (
    _gauge("immune.evidence.peak", "{nat}", "The strongest evidence among the open incidents.", lambda look: one(look.peak_nats)),
    _up_down("immune.incidents.open", "{incident}", "Open incidents.", lambda look: one(len(look.state.open_incidents)), of_run=True),
    _counter("immune.incidents", "{incident}", "Incidents of this run.", lambda look: one(look.state.ever("incidents")), of_run=True),
    _up_down(
        "immune.containments.active", "{containment}", "Containments in force.", lambda look: one(len(look.state.active_containments)), of_run=True
    ),
    _counter(
        "immune.containments", "{containment}", "Containments that were ordered, by level.", lambda look: by(look.tallies.containments), ("level",)
    ),
    _up_down("immune.plans.open", "{plan}", "Healing plans that have not ended.", lambda look: one(len(look.state.open_plans)), of_run=True),
    _counter("immune.heals", "{plan}", "Healing plans that ended, by outcome.", lambda look: by(look.tallies.heals), ("outcome",)),
    _up_down("immune.tasks.open", "{task}", "Tasks that only a person can do.", lambda look: one(len(look.state.open_tasks)), of_run=True),
    _up_down("immune.approvals.pending", "{request}", "Requests that wait for a person.", lambda look: one(len(look.pending)), of_run=True),
    _counter(
        "immune.approvals.answered",
        "{request}",
        "Requests to people that were answered or ended, by outcome.",
        lambda look: by(look.tallies.approvals),
        ("outcome",),
    ),
    _gauge("immune.approvals.oldest.age", "s", "How long the oldest pending request has waited.", lambda look: one(look.oldest_pending_s)),
)

RECORD: tuple[Instrument, ...] = (
    _gauge("immune.journal.writable", "1", "1 while the journal takes what is appended, else 0.", lambda look: one(not look.engine.trouble)),
    _counter("immune.journal.refused", "{append}", "Appends that the journal could not take.", lambda look: one(look.engine.outage.refused)),
    _gauge("immune.journal.events", "{event}", "Events in the journal of this run.", lambda look: one(look.state.seq)),
    _counter("immune.events", "{event}", "Events appended to the journal, by kind.", lambda look: by(look.tallies.events), ("kind",)),
    _gauge(
        "immune.bound.size",
        "1",
        "How full every queue, cache and map is that outsiders could fill.",
        lambda look: {(bound.name,): bound.size for bound in look.bounds},
        ("bound",),
    ),
    _gauge("immune.bound.limit", "1", "Where each of them ends.", lambda look: {(bound.name,): bound.limit for bound in look.bounds}, ("bound",)),
    _counter(
        "immune.bound.lost",
        "1",
        "What each of them turned away, dropped or forgot.",
        lambda look: {(bound.name,): bound.lost for bound in look.bounds},
        ("bound",),
    ),
    _counter("immune.telemetry.stored.samples", "{sample}", "Samples in the telemetry store.", lambda look: one(look.samples.stored)),
    _up_down("immune.telemetry.queue.samples", "{sample}", "Samples waiting for the telemetry store.", lambda look: one(look.samples.waiting)),
    _counter("immune.telemetry.dropped.samples", "{sample}", "Samples that the telemetry store never got.", lambda look: one(look.samples.dropped)),
    _counter(
        "immune.children.failures",
        "{failure}",
        "Deaths of background tasks in this run; each was restarted.",
        lambda look: one(look.state.child_failures),
        of_run=True,
    ),
    _gauge("immune.companion.up", "1", "1 while what runs beside the engine has no trouble.", _companions_up, ("companion",)),
    _gauge(
        "immune.companion.count", "1", "Every number that a companion says of itself: queues, spools, drops.", _companions_say, ("companion", "what")
    ),
)

DOOR: tuple[Instrument, ...] = (
    _up_down("immune.ingest.queue.samples", "{sample}", "Reported samples waiting for the next tick.", _inbox(lambda inbox: one(inbox.waiting))),
    _counter("immune.ingest.accepted.samples", "{sample}", "Reported samples taken.", _inbox(lambda inbox: one(inbox.counts.accepted))),
    _counter(
        "immune.ingest.rejected.samples",
        "{sample}",
        "Reported samples turned away at the door.",
        _inbox(lambda inbox: by(inbox.counts.rejected)),
        ("reason",),
    ),
    _counter("immune.ingest.enrolled.agents", "{agent}", "Agents that came in with their samples.", _inbox(lambda inbox: one(inbox.counts.enrolled))),
    _counter(
        "immune.api.requests",
        "{request}",
        "Requests by route and status.",
        _api(lambda api: {(route, str(status)): count for (route, status), count in api.counters.requests.items()}),
        ("route", "status"),
    ),
    _counter("immune.api.auth_failures", "{request}", "Requests without a valid token.", _api(lambda api: one(api.doorman.failed))),
    _counter("immune.api.rate_limited", "{request}", "Requests refused for their rate.", _api(lambda api: one(api.buckets.refused))),
    _counter("immune.api.refused_acts", "{attempt}", "Attempts to act that were refused.", _api(lambda api: one(api.counters.refused_acts))),
    _counter("immune.api.bugs", "{request}", "Requests that failed for a reason nobody foresaw.", _api(lambda api: one(api.counters.bugs))),
    _up_down("immune.stream.clients", "{client}", "Listeners of the live stream.", _api(lambda api: one(api.stream.clients))),
    _counter("immune.stream.dropped", "{client}", "Listeners dropped because they could not keep up.", _api(lambda api: one(api.stream.dropped))),
)

INSTRUMENTS: tuple[Instrument, ...] = (*TICKS, *FLEET, *ILLNESS, *RECORD, *DOOR)

SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
GENAI_KEYS = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")
GENAI_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The bounds that the GenAI conventions advise for durations."""
GENAI_TOKENS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0)
"""The bounds that the GenAI conventions advise for tokens."""

HISTOGRAMS: tuple[HistogramSpec, ...] = (
    HistogramSpec(
        name="immune.detection.delay",
        unit="s",
        says="From the onset that the evidence dates to the opened incident.",
        bounds=SECONDS,
        keys=("kind",),
    ),
    HistogramSpec(
        name="immune.containment.enforcement",
        unit="s",
        says="From the order to contain to the containment seen in force at the agent.",
        bounds=SECONDS,
        keys=("level",),
    ),
    HistogramSpec(
        name="immune.approval.wait", unit="s", says="From the request to the answer of a person, or its end.", bounds=SECONDS, keys=("outcome",)
    ),
    HistogramSpec(
        name="immune.step.duration",
        unit="s",
        says="Steps of healing plans, from dispatch to answer.",
        bounds=SECONDS,
        keys=("action", "outcome"),
    ),
    HistogramSpec(name="immune.heal.duration", unit="s", says="Healing plans, from proposal to end.", bounds=SECONDS, keys=("outcome",)),
    HistogramSpec(name="immune.incident.duration", unit="s", says="Incidents, from onset to close.", bounds=SECONDS, keys=("outcome",)),
    HistogramSpec(
        name="gen_ai.client.operation.duration",
        unit="s",
        says="Latency that the agents of the fleet report.",
        bounds=GENAI_SECONDS,
        keys=GENAI_KEYS,
    ),
    HistogramSpec(
        name="gen_ai.client.token.usage",
        unit="{token}",
        says="Tokens that the agents of the fleet report, by type.",
        bounds=GENAI_TOKENS,
        keys=(*GENAI_KEYS, "gen_ai.token.type"),
    ),
)


def all_names() -> Iterable[tuple[str, str]]:
    """(name, Prometheus name) of everything in the table."""
    for each in INSTRUMENTS:
        yield each.name, prometheus_name(each.name, each.unit, each.kind)
    for spec in HISTOGRAMS:
        yield spec.name, prometheus_name(spec.name, spec.unit, "histogram")
