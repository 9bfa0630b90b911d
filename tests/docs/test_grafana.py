"""Grafana as code: the JSON is what its maker makes, holds together, and never lets a name from outside into a query bare."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from observability.grafana import make
from tests.integration.grafana_queries import ALERTS, alert_queries, dashboards, queries

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "observability" / "grafana"
KNOWN_FORMATS = {"json", "regex", "percentencode", "queryparam"}
DASHBOARDS = dashboards()
MEASUREMENTS = {
    "agent_vitals",
    "immune_event",
    "baseline_profile",
    "infection_event",
    "quarantine_event",
    "approval_event",
    "healing_event",
    "action_log",
}


def test_the_files_are_what_the_maker_makes():
    assert {str(path): path.read_text() for path in make.files()} == {str(path): text for path, text in make.files().items()}
    made = {path.name for path in make.files()}
    assert {path.name for path in (GRAFANA / "dashboards").iterdir()} | {ALERTS.name} == made


def test_the_four_dashboards_are_there_and_link_to_each_other_and_to_ours():
    assert {one["uid"] for one in DASHBOARDS} == {"immune-fleet", "immune-agent", "immune-incidents", "immune-health"}
    for one in DASHBOARDS:
        kinds = {link["type"]: link for link in one["links"]}
        assert kinds["dashboards"]["tags"] == one["tags"] == ["immune"]
        assert kinds["link"]["url"].startswith("${immune_url}/")
        assert one["annotations"]["list"]
        assert [mark["name"] for mark in one["annotations"]["list"]] == ["Detection", "Containment", "Heal"]
        assert one["templating"]["list"][0]["name"] == "run"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one["uid"])
def test_the_panels_lie_beside_each_other(dashboard):
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.fault("F32")
@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one["uid"])
def test_every_query_is_scoped_by_the_run_and_no_variable_stands_in_it_bare(dashboard):
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    for where, query in queries(dashboard):
        used = re.findall(r"\$\{(\w+)(?::(\w+))?\}", re.sub(r"\$\{r\.\w+\}", "", query))
        assert {name for name, _ in used} <= variables, where
        assert {how for _, how in used} <= {"json", "regex"}, where
        if where != "variable run":
            assert query.count("r.run_id == ${run:json}") == query.count("r._measurement =="), where
        assert set(re.findall(r'r\._measurement == "(\w+)"', query)) <= MEASUREMENTS
        assert "v.defaultBucket" in query


def test_every_variable_of_a_link_is_written_for_an_address():
    for formats in (re.findall(r"\$\{([\w.]+)(?::(\w+))?\}", url) for url in re.findall(r'"url": "([^"]*)"', json.dumps(DASHBOARDS))):
        assert all(how in KNOWN_FORMATS or name in {"immune_url", "__url_time_range"} for name, how in formats)


def test_data_sources_and_alerts_name_each_other():
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "influxdb.yaml").read_text())["datasources"]
    known = {source["uid"] for source in sources}
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert {panel["datasource"]["uid"] for one in DASHBOARDS for panel in one["panels"]} <= known
    assert {part["datasourceUid"] for rule in rules for part in rule["data"]} <= known | {"__expr__"}
    assert len({rule["uid"] for rule in rules}) == len(rules) >= 5
    for rule in rules:
        assert rule["condition"] in {part["refId"] for part in rule["data"]}
        assert rule["annotations"]["summary"]
    assert all("${" not in query for _, query in alert_queries()), "an alert has no variables"
    for source in sources:
        assert all("$__file{" in value for value in source["secureJsonData"].values())
