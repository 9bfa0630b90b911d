"""OTLP as it comes over HTTP, protobuf or JSON: what of it concerns agents, in one shape for both.

JSON is read as OTLP writes it (ids in hex, whole numbers as text or number), not as protobuf's own JSON. What is not as
it should be is an absent attribute or a bad span, counted; only a document that is no export at all is an error.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from immune.errors import InputError

Signal = Literal["traces", "metrics"]
Value = str | int | float | bool
Attributes = Mapping[str, Value]

PROTOBUF, JSON = "application/x-protobuf", "application/json"
CONCERNS = ("gen_ai.", "service.", "error.type")
"""Attributes that are looked at; all others are dropped where they come in."""
FAILED = 2
DELTA, CUMULATIVE = 1, 2
HISTOGRAMS = ("histogram", "exponentialHistogram")
NS_MAX = 2**63
COUNT_MAX = 2**64
"""The wire's own: JSON can say more, and no division survives that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One operation that is over."""

    trace_id: str
    start_ns: int
    end_ns: int
    failed: bool
    attributes: Attributes
    resource: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of a histogram: how many measurements, and their sum, since `start_ns` or (`delta`) since the point before.

    `series` tells apart what is counted apart: by process, library and every attribute that is one value, those of no concern here too.
    """

    metric: str
    series: bytes
    start_ns: int
    at_ns: int
    count: int
    total: float
    delta: bool
    attributes: Attributes
    resource: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One request: `bad` spans or points could not be read."""

    spans: tuple[Span, ...] = ()
    points: tuple[Point, ...] = ()
    bad: int = 0

    def __len__(self) -> int:
        return len(self.spans) + len(self.points)


def read_export(signal: Signal, raw: bytes, media_type: str) -> Export:
    """What an export request says of agents. Raises InputError for what is none."""
    found: Sequence[Span | Point | None] = list(_of_json(signal, raw) if media_type == JSON else _of_protobuf(signal, raw))
    return Export(
        spans=tuple(one for one in found if isinstance(one, Span)),
        points=tuple(one for one in found if isinstance(one, Point)),
        bad=sum(one is None for one in found),
    )


def answer(signal: Signal, media_type: str, refused: int, why: str) -> bytes:
    """The response message of OTLP: empty, or `partial_success` with how many were refused and why."""
    if media_type == JSON:
        count = "rejectedSpans" if signal == "traces" else "rejectedDataPoints"
        return json.dumps({"partialSuccess": {count: str(refused), "errorMessage": why}} if refused else {}).encode()
    if not refused:
        return b""
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics  # noqa: PLC0415  (only whoever sends OTLP pays for it)
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces  # noqa: PLC0415

    if signal == "traces":
        partial = traces.ExportTracePartialSuccess(rejected_spans=refused, error_message=why)
        return bytes(traces.ExportTraceServiceResponse(partial_success=partial).SerializeToString())
    rejected = metrics.ExportMetricsPartialSuccess(rejected_data_points=refused, error_message=why)
    return bytes(metrics.ExportMetricsServiceResponse(partial_success=rejected).SerializeToString())


# -- protobuf ----------------------------------------------------------------------------------------------------------


def _of_protobuf(signal: Signal, raw: bytes) -> Iterator[Span | Point | None]:
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics  # noqa: PLC0415
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces  # noqa: PLC0415

    request: Any = traces.ExportTraceServiceRequest() if signal == "traces" else metrics.ExportMetricsServiceRequest()
    try:
        request.ParseFromString(raw)
    except DecodeError:
        raise InputError("not an OTLP message", field="body", way_out=f"send an export request for {signal} as {PROTOBUF} or {JSON}") from None
    if signal == "traces":
        for group in request.resource_spans:
            resource = _plain(group.resource.attributes)
            for scope in group.scope_spans:
                for span in scope.spans:
                    yield _span(
                        span.trace_id.hex(),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        span.status.code == FAILED,
                        _plain(span.attributes),
                        resource,
                    )
        return
    for group in request.resource_metrics:
        resource = _plain(group.resource.attributes)
        process = [_bytes(pair) for pair in group.resource.attributes]
        for scope in group.scope_metrics:
            library = _digest([*process, scope.scope.name.encode(), scope.scope.version.encode()])
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                if kind not in {"histogram", "exponential_histogram"} or not metric.name.startswith("gen_ai."):
                    continue
                histogram = getattr(metric, kind)
                for point in histogram.data_points:
                    times = point.start_time_unix_nano, point.time_unix_nano
                    numbers = point.count, point.sum, histogram.aggregation_temporality
                    series = _digest([library, *(_bytes(pair) for pair in point.attributes)])
                    yield _point(metric.name, series, times, numbers, _plain(point.attributes), resource)


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def _plain(pairs: Any) -> Attributes:
    found: dict[str, Value] = {}
    for pair in pairs:
        if pair.key.startswith(CONCERNS):
            kind = pair.value.WhichOneof("value")
            if kind in {"string_value", "int_value", "double_value", "bool_value"}:
                found[pair.key] = getattr(pair.value, kind)
    return found


# -- JSON --------------------------------------------------------------------------------------------------------------


