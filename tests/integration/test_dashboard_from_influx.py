"""The dashboard of a past run from InfluxDB alone: an empty data directory, a real server, and what the run's own stores say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.telemetry_sqlite import SqliteTelemetry
from tests.influx_kit import influx_server, wait_until  # noqa: F401 -- a fixture

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 60.0
pytestmark = pytest.mark.influx


def environment_of(target):
    names = {"URL": target.url, "ORG": target.org, "TOKEN": target.token, "BUCKET": target.bucket}
    return {**os.environ, **{f"INFLUXDB_V2_{name}": value for name, value in names.items()}, "IMMUNE_PORT": "0"}


class Shown:
    """What a dashboard answers, beside the stores that the run was recorded in."""

    def __init__(self, url, run_id, folder, report) -> None:
        self.url, self.run_id, self.folder, self.report = url, run_id, folder, report

    def get(self, path, **query):
        text = urllib.parse.urlencode({"run": self.run_id, **query})
        with urllib.request.urlopen(f"{self.url}{path}?{text}", timeout=WITHIN_S) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="module")
def shown(influx_server, tmp_path_factory):  # noqa: F811
    environment = environment_of(influx_server.target())
    recorded, empty = tmp_path_factory.mktemp("recorded"), tmp_path_factory.mktemp("empty")
    run = ["--speed", "max", "--duration", "300", "--agents", "8", "--seed", "7", "--decide", "approve"]
    demo = [sys.executable, "demo.py", "--influx", "--headless", "--json", "--out", str(recorded), *run]
    done = subprocess.run(demo, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    command = [sys.executable, "-m", "dashboard", "--from", "influx", "--run", report["run_id"], "--data-dir", str(empty), "--port", "0", "--json"]
    with (empty / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        made = Shown(json.loads(process.stdout.readline())["url"], report["run_id"], recorded, report)
        wait_until(lambda: ready(made.url), WITHIN_S)
        yield made
    finally:
        process.terminate()
        process.communicate(timeout=WITHIN_S)
    assert "Traceback" not in (empty / "log").read_text()


def ready(url):
    try:
        return urllib.request.urlopen(f"{url}/readyz", timeout=WITHIN_S).status == 200
    except OSError:
        return False


def test_the_report_on_the_disk_says_what_came_of_influx(shown):
    on_disk = json.loads((shown.folder / "report.json").read_text())
    assert on_disk == shown.report
    assert on_disk["influx"]["complete"], on_disk["influx"]["sentence"]


def test_every_agent_is_listed_and_seen(shown):
    listed = shown.get("/api/agents")
    with SqliteJournal.open_read_only(shown.folder) as journal:
        assert listed["seq"] == journal.head(shown.run_id)[0]
    assert listed["total"] == len(listed["agents"]) == 8
    assert all(agent["last_seen"] for agent in listed["agents"])


def test_incidents_are_those_that_were_found(shown):
    incidents = shown.get("/api/incidents")["incidents"]
    assert {(agent, one["diagnosis"]) for one in incidents for agent in one["agents"]} >= {
        (one["agent"], one["diagnosed"]) for one in shown.report["detected"] if one["agent"]
    }
    assert shown.report["detected"], "something was found in the demo"
    assert shown.get(f"/api/incidents/{incidents[0]['id']}")["incident"]["id"] == incidents[0]["id"]


def test_a_vital_and_its_band_are_those_of_the_telemetry_store(shown):
    agent = shown.report["detected"][0]["agent"]
    [vital] = shown.get(f"/api/agents/{agent}/series", vital="latency_ms", points=5000)["vitals"]
    with SqliteTelemetry.open_read_only(shown.folder) as telemetry:
        here = telemetry.series(shown.run_id, agent, "latency_ms")
    within = (here.at_us >= vital["at_us"][0]) & (here.at_us <= vital["at_us"][-1])
    assert vital["at_us"] == here.at_us[within].tolist()
    assert vital["value"] == pytest.approx(here.value[within].tolist(), rel=1e-3)
    band = vital["band"]
    assert band is not None, "baselines of a run in virtual time are brought too"
    assert all(low <= expected <= high for low, expected, high in zip(band["low"], band["expected"], band["high"], strict=True))


def test_the_journal_is_event_for_event_the_one_that_was_written(shown):
    told = shown.get("/api/journal", limit=1000)["events"]
    with SqliteJournal.open_read_only(shown.folder) as journal:
        written = [(one.seq, one.hash) for one in journal.read(shown.run_id)]
    assert sorted((one["seq"], one["hash"]) for one in told) == written[-len(told) :]
    assert len(told) == len(written)


@pytest.mark.parametrize(
    "path", ["/api/runs", "/api/approvals", "/api/healings", "/api/stats", "/api/map", "/api/policy", "/api/system", "/api/times"]
)
def test_every_other_document_answers_as_well(shown, path):
    assert shown.get(path)
