"""Changes: each is passed on to the daemon's control API under the token of the person who asked, and its answer passed back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response

from dashboard.daemonlink import Answer, path_of
from dashboard.documents import irreversible_steps, signature_of
from dashboard.encoding import encode
from dashboard.routing import Ask, BodyField, Handler, Route
from immune.api.problems import MEDIA_TYPE, ProblemError
from immune.core.commands import Role
from immune.core.events import LEVELS
from immune.core.state import ApprovalState

SHOWN_WITHIN_S = 1.0
SNOOZE_MIN_MAX = 240
BULK_MAX = 50
US = 1_000_000

REASON = BodyField(name="reason", required=True, says="say why, for whoever reads it later")
WHY = BodyField(name="reason", says="why")
CONFIRM = BodyField(name="confirm", max_length=256, says="the agent's id, typed, where something cannot be undone")
LEVEL = BodyField(name="level", required=True, options=LEVELS[1:], says="one of " + " ".join(LEVELS[1:]))


def pass_on(ask: Ask, path: str, body: Mapping[str, object]) -> Response:
    """Tell the daemon, and answer with what it says once the pages know of it. 503 when it is away."""
    return passed(ask, _told(ask, path, body))


def _told(ask: Ask, path: str, body: Mapping[str, object], suffix: str = "") -> Answer:
    key = ask.request.headers.get("Idempotency-Key", "")
    return ask.site.daemon.ask("POST", path, token=ask.token, body=body, key=key + suffix if key else "")


def passed(ask: Ask, answer: Answer) -> Response:
    """The daemon's answer as ours."""
    found = answer.document if isinstance(answer.document, dict) else {"answer": answer.document}
    if answer.status < 400:
        events = [int(str(one)[1:]) for one in found.get("events", []) if str(one)[1:].isdigit()]
        if events and ask.site.daemon.status.run_id == ask.site.projection.run_id:
            ask.site.follower.wait_for(max(events), SHOWN_WITHIN_S)
        return Response(encode(found), status=answer.status, content_type="application/json")
    if answer.status == 401 and ask.session is not None:
        # the daemon no longer knows what was logged in with: a restart ends what a password opened
        ask.site.sessions.close(ask.session)
        found["way_out"] = "log in again"
    response = Response(encode({**found, "request_id": ask.request_id}), status=answer.status, content_type=MEDIA_TYPE)
    if "Retry-After" in answer.headers:
        response.headers["Retry-After"] = answer.headers["Retry-After"]
    return response


def _approval(ask: Ask, request_id: str) -> ApprovalState | None:
    """The request as the journal knows it; the daemon may know of a newer one."""
    return ask.site.projection.state.approvals.get(request_id)


def check_typed(ask: Ask, wanted: str, steps: list[str]) -> None:
    """422 unless the id was typed where a step cannot be undone."""
    if steps and ask.text("confirm").strip() != wanted:
        raise ProblemError(
            422, f"this cannot be undone ({', '.join(steps)})", field="confirm", value=ask.text("confirm"), way_out=f"type {wanted} to confirm"
        )


# -- approvals ---------------------------------------------------------------------------------------------------------------


def approve(ask: Ask) -> Response:
    """Approve a request; nothing starts before the undo window is over."""
    approval = _approval(ask, ask.id)
    if approval is not None and approval.status == "pending":
        check_typed(ask, approval.subject, irreversible_steps(ask.site.projection.state, approval))
    return pass_on(
        ask, path_of("approvals", ask.id, "decision"), {"decision": "approve", "plan_hash": ask.text("plan_hash"), "reason": ask.text("reason")}
    )


def reject(ask: Ask) -> Response:
    """Reject a request, with a reason."""
    approval = _approval(ask, ask.id)
    plan_hash = ask.text("plan_hash") or (approval.plan_hash if approval else "-")
    return pass_on(ask, path_of("approvals", ask.id, "decision"), {"decision": "reject", "plan_hash": plan_hash, "reason": ask.text("reason")})


def undo(ask: Ask) -> Response:
    """Take a grant back within the undo window."""
    return pass_on(ask, path_of("approvals", ask.id, "undo"), {"reason": ask.text("reason")})


def snooze(ask: Ask) -> Response:
    """Keep a request quiet for this person; it goes on waiting, and expires as it would."""
    if ask.session is None:
        raise ProblemError(409, "only a page can snooze", field="id", value=ask.id, way_out="log in with a browser")
    approval = _approval(ask, ask.id)
    if approval is None:
        raise ProblemError(404, "no such approval in this run", field="id", value=ask.id, way_out="see /api/approvals")
    minutes = ask.body.get("minutes", 5)
    if isinstance(minutes, bool) or not 0 <= minutes <= SNOOZE_MIN_MAX:
        raise ProblemError(400, "not a span that fits", field="minutes", value=minutes, way_out=f"0 to {SNOOZE_MIN_MAX}")
    until_us = ask.site.clock.now_us() + round(minutes * 60 * US)
    ask.site.sessions.snooze(ask.session, ask.id, until_us)
    return Response(encode({"id": ask.id, "snoozed_until_us": until_us, "expires_us": approval.expires_us}), content_type="application/json")


