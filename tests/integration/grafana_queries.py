"""Grafana's side of a query, without Grafana: variables and macros filled in as it does, rows counted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = ROOT / "observability" / "grafana" / "dashboards"
ALERTS = ROOT / "observability" / "grafana" / "provisioning" / "alerting" / "immune.yaml"
FORMATS = {
    "json": json.dumps,
    "regex": lambda value: value if value == ".*" else re.sub(r"[-/\\^$*+?.()|[\]{}]", r"\\\g<0>", value),
}


def dashboards() -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))]


def queries(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """(where it stands, Flux) of everything in a dashboard that asks."""
    found = [(f"panel {one['title']} {target['refId']}", target["query"]) for one in dashboard["panels"] for target in one["targets"]]
    found += [(f"variable {one['name']}", one["query"]["query"]) for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return found + [(f"annotation {one['name']}", one["target"]["query"]) for one in dashboard["annotations"]["list"]]


def alert_queries() -> list[tuple[str, str]]:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    return [(rule["title"], rule["data"][0]["model"]["query"]) for rule in rules]


def filled(query: str, variables: dict[str, str], *, bucket: str, start: str, stop: str, period: str = "10s") -> str:
    """The query that the server gets."""

    def of(match: re.Match[str]) -> str:
        return FORMATS[match[2]](variables[match[1]])

    text = re.sub(r"\$\{(\w+):(\w+)\}", of, query)
    macros = {"v.timeRangeStart": start, "v.timeRangeStop": stop, "v.windowPeriod": period, "v.defaultBucket": json.dumps(bucket)}
    for name, value in macros.items():
        text = text.replace(name, value)
    return text
