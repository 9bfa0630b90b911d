"""Writes dashboards/*.json and provisioning/alerting/immune.yaml: `python -m observability.grafana.make`. A test fails when they are old."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from observability.grafana.alerting import alerts
from observability.grafana.flux import AGENT, OF_TYPE, counted, either, field, or_zero, per_minute, points, steps, wide
from observability.grafana.parts import (
    AGENT_CHOICE,
    RUN_CHOICE,
    TO_AGENT,
    TO_OURS,
    TO_REQUEST,
    TYPE_CHOICE,
    annotations,
    dashboard,
    lines,
    number,
    table,
)

HERE = Path(__file__).resolve().parent
VITALS = (
    ("latency_ms", "Latency", "ms"),
    ("input_tokens", "Input tokens", "short"),
    ("output_tokens", "Output tokens", "short"),
    ("cost_usd", "Cost", "currencyUSD"),
    ("tool_calls", "Tool calls", "short"),
    ("retries", "Retries", "short"),
    ("errors", "Errors", "short"),
    ("context_tokens", "Context tokens", "short"),
    ("confidence", "Confidence", "percentunit"),
)
TROUBLES = ("child_failed", "telemetry_lost", "journal_interrupted", "loop_stalled", "samples_rejected", "command_refused", "enforcement_failed")
"""Events about the immune system itself that a healthy one seldom writes."""

OPEN_INCIDENTS = or_zero(
    steps(
        points("infection_event", either("phase", "opened", "closed"), field("seq"), ever=True),
        "group()",
        'map(fn: (r) => ({r with _value: if r.phase == "opened" then 1 else -1}))',
    )
)
CONTAINED = or_zero(
    steps(
        points("quarantine_event", 'r.decision == "observed"', field("seq"), ever=True),
        'group(columns: ["agent"])',
        'sort(columns: ["_time"])',
        "last()",
        'filter(fn: (r) => r.level != "none")',
        "group()",
        "count()",
    )
)
NEWEST_OF_EACH_REQUEST = (
    points("approval_event", field("request_id"), ever=True),
    'group(columns: ["_value"])',
    'sort(columns: ["_time"])',
    'last(column: "_time")',
)
WAITING = or_zero(steps(*NEWEST_OF_EACH_REQUEST, 'filter(fn: (r) => r.decision == "requested")', "group()", "count()"))
DELAY = (
    points("infection_event", 'r.phase == "opened"', field("onset_us")),
    "map(fn: (r) => ({r with _value: float(v: int(v: r._time) / 1000 - r._value) / 1000000.0}))",
)


def fleet() -> dict[str, Any]:
    """All agents at a glance."""
    of_type = [OF_TYPE]
    p95 = "aggregateWindow(every: v.windowPeriod, fn: (column, tables=<-) => tables |> quantile(q: 0.95, column: column), createEmpty: false)"
    by_type = 'group(columns: ["type"])'
    shown = ", ".join(f'"{name}"' for name in ("agent", "type", "service", "status", *(vital for vital, _, _ in VITALS[:7])))
    newest = steps(
        points("agent_vitals", *of_type),
        'filter(fn: (r) => r._field != "step")',
        "last()",
        'drop(columns: ["_time"])',
        'pivot(rowKey: ["agent"], columnKey: ["_field"], valueColumn: "_value")',
        "group()",
        f"keep(columns: [{shown}])",
        'sort(columns: ["agent"])',
    )
    panels = [
        number(
            "Agents that reported",
            or_zero(steps(points("agent_vitals", field("status"), *of_type), "last()", "group()", "count()")),
        ),
        number("Open incidents", OPEN_INCIDENTS, bad_from=1),
        number("Contained", CONTAINED, bad_from=1),
        number("Requests that wait", WAITING, bad_from=1),
        number("Samples", or_zero(steps(points("agent_vitals", field("status"), *of_type), "count()", "group()"))),
        number("Cost", steps(points("agent_vitals", field("cost_usd"), *of_type), "sum()", "group()", "sum()"), unit="currencyUSD"),
        lines("Latency, 95th percentile by type", steps(points("agent_vitals", field("latency_ms"), *of_type), by_type, p95), unit="ms"),
        lines(
            "Tokens a minute by type",
            steps(points("agent_vitals", either("_field", "input_tokens", "output_tokens"), *of_type), by_type, per_minute()),
        ),
        lines("Cost a minute by type", steps(points("agent_vitals", field("cost_usd"), *of_type), by_type, per_minute()), unit="currencyUSD"),
        lines(
            "Errors and retries a minute",
            steps(points("agent_vitals", either("_field", "errors", "retries"), *of_type), 'group(columns: ["_field"])', per_minute()),
        ),
        table("Agents, newest values", newest, links={"agent": TO_AGENT}),
        table(
            "What happened",
            steps(
                points("immune_event", either("_field", "seq", "actor", "correlation_id", "body")),
                'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
                "group()",
                'keep(columns: ["_time", "seq", "kind", "agent", "correlation_id", "actor", "body"])',
                'sort(columns: ["_time"], desc: true)',
                "limit(n: 100)",
            ),
            links={"agent": TO_AGENT},
        ),
    ]
    return dashboard(
        "immune-fleet",
        "Immune: fleet",
        "All agents at a glance.",
        panels,
        [RUN_CHOICE, TYPE_CHOICE],
        annotations(),
        "${immune_url}/fleet?run=${run:percentencode}",
    )


def agent() -> dict[str, Any]:
    """One agent: every vital against what was learned of it, and what was done."""
    panels = []
    for vital, title, unit in VITALS:
        measured = steps(
            points("agent_vitals", field(vital), AGENT),
            'keep(columns: ["_time", "_value", "_field"])',
            "aggregateWindow(every: v.windowPeriod, fn: max, createEmpty: false)",
        )
        band = steps(
            points("baseline_profile", either("_field", *(f"{vital}_{side}" for side in ("expected", "low", "high"))), AGENT),
            'keep(columns: ["_time", "_value", "_field"])',
            "aggregateWindow(every: v.windowPeriod, fn: last, createEmpty: false)",
        )
        dashed = [
            {
                "matcher": {"id": "byRegexp", "options": f".*{vital}_{side}.*"},
                "properties": [{"id": "custom.lineStyle", "value": {"fill": "dash"}}, {"id": "custom.lineWidth", "value": 1}],
            }
            for side in ("low", "high", "expected")
        ]
        panels.append(lines(title, measured, band, unit=unit, width=8, overrides=dashed, says="Measured, and what was learned to expect."))
    panels += [
        table(
            "Incidents",
            steps(
                points("infection_event", AGENT),
                wide("_time", "phase", "infection", "severity", "evidence_nats", "confidence", "vitals", "incident_id", "reason"),
            ),
            links={"incident_id": TO_OURS},
        ),
        table(
            "Containment",
            steps(points("quarantine_event", AGENT), wide("_time", "decision", "level", "rule", "reason", "basis", "actor", "incident_id")),
            width=12,
        ),
        table(
            "Healing",
            steps(
                points("action_log", AGENT), wide("_time", "action", "direction", "outcome", "decision", "trigger", "success", "detail", "plan_id")
            ),
            width=12,
        ),
    ]
    return dashboard(
        "immune-agent",
        "Immune: agent",
        "One agent against what was learned of it.",
        panels,
        [RUN_CHOICE, TYPE_CHOICE, AGENT_CHOICE],
        annotations(AGENT),
        "${immune_url}/agent?id=${agent:percentencode}&run=${run:percentencode}",
    )


def incidents() -> dict[str, Any]:
    """What was found, what was done, who was asked."""
    panels = [
        number("Open incidents", OPEN_INCIDENTS, bad_from=1),
        number("Contained", CONTAINED, bad_from=1),
        number("Requests that wait", WAITING, bad_from=1),
        number(
            "Heals verified",
            or_zero(
                steps(
                    points("healing_event", 'r.phase == "ended"', field("success")),
                    "group()",
                    "filter(fn: (r) => r._value)",
                    "count()",
                )
            ),
        ),
        number("With a person", or_zero(steps(points("healing_event", 'r.phase == "exhausted"', field("seq")), "count()", "group()")), bad_from=1),
        number("Detection delay, median", steps(*DELAY, "group()", "median()"), unit="s"),
        lines(
            "Severity",
            steps(points("infection_event", field("severity")), 'group(columns: ["agent"])', 'keep(columns: ["_time", "_value", "agent"])'),
        ),
        lines(
            "Evidence",
            steps(points("infection_event", field("evidence_nats")), 'group(columns: ["agent"])', 'keep(columns: ["_time", "_value", "agent"])'),
            says="nats; an incident opens where it crosses the threshold",
        ),
        table("Infections", steps(points("infection_event", 'r.phase == "opened"', field("seq")), counted("infection")), width=8, height=7),
        table("Actions", steps(points("action_log", field("success")), counted("action", "direction", "outcome", "decision")), width=8, height=7),
        table("Decisions", steps(points("approval_event", field("request_id")), counted("decision", "about")), width=8, height=7),
        table(
            "Incidents",
            steps(
                points("infection_event", either("phase", "opened", "closed")),
                wide("_time", "agent", "phase", "infection", "severity", "evidence_nats", "vitals", "outcome", "reason", "incident_id"),
            ),
            links={"agent": TO_AGENT, "incident_id": TO_OURS},
        ),
        table(
            "Approvals",
            steps(
                points("approval_event"),
                wide("_time", "agent", "decision", "about", "severity", "rule", "reason", "actor", "request_id", "plan_id", "incident_id"),
            ),
            links={"agent": TO_AGENT, "request_id": TO_REQUEST},
        ),
        table(
            "Containment",
            steps(
                points("quarantine_event", either("decision", "contained", "released", "deferred", "failed")),
                wide("_time", "agent", "decision", "level", "rule", "reason", "basis", "actor", "incident_id"),
            ),
            links={"agent": TO_AGENT},
        ),
        table(
            "Plans",
            steps(
                points("healing_event"),
                wide("_time", "agent", "phase", "infection", "trigger", "actions", "success", "outcome", "reason", "plan_id", "incident_id"),
            ),
            links={"agent": TO_AGENT, "incident_id": TO_OURS},
        ),
    ]
    return dashboard(
        "immune-incidents",
        "Immune: incidents and approvals",
        "What was found, what was done, who was asked.",
        panels,
        [RUN_CHOICE],
        annotations(),
        "${immune_url}/incidents?run=${run:percentencode}",
    )


def health() -> dict[str, Any]:
    """How the immune system itself is. What its process says of itself is at /metrics and in the collector."""
    newest = (points("immune_event", field("seq"), ever=True), "group()", "max()")
    head = steps(
        points("immune_event", either("_field", "seq", "hash"), ever=True),
        'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
        "group()",
        'sort(columns: ["seq"])',
        'last(column: "seq")',
        'keep(columns: ["_time", "seq", "hash", "kind"])',
    )
    silence = steps(
        points("agent_vitals", field("status"), ever=True),
        'keep(columns: ["_time"])',
        "group()",
        'last(column: "_time")',
        "map(fn: (r) => ({_value: float(v: int(v: v.timeRangeStop) - int(v: r._time)) / 1000000000.0}))",
    )
    learned = or_zero(steps(points("baseline_profile", field("latency_ms_expected")), "last()", "group()", "count()"))
    troubles = (
        'import "array"\nfound = '
        + steps(
            points("immune_event", field("seq"), either("kind", *TROUBLES)),
            'group(columns: ["kind"])',
            "count()",
            "group()",
            'keep(columns: ["kind", "_value"])',
        )
        + "\nnone = array.from(rows: ["
        + ", ".join(f'{{kind: "{kind}", _value: 0}}' for kind in TROUBLES)
        + '])\nunion(tables: [found, none])\n  |> group(columns: ["kind"])\n  |> sum()\n  |> group()\n  |> rename(columns: {_value: "count"})'
    )
    panels = [
        number("Events in the journal", steps(*newest, 'keep(columns: ["_value"])')),
        number("Since the newest sample", silence, unit="s", bad_from=60, says="at the end of the window"),
        number("Agents with a baseline", learned),
        number(
            "Containments not enforced",
            or_zero(steps(points("quarantine_event", 'r.decision == "failed"', field("seq")), "count()", "group()")),
            bad_from=1,
        ),
        number(
            "Containments put off",
            or_zero(steps(points("quarantine_event", 'r.decision == "deferred"', field("seq")), "count()", "group()")),
            bad_from=1,
            says="the disruption budget was used up, and a person was asked",
        ),
        number("Detection delay, worst", steps(*DELAY, "group()", "max()", 'keep(columns: ["_value"])'), unit="s"),
        lines("Samples a minute by type", steps(points("agent_vitals", field("status")), 'group(columns: ["type"])', per_minute("count"))),
        lines("Events a minute by kind", steps(points("immune_event", field("seq")), 'group(columns: ["kind"])', per_minute("count"))),
        table("Troubles of its own", troubles, width=8, says="0 is what you want to see"),
        table("Head of the journal, as mirrored", head, width=16, height=9, says="`immune influx check` holds it against the journal itself"),
    ]
    return dashboard(
        "immune-health",
        "Immune: its own health",
        "How the immune system itself is; its process says more at /metrics.",
        panels,
        [RUN_CHOICE],
        annotations(),
        "${immune_url}/system",
    )


ALERTS_HEAD = (
    "# Alert rules as code, made by `python -m observability.grafana.make`. Where they go (contact points, policies) is yours to add beside it.\n"
)


def files() -> dict[Path, str]:
    """Every file and its content."""
    made = {
        HERE / "dashboards" / f"{one['uid']}.json": json.dumps(one, indent=1, ensure_ascii=False) + "\n"
        for one in (fleet(), agent(), incidents(), health())
    }
    made[HERE / "provisioning" / "alerting" / "immune.yaml"] = ALERTS_HEAD + yaml.safe_dump(alerts(), sort_keys=False, width=140, allow_unicode=True)
    return made


def main() -> None:
    """Write what is out of date."""
    for path, content in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
