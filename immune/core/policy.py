"""Every number that a person may want to change, with its unit, its range and the reason for its default.

A policy is a TOML file; what it leaves out keeps its default. Reading one names line and column of whatever is wrong
(`read_policy`). The version of a policy is a hash of its canonical text, so equal policies have equal versions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from immune.core.events import Level, Mode


def number(default: float, unit: str, low: float, high: float, why: str) -> Any:
    """A policy number: default, unit, inclusive range, reason."""
    return field(default=default, metadata={"unit": unit, "low": low, "high": high, "why": why})


def choice(default: str, options: tuple[str, ...], why: str) -> Any:
    """A policy choice: default, the allowed words, reason."""
    return field(default=default, metadata={"options": options, "why": why})


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionPolicy:
    """When evidence is enough."""

    false_alarms_per_agent_day: float = number(
        0.001,
        "1/agent-day",
        1e-9,
        100.0,
        "the one knob of the sentinel: at most this many false quarantines per agent and day; the threshold follows",
    )
    false_alarms_per_fleet_day: float = number(
        0.0,
        "1/day, 0: off",
        0.0,
        1000.0,
        "at most this many false quarantines a day in the whole fleet, divided by the agents enrolled; the stricter of this and the line above holds",
    )
    min_samples: int = number(15, "samples", 5, 10_000, "before this many samples an agent is learning and is not judged")
    suspect_share: float = number(
        0.6, "share of the threshold in nats", 0.1, 0.99, "evidence that makes an agent suspected; below it people are not bothered"
    )
    close_after_s: float = number(60.0, "s", 1.0, 86_400.0, "an incident closes when its symptoms have stayed away this long")
    silence_factor: float = number(8.0, "times the learned interval", 2.0, 1000.0, "no sample for this many usual intervals is silence")
    silence_min_s: float = number(10.0, "s", 1.0, 86_400.0, "never call an agent silent sooner than this")
    idle_after_s: float = number(
        60.0, "s", 1.0, 86_400.0, "an agent that says it is idle is recorded as idle after this long; short pauses stay out of the journal"
    )
    ease_nats: float = number(2.0, "nats per false alarm", 0.0, 3.0, "what a person calls a false alarm takes this much more evidence next time")
    ease_max_nats: float = number(
        6.0, "nats", 0.0, 6.0, "but never more than this: evidence of a fault that lasts grows further, so that no verdict hides one"
    )
    report_nats: float = number(
        2.0, "nats per reporter", 0.0, 2.0, "whom somebody reports as sick needs this much less evidence; at most two reporters count"
    )
    report_for_s: float = number(600.0, "s", 0.0, 86_400.0, "how long a report counts")
    hard_usd_per_hour: float = number(
        0.0, "USD per agent and hour, 0: off", 0.0, 1e6, "a hard limit: beyond it an agent is an alarm whatever else explains it or was said"
    )
    hard_tokens: float = number(0.0, "tokens per sample, 0: off", 0.0, 1e9, "the same, for input and output tokens together")
    hard_tool_calls: float = number(0.0, "calls per sample, 0: off", 0.0, 1e6, "the same, for tool calls")
    update_every_s: float = number(30.0, "s", 1.0, 3600.0, "an open incident is updated at most this often unless its severity jumps")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainmentPolicy:
    """What severity asks for which containment, and how much of a fleet may be contained automatically."""

    throttle_at: float = number(1.0, "severity 0 to 10", 0.0, 10.0, "mild harm: slow the agent down")
    restrict_at: float = number(2.0, "severity 0 to 10", 0.0, 10.0, "moderate harm: tools off")
    isolate_at: float = number(3.0, "severity 0 to 10", 0.0, 10.0, "serious harm: stop the work")
    cap_share: float = number(
        0.2, "share of the enrolled agents", 0.0, 1.0, "the disruption budget: no more than this share is contained automatically"
    )
    cap_at_least: int = number(3, "agents", 0, 100_000, "a small fleet may still contain this many")
    enforce_within_s: float = number(
        5.0, "s", 1.0, 3600.0, "a containment that is not observed in force after this long is an alarm, and tried again"
    )
    override_for_s: float = number(600.0, "s", 1.0, 86_400.0, "how long a person's answer to the fleet brake lifts the disruption budget")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeverityPolicy:
    """How much each sort of harm weighs; the formula is in `immune/core/severity.py`. A weight of 0 leaves a sort out."""

    money: float = number(1.0, "severity units per doubling", 0.0, 5.0, "tokens, context and cost: what is spent does not come back")
    time: float = number(0.8, "severity units per doubling", 0.0, 5.0, "latency: people wait, but nothing is lost for good")
    tools: float = number(1.0, "severity units per doubling", 0.0, 5.0, "tool calls reach the outside world and may change it")
    failures: float = number(1.2, "severity units per doubling", 0.0, 5.0, "errors, and retries a little less: the work is not done at all")
    quality: float = number(1.2, "severity units per doubling", 0.0, 5.0, "lost confidence: the work is done, but badly, and nobody notices")
    other: float = number(0.6, "severity units per doubling", 0.0, 5.0, "vitals that only you know: nothing is known of the harm they do")
    silent: float = number(6.0, "severity 0 to 10", 0.0, 9.9, "an agent that sends nothing does no work, and what it does is not seen")
    stuck: float = number(5.0, "severity 0 to 10", 0.0, 9.9, "an agent that repeats itself does no new work, but is still seen")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealingPolicy:
    """How healing goes about it, and how much of it at once."""

    settle_s: float = number(
        3.0, "s", 0.0, 3600.0, "wait this long after an incident opened before planning: the first evidence names the vital, the next the kind"
    )
    plan_deadline_s: float = number(900.0, "s", 10.0, 86_400.0, "a plan that has not ended by then is undone and a person is called")
    plans_at_once: int = number(5, "plans", 1, 10_000, "healing itself disturbs a fleet; no more than this many plans run at a time")
    action_starts: int = number(6, "starts per window", 1, 10_000, "no action is started more often than this within the window")
    action_window_s: float = number(600.0, "s", 1.0, 86_400.0, "the window for the line above")
    probation_samples: int = number(20, "samples", 5, 10_000, "fresh healthy samples that prove a cure; each further rung asks for that many more")
    probation_timeout_s: float = number(
        180.0, "s", 5.0, 86_400.0, "a probation without enough fresh samples by then has failed; missing data never passes"
    )
    relapse_window_s: float = number(
        900.0, "s", 1.0, 604_800.0, "the same illness within this long after a cure is a relapse: the next rung is tried, not the same"
    )
    memory_failures: int = number(
        2, "failures", 1, 100, "an action that failed this often for a signature and never worked is not tried for it again"
    )
    task_deadline_s: float = number(3600.0, "s", 1.0, 2.6e6, "a step that no connector can carry out is a person's task with this deadline")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalsPolicy:
    """When a person is asked, and what asking means."""

    severity_at: float = number(7.0, "severity 0 to 10", 0.0, 10.0, "from this severity on no plan starts without a person")
    irreversible_needs_person: int = number(1, "0 or 1", 0, 1, "1: a plan with a step that cannot be undone always waits for a person")
    expire_after_s: float = number(900.0, "s", 1.0, 604_800.0, "a request nobody answers is denied after this long")
    undo_window_s: float = number(5.0, "s", 0.0, 3600.0, "time to take a grant back before the first step starts")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsPolicy:
    """Bounds that keep the daemon alive whatever comes in."""

    max_agents: int = number(100_000, "agents", 1, 10_000_000, "enrolment limit; more ids are refused and counted")
    telemetry_queue_ticks: int = number(
        64, "ticks", 1, 100_000, "measurements waiting for the store; beyond it the oldest tick is dropped and counted"
    )
    telemetry_retention_s: float = number(7 * 86_400.0, "s", 60.0, 3.2e9, "measurements older than this are forgotten")
    run_retention_s: float = number(
        180 * 86_400.0, "s", 3600.0, 3.2e9, "runs whose last event is older leave the journal for an archive of their own, checked first"
    )
    max_clock_skew_s: float = number(300.0, "s", 0.0, 86_400.0, "a sample from further in the future than this is rejected")
    max_body_bytes: int = number(4_194_304, "bytes", 1024, 1_000_000_000, "a larger request body is refused before it is read")
    max_samples_per_request: int = number(10_000, "samples", 1, 10_000_000, "more in one request would keep everybody else waiting")
    ingest_queue_samples: int = number(
        200_000, "samples", 1, 100_000_000, "reported samples waiting for the next tick; what does not fit is refused and counted"
    )
    requests_per_s: float = number(
        500.0, "1/s per token", 0.1, 1e6, "a client that runs wild is slowed down before it slows others; twice as many may come at once"
    )
    enrolments_per_s: float = number(100.0, "new agents per s", 0.1, 1e6, "invented agent ids must not fill the roster faster than a person can look")
    enrolments_at_once: int = number(1000, "new agents", 1, 10_000_000, "a fleet that starts at once; beyond it the line above holds")
    stream_clients: int = number(64, "clients", 1, 10_000, "each listener of the live stream costs a connection and memory")
    gate_lease_s: float = number(
        30.0, "s", 0.1, 86_400.0, "how long an agent may keep its last answer from the gate when the daemon cannot be reached"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy."""

    mode: Mode = choice("observe", ("observe", "recommend", "act"), "nobody lets a new system act on its first day")
    modes_by_type: tuple[tuple[str, Mode], ...] = field(default=(), metadata={"why": "modes of single agent types; [modes] in the file"})
    detection: DetectionPolicy = field(default_factory=DetectionPolicy)
    severity: SeverityPolicy = field(default_factory=SeverityPolicy)
    containment: ContainmentPolicy = field(default_factory=ContainmentPolicy)
    healing: HealingPolicy = field(default_factory=HealingPolicy)
    approvals: ApprovalsPolicy = field(default_factory=ApprovalsPolicy)
    limits: LimitsPolicy = field(default_factory=LimitsPolicy)

    def mode_for(self, agent_type: str) -> Mode:
        """The mode that holds for an agent type."""
        return dict(self.modes_by_type).get(agent_type, self.mode)

    def level_for(self, severity: float) -> tuple[Level, str]:
        """The containment that a severity asks for, and the rule that says so."""
        rules: tuple[tuple[float, Level, str], ...] = (
            (self.containment.isolate_at, "isolated", "containment.isolate_at"),
            (self.containment.restrict_at, "restricted", "containment.restrict_at"),
            (self.containment.throttle_at, "throttled", "containment.throttle_at"),
        )
        for at_least, level, rule in rules:
            if severity >= at_least:
                return level, rule
        return "none", "containment.throttle_at"
