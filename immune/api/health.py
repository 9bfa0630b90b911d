"""Health, readiness, metrics: for machines that watch the watcher."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from immune import __version__
from immune.api.problems import ProblemError, json_response
from immune.api.routing import READERS, Call, Route

US = 1_000_000
STALLED_AFTER_S = 5.0


async def healthy(_: Call) -> web.StreamResponse:
    """200 as long as the loop answers."""
    return json_response({"status": "ok", "version": __version__})


async def ready(call: Call) -> web.StreamResponse:
    """200 while ticks come, 503 before the first one, when they have stopped, and while the journal cannot be written."""
    context = call.context
    age_s = max(0, call.now_us - context.ticked_at_us) / US
    document = {"status": "ready", "run_id": context.engine.run_id, "ticks": context.engine.counters.ticks, "last_tick_age_s": round(age_s, 3)}
    if context.engine.view is None:
        return _not_ready({**document, "status": "starting", "last_tick_age_s": None})
    if context.engine.trouble:
        return _not_ready({**document, "status": "journal cannot be written", "reason": context.engine.trouble})
    if age_s > STALLED_AFTER_S + 2 * context.engine.period_us / US:
        return _not_ready({**document, "status": "stalled"})
    return json_response(document)


def _not_ready(document: Mapping[str, object]) -> web.Response:
    response = json_response(dict(document), status=200, headers={"Retry-After": "1"})
    response.set_status(503)
    return response


async def metrics(call: Call) -> web.StreamResponse:
    """Prometheus text, or OpenMetrics for who asks for it. The instruments are those of OpenTelemetry (immune.observability)."""
    if call.context.metrics is None:
        raise ProblemError(404, "no instruments are connected here", field="path", value="/metrics", way_out="ask the daemon of `immune run`")
    body, content_type = call.context.metrics(call.request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/healthz", handler=healthy, summary="200 as long as the daemon answers; no token"),
    Route(method="GET", path="/readyz", handler=ready, summary="200 while ticks come and the journal can be written, else 503; no token"),
    Route(method="GET", path="/metrics", handler=metrics, summary="Prometheus text", roles=READERS, media_type="text/plain"),
)
