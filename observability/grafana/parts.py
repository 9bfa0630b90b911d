"""Pieces of a Grafana dashboard: panels, variables, annotations, links, and how they are laid out."""

from __future__ import annotations

from typing import Any

from observability.grafana.flux import OF_TYPE, RUN, field, points, steps

FLUX = {"type": "influxdb", "uid": "immune-flux"}
WIDTH = 24


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
