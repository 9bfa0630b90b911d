"""Deciding through the dashboard: under one's own name, by what was seen, and with the daemon's last word."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from immune.core import acts
from immune.core.decision import Decision
from immune.core.events import Draft
from tests.integration.daemon_kit import open_incident, open_request
from tests.integration.dashboard_kit import dashboard

US = 1_000_000
ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a long password of hers"


def lasting(made, request):
    """Make the plan of a request one that cannot be undone, as a later rung of the ladder is."""
    state = made.engine.state
    plan = state.plans[request["plan"]]
    steps = tuple(replace(step, note=replace(step.note, reversible=False, compensation="")) for step in plan.steps)
    state.plans[request["plan"]] = replace(plan, steps=steps)
    return request


async def test_a_person_approves_in_the_browser_and_the_journal_has_their_name(tmp_path):
    async with dashboard(tmp_path) as shown:
        request = open_request(shown.daemon)
        await shown.caught_up()
        person = await shown.browser("approver")
        found = (await person.get(f"/api/approvals/{request['id']}")).document
        assert found["actions"]["approve"]["allowed"]
        assert found["approval"]["plan"]["steps"]
        assert found["approval"]["reach"]["agents"] == 1
        answer = await person.post(f"/api/approvals/{request['id']}/approve", {"plan_hash": found["approval"]["plan_hash"], "reason": "seen"})
        assert (answer.status, answer.document["by"], answer.document["status"]) == (200, "person:approver", "granted")
        granted = shown.daemon.events("approval_granted")[0]
        assert granted.actor == "person:approver"
        # the answer comes when the pages know of it
        assert shown.served.site.projection.state.approvals[request["id"]].status == "granted"
        undone = await person.post(f"/api/approvals/{request['id']}/undo", {"reason": "a slip"})
        assert (undone.status, undone.document["status"]) == (200, "rejected")


async def test_the_second_person_learns_who_decided_and_when(tmp_path):
    async with dashboard(tmp_path) as shown:
        request = open_request(shown.daemon)
        await shown.caught_up()
        first, second = await shown.browser("approver"), await shown.browser("admin")
        body = {"plan_hash": request["plan_hash"], "reason": "enough seen"}
        assert (await first.post(f"/api/approvals/{request['id']}/reject", body)).status == 200
        answer = await second.post(f"/api/approvals/{request['id']}/approve", body)
        assert answer.status == 409
        assert "rejected by person:approver at 2026" in answer.document["detail"]
        found = (await second.get("/api/rejected")).document["rejected"][0]
        assert (found["id"], found["decided_by"], found["reason"], found["heal_now"]) == (request["id"], "person:approver", "enough seen", True)


async def test_an_expired_request_and_another_plan_are_refused_as_the_daemon_refuses_them(tmp_path):
    async with dashboard(tmp_path) as shown:
        request = open_request(shown.daemon)
        await shown.caught_up()
        person = await shown.browser("approver")
        path = f"/api/approvals/{request['id']}/approve"
        assert (await person.post(path, {"plan_hash": "another"})).status == 412
        assert (await person.post("/api/approvals/req-99/approve", {"plan_hash": "x"})).status == 404
        shown.daemon.clock.at_us += 901 * US
        answer = await person.post(path, {"plan_hash": request["plan_hash"]})
        assert answer.status == 410
        assert answer.document["request_id"] == answer.headers["X-Request-Id"]


async def test_what_cannot_be_undone_must_be_typed_and_is_never_decided_in_bulk(tmp_path):
    async with dashboard(tmp_path) as shown:
        made = shown.daemon
        one, two = open_request(made, "sick-1"), open_request(made, "sick-2")
        await shown.caught_up()
        person = await shown.browser("approver")
        plans = {one["id"]: one["plan_hash"], two["id"]: two["plan_hash"]}
        for request in (one, two):
            lasting(shown.served.site.projection and ShownAs(shown), request)
        path = f"/api/approvals/{one['id']}/approve"
        for typed in ({}, {"confirm": "sick-2"}, {"confirm": "SICK-1"}):
            answer = await person.post(path, {"plan_hash": one["plan_hash"], **typed})
            assert (answer.status, answer.document["field"]) == (422, "confirm")
        refused = await person.post("/api/approvals/bulk", {"decision": "approve", "plans": plans, "reason": "both"})
        assert (refused.status, made.kinds().count("approval_granted")) == (409, 0)
        assert (await person.post(path, {"plan_hash": one["plan_hash"], "confirm": "sick-1"})).status == 200


class ShownAs:
    """The dashboard's own state, with the shape `lasting` wants."""

    def __init__(self, shown):
        self.engine = self
        self.state = shown.served.site.projection.state


