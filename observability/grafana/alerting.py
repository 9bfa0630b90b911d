"""Alert rules as code: what somebody should be woken for, or at least told."""

from __future__ import annotations

from typing import Any

from observability.grafana.flux import either, field, points, steps
from observability.grafana.parts import FLUX


def rule(
    uid: str,
    title: str,
    query: str,
    says: str,
    *,
    above: float = 0,
    wait: str = "0s",
    severity: str = "warning",
    no_data: str = "OK",
    minutes: int = 10,
) -> dict[str, Any]:
    """One alert rule: fires per run while the query's number is above a limit."""
    window = {"from": minutes * 60, "to": 0}
    return {
        "uid": uid,
        "title": title,
        "condition": "B",
        "for": wait,
        "noDataState": no_data,
        "execErrState": "Error",
        "annotations": {"summary": says},
        "labels": {"severity": severity, "system": "immune"},
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": window,
                "datasourceUid": FLUX["uid"],
                "model": {"refId": "A", "query": query, "intervalMs": 1000, "maxDataPoints": 1000},
            },
            {
                "refId": "B",
                "datasourceUid": "__expr__",
                "model": {"refId": "B", "type": "threshold", "expression": "A", "conditions": [{"evaluator": {"type": "gt", "params": [above]}}]},
            },
        ],
    }


def events(measurement: str, *conditions: str) -> str:
    """How many by run, in the rule's window."""
    return steps(points(measurement, *conditions, run=""), 'group(columns: ["run_id"])', "count()", "group()", 'keep(columns: ["run_id", "_value"])')


def alerts() -> dict[str, Any]:
    """What somebody should be woken for, or at least told."""
    waits = steps(
        points("approval_event", field("request_id"), run=""),
        'group(columns: ["run_id", "_value"])',
        'sort(columns: ["_time"])',
        'last(column: "_time")',
        'filter(fn: (r) => r.decision == "requested")',
        'group(columns: ["run_id"])',
        "map(fn: (r) => ({r with _value: float(v: int(v: now()) - int(v: r._time)) / 60000000000.0}))",
        "max()",
        "group()",
        'keep(columns: ["run_id", "_value"])',
    )
    rules = [
        rule(
            "immune-not-enforced",
            "A containment is not in force",
            events("quarantine_event", 'r.decision == "failed"', field("seq")),
            "An agent was ordered contained and its connector does not see it in force.",
            severity="critical",
        ),
        rule(
            "immune-severe",
            "A severe infection",
            events("infection_event", 'r.phase == "opened"', field("severity"), "r._value >= 8.0"),
            "An incident of severity 8 or more was opened.",
            severity="critical",
        ),
        rule(
            "immune-waits",
            "A request waits for a person",
            waits,
            "Nobody has answered for ten minutes; unanswered requests expire and mean no.",
            above=10,
            minutes=120,
        ),
        rule(
            "immune-person-needed",
            "A person owns an agent",
            events("healing_event", 'r.phase == "exhausted"', field("seq")),
            "Nothing on the ladder helped; the agent stays contained until somebody decides.",
        ),
        rule(
            "immune-budget",
            "The disruption budget is used up",
            events("quarantine_event", 'r.decision == "deferred"', field("seq")),
            "A containment was due and was put off; the fleet brake asks a person.",
            severity="critical",
        ),
        rule(
            "immune-itself",
            "The immune system has troubles of its own",
            events("immune_event", either("kind", "child_failed", "telemetry_lost", "journal_interrupted", "loop_stalled"), field("seq")),
            "A background task died, measurements were lost, or the journal could not be written for a while.",
        ),
        rule(
            "immune-silent",
            "No samples arrive",
            events("agent_vitals", field("status")) + "\n  |> map(fn: (r) => ({r with _value: if r._value > 0 then 0 else 1}))",
            "No agent's samples came to InfluxDB for two minutes: the daemon, its writer or the whole fleet is down.",
            no_data="Alerting",
            minutes=2,
            wait="1m",
            severity="critical",
        ),
    ]
    return {"apiVersion": 1, "groups": [{"orgId": 1, "name": "immune", "folder": "Immune", "interval": "30s", "rules": rules}]}
