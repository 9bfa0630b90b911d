"""What instrumented agents export becomes samples: each model call one, tools counted in, tasks ended; hostile exports refused."""

from __future__ import annotations

import gzip
import json

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from immune.api.bodies import unpack
from immune.api.problems import ProblemError
from immune.core.policy import LimitsPolicy
from immune.core.vitals import Lexicon, Roster, Status, VitalSchema
from immune.errors import InputError
from immune.ports import Desk
from immune.sources import otlp
from immune.sources.ingest import IngestSource
from immune.sources.otlp import OtlpTranslator
from immune.sources.otlp_wire import JSON, PROTOBUF

T0_NS = 1_767_225_600_000_000_000
MS = 1_000_000


def value(given):
    sort = "stringValue" if isinstance(given, str) else "intValue" if isinstance(given, int) else "doubleValue"
    return {sort: str(given) if isinstance(given, int) else given}


def pairs(said):
    return [{"key": key.replace("__", "."), "value": value(given)} for key, given in said.items()]


def span(operation, *, at_ms=0, took_ms=100, agent="writer-1", trace="t1", failed=False, **more):
    said = {"gen_ai.operation.name": operation, **({"gen_ai.agent.id": agent} if agent else {}), **more}
    end_ns = T0_NS + at_ms * MS
    return {
        "traceId": trace,
        "startTimeUnixNano": str(end_ns - took_ms * MS),
        "endTimeUnixNano": str(end_ns),
        "status": {"code": 2 if failed else 0},
        "attributes": pairs(said),
    }


def traces(*spans, **resource):
    return json.dumps({"resourceSpans": [{"resource": {"attributes": pairs(resource)}, "scopeSpans": [{"spans": list(spans)}]}]}).encode()


def rows(translator, raw, signal="traces", speaker="", media_type=JSON):
    return translator.read(signal, raw, media_type).rows(speaker)


def test_a_model_call_is_a_sample_with_its_duration_tokens_and_model():
    call = span("chat", took_ms=812, gen_ai__usage__input_tokens=950, gen_ai__usage__output_tokens=310, gen_ai__request__model="m-1")
    (row,) = rows(OtlpTranslator(), traces(call, service__name="support", service__version="2"))
    assert row["agent"] == "writer-1"
    assert row["service"] == "support"
    assert row["version"] == "2"
    assert row["model"] == "m-1"
    assert row["at"] == T0_NS / 1e9
    assert (row["latency_ms"], row["input_tokens"], row["output_tokens"], row["errors"], row["status"]) == (812, 950, 310, 0, "working")


def test_what_a_span_does_not_say_is_missing_and_not_zero():
    (row,) = rows(OtlpTranslator(), traces(span("chat")))
    assert "input_tokens" not in row
    assert "cost_usd" not in row


def test_tools_are_counted_in_the_next_model_call_of_their_task_across_requests():
    translator = OtlpTranslator()
    first = rows(translator, traces(span("chat", at_ms=0), span("execute_tool", at_ms=10, gen_ai__tool__name="search")))
    second = rows(translator, traces(span("execute_tool", at_ms=20, failed=True, gen_ai__tool__name="fetch"), span("chat", at_ms=30)))
    assert [(row["tool_calls"], row["step"], row["errors"]) for row in first + second] == [(0, 0, 0), (2, 1, 1)]
    assert second[0]["tool"] == "fetch"
    assert rows(translator, traces(span("chat", at_ms=40, trace="t2")))[0]["tool_calls"] == 0, "another task begins anew"


def test_the_end_of_an_invocation_ends_the_task_and_counts_nothing_twice():
    translator = OtlpTranslator()
    whole = span("invoke_agent", at_ms=50, took_ms=5000, gen_ai__usage__input_tokens=9999)
    call, end = rows(translator, traces(span("chat", at_ms=1, gen_ai__usage__input_tokens=10), whole))
    assert call["input_tokens"] == 10
    assert end["status"] == "done"
    assert not {"latency_ms", "input_tokens", "tool_calls", "errors"} & set(end)
    (alone,) = rows(translator, traces(span("invoke_agent", at_ms=99, took_ms=70, trace="t3", gen_ai__usage__input_tokens=12)))
    assert (alone["latency_ms"], alone["input_tokens"], alone["status"]) == (70, 12, "done")


