"""A real collector with the configuration that we ship, a real daemon before it: what arrives, and what happens when nothing can."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from immune.bootstrap import find_run, open_stores_read_only
from immune.observability.instruments import INSTRUMENTS
from immune.observability.probe import probe
from immune.observability.story import Story
from tests.integration.otel_kit import CONFIG, HOW, ROOT, attributes, collector_binary, free_port, running, until

SHUTDOWN_MUST_S = 3.0
SCENARIO = """
name = "one_sick"
summary = "One agent burns tokens from the third second on."

[chaos]
rate = 0.0
outage = "none"

[[infection]]
agent = "coder-01"
kind = "token_explosion"
at_s = 3
strength = 8.0
"""
POLICY = """
mode = "act"
[approvals]
severity_at = 10.0
irreversible_needs_person = 0
[healing]
settle_s = 1.0
probation_samples = 5
"""


@contextmanager
def daemon(folder: Path, **environment: str):
    """A real daemon over a small simulated fleet; stderr goes into ``folder/said``."""
    (folder / "scenario.toml").write_text(SCENARIO)
    (folder / "immune.toml").write_text(POLICY)
    command = [
        *(sys.executable, "main.py", "--headless", "--simulate", "8", "--port", "0", "--data-dir", str(folder / "data")),
        *("--scenario", str(folder / "scenario.toml"), "--config", str(folder / "immune.toml")),
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=ROOT, env={**clean, **environment}, stderr=said, stdout=subprocess.DEVNULL)
    try:
        until(lambda: "control API on" in (folder / "said").read_text() or process.poll() is not None, "the daemon is up", 120)
        assert process.poll() is None, (folder / "said").read_text()[-2000:]
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        (folder / "said").rename(folder / f"said-by-{process.pid}")


def stop(process) -> float:
    """Seconds from SIGTERM to the end of the process."""
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    return time.monotonic() - started


def told(folder: Path):
    """The spans that the journal in a folder tells."""
    stores = open_stores_read_only(folder / "data")
    try:
        run_id = find_run(stores.journal, None)
        story = Story(run_id)
        return run_id, [moment for envelope in stores.journal.read(run_id) for moment in story.hear(envelope)]
    finally:
        stores.close()


@pytest.mark.otel
def test_the_real_collector_finds_nothing_wrong_with_our_configuration():
    binary = collector_binary()
    if binary is None:
        pytest.skip(HOW)
    done = subprocess.run([binary, "validate", "--config", str(CONFIG)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.otel
@pytest.mark.crash
@pytest.mark.fault("F1")
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_killed_daemon_neither_loses_nor_doubles_a_span(tmp_path, protocol):
    with running(tmp_path / "collector") as collector:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.grpc if protocol == "grpc" else collector.http,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_SERVICE_NAME": "guard",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        with daemon(tmp_path, **settings) as process:
            # metrics go every second, apart from spans, and what was measured and not sent dies with the process
            until(lambda: {"immune.detection.delay", "immune.step.duration"} <= set(collector.metrics()), "the durations arrive", 120)
            process.kill()
        with daemon(tmp_path, **settings) as process:
            until(lambda: any(span["name"] == "immune.plan" for span in collector.spans()), "the end of a plan arrives", 120)
            stop(process)
        run_id, moments = told(tmp_path)
        arrived = until(lambda: len(ids := [(s["traceId"], s["spanId"]) for s in collector.spans()]) >= len(moments) and ids, "all spans arrive")
        assert sorted(arrived) == sorted((f"{moment.trace_id:032x}", f"{moment.span_id:016x}") for moment in moments)
        assert {"immune.detect", "immune.diagnose", "immune.contain", "immune.plan", "immune.step", "immune.verify"} <= {m.name for m in moments}
        _check_spans(collector, moments)
        _check_metrics(collector, run_id)


def _check_spans(collector, moments) -> None:
    by_id = {span["spanId"]: span for span in collector.spans()}
    for moment in moments:
        span = by_id[f"{moment.span_id:016x}"]
        assert span["name"] == moment.name
        assert span.get("parentSpanId", "") == (f"{moment.parent:016x}" if moment.parent else "")
        assert (int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])) == (moment.start_us * 1000, moment.end_us * 1000)
        assert attributes(span)["immune.event.hash"] == moment.attributes["immune.event.hash"]


def _check_metrics(collector, run_id) -> None:
    for said in collector.resources():
        assert (said["service.name"], said["deployment.environment.name"], said["immune.run_id"]) == ("guard", "test", run_id)
    metrics = collector.metrics()
    without_labels = {instrument.name for instrument in INSTRUMENTS if not instrument.keys}
    assert without_labels <= set(metrics)
    assert {"immune.detection.delay", "immune.step.duration"} <= set(metrics)
    assert metrics["immune.tick.lag"]["unit"] == "s"
    assert metrics["immune.ticks"]["sum"]["isMonotonic"]
    exemplars = [example for point in metrics["immune.step.duration"]["histogram"]["dataPoints"] for example in point.get("exemplars", [])]
    assert {example["traceId"] for example in exemplars} <= {span["traceId"] for span in collector.spans()}
    assert exemplars


@contextmanager
def silent_listener():
    """Takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    held.append(listening.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        for one in held:
            one.close()


@contextmanager
def nobody():
    yield free_port()


@pytest.mark.crash
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize(
    "where", [pytest.param(nobody, marks=pytest.mark.fault("F21")), pytest.param(silent_listener, marks=pytest.mark.fault("F22"))]
)
def test_a_daemon_with_a_dead_collector_ticks_on_and_stops_in_time(tmp_path, where, protocol):
    with where() as port:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        }
        with daemon(tmp_path, **settings) as process:
            until(lambda: "takes nothing" in (tmp_path / "said").read_text(), "the trouble is said", 60)
            seconds = stop(process)
            said = (tmp_path / "said").read_text()
        assert said.count("takes nothing") == 1, "once a minute at most"
        assert "Traceback" not in said
        assert "stopped in order" in said
        assert seconds < 2 * SHUTDOWN_MUST_S, "twice what an idle machine must reach"
        print(json.dumps({"protocol": protocol, "shutdown_s": round(seconds, 2)}))


