"""Writes dashboards/*.json and provisioning/alerting/immune.yaml: `python observability/grafana/make.py`. A test fails when they are old.

Every query is Flux over the measurements of docs/influxdb.md and is scoped by the run. Variables are written into it as
JSON text or as an escaped regular expression, never bare.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
FLUX = {"type": "influxdb", "uid": "immune-flux"}
WIDTH = 24
RUN = "r.run_id == ${run:json}"
OF_TYPE = "(not exists r.type or r.type =~ /^${type:regex}$/)"
AGENT = "r.agent == ${agent:json}"
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


# -- Flux ------------------------------------------------------------------------------------------------------------


def points(measurement: str, *conditions: str, ever: bool = False, run: str = RUN) -> str:
    """The points of a measurement in the window, or since the run began (`ever`: what is open may have begun long ago)."""
    start = "0" if ever else "v.timeRangeStart"
    where = " and ".join([f'r._measurement == "{measurement}"', *([run] if run else []), *conditions])
    return f"from(bucket: v.defaultBucket)\n  |> range(start: {start}, stop: v.timeRangeStop)\n  |> filter(fn: (r) => {where})"


def field(name: str) -> str:
    """One field."""
    return f'r._field == "{name}"'


def either(column: str, *values: str) -> str:
    """One of these values of a column."""
    return "(" + " or ".join(f'r.{column} == "{value}"' for value in values) + ")"


def steps(*parts: str) -> str:
    """A pipeline."""
    return "\n  |> ".join(parts)


def or_zero(query: str) -> str:
    """The sum of a query's `_value`, 0 where it has no rows: nothing open is a number, not an absence."""
    return (
        'import "array"\nfound = '
        + query
        + '\n  |> keep(columns: ["_value"])\nnone = array.from(rows: [{_value: 0}])\nunion(tables: [found, none])\n  |> group()\n  |> sum()'
    )


def wide(*columns: str) -> str:
    """Fields beside each other, the newest first, only these columns; grouped after the pivot, because fields differ in type."""
    names = ", ".join(f'"{name}"' for name in columns)
    return steps(
        'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
        "group()",
        f"keep(columns: [{names}])",
        'sort(columns: ["_time"], desc: true)',
        "limit(n: 200)",
    )


def per_minute(fn: str = "sum") -> str:
    """By minute."""
    return f"aggregateWindow(every: 1m, fn: {fn}, createEmpty: false)"


def counted(*columns: str) -> str:
    """How many, by these columns."""
    names = ", ".join(f'"{name}"' for name in columns)
    return f'group(columns: [{names}])\n  |> count()\n  |> group()\n  |> rename(columns: {{_value: "count"}})'


# -- panels ----------------------------------------------------------------------------------------------------------


def panel(kind: str, title: str, *queries: str, width: int = 12, height: int = 8, says: str = "", **more: Any) -> dict[str, Any]:
    """One panel; its place is worked out by `dashboard`."""
    targets = [{"refId": "ABCDEF"[number], "datasource": FLUX, "query": query} for number, query in enumerate(queries)]
    made: dict[str, Any] = {"type": kind, "title": title, "description": says, "datasource": FLUX, "targets": targets, "size": (width, height)}
    return made | more


def lines(title: str, *queries: str, unit: str = "short", width: int = 12, **more: Any) -> dict[str, Any]:
    """Values over time."""
    defaults = {"unit": unit, "custom": {"lineWidth": 1, "fillOpacity": 5, "showPoints": "auto", "spanNulls": False}}
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return panel(
        "timeseries",
        title,
        *queries,
        width=width,
        options=options,
        fieldConfig={"defaults": defaults, "overrides": more.pop("overrides", [])},
        **more,
    )


def number(title: str, query: str, *, unit: str = "short", bad_from: float | None = None, width: int = 4, says: str = "") -> dict[str, Any]:
    """One number, red from `bad_from` on."""
    steps_ = [{"color": "green", "value": None}, *([{"color": "red", "value": bad_from}] if bad_from is not None else [])]
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps_}}
    options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value", "graphMode": "none"}
    return panel("stat", title, query, width=width, height=4, says=says, options=options, fieldConfig={"defaults": defaults, "overrides": []})


def table(
    title: str, query: str, *, width: int = 24, height: int = 9, links: dict[str, tuple[str, str]] | None = None, says: str = ""
) -> dict[str, Any]:
    """Rows; `links` gives a column a title and an address."""
    overrides = [
        {
            "matcher": {"id": "byName", "options": column},
            "properties": [{"id": "links", "value": [{"title": title_, "url": url, "targetBlank": False}]}],
        }
        for column, (title_, url) in (links or {}).items()
    ]
    config = {"defaults": {"custom": {"filterable": True}}, "overrides": overrides}
    return panel("table", title, query, width=width, height=height, says=says, options={"showHeader": True}, fieldConfig=config)


