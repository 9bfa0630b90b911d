"""Every panel, variable, annotation and alert of our Grafana, asked of a real InfluxDB after a demo: each must show something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.influx_kit import influx_server  # noqa: F401 -- a fixture
from tests.integration.grafana_queries import alert_queries, dashboards, filled, queries

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.influx
ABSENT_WHEN_WELL = {
    "A containment is not in force",
    "A severe infection",
    "A request waits for a person",
    "A person owns an agent",
    "The disruption budget is used up",
    "The immune system has troubles of its own",
}
"""Alerts that are silent after a demo in which nothing of the kind happened; that they are Flux is what is tested."""


class Asked:
    """A bucket with two runs in it: a long one in virtual time, and a short live one, whose baselines were mirrored."""

    def __init__(self, target, long, live) -> None:
        from influxdb_client.client.influxdb_client import InfluxDBClient

        self.target, self.long, self.live = target, long, live
        self.client = InfluxDBClient(url=target.url, token=target.token, org=target.org, timeout=30_000)

    def rows(self, flux):
        return [record.values for one in self.client.query_api().query(flux) for record in one.records]

    def ask(self, query, run, agent):
        variables = {"run": run, "agent": agent, "type": ".*"}
        return self.rows(filled(query, variables, bucket=self.target.bucket, start="2025-01-01T00:00:00Z", stop="2035-01-01T00:00:00Z"))

    def agents(self, measurement, run):
        found = self.rows(
            f'from(bucket: "{self.target.bucket}") |> range(start: 0) |> filter(fn: (r) => r._measurement == "{measurement}"'
            f' and r.run_id == "{run}" and r._field == "{"success" if measurement == "action_log" else "latency_ms_expected"}")'
        )
        return sorted({row["agent"] for row in found})


def demo(target, folder, *options):
    names = {"URL": target.url, "ORG": target.org, "TOKEN": target.token, "BUCKET": target.bucket}
    environment = {**os.environ, **{f"INFLUXDB_V2_{name}": value for name, value in names.items()}, "IMMUNE_PORT": "0"}
    command = [sys.executable, "demo.py", "--influx", "--headless", "--json", "--out", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)["run_id"]


@pytest.fixture(scope="module")
def asked(influx_server, tmp_path_factory):  # noqa: F811
    target = influx_server.target()
    folder = tmp_path_factory.mktemp("demos")
    long = demo(target, folder / "long", *["--speed", "max", "--duration", "600", "--agents", "20", "--seed", "7", "--decide", "approve"])
    live = demo(target, folder / "live", *["--speed", "realtime", "--duration", "12", "--agents", "4", "--seed", "7", "--decide", "approve"])
    made = Asked(target, long, live)
    yield made
    made.client.close()


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda one: one["uid"])
def test_every_panel_variable_and_annotation_has_rows(asked, dashboard):
    ill = asked.agents("action_log", asked.long)
    assert ill, "somebody was treated in the demo"
    learned = asked.agents("baseline_profile", asked.live)
    assert learned, "baselines are mirrored while a daemon runs"
    empty = {
        where
        for where, query in queries(dashboard)
        if not (asked.ask(query, asked.live, learned[0]) if "baseline_profile" in query else asked.ask(query, asked.long, ill[0]))
    }
    assert empty == set()


def test_what_the_numbers_say_is_what_the_journal_says(asked):
    """A panel with rows may still lie: the counts are held against the journal's own."""
    health = next(one for one in dashboards() if one["uid"] == "immune-health")
    incidents = next(one for one in dashboards() if one["uid"] == "immune-incidents")
    by_title = {where: query for one in (health, incidents) for where, query in queries(one)}
    events = f'r._measurement == "immune_event" and r.run_id == "{asked.long}"'
    raw = f'from(bucket: "{asked.target.bucket}") |> range(start: 0) |> filter(fn: (r) => {events}'
    kinds = [row["kind"] for row in asked.rows(f'{raw} and r._field == "seq") |> group()')]

    def number(title):
        (row,) = asked.ask(by_title[f"panel {title} A"], asked.long, "nobody")
        return row["_value"]

    assert number("Events in the journal") == len(kinds)
    assert number("Open incidents") == kinds.count("incident_opened") - kinds.count("incident_closed")
    assert number("With a person") == kinds.count("ladder_exhausted")
    assert number("Requests that wait") == 0
    assert number("Detection delay, worst") >= number("Detection delay, median") > 0


@pytest.mark.fault("F32")
@pytest.mark.parametrize("hostile", ['a" or true) |> drop() //', "${1+1}", 'x\\"', "a/b/ or true", ".*+"])
def test_a_hostile_choice_finds_nothing_and_breaks_nothing(asked, hostile):
    for dashboard in dashboards():
        for where, query in queries(dashboard):
            if "${agent:regex}" in query and "panel" in where:
                assert asked.ask(query, asked.long, hostile) == []


@pytest.mark.parametrize(("title", "query"), alert_queries(), ids=[title for title, _ in alert_queries()])
def test_every_alert_can_be_asked_and_gives_one_number_a_run(asked, title, query):
    found = asked.rows(filled(query, {}, bucket=asked.target.bucket, start="2025-01-01T00:00:00Z", stop="2035-01-01T00:00:00Z"))
    assert found or title in ABSENT_WHEN_WELL
    assert len({row["run_id"] for row in found}) == len(found)
    assert all({"run_id", "_value"} == set(row) - {"result", "table"} for row in found)
