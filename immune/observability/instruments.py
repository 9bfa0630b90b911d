"""The one table of instruments. `/metrics`, the OTLP export and docs/observability.md are all made from it.

Names are OpenTelemetry's (dots, units apart); the Prometheus name follows by rule: dots become underscores, the unit is
spelled out at the end, counters end in ``_total``. Label values come from our own tables and never from outside, but for
model and provider names in ``gen_ai.*``, which are bounded in number and length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from immune import __version__
from immune.observability.look import US, ApiSide, Inbox, Look

Kind = Literal["counter", "updowncounter", "gauge"]
Readings = Mapping[tuple[str, ...], float]
"""Label values -> number."""

UNIT_WORDS = {"s": "seconds", "By": "bytes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """What is read at every look.

    unit    UCUM; ``{tick}`` counts things
    keys    names of the labels, in the order of the label values that `read` gives
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


def prometheus_name(name: str, unit: str, kind: str) -> str:
    """``immune.tick.lag`` in ``s`` -> ``immune_tick_lag_seconds``."""
    word = UNIT_WORDS.get(unit)
    base = name.replace(".", "_") + (f"_{word}" if word else "")
    return f"{base}_total" if kind == "counter" else base


def one(value: float) -> Readings:
    """A number without labels."""
    return {(): value}


def by(counts: Mapping[str, float]) -> Readings:
    """Numbers by the one label."""
    return {(key,): value for key, value in counts.items()}


def _build(look: Look) -> Readings:
    return {(__version__, look.engine.run_id, look.state.policy_version): 1}


def _companions_up(look: Look) -> Readings:
    return {(name,): not health.get("trouble") for name, health in look.beside.items()}


def _companions_say(look: Look) -> Readings:
    numbers = ((name, key, value) for name, health in look.beside.items() for key, value in health.items())
    return {(name, key): value for name, key, value in numbers if isinstance(value, int | float)}


def _inbox(read: Callable[[Inbox], Readings]) -> Callable[[Look], Readings]:
    return lambda look: {} if look.inbox is None else read(look.inbox)


def _api(read: Callable[[ApiSide], Readings]) -> Callable[[Look], Readings]:
    return lambda look: {} if look.api is None else read(look.api)


TICKS: tuple[Instrument, ...] = (
    Instrument(
        name="immune.build.info",
        unit="1",
        kind="gauge",
        says="Always 1; what runs here.",
        keys=("version", "run_id", "policy"),
        read=_build,
    ),
    Instrument(name="immune.ticks", unit="{tick}", kind="counter", says="Ticks done.", read=lambda look: one(look.engine.counters.ticks)),
    Instrument(
        name="immune.ticks.skipped",
        unit="{tick}",
        kind="counter",
        says="Ticks that came too late and were skipped.",
        read=lambda look: one(look.engine.counters.ticks_skipped),
    ),
    Instrument(
        name="immune.tick.lag",
        unit="s",
        kind="gauge",
        says="How late the newest tick was.",
        read=lambda look: one(look.engine.counters.lag_us / US),
    ),
    Instrument(name="immune.samples", unit="{sample}", kind="counter", says="Samples scored.", read=lambda look: one(look.engine.counters.samples)),
    Instrument(
        name="immune.samples.rejected",
        unit="{sample}",
        kind="counter",
        says="Samples turned away at the tick.",
        keys=("reason",),
        read=lambda look: by(look.engine.counters.rejected),
    ),
)

FLEET: tuple[Instrument, ...] = (
    Instrument(
        name="immune.agents",
        unit="{agent}",
        kind="updowncounter",
        says="Enrolled agents.",
        of_run=True,
        read=lambda look: one(len(look.state.agents)),
    ),
    Instrument(
        name="immune.agents.health",
        unit="{agent}",
        kind="updowncounter",
        says="Agents by health.",
        keys=("health",),
        of_run=True,
        read=lambda look: by(look.health),
    ),
    Instrument(
        name="immune.agents.liveness",
        unit="{agent}",
        kind="updowncounter",
        says="Agents by liveness.",
        keys=("liveness",),
        of_run=True,
        read=lambda look: by(look.liveness),
    ),
    Instrument(
        name="immune.agents.contained",
        unit="{agent}",
        kind="updowncounter",
        says="Agents by the containment that is observed in force.",
        keys=("level",),
        of_run=True,
        read=lambda look: by(look.levels),
    ),
    Instrument(
        name="immune.agents.not_enforced",
        unit="{agent}",
        kind="updowncounter",
        says="Agents whose desired and observed containment differ.",
        of_run=True,
        read=lambda look: one(look.deviating),
    ),
)

