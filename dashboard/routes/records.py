"""Documents of record: journal, why, policy, runs, and how daemon and dashboard are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response

from dashboard import documents
from dashboard.downloads import with_csv
from dashboard.policies import policy_document
from dashboard.projection import Projection
from dashboard.routes.reading import reading
from dashboard.routing import Ask, Route, document
from immune.api.problems import ProblemError
from immune.core.events import Envelope, iso
from immune.errors import UnknownIdError, UnreachableError
from immune.ports import RunInfo
from immune.reports import documents as shared
from immune.reports.explain import explain
from immune.reports.sentences import say

JOURNAL_PAGE = 200
JOURNAL_PAGE_MAX = 2000
SCAN_MAX = 20_000
SCAN_STEP = 500
MARKS_MAX = 500
Document = dict[str, Any]


# -- journal -----------------------------------------------------------------------------------------------------------------


def list_journal(ask: Ask) -> Response:
    """Events, the newest first, a page at a time; ``next_before`` goes on."""
    projection = ask.projection
    limit = ask.whole("limit", JOURNAL_PAGE, 1, JOURNAL_PAGE_MAX)
    before = ask.whole("before", projection.state.seq + 1, 1, 2**62)
    wanted = _wanted(ask)
    found: list[Envelope] = []
    low = min(before, projection.state.seq + 1)
    concerned = [name for name in (ask.query("subject"), ask.query("incident")) if name]
    if concerned:
        found, low = _of_concerned(ask, projection, concerned[-1], low, limit, wanted)
    elif low > 1:
        scanned = 0
        with ask.site.sources.journal() as journal:
            while low > 1 and len(found) < limit and scanned < SCAN_MAX:
                high, low = low, max(1, low - max(limit, SCAN_STEP))
                page = [one for one in journal.read(projection.run_id, after_seq=low - 1, limit=high - low) if wanted(one)]
                scanned += high - low
                found += page[::-1]
    rest = len(found) > limit or low > 1
    found = found[:limit]
    last = found[-1].seq if len(found) == limit else low
    kinds = sorted({one["kind"] for one in ask.site.follower.recent_events()})
    return with_csv(
        ask,
        documents.list_document(projection, "events", [documents.raw_event(one) for one in found], next_before=last if rest else None, kinds=kinds),
        "journal",
    )


def _of_concerned(
    ask: Ask, projection: Projection, name: str, before: int, limit: int, wanted: Callable[[Envelope], bool]
) -> tuple[list[Envelope], int]:
    """What concerns a subject or an incident, the newest first, one more than asked for if there is; and how far down that is everything."""
    found: list[Envelope] = []
    with ask.site.concerning(projection, [name]) as journal:
        while before > 1 and len(found) <= limit:
            page, before = journal.newest(projection.run_id, before, SCAN_STEP)
            found += [one for one in reversed(page) if wanted(one)]
    return found, before


def _wanted(ask: Ask) -> Callable[[Envelope], bool]:
    kind, subject, actor, text = (ask.query(name) for name in ("kind", "subject", "actor", "text"))
    incident = ask.query("incident")

    def wanted(one: Envelope) -> bool:
        if (kind and one.kind != kind) or (subject and one.subject != subject) or (incident and one.correlation_id != incident):
            return False
        if actor and actor not in one.actor:
            return False
        return not text or text.lower() in say(one).lower()

    return wanted


def show_event(ask: Ask) -> Response:
    """One event, raw and told, with the chain of causes before it."""
    projection = ask.projection
    digits = ask.id.removeprefix("e")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19 and 1 <= int(digits) <= projection.state.seq):
        raise ProblemError(404, "no such event in this run", field="id", value=ask.id, way_out=f"events go from e1 to e{projection.state.seq}")
    with ask.site.sources.journal() as journal:
        envelope = next(iter(journal.read(projection.run_id, after_seq=int(digits) - 1, limit=1)))
        why = explain(journal, projection.state, f"e{int(digits)}")
    return document(ask, {"run_id": projection.run_id, "event": documents.raw_event(envelope), "why": why})


def show_why(ask: Ask) -> Response:
    """The chain behind an event, incident, plan, request, containment or agent, in words."""
    projection = ask.projection
    try:
        incidents = (one.incident_id for one in projection.state.incidents.values() if ask.id in one.agents)
        with ask.site.concerning(projection, [ask.id, *incidents]) as journal:
            return document(ask, explain(journal, projection.state, ask.id))
    except UnknownIdError as error:
        raise ProblemError(404, error.what, field="id", value=ask.id, way_out=error.way_out) from None


# -- policy, runs, system ----------------------------------------------------------------------------------------------------


def show_policy(ask: Ask) -> Response:
    """Every rule in force: its value, unit, range, default, and why it exists; what can be diagnosed and done."""
    return document(ask, policy_document(ask.site, ask.projection))


def list_runs(ask: Ask) -> Response:
    """Every recorded run, the newest first."""
    runs: list[RunInfo] = []
    if ask.site.sources.recorded:
        with ask.site.sources.journal() as journal:
            runs = journal.runs()
    followed = ask.site.projection.run_id
    daemon = ask.site.daemon.status.run_id
    rows = [
        {
            "run_id": one.run_id,
            "events": one.events,
            "first_at": iso(one.first_at_us),
            "last_at": iso(one.last_at_us),
            "head": one.head,
            "followed": one.run_id == followed,
            "running": one.run_id == daemon,
        }
        for one in runs
    ]
    return with_csv(ask, {"total": len(rows), "runs": rows}, "runs")


def show_run(ask: Ask) -> Response:
    """One run in figures, and where its report is."""
    projection = ask.site.moment(ask.id, ask.query("at"))
    times_us = ask.site.history_of(projection.run_id).times_us
    figures = shared.run_document(projection.state)
    ends = documents.stats_document(projection)
    return document(
        ask,
        {
            "run": figures,
            "stats": ends,
            "report": f"/runs/{projection.run_id}/report",
            "events": len(times_us),
            "memory": shared.memory_documents(projection.state),
        },
    )


def show_times(ask: Ask) -> Response:
    """What a slider over a run needs: its ends, and when notable things happened, at most 500 of them."""
    projection = ask.site.moment(ask.query("run"), "")
    times_us = ask.site.history_of(projection.run_id).times_us
    marks = [
        {"at": shared.when(one.opened_at_us), "seq": one.opened_seq, "id": one.incident_id, "severity": round(one.peak_severity, 2)}
        for one in list(projection.state.incidents.values())[-MARKS_MAX:]
    ]
    first, last = (times_us[0], times_us[-1]) if len(times_us) else (0, 0)
    return document(
        ask,
        {
            "run_id": projection.run_id,
            "seq": projection.state.seq,
            "first_us": first,
            "last_us": last,
            "first_at": shared.when(first),
            "last_at": shared.when(last),
            "marks": marks,
        },
    )


def show_system(ask: Ask) -> Response:
    """How the daemon and the dashboard are: what the daemon says of itself, and how far behind the dashboard is."""
    site = ask.site
    now_us = site.clock.now_us()
    status = site.daemon.status
    counters = site.counters
    own = {
        "started_at": iso(site.started_us),
        "followed_s_ago": round(max(0, now_us - site.follower.followed_us) / 1e6, 3) if site.follower.followed_us else None,
        "run_id": site.projection.run_id or None,
        "seq": site.projection.state.seq,
        "requests": counters.requests,
        "streams": counters.streams,
        "bugs": counters.bugs,
        "login_required": site.options.login,
        "data_dir": str(site.options.data_dir),
        "files": site.sources.file_sizes(),
    }
    daemon: Document = {"status": status.word, "detail": status.detail, "url": status.url, "run_id": status.run_id, "ready": dict(status.ready)}
    daemon["report"], daemon["metrics"] = _ask_daemon(ask)
    return document(
        ask, {"at": iso(now_us), "troubles": site.troubles, "dashboard": own, "daemon": daemon, "grafana": site.options.grafana_url or None}
    )


def _ask_daemon(ask: Ask) -> tuple[object, object]:
    """What the daemon says of itself to whoever has a name: its status document, and its metrics as figures."""
    token = ask.token or (ask.site.keys.admin_token() or "" if not ask.site.options.login else "")
    if not token or not ask.site.daemon.status.up:
        return None, None
    try:
        status = ask.site.daemon.ask("GET", "/v1/status", token=token)
        metrics = ask.site.daemon.ask("GET", "/metrics", token=token)
    except UnreachableError:
        return None, None
    figures = {}
    for line in str(metrics.document).splitlines() if metrics.status == 200 else []:
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            figures[name] = float(value)
    return (status.document if status.status == 200 else None), figures


ROUTES: tuple[Route, ...] = (
    reading(
        "/api/journal",
        list_journal,
        "Events, the newest first",
        ("before", "a seq"),
        ("limit", "1 to 2000"),
        ("kind", ""),
        ("subject", ""),
        ("incident", ""),
        ("actor", ""),
        ("text", "part of the sentence"),
        ("format", "json or csv"),
    ),
    reading("/api/journal/<id>", show_event, "One event, raw, with its causes"),
    reading("/api/why/<path:id>", show_why, "The chain of events behind an id, in words"),
    reading("/api/policy", show_policy, "Every rule in force, and why it exists"),
    reading("/api/runs", list_runs, "Every recorded run", ("format", "json or csv")),
    reading("/api/runs/<id>", show_run, "One run in figures"),
    reading("/api/times", show_times, "The ends of a run and its incidents, for a slider over time"),
    reading("/api/system", show_system, "How daemon and dashboard are"),
)