def test_spans_out_of_order_in_one_request_are_put_in_order():
    told = rows(OtlpTranslator(), traces(span("chat", at_ms=30), span("execute_tool", at_ms=20), span("chat", at_ms=10)))
    assert [row["tool_calls"] for row in told] == [0, 1]
    assert told[0]["at"] < told[1]["at"]


def test_an_agent_is_its_id_or_its_name_or_whose_token_it_is_or_its_service():
    def agent_of(raw, speaker=""):
        return rows(OtlpTranslator(), raw, speaker=speaker)[0]["agent"]

    named = span("chat", agent="", gen_ai__agent__name="Writer")
    assert agent_of(traces(span("chat", gen_ai__agent__name="Writer"))) == "writer-1"
    assert rows(OtlpTranslator(), traces(span("chat", gen_ai__agent__name="Writer")))[0]["type"] == "Writer"
    assert agent_of(traces(named, service__name="support"), "by-token") == "Writer"
    assert agent_of(traces(span("chat", agent=""), service__name="support"), "by-token") == "by-token"
    assert agent_of(traces(span("chat", agent=""), service__name="support")) == "support"
    assert agent_of(traces(span("chat", agent=""), gen_ai__agent__id="of-the-process")) == "of-the-process"


def test_spans_that_are_not_of_agents_say_nothing_and_are_counted():
    translator = OtlpTranslator()
    assert rows(translator, traces(span("embeddings"), span("GET /"), {**span("chat"), "attributes": []})) == []
    assert translator.ignored == 3


def test_protobuf_and_json_say_the_same():
    document = json.loads(traces(span("chat", gen_ai__usage__input_tokens=950, failed=True), service__name="s"))
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "s"
    of_json = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    times = {"start_time_unix_nano": int(of_json["startTimeUnixNano"]), "end_time_unix_nano": int(of_json["endTimeUnixNano"])}
    one = group.scope_spans.add().spans.add(trace_id=bytes.fromhex("ab" * 16), **times)
    one.status.code = 2
    one.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
    one.attributes.add(key="gen_ai.agent.id").value.string_value = "writer-1"
    one.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 950
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"] = "ab" * 16
    packed = rows(OtlpTranslator(), message.SerializeToString(), media_type=PROTOBUF)
    assert packed == rows(OtlpTranslator(), json.dumps(document).encode())
    assert packed[0]["errors"] == 1


def histogram(metric, count, total, *, at_s=10, start_s=0, temporality=2, **said):
    times = {"startTimeUnixNano": str(T0_NS + start_s * 10**9), "timeUnixNano": str(T0_NS + at_s * 10**9)}
    said = {"gen_ai.operation.name": "chat", "gen_ai.agent.id": "writer-1", **said}
    point = {**times, "count": str(count), "sum": total, "attributes": pairs(said)}
    return {"name": metric, "histogram": {"aggregationTemporality": temporality, "dataPoints": [point]}}


def metrics(*listed, **resource):
    scope = {"metrics": list(listed)}
    return json.dumps({"resourceMetrics": [{"resource": {"attributes": pairs(resource)}, "scopeMetrics": [scope]}]}).encode()


def test_histograms_are_means_of_what_came_since_the_point_before():
    translator = OtlpTranslator()
    tokens = histogram(otlp.TOKENS, 4, 4000, gen_ai__token__type="input")
    (first,) = rows(translator, metrics(histogram(otlp.DURATION, 4, 2.0), tokens), "metrics")
    assert (first["latency_ms"], first["input_tokens"], first["errors"]) == (500, 1000, 0)
    (second,) = rows(translator, metrics(histogram(otlp.DURATION, 6, 8.0, at_s=20)), "metrics")
    assert second["latency_ms"] == 3000
    assert rows(translator, metrics(histogram(otlp.DURATION, 6, 8.0, at_s=30)), "metrics") == [], "nothing came since"
    (anew,) = rows(translator, metrics(histogram(otlp.DURATION, 2, 2.0, at_s=50, start_s=40)), "metrics")
    assert anew["latency_ms"] == 1000, "the process started again"