ILLNESS: tuple[Instrument, ...] = (
    Instrument(
        name="immune.evidence.peak",
        unit="{nat}",
        kind="gauge",
        says="The strongest evidence among the open incidents.",
        read=lambda look: one(look.peak_nats),
    ),
    Instrument(
        name="immune.incidents.open",
        unit="{incident}",
        kind="updowncounter",
        says="Open incidents.",
        of_run=True,
        read=lambda look: one(len(look.state.open_incidents)),
    ),
    Instrument(
        name="immune.incidents",
        unit="{incident}",
        kind="counter",
        says="Incidents of this run.",
        of_run=True,
        read=lambda look: one(look.state.ever("incidents")),
    ),
    Instrument(
        name="immune.containments.active",
        unit="{containment}",
        kind="updowncounter",
        says="Containments in force.",
        of_run=True,
        read=lambda look: one(len(look.state.active_containments)),
    ),
    Instrument(
        name="immune.containments",
        unit="{containment}",
        kind="counter",
        says="Containments that were ordered, by level.",
        keys=("level",),
        read=lambda look: by(look.tallies.containments),
    ),
    Instrument(
        name="immune.plans.open",
        unit="{plan}",
        kind="updowncounter",
        says="Healing plans that have not ended.",
        of_run=True,
        read=lambda look: one(len(look.state.open_plans)),
    ),
    Instrument(
        name="immune.heals",
        unit="{plan}",
        kind="counter",
        says="Healing plans that ended, by outcome.",
        keys=("outcome",),
        read=lambda look: by(look.tallies.heals),
    ),
    Instrument(
        name="immune.tasks.open",
        unit="{task}",
        kind="updowncounter",
        says="Tasks that only a person can do.",
        of_run=True,
        read=lambda look: one(len(look.state.open_tasks)),
    ),
    Instrument(
        name="immune.approvals.pending",
        unit="{request}",
        kind="updowncounter",
        says="Requests that wait for a person.",
        of_run=True,
        read=lambda look: one(len(look.pending)),
    ),
    Instrument(
        name="immune.approvals.answered",
        unit="{request}",
        kind="counter",
        says="Requests to people that were answered or ended, by outcome.",
        keys=("outcome",),
        read=lambda look: by(look.tallies.approvals),
    ),
    Instrument(
        name="immune.approvals.oldest.age",
        unit="s",
        kind="gauge",
        says="How long the oldest pending request has waited.",
        read=lambda look: one(look.oldest_pending_s),
    ),
)

