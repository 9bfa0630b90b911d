"""The OpenTelemetry SDK itself, pointed at the daemon as at any collector: its spans and histograms are samples at the next tick."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import asynccontextmanager

import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode

from tests.integration import otel_kit
from tests.integration.daemon_kit import START_US, SystemTime, daemon, with_limits
from tests.unit.test_otlp import span, traces

FORWARD = """
exporters:
  otlp_http/immune:
    endpoint: {url}
    headers: {{authorization: "Bearer {token}"}}
    sending_queue: {{enabled: false}}
service:
  pipelines:
    traces: {{exporters: [debug, otlp_http/immune]}}
"""


@asynccontextmanager
async def pointed_at(folder, monkeypatch, who="operator", **options):
    """A daemon, and the environment of an agent whose telemetry goes there."""
    async with daemon(folder, clock=SystemTime(), **options) as made:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.server.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{made.token[who]}")
        yield made


async def taken(made):
    """What the queue holds, as one batch."""
    return await made.ingest.collect(made.clock.now_us())


def work(agent_id, *, failing=False):
    """One task of an agent, instrumented as the GenAI conventions say; True when the exporter got rid of it."""
    provider = TracerProvider(resource=Resource.create({"service.name": "support", "service.version": "2.1"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer("agent")
    who = {"gen_ai.agent.id": agent_id, "gen_ai.agent.name": "Writer"}
    asked = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "acme", "gen_ai.request.model": "m-1"}
    with tracer.start_as_current_span("invoke_agent Writer", attributes={"gen_ai.operation.name": "invoke_agent", **who}):
        with tracer.start_as_current_span("chat m-1", attributes={**asked, **who, "gen_ai.usage.input_tokens": 950}):
            pass
        for tool in ("search", "fetch"):
            with tracer.start_as_current_span(f"execute_tool {tool}", attributes={"gen_ai.operation.name": "execute_tool", **who}) as call:
                call.set_attribute("gen_ai.tool.name", tool)
        with tracer.start_as_current_span("chat m-1", attributes={**asked, **who, "gen_ai.usage.output_tokens": 310}) as call:
            if failing:
                call.set_status(Status(StatusCode.ERROR))
    sent = provider.force_flush()
    provider.shutdown()
    return sent


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_spans_of_the_sdk_are_samples_of_the_agent(tmp_path, monkeypatch, compression):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    async with pointed_at(tmp_path, monkeypatch) as made:
        assert await asyncio.to_thread(work, "writer-1", failing=True)
        batch = await taken(made)
        desk = made.engine.desk
        (who,) = desk.roster.identities
        assert (who.agent_id, who.type, who.service) == ("writer-1", "Writer", "support")
        first, second, end = (dict(zip(desk.schema.names, row, strict=True)) for row in batch.values)
        assert (first["input_tokens"], first["tool_calls"], first["errors"]) == (950, 0, 0)
        assert (second["output_tokens"], second["tool_calls"], second["errors"]) == (310, 2, 1)
        assert 0 <= first["latency_ms"] < 10_000
        assert np.isnan(first["cost_usd"])
        assert np.isnan(list(end.values())).all()
        assert [desk.lexicon.word(code) for code in batch.codes[1].tolist()][:3] == ["acme", "m-1", "2.1"]
        assert batch.step.tolist()[:2] == [0, 1]
        await made.engine.tick(made.clock.now_us())
        assert "writer-1" in made.engine.state.agents


async def test_histograms_of_the_sdk_are_a_sample_of_the_interval(tmp_path, monkeypatch):
    async with pointed_at(tmp_path, monkeypatch) as made:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=3_600_000)
        provider = MeterProvider([reader], resource=Resource.create({"service.name": "support"}))
        meter = provider.get_meter("agent")
        said = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1"}
        for latency_s in (0.5, 1.5):
            meter.create_histogram("gen_ai.client.operation.duration", "s").record(latency_s, said)
        meter.create_histogram("gen_ai.client.token.usage", "{token}").record(800, {**said, "gen_ai.token.type": "input"})
        assert await asyncio.to_thread(provider.force_flush)
        await asyncio.to_thread(provider.shutdown)
        batch = await taken(made)
        (row,) = (dict(zip(made.engine.desk.schema.names, values, strict=True)) for values in batch.values)
        assert (row["latency_ms"], row["input_tokens"], row["errors"]) == (1000, 800, 0)
        assert made.engine.desk.roster.identities[0].agent_id == "support"


@pytest.mark.fault("F36")
async def test_a_token_of_an_agent_brings_its_own_spans_and_no_others(tmp_path):
    async with daemon(tmp_path) as made:
        unnamed = await made.ask("POST", "/v1/traces", raw=traces(span("chat", agent="")), who="agent")
        assert (unnamed.status, unnamed.document) == (200, {})
        other = await made.ask("POST", "/v1/traces", raw=traces(span("chat", agent="somebody-else")), who="agent")
        assert other.status == 403
        tools = await made.ask("POST", "/v1/traces", raw=traces(span("execute_tool", agent="somebody-else")), who="agent")
        assert tools.status == 403
        assert made.ingest.otlp.bounds()[0].size == 1, "nothing of it is remembered"
        assert made.kinds()[-1] == "command_refused"
        assert [who.agent_id for who in made.engine.desk.roster.identities] == ["agent"]


async def test_what_was_turned_away_is_told_and_counted(tmp_path):
    async with daemon(tmp_path) as made:
        future = span("chat", at_ms=3_600_000)
        answer = await made.ask("POST", "/v1/traces", raw=traces(future, span("chat"), span("chat", agent="x" * 200)))
        assert answer.document == {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "agent: bad_id; at: future"}}
        assert made.ingest.counts.rejected == {"future": 1, "bad_id": 1}


@pytest.mark.fault("F25")
async def test_an_export_that_is_repeated_because_its_answer_was_lost_counts_once(tmp_path):
    async with daemon(tmp_path) as made:
        raw = traces(span("execute_tool", at_ms=-1), span("chat", at_ms=-2))
        first, again = [await made.ask("POST", "/v1/traces", raw=raw) for _ in range(2)]
        assert (first.status, again.status, again.headers["Idempotency-Replayed"]) == (200, 200, "true")
        await made.ask("POST", "/v1/traces", raw=traces(span("chat")))
        column = made.engine.desk.schema.column("tool_calls")
        assert (await taken(made)).values[:, column].tolist() == [0, 1]


@pytest.mark.fault("F30")
async def test_a_hostile_export_is_refused_before_it_costs_anything(tmp_path):
    limits = with_limits(max_body_bytes=20_000, max_samples_per_request=50, ingest_queue_samples=40)
    async with daemon(tmp_path, policy=limits) as made:
        bomb = gzip.compress(b" " * 50_000_000)
        assert (await made.ask("POST", "/v1/traces", raw=bomb, Content_Encoding="gzip")).status == 413
        assert (await made.ask("POST", "/v1/traces", raw=b"{}", Content_Encoding="br")).status == 415
        assert (await made.ask("POST", "/v1/traces", raw=b"{}", Content_Type="text/plain")).status == 415
        assert (await made.ask("POST", "/v1/traces", raw=b"\xff\xff", Content_Type="application/x-protobuf")).status == 400
        many = json.loads(traces(*(span("chat", at_ms=-n) for n in range(45))))
        full = await made.ask("POST", "/v1/traces", many)
        assert (full.status, full.headers["Retry-After"]) == (503, "1")
        assert made.ingest.waiting == 0


async def test_a_collector_passes_spans_on(tmp_path, monkeypatch):
    """The sender of our collector's own choice: gzip, protobuf, its own batches."""
    if otel_kit.collector_binary() is None:
        pytest.skip("a collector in a container does not reach the loopback of this test: put `otelcol` into PATH or name one in IMMUNE_OTELCOL")
    async with daemon(tmp_path / "daemon", clock=SystemTime()) as made:
        (tmp_path / "forward.yaml").write_text(FORWARD.format(url=made.server.url, token=made.token["operator"]))

        def through_collector():
            with otel_kit.running(tmp_path / "collector", extra=tmp_path / "forward.yaml") as collector:
                monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http)
                assert work("writer-1")
                otel_kit.until(lambda: made.ingest.waiting, "the spans came through")

        await asyncio.to_thread(through_collector)
        assert [who.agent_id for who in made.engine.desk.roster.identities] == ["writer-1"]


def test_the_times_of_this_module_are_those_of_the_kit():
    assert json.loads(traces(span("chat")))["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["endTimeUnixNano"] == str(START_US * 1000)