async def test_requests_that_are_alike_are_decided_together_others_are_not(tmp_path):
    async with dashboard(tmp_path) as shown:
        made = shown.daemon
        one, two = open_request(made, "sick-1"), open_request(made, "sick-2")
        await shown.caught_up()
        person = await shown.browser("approver")
        rows = (await person.get("/api/pending")).document["pending"]
        assert len({row["signature"] for row in rows}) == 1
        plans = {one["id"]: one["plan_hash"], two["id"]: "stale"}
        answer = await person.post("/api/approvals/bulk", {"decision": "approve", "plans": plans, "reason": "both seen"})
        assert (answer.document["done"], answer.document["refused"]) == (1, 1)
        assert {result["id"]: result["status"] for result in answer.document["results"]} == {one["id"]: 200, two["id"]: 412}
        other = ShownAs(shown).state.plans[two["plan"]]
        shown.served.site.projection.state.plans[two["plan"]] = replace(other, signature="another illness")
        unlike = await person.post("/api/approvals/bulk", {"decision": "approve", "plans": plans, "reason": "both"})
        assert unlike.status == 409


async def test_a_rejection_needs_a_reason_and_heal_now_goes_on_after_it(tmp_path):
    async with dashboard(tmp_path) as shown:
        request = open_request(shown.daemon)
        await shown.caught_up()
        person = await shown.browser("approver")
        path = f"/api/approvals/{request['id']}"
        assert (await person.post(f"{path}/reject", {"reason": ""})).document["field"] == "reason"
        assert (await person.post(f"{path}/reject", {"reason": "not now"})).status == 200
        actions = (await person.get("/api/agent?id=sick-1")).document["actions"]
        assert (actions["heal"]["allowed"], actions["heal_now"]["allowed"]) == (False, True)
        answer = await person.post(f"{path}/heal-now", {})
        assert answer.status == 200, answer.text
        assert shown.daemon.events("plan_proposed")[-1].actor == "person:approver"


async def test_snoozing_is_for_oneself_and_changes_nothing_for_the_daemon(tmp_path):
    async with dashboard(tmp_path) as shown:
        request = open_request(shown.daemon)
        await shown.caught_up()
        person, other = await shown.browser("approver"), await shown.browser("admin")
        seq = shown.daemon.engine.state.seq
        assert (await person.post(f"/api/approvals/{request['id']}/snooze", {"minutes": 7})).status == 200
        assert request["id"] in (await person.get("/api/session")).document["snoozed"]
        assert (await other.get("/api/session")).document["snoozed"] == {}
        assert (await person.post(f"/api/approvals/{request['id']}/snooze", {"minutes": 999})).status == 400
        assert shown.daemon.engine.state.seq == seq


async def test_what_an_operator_does_to_an_agent_is_an_event_with_their_name(tmp_path):
    async with dashboard(tmp_path) as shown:
        incident = open_incident(shown.daemon, "sick-1")
        open_incident(shown.daemon, "sick-2")
        await shown.caught_up()
        person = await shown.browser("operator")
        looked = await person.post("/api/agents/sick-1/heal", {"dry_run": True})
        assert (looked.status, looked.document["dry_run"]) == (200, True)
        for path, body, kind in (
            ("/api/agents/sick-1/contain", {"level": "isolated", "reason": "look"}, "contained"),
            ("/api/agents/sick-1/report", {"reason": "it swears"}, "sickness_reported"),
            ("/api/agents/sick-1/heal", {}, "plan_proposed"),
            ("/api/announcements", {"cohort": "version=2", "until": "2026-01-01T02:00:00Z", "reason": "deploy"}, "change_announced"),
            (f"/api/incidents/{incident}/feedback", {"verdict": "cause", "cause": "a bad prompt"}, "feedback_given"),
            ("/api/agents/sick-2/reset-baseline", {"reason": "it is meant so"}, "feedback_given"),
        ):
            answer = await person.post(path, body)
            assert answer.status == 200, (path, answer.text)
            assert shown.daemon.events(kind)[-1].actor == "person:operator", path
        assert (await person.post("/api/agents/sick-1/heal", {"now": True})).status == 403
        assert (await person.post("/api/containments", {"scope": "fleet", "level": "isolated", "reason": "stop"})).document["field"] == "confirm"
        stopped = await person.post("/api/containments", {"scope": "fleet", "level": "isolated", "reason": "stop", "confirm": "fleet"})
        assert stopped.status == 200
        assert (await person.post("/api/containments/release", {"target": "fleet", "scope": "fleet", "reason": "go on"})).status == 200