def test_delta_histograms_and_failures_are_taken_as_they_come():
    translator = OtlpTranslator()
    failed = histogram(otlp.DURATION, 3, 3.0, temporality="AGGREGATION_TEMPORALITY_DELTA", error__type="timeout")
    for _ in range(2):
        (row,) = rows(translator, metrics(failed), "metrics")
        assert (row["errors"], row["latency_ms"]) == (3, 1000)


def test_a_series_that_began_long_before_it_was_first_seen_is_only_noted():
    translator = OtlpTranslator()
    assert rows(translator, metrics(histogram(otlp.DURATION, 1000, 500.0, at_s=3600)), "metrics") == []
    assert len(rows(translator, metrics(histogram(otlp.DURATION, 1001, 501.0, at_s=3601)), "metrics")) == 1


def of_two(*counted):
    """One service as two series: (calls, seconds, when it began, what tells it apart)."""
    groups = []
    for count, total, start_s, at_s, said in counted:
        told = histogram(otlp.DURATION, count, total, at_s=at_s, start_s=start_s, **{"gen_ai.agent.id": "", **said.get("point", {})})
        groups += json.loads(metrics(told, service__name="desk", **said.get("resource", {})))["resourceMetrics"]
    return json.dumps({"resourceMetrics": groups}).encode()


@pytest.mark.parametrize("where", ["point", "resource"])
def test_series_that_only_an_attribute_of_no_concern_tells_apart_are_counted_apart(where):
    one, other = {where: {"server.address": "one"}}, {where: {"server.address": "other"}}
    translator = OtlpTranslator()
    rows(translator, of_two((10, 10.0, 0, 10, one), (500, 1500.0, 0, 10, other)), "metrics")
    (row,) = rows(translator, of_two((20, 20.0, 0, 20, one), (510, 1530.0, 0, 20, other)), "metrics")
    assert row["latency_ms"] == 2000, "ten calls of one second and ten of three"


def test_replicas_of_one_service_go_on_being_heard_long_after_their_start():
    one, other = {"resource": {"service.instance.id": "i-1"}}, {"resource": {"service.instance.id": "i-2"}}
    translator, told = OtlpTranslator(), []
    for minute in range(1, 10):
        raw = of_two((10 * minute, 10.0 * minute, 0, 60 * minute, one), (10 * minute, 30.0 * minute, 5, 60 * minute, other))
        told += [row["latency_ms"] for row in rows(translator, raw, "metrics")]
    assert told == [2000] * 9


def test_protobuf_tells_series_apart_as_json_does():
    document = json.loads(
        of_two((20, 20.0, 0, 20, {"point": {"server.address": "one"}}), (510, 1530.0, 0, 20, {"point": {"server.address": "other"}}))
    )
    raw = ParseDict(document, ExportMetricsServiceRequest()).SerializeToString()
    points = [point for export in (raw, raw) for point in OtlpTranslator().read("metrics", export, PROTOBUF).export.points]
    assert [point.series == points[0].series for point in points] == [True, False, True, False]


