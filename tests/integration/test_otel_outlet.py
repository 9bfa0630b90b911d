"""What stands on OpenTelemetry's own SDK and exporter: the spans that are made, and a collector that refuses some of them."""

from __future__ import annotations

import http.server
import os
import threading
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource

from immune.observability.otel import Outlet, SpanMaker, resource_of
from immune.observability.otel_settings import read_otel_settings
from immune.observability.story import Story
from immune.stores.archive import read_archive

GOLDEN = list(read_archive(Path(__file__).resolve().parents[1] / "golden" / "journal-0.1.jsonl.gz"))
STORY = Story("golden")
TOLD = [moment for envelope in GOLDEN for moment in STORY.hear(envelope)]


def test_moments_become_spans_with_their_own_ids_times_and_the_fate_of_their_root(monkeypatch):
    spans = SpanMaker(Resource({})).spans(TOLD)
    assert [(span.context.trace_id, span.context.span_id, span.start_time, span.end_time) for span in spans] == [
        (moment.trace_id, moment.span_id, moment.start_us * 1000, moment.end_us * 1000) for moment in TOLD
    ]
    assert [span.parent.span_id if span.parent else 0 for span in spans] == [moment.parent for moment in TOLD]
    assert [not span.status.is_ok for span in spans] == [bool(moment.wrong) for moment in TOLD]
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    some = SpanMaker(Resource({})).spans(TOLD)
    kept = {span.context.trace_id for span in some}
    assert 0 < len(kept) < len({moment.trace_id for moment in TOLD})
    assert len(some) == sum(moment.trace_id in kept for moment in TOLD), "a trace is kept whole or not at all"


class Choosy(http.server.BaseHTTPRequestHandler):
    """A collector that answers 400 to every batch with a span of a refused name."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        spans = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans
        bad = any(span.name in self.server.refuses for span in spans)
        self.server.taken += [] if bad else [span.span_id for span in spans]
        self.send_response(400 if bad else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_span_that_is_refused_is_left_behind_and_holds_up_no_other(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Choosy)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    server.taken, server.refuses = [], {"immune.diagnose"}
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    outlet = Outlet(read_otel_settings(dict(os.environ)), "golden")
    bad = [moment for moment in TOLD if moment.name == "immune.diagnose"]
    assert outlet.send_moments(bad[:1]) is False, "alone it is sent again: who knows whose fault it is"
    assert outlet.send_moments(TOLD)
    assert outlet.refused() == len(bad) > 0
    assert set(server.taken) == {moment.span_id.to_bytes(8, "big") for moment in TOLD if moment not in bad}
    server.refuses = {moment.name for moment in TOLD}
    assert outlet.send_moments(TOLD) is False, "a collector that takes nothing is at fault itself: nothing is lost"
    assert outlet.refused() == len(bad)
    outlet.shut_down()
    server.shutdown()
    server.server_close()


def test_what_the_environment_says_of_the_service_wins(monkeypatch):
    assert resource_of("r-1").attributes["service.name"] == "immune"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "guard")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,immune.run_id=other")
    said = resource_of("r-1").attributes
    assert (said["service.name"], said["deployment.environment.name"], said["immune.run_id"]) == ("guard", "prod", "other")
    assert said["service.instance.id"] == "r-1"
