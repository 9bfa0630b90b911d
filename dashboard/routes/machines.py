"""Health, readiness and figures of the dashboard itself: for machines that watch the watcher."""

from __future__ import annotations

from flask import Response

from dashboard.encoding import encode
from dashboard.routing import Ask, Route
from immune import __version__

US = 1_000_000
BEHIND_S = 5.0


def healthy(_: Ask) -> Response:
    """200 as long as the process answers."""
    return Response(encode({"status": "ok", "version": __version__}), content_type="application/json")


def ready(ask: Ask) -> Response:
    """200 while the journal is followed, else 503. The daemon may be away: then the pages say so, and are still of use."""
    site = ask.site
    age_s = max(0, site.clock.now_us() - site.follower.followed_us) / US
    document = {
        "status": "ready",
        "run_id": site.projection.run_id or None,
        "seq": site.projection.state.seq,
        "followed_s_ago": round(age_s, 3),
        "daemon": site.daemon.status.word,
    }
    if site.follower.trouble or age_s > BEHIND_S:
        document["status"] = site.follower.trouble or "behind"
        return Response(encode(document), status=503, content_type="application/json", headers={"Retry-After": "1"})
    return Response(encode(document), content_type="application/json")


def metrics(ask: Ask) -> Response:
    """Prometheus text format 0.0.4. No name from outside is in it."""
    site, counters = ask.site, ask.site.counters
    rows = (
        ("immune_dashboard_requests_total", "counter", "Requests answered.", counters.requests),
        ("immune_dashboard_refused_total", "counter", "Requests refused.", counters.refused),
        ("immune_dashboard_bugs_total", "counter", "Requests that failed for a reason nobody foresaw.", counters.bugs),
        ("immune_dashboard_logins_total", "counter", "Logins.", counters.logins),
        ("immune_dashboard_failed_logins_total", "counter", "Attempts with a wrong token, password or link.", counters.failed_logins),
        ("immune_dashboard_streams", "gauge", "Open live streams.", counters.streams),
        ("immune_dashboard_streams_refused_total", "counter", "Live streams refused because there were too many.", counters.streams_refused),
        ("immune_dashboard_seq", "gauge", "The newest event of the journal that was read.", site.projection.state.seq),
        ("immune_dashboard_sessions", "gauge", "Sessions that are kept.", len(site.sessions)),
        ("immune_dashboard_sessions_evicted_total", "counter", "Sessions that ended early because there were too many.", site.sessions.evicted),
        ("immune_dashboard_answers_kept", "gauge", "Finished answers on the shelf.", len(site.shelf)),
        ("immune_dashboard_answers_evicted_total", "counter", "Finished answers that made room for others.", site.shelf.evicted),
        ("immune_dashboard_addresses", "gauge", "Addresses whose failed attempts are remembered.", len(site.tries)),
        ("immune_dashboard_addresses_forgotten_total", "counter", "Such addresses that made room for others.", site.tries.forgotten),
        (
            "immune_dashboard_followed_age_seconds",
            "gauge",
            "How long ago the journal was looked at.",
            (site.clock.now_us() - site.follower.followed_us) / US,
        ),
        ("immune_dashboard_daemon_up", "gauge", "1 while the daemon answers.", int(site.daemon.status.up)),
    )
    lines = [line for name, kind, says, value in rows for line in (f"# HELP {name} {says}", f"# TYPE {name} {kind}", f"{name} {value:.10g}")]
    return Response("\n".join([*lines, ""]), content_type="text/plain; version=0.0.4; charset=utf-8")


ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/healthz", handler=healthy, summary="200 as long as the dashboard answers", role=""),
    Route(method="GET", path="/readyz", handler=ready, summary="200 while the journal is followed, else 503", role=""),
    Route(method="GET", path="/metrics", handler=metrics, summary="Prometheus text", media_type="text/plain"),
)