def _of_json(signal: Signal, raw: bytes) -> Iterator[Span | Point | None]:
    try:
        document = json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise InputError("nested too deeply", field="body", way_out="see the OTLP specification for what an export holds") from None
    except ValueError as error:
        raise InputError(f"not JSON: {error}", field="body", way_out=f"send an export request for {signal} as {JSON}") from None
    outer, middle, inner = ("resourceSpans", "scopeSpans", "spans") if signal == "traces" else ("resourceMetrics", "scopeMetrics", "metrics")
    if not isinstance(document, dict) or not isinstance(document.get(outer, []), list):
        raise InputError("not an OTLP message", field=outer, way_out=f'send {{"{outer}": […]}}')
    for group in _objects(document.get(outer)):
        resource = _of_pairs(_object(group.get("resource")).get("attributes"))
        for scope in _objects(group.get(middle)):
            if signal == "traces":
                yield from (_json_span(one, resource) for one in _objects(scope.get(inner)))
                continue
            library = _digest([*_json_pairs(group.get("resource")), _plain_json(scope.get("scope"))])
            for metric in _objects(scope.get(inner)):
                yield from _json_points(metric, library, resource)


def _json_span(span: Mapping[str, Any], resource: Attributes) -> Span | None:
    trace_id = span.get("traceId")
    code = _object(span.get("status")).get("code")
    failed = _is_scalar(code) and code in {FAILED, "STATUS_CODE_ERROR"}
    times = _whole(span.get("startTimeUnixNano")), _whole(span.get("endTimeUnixNano"))
    return _span(trace_id if isinstance(trace_id, str) else "", *times, failed, _of_pairs(span.get("attributes")), resource)


def _json_pairs(bearer: object) -> list[bytes]:
    """Attributes of a resource or a point, each by itself: they may come in another order the next time."""
    pairs = _objects(_object(bearer).get("attributes"))
    return [_plain_json({"key": pair.get("key")}) + _plain_json(pair.get("value")) for pair in pairs]


def _plain_json(given: object) -> bytes:
    """The scalars of an object, in order of their names; what is nested could be too deep to be written."""
    return json.dumps({name: value for name, value in _object(given).items() if _is_scalar(value)}, sort_keys=True).encode()


def _json_points(metric: Mapping[str, Any], library: bytes, resource: Attributes) -> Iterator[Point | None]:
    name = metric.get("name")
    if not isinstance(name, str) or not name.startswith("gen_ai."):
        return
    for kind in HISTOGRAMS:
        histogram = _object(metric.get(kind))
        temporality = {"AGGREGATION_TEMPORALITY_DELTA": DELTA, "AGGREGATION_TEMPORALITY_CUMULATIVE": CUMULATIVE}
        given = histogram.get("aggregationTemporality")
        for point in _objects(histogram.get("dataPoints")):
            times = _whole(point.get("startTimeUnixNano")), _whole(point.get("timeUnixNano"))
            total = point.get("sum")
            numbers = (
                _whole(point.get("count")),
                float(total) if isinstance(total, int | float) and abs(total) < NS_MAX else 0.0,
                temporality.get(given, 0) if isinstance(given, str) else _whole(given),
            )
            series = _digest([library, *_json_pairs(point)])
            yield _point(name, series, times, numbers, _of_pairs(point.get("attributes")), resource)


def _of_pairs(pairs: object) -> Attributes:
    found: dict[str, Value] = {}
    for pair in _objects(pairs):
        key, value = pair.get("key"), _object(pair.get("value"))
        if isinstance(key, str) and key.startswith(CONCERNS):
            for kind, given in value.items():
                if kind == "intValue":
                    found[key] = _whole(given)
                elif kind in {"stringValue", "doubleValue", "boolValue"} and _is_scalar(given):
                    found[key] = given
    return found


def _objects(listed: object) -> Iterator[Mapping[str, Any]]:
    return (one for one in listed if isinstance(one, dict)) if isinstance(listed, list) else iter(())


def _object(given: object) -> Mapping[str, Any]:
    return given if isinstance(given, dict) else {}


def _is_scalar(given: object) -> bool:
    return isinstance(given, str | int | float | bool)


def _whole(given: object) -> int:
    """A whole number, as text or number; -1 for what is none."""
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 20:
        return int(given)
    return given if isinstance(given, int) and not isinstance(given, bool) else -1


# -- both --------------------------------------------------------------------------------------------------------------


def _span(trace_id: str, start_ns: int, end_ns: int, failed: bool, attributes: Attributes, resource: Attributes) -> Span | None:
    if not 0 < start_ns <= end_ns < NS_MAX:
        return None
    return Span(trace_id=trace_id[:64], start_ns=start_ns, end_ns=end_ns, failed=failed, attributes=attributes, resource=resource)


def _point(
    metric: str, series: bytes, times: tuple[int, int], numbers: tuple[int, float, int], attributes: Attributes, resource: Attributes
) -> Point | None:
    (start_ns, at_ns), (count, total, temporality) = times, numbers
    if not (0 <= start_ns <= at_ns < NS_MAX and at_ns and 0 <= count < COUNT_MAX):
        return None
    if temporality not in {DELTA, CUMULATIVE} or not math.isfinite(total):
        return None
    return Point(
        metric=metric,
        series=series,
        start_ns=start_ns,
        at_ns=at_ns,
        count=count,
        total=total,
        delta=temporality == DELTA,
        attributes=attributes,
        resource=resource,
    )


def _digest(parts: Sequence[bytes]) -> bytes:
    """Of parts in any order."""
    return hashlib.blake2b(b"\x1f".join(sorted(parts)), digest_size=16).digest()