@pytest.mark.crash
@pytest.mark.parametrize("where", [nobody, silent_listener])
def test_a_daemon_whose_collector_and_influxdb_are_both_away_stops_in_time_and_keeps_its_vitals(tmp_path, where):
    with where() as collector, where() as influx:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
            "INFLUXDB_V2_URL": f"http://127.0.0.1:{influx}",
            "INFLUXDB_V2_ORG": "o",
            "INFLUXDB_V2_TOKEN": "t",
            "INFLUXDB_V2_BUCKET": "b",
        }
        with daemon(tmp_path, **settings) as process:
            until(lambda: "does not take what it is given" in (tmp_path / "said").read_text(), "the trouble is said", 60)
            seconds = stop(process)
            said = (tmp_path / "said").read_text()
    assert "Traceback" not in said
    assert "stopped in order" in said
    assert seconds < 2 * SHUTDOWN_MUST_S, "twice what an idle machine must reach"
    assert any((tmp_path / "data" / "influx" / "spool").iterdir()), "what was not brought is on the disk"
    print(json.dumps({"both": where.__name__, "shutdown_s": round(seconds, 2)}))


def test_a_daemon_without_otel_settings_imports_no_sdk():
    code = "import sys, immune.daemon, immune.companions; print([m for m in sys.modules if m.startswith(('opentelemetry', 'grpc'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@contextmanager
def answering(status):
    """Something that listens, and is no collector, or one that wants to know who asks."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append((self.path, dict(self.headers)))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


@pytest.mark.otel
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_probe_of_doctor_finds_a_real_collector(tmp_path, protocol):
    with running(tmp_path) as collector:
        endpoint = collector.grpc if protocol == "grpc" else collector.http
        found = probe({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
    assert found.works, found


@pytest.mark.parametrize(("status", "mend"), [(401, "OTEL_EXPORTER_OTLP_HEADERS"), (404, "no OTLP receiver at this path"), (503, "log")])
def test_the_probe_says_how_to_mend_what_a_collector_refuses(status, mend):
    with answering(status) as (url, seen):
        found = probe({"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cret"})
    assert not found.works
    assert mend in found.mend
    assert "s3cret" not in found.found + found.mend
    ((path, headers),) = seen
    assert path == "/v1/metrics"
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_probe_notices_that_nobody_is_there(protocol):
    found = probe({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
    assert not found.works
    assert "refused" in found.found
    assert "otel-collector-config.yaml" in found.mend
    assert probe({}) is None


@pytest.mark.otel
def test_a_demo_in_virtual_time_leaves_all_its_traces_with_the_collector(tmp_path):
    with running(tmp_path / "collector") as collector:
        options = ["--headless", "--json", "--speed", "max", "--duration", "300", "--agents", "8", "--decide", "approve"]
        command = [sys.executable, "demo.py", *options, "--out", str(tmp_path / "data")]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http}, capture_output=True, check=True)
        _, moments = told(tmp_path)
        assert any(moment.name == "immune.incident" for moment in moments)
        until(lambda: len(collector.spans()) >= len(moments), "all spans arrive")
        assert sorted(span["spanId"] for span in collector.spans()) == sorted(f"{moment.span_id:016x}" for moment in moments)
        # the collector batches metrics apart from spans: that these are there says nothing about those
        until(lambda: "gen_ai.client.token.usage" in collector.metrics(), "the metrics of the end arrive")