async def test_scripts_decide_with_a_token_and_one_key_has_one_effect(tmp_path):
    async with dashboard(tmp_path) as shown:
        request = open_request(shown.daemon)
        await shown.caught_up()
        script = shown.script("approver")
        body = {"plan_hash": request["plan_hash"]}
        first = await script.post(f"/api/approvals/{request['id']}/approve", body, Idempotency_Key="key-1")
        again = await script.post(f"/api/approvals/{request['id']}/approve", body, Idempotency_Key="key-1")
        assert (first.status, again.status, first.document) == (200, 200, again.document)
        assert len(shown.daemon.events("approval_granted")) == 1


async def test_buttons_say_why_they_cannot_be_pressed(tmp_path):
    async with dashboard(tmp_path) as shown:
        request = open_request(shown.daemon)
        await shown.caught_up()
        viewer, nobody = shown.script("viewer"), shown.page()
        approve = (await viewer.get(f"/api/approvals/{request['id']}")).document["actions"]["approve"]
        assert (approve["allowed"], approve["why"]) == (False, "the role viewer may not do this; ask for the role approver")
        assert (await nobody.get("/api/agent?id=sick-1")).document["actions"]["contain"]["why"] == "log in to decide"
        assert (await viewer.post(f"/api/approvals/{request['id']}/approve", {"plan_hash": request["plan_hash"]})).status == 403