def decide_many(ask: Ask) -> Response:
    """Decide requests of equal signature together, each by the plan that was seen; never what cannot be undone."""
    hashes: dict[str, Any] = ask.body["plans"]
    decision, reason = ask.text("decision"), ask.text("reason")
    if not 1 <= len(hashes) <= BULK_MAX or not all(isinstance(plan_hash, str) for plan_hash in hashes.values()):
        raise ProblemError(400, "not a set of requests", field="plans", way_out=f"1 to {BULK_MAX} ids, each with the hash of its plan")
    state = ask.site.projection.state
    unknown = next((one for one in hashes if one not in state.approvals), None)
    if unknown is not None:
        raise ProblemError(404, "no such approval in this run", field="plans", value=unknown, way_out="see /api/approvals")
    approvals = [state.approvals[one] for one in hashes]
    if len({signature_of(state, one) for one in approvals}) > 1:
        raise ProblemError(409, "these requests are not alike", field="plans", way_out="decide them one by one")
    if decision == "approve" and any(irreversible_steps(state, one) for one in approvals):
        raise ProblemError(409, "what cannot be undone is decided one by one", field="plans", way_out="open each request")
    results = []
    for one in approvals:
        body = {"decision": decision, "plan_hash": hashes[one.request_id], "reason": reason}
        answer = _told(ask, path_of("approvals", one.request_id, "decision"), body, f":{one.request_id}")
        results.append({"id": one.request_id, "status": answer.status, "answer": answer.document})
    done = sum(result["status"] < 400 for result in results)
    return Response(encode({"decision": decision, "done": done, "refused": len(results) - done, "results": results}), content_type="application/json")


def roll_back(ask: Ask) -> Response:
    """Undo a plan that is under way."""
    return pass_on(ask, path_of("plans", ask.id, "roll-back"), {"reason": ask.text("reason")})


# -- agents ------------------------------------------------------------------------------------------------------------------


def contain_agent(ask: Ask) -> Response:
    """Contain an agent until released."""
    return pass_on(ask, path_of("agents", ask.id, "contain"), {"level": ask.text("level"), "reason": ask.text("reason")})


def release_agent(ask: Ask) -> Response:
    """End every containment of an agent."""
    return pass_on(ask, path_of("agents", ask.id, "release"), {"reason": ask.text("reason")})


def heal_agent(ask: Ask) -> Response:
    """Ask for a plan; with `now`, decide it by name; with `dry_run`, look at it. What cannot be undone must be typed."""
    path = path_of("agents", ask.id, "heal")
    if ask.body.get("dry_run") is True:
        return passed(ask, ask.site.daemon.ask("POST", path, token=ask.token, body={"dry_run": True}))
    if ask.body.get("now") is True:
        look = ask.site.daemon.ask("POST", path, token=ask.token, body={"dry_run": True})
        if look.status < 400 and isinstance(look.document, dict):
            check_typed(ask, ask.id, [str(one) for one in look.document.get("risk", {}).get("cannot_be_undone", [])])
    return pass_on(ask, path, {"now": ask.body.get("now") is True})


def heal_rejected(ask: Ask) -> Response:
    """Heal now, after a rejection: decided afresh and by name."""
    approval = _approval(ask, ask.id)
    if approval is None:
        raise ProblemError(404, "no such approval in this run", field="id", value=ask.id, way_out="see /api/approvals")
    ask.path = {"id": approval.subject}
    ask.body = {**ask.body, "now": True}
    return heal_agent(ask)


def reset_baseline(ask: Ask) -> Response:
    """What the agent does now is normal: closes its open incident as a new normal, and learns anew."""
    agent = ask.site.projection.state.agents.get(ask.id)
    if agent is not None and agent.incident_id:
        return pass_on(ask, path_of("incidents", agent.incident_id, "feedback"), {"verdict": "new_normal", "reason": ask.text("reason")})
    return pass_on(ask, path_of("agents", ask.id, "rebase"), {"reason": ask.text("reason")})


def mute_agent(ask: Ask) -> Response:
    """Keep an agent's incidents quiet until a time; hard limits stay."""
    return pass_on(ask, path_of("agents", ask.id, "mute"), {name: ask.text(name) for name in ("until", "vital", "reason") if ask.text(name)})


def report_agent(ask: Ask) -> Response:
    """Say that an agent is sick: evidence with a name on it."""
    return pass_on(ask, path_of("agents", ask.id, "report"), {"reason": ask.text("reason")})


def retire_agent(ask: Ask) -> Response:
    """Retire an agent."""
    return pass_on(ask, path_of("agents", ask.id, "retire"), {"reason": ask.text("reason")})


# -- incidents, cohorts, the fleet -------------------------------------------------------------------------------------------


def give_feedback(ask: Ask) -> Response:
    """A verdict on an incident: false alarm, new normal, or the actual cause."""
    body = {"verdict": ask.text("verdict"), "cause": ask.text("cause"), "reason": ask.text("reason")}
    return pass_on(ask, path_of("incidents", ask.id, "feedback"), {name: value for name, value in body.items() if value})


