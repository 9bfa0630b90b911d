"""Health, readiness, metrics: for machines that watch the watcher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiohttp import web

from immune import __version__
from immune.api.context import Context
from immune.api.problems import json_response
from immune.api.routing import READERS, Call, Route
from immune.core.events import LEVELS

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
    """Prometheus text format 0.0.4. No name from outside is in it, so that nobody can make up series."""
    body = "\n".join([*_lines(call.context, call.now_us), ""]).encode()
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _lines(context: Context, now_us: int) -> Iterable[str]:
    engine, state, inbox = context.engine, context.engine.state, context.inbox
    counters, account = engine.counters, engine.queue.account()
    yield from _one("immune_ticks_total", "counter", "Ticks done.", counters.ticks)
    yield from _one("immune_ticks_skipped_total", "counter", "Ticks that came too late and were skipped.", counters.ticks_skipped)
    yield from _one("immune_tick_lag_seconds", "gauge", "How late the newest tick was.", counters.lag_us / US)
    yield from _one("immune_samples_total", "counter", "Samples scored.", counters.samples)
    yield from _many("immune_samples_rejected_total", "counter", "Samples turned away at the tick.", "reason", counters.rejected)
    yield from _one("immune_agents", "gauge", "Enrolled agents.", len(state.agents))
    levels: dict[str, int] = dict.fromkeys(LEVELS, 0)
    deviating = 0
    for agent in state.agents.values():
        levels[agent.observed] += 1
        deviating += agent.desired != agent.observed
    yield from _many("immune_agents_contained", "gauge", "Agents by the containment that is observed in force.", "level", levels)
    yield from _one("immune_agents_not_enforced", "gauge", "Agents whose desired and observed containment differ.", deviating)
    yield from _one("immune_incidents_open", "gauge", "Open incidents.", len(state.open_incidents))
    yield from _one("immune_incidents_total", "counter", "Incidents of this run.", len(state.incidents))
    yield from _one("immune_containments_active", "gauge", "Containments in force.", len(state.active_containments))
    yield from _one("immune_plans_open", "gauge", "Healing plans that have not ended.", len(state.open_plans))
    pending = [state.approvals[key] for key in state.open_approvals if state.approvals[key].status == "pending"]
    oldest_s = max((max(0, now_us - one.requested_at_us) / US for one in pending), default=0.0)
    yield from _one("immune_approvals_pending", "gauge", "Requests that wait for a person.", len(pending))
    yield from _one("immune_approvals_oldest_age_seconds", "gauge", "How long the oldest pending request has waited.", oldest_s)
    yield from _one("immune_journal_writable", "gauge", "1 while the journal takes what is appended, else 0.", not context.engine.trouble)
    yield from _one("immune_journal_refused_total", "counter", "Appends that the journal could not take.", context.engine.outage.refused)
    yield from _one("immune_journal_events", "gauge", "Events in the journal of this run.", state.seq)
    yield from _one("immune_telemetry_stored_samples_total", "counter", "Samples in the telemetry store.", account.stored)
    yield from _one("immune_telemetry_queue_samples", "gauge", "Samples waiting for the telemetry store.", account.waiting)
    yield from _one("immune_telemetry_dropped_samples_total", "counter", "Samples that the telemetry store never got.", account.dropped)
    yield from _one("immune_ingest_queue_samples", "gauge", "Reported samples waiting for the next tick.", inbox.waiting)
    yield from _one("immune_ingest_accepted_samples_total", "counter", "Reported samples taken.", inbox.counts.accepted)
    yield from _many("immune_ingest_rejected_samples_total", "counter", "Reported samples turned away at the door.", "reason", inbox.counts.rejected)
    yield from _one("immune_ingest_enrolled_agents_total", "counter", "Agents that came in with their samples.", inbox.counts.enrolled)
    yield from _requests(context)
    yield from _one("immune_api_auth_failures_total", "counter", "Requests without a valid token.", context.doorman.failed)
    yield from _one("immune_api_rate_limited_total", "counter", "Requests refused for their rate.", context.buckets.refused)
    yield from _one("immune_api_refused_acts_total", "counter", "Attempts to act that were refused.", context.counters.refused_acts)
    yield from _one("immune_api_bugs_total", "counter", "Requests that failed for a reason nobody foresaw.", context.counters.bugs)
    yield from _one("immune_stream_clients", "gauge", "Listeners of the live stream.", context.stream.clients)
    yield from _one("immune_stream_dropped_total", "counter", "Listeners dropped because they could not keep up.", context.stream.dropped)


def _requests(context: Context) -> Iterable[str]:
    name = "immune_api_requests_total"
    yield f"# HELP {name} Requests by route and status."
    yield f"# TYPE {name} counter"
    for (route, status), count in sorted(context.counters.requests.items()):
        yield f'{name}{{route="{route}",status="{status}"}} {count}'


def _one(name: str, kind: str, says: str, value: float) -> Iterable[str]:
    yield f"# HELP {name} {says}"
    yield f"# TYPE {name} {kind}"
    yield f"{name} {value:.10g}"


def _many(name: str, kind: str, says: str, key: str, values: Mapping[str, int]) -> Iterable[str]:
    yield f"# HELP {name} {says}"
    yield f"# TYPE {name} {kind}"
    for word, value in sorted(values.items()):
        yield f'{name}{{{key}="{word}"}} {value}'


ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/healthz", handler=healthy, summary="200 as long as the daemon answers; no token"),
    Route(method="GET", path="/readyz", handler=ready, summary="200 while ticks come and the journal can be written, else 503; no token"),
    Route(method="GET", path="/metrics", handler=metrics, summary="Prometheus text", roles=READERS, media_type="text/plain"),
)