def add_person(folder, name, role):
    """As an admin does it, in a process of its own."""
    command = [sys.executable, "-m", "immune", "people", "add", name, "--role", role, "--password-stdin", "--data-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, input=PASSWORD + "\n", text=True, check=True, capture_output=True, timeout=60)


async def test_a_person_logs_in_with_a_password_and_what_they_decide_has_their_name(tmp_path):
    async with dashboard(tmp_path, login=True) as shown:
        await asyncio.to_thread(add_person, tmp_path, "ada", "approver")
        request = open_request(shown.daemon)
        await shown.caught_up()
        person = shown.page()
        for name, password in (("ada", "not her password at all"), ("nobody", PASSWORD)):
            wrong = await person.login(name=name, password=password)
            assert (wrong.status, wrong.document["detail"].partition(";")[0]) == (401, "this is not valid")
            assert password not in wrong.text
        assert (await person.get("/api/agents")).status == 401
        answer = await person.login(name="ada", password=PASSWORD)
        assert (answer.status, answer.document["name"], answer.document["role"]) == (200, "ada", "approver"), answer.text
        assert "HttpOnly" in answer.headers["Set-Cookie"]
        assert (await person.get("/api/session")).document["name"] == "ada"
        path = f"/api/approvals/{request['id']}/approve"
        decided = await person.post(path, {"plan_hash": request["plan_hash"]})
        assert decided.status == 200, decided.text
        granted = shown.daemon.events("approval_granted")[0]
        assert granted.actor == "person:ada"
        token = next(iter(shown.served.site.sessions._sessions.values())).token
        assert (await person.post("/api/logout")).status == 200
        assert (await person.get("/api/agents")).status == 401
        assert (await shown.page(token).get("/api/agents")).status == 401, "the daemon's session ended, too"


async def test_a_person_who_may_only_look_is_told_which_role_decides(tmp_path):
    async with dashboard(tmp_path) as shown:
        await asyncio.to_thread(add_person, tmp_path, "grace", "viewer")
        request = open_request(shown.daemon)
        await shown.caught_up()
        person = shown.page()
        assert (await person.login(name="grace", password=PASSWORD)).document["role"] == "viewer"
        refused = await person.post(f"/api/approvals/{request['id']}/approve", {"plan_hash": request["plan_hash"]})
        assert (refused.status, refused.document["field"]) == (403, "role")
        assert "approver" in refused.document["detail"] + (refused.document["way_out"] or "")
        actions = (await person.get(f"/api/approvals/{request['id']}")).document["actions"]
        assert actions["approve"]["why"] == "the role viewer may not do this; ask for the role approver"


async def test_who_guesses_passwords_waits_and_the_right_one_does_not_help_meanwhile(tmp_path):
    async with dashboard(tmp_path) as shown:
        await asyncio.to_thread(add_person, tmp_path, "ada", "approver")
        page = shown.page()
        answers = [await page.login(name="ada", password=f"guess number {number}") for number in range(14)]
        assert answers[0].status == 401
        assert answers[-1].status == 429
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert (await page.login(name="ada", password=PASSWORD)).status == 429


async def test_while_the_daemon_is_away_pages_go_on_say_so_and_nothing_is_done(tmp_path):
    async with dashboard(tmp_path) as shown:
        request = open_request(shown.daemon)
        await shown.caught_up()
        person = await shown.browser("approver")
        await shown.daemon.server.close()
        await shown.until(lambda: shown.served.site.daemon.status.word == "away")
        assert (await person.get("/api/agents")).document["total"] == 1
        found = (await person.get(f"/api/approvals/{request['id']}")).document
        assert "the daemon is away" in found["actions"]["approve"]["why"]
        assert any("away" in one["detail"] for one in (await person.get("/api/system")).document["troubles"])
        answer = await person.post(f"/api/approvals/{request['id']}/approve", {"plan_hash": request["plan_hash"]})
        assert (answer.status, answer.document["status"]) == (503, 503)
        assert (await person.get("/readyz")).status == 200
        assert not [one for one in shown.daemon.engine.journal.read("run-1") if one.kind == acts.ApprovalGranted.kind]
        await asyncio.sleep(0)


async def test_a_plan_under_way_is_rolled_back_by_name(tmp_path):
    async with dashboard(tmp_path) as shown:
        made, request = shown.daemon, open_request(shown.daemon)
        await shown.caught_up()
        person = await shown.browser("approver")
        path = f"/api/healings/{request['plan']}/roll-back"
        early = await person.post(path, {"reason": "too early"})
        assert early.status == 409
        done = (
            acts.PlanStarted(plan_id=request["plan"], request_id=request["id"], trigger="after_approval"),
            acts.StepStarted(plan_id=request["plan"], step=0, action="reset_memory", key="k"),
            acts.StepFinished(plan_id=request["plan"], step=0, action="reset_memory", outcome="succeeded", detail=""),
        )
        made.engine.submit(Decision(drafts=tuple(Draft(at_us=made.clock.at_us, subject="sick-1", event=event) for event in done)))
        await shown.caught_up()
        plan = (await person.get("/api/agent?id=sick-1")).document["plans"][0]
        assert plan["actions"]["roll_back"]["allowed"]
        answer = await person.post(path, {"reason": "it was the wrong one"})
        assert answer.status == 200, answer.text
        started = made.events("compensation_started")[0]
        assert (started.actor, started.event().reason) == ("person:approver", "rolled back by a person: it was the wrong one")
        assert made.engine.state.plans[request["plan"]].status == "compensating"
        await made.tick(3)
        assert made.engine.state.plans[request["plan"]].status == "ended"
        assert (await person.post(path, {"reason": "again"})).status == 409


async def test_a_healthy_agent_is_learned_anew_when_a_person_says_so(tmp_path):
    async with dashboard(tmp_path) as shown:
        await shown.daemon.vitals({"agent": "calm-1", "latency_ms": 100})
        await shown.daemon.tick(2)
        await shown.caught_up()
        person = await shown.browser("operator")
        assert (await person.post("/api/agents/calm-1/reset-baseline", {"reason": "a new model"})).status == 200
        event = shown.daemon.events("rebased")[0]
        assert (event.actor, event.event().agents) == ("person:operator", ("calm-1",))
        until = {"until": "2026-01-01T01:00:00Z", "reason": "a load test"}
        assert (await person.post("/api/agents/calm-1/mute", until)).status == 200
        assert shown.daemon.events("muted")[0].actor == "person:operator"