def announce(ask: Ask) -> Response:
    """Announce a change or a maintenance window of a cohort until a time."""
    return pass_on(ask, path_of("announcements"), {"cohort": ask.text("cohort"), "until": ask.text("until"), "reason": ask.text("reason")})


def contain_scope(ask: Ask) -> Response:
    """Contain the fleet, a service or a tool; the whole fleet only when ``fleet`` was typed."""
    if ask.text("scope") == "fleet":
        check_typed(ask, "fleet", ["it stops every agent"])
    body = {name: ask.text(name) for name in ("scope", "target", "level", "reason") if ask.text(name)}
    return pass_on(ask, path_of("containments"), body)


def release_scope(ask: Ask) -> Response:
    """End every containment of a target."""
    body = {name: ask.text(name) for name in ("reason", "scope") if ask.text(name)}
    return pass_on(ask, path_of("containments", ask.text("target"), "release"), body)


def _post(path: str, handler: Handler, summary: str, role: Role, *fields: BodyField) -> Route:
    return Route(method="POST", path=path, handler=handler, summary=summary, role=role, body=True, fields=fields)


UNTIL = BodyField(name="until", required=True, max_length=64, says="ISO 8601")
VITAL = BodyField(name="vital", max_length=100, says="of one vital only")
PLAN_HASH = BodyField(name="plan_hash", required=True, max_length=128, says="the hash of the plan that you saw")
NOW = (BodyField(name="now", type="boolean", says="decide it by name, at once"), BodyField(name="dry_run", type="boolean", says="only show the plan"))
VERDICT = BodyField(name="verdict", required=True, options=("false_alarm", "new_normal", "cause"), says="false_alarm, new_normal or cause")


def _agent_routes(path: str) -> tuple[Route, ...]:
    return (
        _post(f"{path}/contain", contain_agent, "Contain an agent until released", "operator", LEVEL, REASON),
        _post(f"{path}/release", release_agent, "End every containment of an agent", "operator", REASON),
        _post(f"{path}/heal", heal_agent, "Ask for a plan, look at it, or decide it by name", "operator", *NOW, CONFIRM),
        _post(f"{path}/reset-baseline", reset_baseline, "What it does now is normal", "operator", REASON),
        _post(f"{path}/mute", mute_agent, "Do not be told of it until a time", "operator", UNTIL, REASON, VITAL),
        _post(f"{path}/report", report_agent, "Say that an agent is sick", "operator", REASON),
        _post(f"{path}/retire", retire_agent, "Retire an agent", "operator", REASON),
    )


ROUTES: tuple[Route, ...] = (
    _post("/api/approvals/<id>/approve", approve, "Approve a request", "approver", PLAN_HASH, WHY, CONFIRM),
    _post(
        "/api/approvals/<id>/reject",
        reject,
        "Reject a request",
        "approver",
        REASON,
        BodyField(name="plan_hash", max_length=128, says="as for approve"),
    ),
    _post("/api/approvals/<id>/undo", undo, "Take a grant back within the undo window", "approver", WHY),
    _post(
        "/api/approvals/<id>/snooze",
        snooze,
        "Keep a request quiet for oneself",
        "viewer",
        BodyField(name="minutes", type="number", says="0 to 240, 5"),
    ),
    _post("/api/approvals/<id>/heal-now", heal_rejected, "Heal now, after a rejection", "approver", CONFIRM),
    _post(
        "/api/approvals/bulk",
        decide_many,
        "Decide requests of equal signature together",
        "approver",
        BodyField(name="decision", required=True, options=("approve", "reject"), says="approve or reject"),
        BodyField(name="plans", type="object", required=True, says="id -> hash of the plan that you saw"),
        REASON,
    ),
    _post("/api/healings/<id>/roll-back", roll_back, "Undo a plan that is under way", "approver", REASON),
    *_agent_routes("/api/agents/<path:id>"),
    *_agent_routes("/api/agent"),
    _post(
        "/api/incidents/<id>/feedback",
        give_feedback,
        "A verdict on an incident",
        "operator",
        VERDICT,
        WHY,
        BodyField(name="cause", says="a kind, or your own words"),
    ),
    _post(
        "/api/announcements",
        announce,
        "Announce a change or a maintenance window",
        "operator",
        BodyField(name="cohort", required=True, max_length=200, says="for example version=2"),
        UNTIL,
        WHY,
    ),
    _post(
        "/api/containments",
        contain_scope,
        "Contain the fleet, a service or a tool",
        "operator",
        BodyField(name="scope", required=True, options=("fleet", "service", "agent", "tool"), says="fleet, service, agent or tool"),
        BodyField(name="target", max_length=256, says="which one"),
        LEVEL,
        REASON,
        CONFIRM,
    ),
    _post(
        "/api/containments/release",
        release_scope,
        "End every containment of a target",
        "operator",
        BodyField(name="target", required=True, max_length=256, says="an agent, a service, a tool, or fleet"),
        BodyField(name="scope", options=("fleet", "service", "agent", "tool"), says="where the name has several meanings"),
        REASON,
    ),
)