def test_a_count_beyond_what_the_wire_can_say_is_a_bad_point_and_no_mistake_of_ours():
    point = json.loads(metrics(histogram(otlp.DURATION, 1, 1.0)))
    point["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["histogram"]["dataPoints"][0]["count"] = 10**400
    found = OtlpTranslator().read("metrics", json.dumps(point).encode(), JSON)
    assert (found.bad, found.rows()) == (1, [])


def test_who_sends_spans_is_not_counted_a_second_time_by_histograms():
    translator = OtlpTranslator()
    rows(translator, traces(span("chat"), service__name="support"))
    of_service = histogram(otlp.DURATION, 4, 2.0, **{"gen_ai.agent.id": ""})
    assert rows(translator, metrics(histogram(otlp.DURATION, 4, 2.0), of_service, service__name="support"), "metrics") == []


@pytest.mark.fault("F30")
def test_what_is_remembered_is_bounded_and_what_is_forgotten_is_counted(monkeypatch):
    monkeypatch.setattr(otlp, "TURNS_MAX", 5)
    monkeypatch.setattr(otlp, "SPEAKERS_MAX", 5)
    translator = OtlpTranslator()
    rows(translator, traces(*(span("chat", agent=f"a{n}") for n in range(50))))
    turns, _, senders = translator.bounds()
    assert (turns.size, turns.limit, turns.lost) == (5, 5, 45)
    assert senders.size == 5


def test_samples_reach_the_queue_under_the_limits_of_any_other_sample():
    source = IngestSource(LimitsPolicy())
    desk = Desk(roster=Roster(), lexicon=Lexicon(), schema=VitalSchema())
    source.open(desk)
    bad = span("chat", agent="x" * 200)
    told = rows(source.otlp, traces(span("chat", took_ms=7), bad, span("chat", agent="b", gen_ai__usage__input_tokens=-5)))
    away = source.offer(told, T0_NS // 1000)
    assert [(one.field, one.reason) for one in away] == [("agent", "bad_id"), ("input_tokens", "negative")]
    (batch,) = source._queue
    assert batch.values[0, desk.schema.column("latency_ms")] == 7
    assert batch.status.tolist() == [Status.WORKING]


def test_a_span_that_cannot_be_is_bad_and_the_others_are_taken():
    backwards = {**span("chat"), "endTimeUnixNano": "5"}
    export = OtlpTranslator().read("traces", traces(backwards, span("chat")), JSON)
    assert export.bad == 1
    assert len(export.rows()) == 1
    assert json.loads(OtlpTranslator().answer("traces", JSON, 1, "bad"))["partialSuccess"] == {"rejectedSpans": "1", "errorMessage": "bad"}


def test_the_sender_is_told_in_its_own_encoding():
    translator = OtlpTranslator()
    assert translator.answer("traces", PROTOBUF, 0, "") == b""
    told = ExportTraceServiceResponse.FromString(translator.answer("traces", PROTOBUF, 2, "agent: bad_id"))
    assert (told.partial_success.rejected_spans, told.partial_success.error_message) == (2, "agent: bad_id")


@pytest.mark.parametrize("signal", ["traces", "metrics"])
@pytest.mark.parametrize(("raw", "media_type"), [(b"\xff\xff\xff", PROTOBUF), (b"[]", JSON), (b"{", JSON), (b"\xff", JSON), (b"[" * 9999, JSON)])
def test_what_is_no_export_is_refused(signal, raw, media_type):
    with pytest.raises(InputError):
        OtlpTranslator().read(signal, raw, media_type)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["resourceSpans", "scopeSpans", "spans", "attributes", "key", "value", "intValue", "status", "code", "endTimeUnixNano", "sum"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.fault("F28")
@given(ODD, st.sampled_from(["traces", "metrics"]))
def test_any_json_is_read_or_refused_and_nothing_else(document, signal):
    name = "resourceSpans" if signal == "traces" else "resourceMetrics"
    for given_document in (
        document,
        {name: [document]},
        {name: [{"scopeSpans": [{"spans": [document]}], "scopeMetrics": [{"metrics": [document]}]}]},
    ):
        try:
            OtlpTranslator().read(signal, json.dumps(given_document).encode(), JSON).rows()
        except InputError:
            continue


@pytest.mark.fault("F28")
@given(st.binary(max_size=60), st.sampled_from(["traces", "metrics"]))
def test_any_bytes_are_read_or_refused_and_nothing_else(raw, signal):
    try:
        OtlpTranslator().read(signal, raw, PROTOBUF).rows()
    except InputError:
        return


def test_a_packed_body_is_unpacked_up_to_the_limit_and_no_further():
    assert unpack(gzip.compress(b"a" * 1000), 1000) == b"a" * 1000
    for packed, status in ((gzip.compress(b"a" * 10_000_000), 413), (b"plain", 400), (gzip.compress(b"abc")[:-3], 400)):
        with pytest.raises(ProblemError) as refused:
            unpack(packed, 1000)
        assert refused.value.status == status
