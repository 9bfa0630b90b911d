"""POST /v1/traces and /v1/metrics: what instrumented agents export by OTLP/HTTP, protobuf or JSON, becomes samples.

An exporter is pointed here as at any collector: `OTEL_EXPORTER_OTLP_ENDPOINT`, and the token in `OTEL_EXPORTER_OTLP_HEADERS`.
"""

from __future__ import annotations

from aiohttp import web

from immune.api.idempotency import slot_of_body
from immune.api.ingesting import REPLAYED, check_speaks_for_itself, keep_receipt, offer_rows, receipt_of, taken_once
from immune.api.problems import ProblemError
from immune.api.routing import REPORTERS, Call, Route
from immune.api.seams import Document, Otlp, Signal

MEDIA_TYPES = ("application/x-protobuf", "application/json")
WAY_OUT = "the queue empties with the next tick; exporters try again by themselves"


async def take_traces(call: Call) -> web.StreamResponse:
    """200 with OTLP's own answer; `partial_success` says how many samples were turned away and why."""
    return await _take(call, "traces")


async def take_metrics(call: Call) -> web.StreamResponse:
    """As `take_traces`, for the two GenAI client histograms."""
    return await _take(call, "metrics")


async def _take(call: Call, signal: Signal) -> web.StreamResponse:
    media_type = call.request.content_type
    if media_type not in MEDIA_TYPES:
        wanted = " or ".join(MEDIA_TYPES)
        raise ProblemError(415, "this media type is not taken", field="Content-Type", value=media_type, way_out=f"send {wanted}")
    slot = slot_of_body(call.request, call.principal, signal, call.raw)  # exporters repeat what was not answered in time
    known = receipt_of(call, slot)
    if known is not None:
        return _answer(call, signal, known, REPLAYED)
    export = _door(call).read(signal, call.raw, media_type)
    limit = call.context.limits.max_samples_per_request
    if len(export) > limit:
        raise ProblemError(413, f"more than {limit} spans or points at once", field="body", value=len(export), way_out="export smaller batches")
    if len(export) > call.context.inbox.room:
        raise _full()
    agent = call.principal.name if call.principal.role == "agent" else ""
    check_speaks_for_itself(call, [{"agent": named} for named in export.agents(agent)])
    with taken_once(call, slot):
        rows = export.rows(agent)
        told = await offer_rows(call, rows)
        refused = len(rows) - told["accepted"] + export.bad
        document: Document = {"refused": refused, "why": _why(told["rejected"], export.bad)}
        keep_receipt(call, slot, document)
    return _answer(call, signal, document)


def _answer(call: Call, signal: Signal, document: Document, headers: dict[str, str] | None = None) -> web.Response:
    media_type = call.request.content_type
    return web.Response(body=_door(call).answer(signal, media_type, document["refused"], document["why"]), content_type=media_type, headers=headers)


def _door(call: Call) -> Otlp:
    otlp = call.context.inbox.otlp
    if otlp is None:
        raise _full()
    return otlp


def _full() -> ProblemError:
    return ProblemError(503, "the queue of samples is full", way_out=WAY_OUT, headers={"Retry-After": "1"})


def _why(rejected: list[dict[str, str]], bad: int) -> str:
    said = {f"{one['field']}: {one['reason']}" if one["field"] else one["reason"] for one in rejected}
    return "; ".join([*(["spans or points without a time or a temporality"] if bad else []), *sorted(said)])[:500]


def _route(path: str, summary: str) -> Route:
    handler = take_traces if path == "/v1/traces" else take_metrics
    return Route(method="POST", path=path, handler=handler, summary=summary, roles=REPORTERS, command="vitals", body="otlp")


ROUTES: tuple[Route, ...] = (
    _route("/v1/traces", "Report spans of agents by OTLP/HTTP: GenAI spans become samples; gzip is taken"),
    _route("/v1/metrics", "Report metrics of agents by OTLP/HTTP: GenAI client histograms become samples; gzip is taken"),
)