RECORD: tuple[Instrument, ...] = (
    Instrument(
        name="immune.journal.writable",
        unit="1",
        kind="gauge",
        says="1 while the journal takes what is appended, else 0.",
        read=lambda look: one(not look.engine.trouble),
    ),
    Instrument(
        name="immune.journal.refused",
        unit="{append}",
        kind="counter",
        says="Appends that the journal could not take.",
        read=lambda look: one(look.engine.outage.refused),
    ),
    Instrument(
        name="immune.journal.events",
        unit="{event}",
        kind="gauge",
        says="Events in the journal of this run.",
        read=lambda look: one(look.state.seq),
    ),
    Instrument(
        name="immune.events",
        unit="{event}",
        kind="counter",
        says="Events appended to the journal, by kind.",
        keys=("kind",),
        read=lambda look: by(look.tallies.events),
    ),
    Instrument(
        name="immune.bound.size",
        unit="1",
        kind="gauge",
        says="How full every queue, cache and map is that outsiders could fill.",
        keys=("bound",),
        read=lambda look: {(bound.name,): bound.size for bound in look.bounds},
    ),
    Instrument(
        name="immune.bound.limit",
        unit="1",
        kind="gauge",
        says="Where each of them ends.",
        keys=("bound",),
        read=lambda look: {(bound.name,): bound.limit for bound in look.bounds},
    ),
    Instrument(
        name="immune.bound.lost",
        unit="1",
        kind="counter",
        says="What each of them turned away, dropped or forgot.",
        keys=("bound",),
        read=lambda look: {(bound.name,): bound.lost for bound in look.bounds},
    ),
    Instrument(
        name="immune.telemetry.stored.samples",
        unit="{sample}",
        kind="counter",
        says="Samples in the telemetry store.",
        read=lambda look: one(look.samples.stored),
    ),
    Instrument(
        name="immune.telemetry.queue.samples",
        unit="{sample}",
        kind="updowncounter",
        says="Samples waiting for the telemetry store.",
        read=lambda look: one(look.samples.waiting),
    ),
    Instrument(
        name="immune.telemetry.dropped.samples",
        unit="{sample}",
        kind="counter",
        says="Samples that the telemetry store never got.",
        read=lambda look: one(look.samples.dropped),
    ),
    Instrument(
        name="immune.children.failures",
        unit="{failure}",
        kind="counter",
        says="Deaths of background tasks in this run; each was restarted.",
        of_run=True,
        read=lambda look: one(look.state.child_failures),
    ),
    Instrument(
        name="immune.companion.up",
        unit="1",
        kind="gauge",
        says="1 while what runs beside the engine has no trouble.",
        keys=("companion",),
        read=_companions_up,
    ),
    Instrument(
        name="immune.companion.count",
        unit="1",
        kind="gauge",
        says="Every number that a companion says of itself: queues, spools, drops.",
        keys=("companion", "what"),
        read=_companions_say,
    ),
)

DOOR: tuple[Instrument, ...] = (
    Instrument(
        name="immune.ingest.queue.samples",
        unit="{sample}",
        kind="updowncounter",
        says="Reported samples waiting for the next tick.",
        read=_inbox(lambda inbox: one(inbox.waiting)),
    ),
    Instrument(
        name="immune.ingest.accepted.samples",
        unit="{sample}",
        kind="counter",
        says="Reported samples taken.",
        read=_inbox(lambda inbox: one(inbox.counts.accepted)),
    ),
    Instrument(
        name="immune.ingest.rejected.samples",
        unit="{sample}",
        kind="counter",
        says="Reported samples turned away at the door.",
        keys=("reason",),
        read=_inbox(lambda inbox: by(inbox.counts.rejected)),
    ),
    Instrument(
        name="immune.ingest.enrolled.agents",
        unit="{agent}",
        kind="counter",
        says="Agents that came in with their samples.",
        read=_inbox(lambda inbox: one(inbox.counts.enrolled)),
    ),
    Instrument(
        name="immune.api.requests",
        unit="{request}",
        kind="counter",
        says="Requests by route and status.",
        keys=("route", "status"),
        read=_api(lambda api: {(route, str(status)): count for (route, status), count in api.counters.requests.items()}),
    ),
    Instrument(
        name="immune.api.auth_failures",
        unit="{request}",
        kind="counter",
        says="Requests without a valid token.",
        read=_api(lambda api: one(api.doorman.failed)),
    ),
    Instrument(
        name="immune.api.rate_limited",
        unit="{request}",
        kind="counter",
        says="Requests refused for their rate.",
        read=_api(lambda api: one(api.buckets.refused)),
    ),
    Instrument(
        name="immune.api.refused_acts",
        unit="{attempt}",
        kind="counter",
        says="Attempts to act that were refused.",
        read=_api(lambda api: one(api.counters.refused_acts)),
    ),
    Instrument(
        name="immune.api.bugs",
        unit="{request}",
        kind="counter",
        says="Requests that failed for a reason nobody foresaw.",
        read=_api(lambda api: one(api.counters.bugs)),
    ),
    Instrument(
        name="immune.stream.clients",
        unit="{client}",
        kind="updowncounter",
        says="Listeners of the live stream.",
        read=_api(lambda api: one(api.stream.clients)),
    ),
    Instrument(
        name="immune.stream.dropped",
        unit="{client}",
        kind="counter",
        says="Listeners dropped because they could not keep up.",
        read=_api(lambda api: one(api.stream.dropped)),
    ),
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