TO_AGENT = (
    "the agent here",
    "/d/immune-agent?${run:queryparam}&var-agent=${__data.fields.agent:percentencode}&${__url_time_range}",
)
TO_OURS = ("the incident in immune", "${immune_url}/incidents/${__data.fields.incident_id:percentencode}?run=${run:percentencode}")
TO_REQUEST = ("decide in immune", "${immune_url}/approvals/${__data.fields.request_id:percentencode}?run=${run:percentencode}")


# -- variables, annotations, links -----------------------------------------------------------------------------------


def choice(name: str, label: str, query: str, **more: Any) -> dict[str, Any]:
    """A variable that a query fills."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": FLUX,
        "query": {"query": query},
        "definition": query,
        "refresh": 2,
        "sort": 0,
        "current": {},
        "options": [],
        **more,
    }


def values_of(tag: str, where: str) -> str:
    """The values of a tag."""
    return (
        'import "influxdata/influxdb/schema"\n'
        f'schema.tagValues(bucket: v.defaultBucket, tag: "{tag}", predicate: (r) => {where}, start: v.timeRangeStart, stop: v.timeRangeStop)'
    )


RUN_CHOICE = choice("run", "Run", values_of("run_id", 'r._measurement == "immune_event"') + '\n  |> sort(columns: ["_value"], desc: true)')
TYPE_CHOICE = choice(
    "type",
    "Type",
    values_of("type", f'r._measurement == "agent_vitals" and {RUN}'),
    multi=True,
    includeAll=True,
    allValue=".*",
    current={"text": "All", "value": "$__all"},
)
AGENT_CHOICE = choice("agent", "Agent", values_of("agent", f'r._measurement == "agent_vitals" and {RUN} and {OF_TYPE}'))
OURS = {
    "name": "immune_url",
    "label": "immune",
    "type": "textbox",
    "query": "http://127.0.0.1:8711",
    "current": {"text": "http://127.0.0.1:8711", "value": "http://127.0.0.1:8711"},
    "hide": 2,
}


def annotation(name: str, colour: str, query: str, text: str) -> dict[str, Any]:
    """Marks across all panels of a dashboard."""
    mark = f"map(fn: (r) => ({{time: r._time, text: {text}, tags: r._measurement}}))"
    told = steps(query, "group()", mark, 'sort(columns: ["time"])', "limit(n: 500)")
    return {"name": name, "enable": True, "iconColor": colour, "datasource": FLUX, "target": {"refId": "Anno", "query": told}}


def annotations(*scope: str) -> list[dict[str, Any]]:
    """Detection, containment, heal."""
    return [
        annotation(
            "Detection",
            "orange",
            points("infection_event", 'r.phase == "opened"', field("severity"), *scope),
            '"${r.agent}: ${r.infection}, severity ${r._value}"',
        ),
        annotation(
            "Containment",
            "red",
            points("quarantine_event", 'r.decision == "contained"', field("reason"), *scope),
            '"${r.agent}: ${r.level}, ${r._value}"',
        ),
        annotation("Heal", "green", points("healing_event", 'r.phase == "ended"', field("outcome"), *scope), '"${r.agent}: heal ${r._value}"'),
    ]


def link(title: str, url: str) -> dict[str, Any]:
    """A link at the top of a dashboard."""
    return {
        "type": "link",
        "title": title,
        "url": url,
        "icon": "external link",
        "includeVars": False,
        "keepTime": False,
        "targetBlank": False,
        "asDropdown": False,
        "tags": [],
    }


def dashboard(
    uid: str, title: str, says: str, panels: list[dict[str, Any]], variables: list[dict[str, Any]], marks: list[dict[str, Any]], to_ours: str
) -> dict[str, Any]:
    """A whole dashboard, its panels laid out in rows from left to right."""
    x = y = row_height = 0
    placed = []
    for number_, one in enumerate(panels, 1):
        width, height = one.pop("size")
        if x + width > WIDTH:
            x, y, row_height = 0, y + row_height, 0
        placed.append({"id": number_, "gridPos": {"x": x, "y": y, "w": width, "h": height}, **one})
        x, row_height = x + width, max(row_height, height)
    others = {
        "type": "dashboards",
        "title": "immune",
        "tags": ["immune"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "url": "",
    }
    return {
        "uid": uid,
        "title": title,
        "description": says,
        "tags": ["immune"],
        "schemaVersion": 41,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [*variables, OURS]},
        "annotations": {"list": marks},
        "links": [others, link("in immune", to_ours)],
        "panels": placed,
    }


# -- the four dashboards ---------------------------------------------------------------------------------------------


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


# -- alerts ----------------------------------------------------------------------------------------------------------


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


ALERTS_HEAD = (
    "# Alert rules as code, made by `python observability/grafana/make.py`. Where they go (contact points, policies) is yours to add beside it.\n"
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
