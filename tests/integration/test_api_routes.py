"""Every route for every role, the answers that are not 200, and what a stranger may try."""

from __future__ import annotations

import asyncio
import io
import json
import re
from urllib.parse import quote

import pytest

from immune.api.app import ROUTES
from immune.core.events import iso
from tests.integration.daemon_kit import ROLES, START_US, US, daemon, open_incident, open_request, with_limits

BODIES = {
    "/v1/vitals": {"samples": [{"agent": "agent", "latency_ms": 1}]},
    "/v1/approvals/{id}/decision": {"decision": "approve", "plan_hash": "0" * 64},
    "/v1/agents": {"id": "fresh"},
    "/v1/agents/{id}/contain": {"level": "throttled", "reason": "r"},
    "/v1/incidents/{id}/feedback": {"verdict": "false_alarm"},
    "/v1/announcements": {"cohort": "version=2", "until": START_US / US + 3600},
    "/v1/agents/{id}/mute": {"until": START_US / US + 3600, "reason": "r"},
    "/v1/containments": {"scope": "fleet", "level": "throttled", "reason": "r"},
    "/v1/agents/{id}/heal": {},
}
REASON = {"reason": "r"}


def test_every_route_is_in_the_table_once():
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert all(route.command for route in ROUTES if route.method != "GET")
    assert {route.path for route in ROUTES if not route.roles} == {"/healthz", "/readyz", "/openapi.json", "/v1/login"}


@pytest.mark.fault("F36")
async def test_every_route_lets_in_exactly_the_roles_of_its_row(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": "agent"})
        await made.tick()
        for route in ROUTES:
            if route.path in {"/v1/stream", "/v1/login"}:  # tests/integration/test_api_login.py
                continue
            path = route.path.replace("{id}", "agent")
            body = BODIES.get(route.path, REASON) if route.body != "none" else None
            for who in (None, *ROLES, "admin"):
                made.clock.at_us += US
                before = len(made.events("command_refused"))
                answer = await made.ask(route.method, path, body, who=who)
                refusals = len(made.events("command_refused")) - before
                where = f"{who} {route.method} {path}: {answer.status} {answer.text[:200]}"
                if not route.roles:
                    assert answer.status in {200, 503}, where
                elif who is None:
                    assert (answer.status, refusals) == (401, 0), where
                    assert answer.headers["WWW-Authenticate"].startswith("Bearer"), where
                elif who in route.roles:
                    assert answer.status not in {401, 403, 405, 500}, where
                else:
                    assert answer.status == 403, where
                    assert refusals == (1 if route.method != "GET" else 0), where


async def test_every_answer_that_fails_is_a_problem_document_with_its_request_id(tmp_path):
    async with daemon(tmp_path) as made:
        deep = b"[" * 100_000 + b"]" * 100_000
        tries = [
            (404, await made.ask("GET", "/nowhere")),
            (405, await made.ask("PUT", "/v1/agents", {})),
            (401, await made.ask("GET", "/v1/agents", who=None)),
            (401, await made.ask("GET", "/v1/agents", who=None, Authorization="Bearer imm_admin_wrong-token-of-some-length")),
            (401, await made.ask("GET", "/v1/agents", who=None, Authorization="Basic YWRtaW46YWRtaW4=")),
            (404, await made.ask("GET", "/v1/agents/nobody")),
            (404, await made.ask("GET", "/v1/incidents/inc-9999")),
            (404, await made.ask("GET", "/v1/why/nothing")),
            (404, await made.ask("POST", "/v1/approvals/req-9999/decision", {"decision": "approve", "plan_hash": "x"})),
            (404, await made.ask("POST", "/v1/agents/nobody/contain", {"level": "isolated", "reason": "r"})),
            (404, await made.ask("POST", "/v1/containments", {"scope": "service", "target": "nothing", "level": "isolated", "reason": "r"})),
            (400, await made.ask("GET", "/v1/agents?limit=-1")),
            (400, await made.ask("GET", "/v1/agents?limit=1000000000000000000000")),
            (400, await made.ask("GET", "/v1/approvals?status=perhaps")),
            (400, await made.ask("GET", "/v1/stream", Last_Event_ID="seven")),
            (400, await made.ask("POST", "/v1/stop", raw=b"{")),
            (400, await made.ask("POST", "/v1/stop", raw=deep)),
            (400, await made.ask("POST", "/v1/stop", raw=b'{"reason": "\xff"}')),
            (400, await made.ask("POST", "/v1/stop", raw=b'{"reason": "\\ud800"}')),
            (400, await made.ask("POST", "/v1/stop", raw=b"[]")),
            (400, await made.ask("POST", "/v1/stop", raw=b'{"reason": 7}')),
            (400, await made.ask("POST", "/v1/stop", raw=b'{"reason": ' + b"1" * 5000 + b"}")),
            (400, await made.ask("POST", "/v1/stop", {})),
            (400, await made.ask("POST", "/v1/stop", {"reason": "   "})),
            (400, await made.ask("POST", "/v1/stop", {"reason": "r" * 501})),
            (400, await made.ask("POST", "/v1/stop", {"reason": "r", "surprise": 1})),
            (400, await made.ask("POST", "/v1/agents/a/contain", {"level": "vaporised", "reason": "r"})),
            (400, await made.ask("POST", "/v1/containments", {"scope": "galaxy", "level": "isolated", "reason": "r"})),
            (400, await made.ask("POST", "/v1/announcements", {"cohort": "version=2", "until": "later"})),
            (400, await made.ask("POST", "/v1/announcements", {"cohort": "version=2", "until": 1})),
            (400, await made.ask("POST", "/v1/vitals", {"rows": []})),
            (400, await made.ask("POST", "/v1/vitals", raw=deep)),
            (415, await made.ask("POST", "/v1/stop", raw=b'{"reason": "r"}', Content_Type="text/plain")),
            (415, await made.ask("POST", "/v1/vitals", raw=b"a,b", Content_Type="text/csv")),
            (415, await made.ask("POST", "/v1/stop", raw=b"\x1f\x8b", Content_Encoding="gzip")),
            (400, await made.ask("POST", "/v1/stop", {"reason": "r"}, Idempotency_Key="k" * 256)),
            (404, await made.ask("POST", "/v1/containments/nobody/release", {"reason": "r"})),
            (409, await _release_of_a_free_one(made)),
        ]
        for status, answer in tries:
            where = f"{status}: {answer.status} {answer.text[:300]}"
            assert answer.status == status, where
            assert answer.headers["Content-Type"].startswith("application/problem+json"), where
            assert set(answer.document) == {"type", "title", "status", "detail", "field", "value", "way_out", "request_id"}, where
            assert answer.document["status"] == status
            assert answer.document["request_id"] == answer.headers["X-Request-Id"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert len(answer.text) < 2000, where
        assert made.api.context.counters.bugs == 0
        assert made.engine.state.active_containments == (), "nothing of all that had an effect"


async def _release_of_a_free_one(made):
    await made.ask("POST", "/v1/agents", {"id": "free"})
    return await made.ask("POST", "/v1/agents/free/release", {"reason": "r"})


@pytest.mark.fault("F42")
async def test_no_token_appears_in_an_answer_a_log_or_the_journal(tmp_path, caplog):
    async with daemon(tmp_path) as made:
        caplog.set_level("DEBUG")
        token = made.token["viewer"]
        texts = [
            (await made.ask("GET", "/v1/agents", who=None, Authorization=f"Bearer {token}x")).text,
            (await made.ask("POST", "/v1/stop", {"reason": "r"}, who="viewer")).text,
            (await made.ask("GET", "/nowhere", who="viewer")).text,
            (await made.ask("GET", "/metrics", who="viewer")).text,
        ]
        secret = token.split("_", 2)[2]
        assert not [text for text in texts if secret in text]
        assert secret not in caplog.text
        assert not [e for e in made.engine.journal.read("run-1") if secret in json.dumps(e.as_json())]


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    async with daemon(tmp_path, policy=with_limits(max_body_bytes=1024)) as made:
        answer = await made.ask("POST", "/v1/vitals", raw=io.BytesIO(b"x" * 50_000_000))
        assert answer.status == 413

        sent = 0

        async def endless():
            nonlocal sent
            while True:
                sent += 65_536
                yield b"x" * 65_536

        headers = {"Authorization": f"Bearer {made.token['admin']}", "Content-Type": "application/json"}
        try:
            async with made.session.post(made.server.url + "/v1/vitals", data=endless(), headers=headers) as response:
                assert response.status == 413
        except ConnectionError:
            pass  # cut off in the middle of its flood, which is as good
        assert sent < 20_000_000
        assert (await made.ask("GET", "/healthz", who=None)).status == 200


async def test_too_many_samples_in_one_request_are_refused_whole(tmp_path):
    async with daemon(tmp_path, policy=with_limits(max_samples_per_request=2)) as made:
        assert (await made.vitals(*[{"agent": "a"}] * 3)).status == 413
        lines = b'{"agent": "a"}\n' * 3
        assert (await made.ask("POST", "/v1/vitals", raw=lines, Content_Type="application/x-ndjson")).status == 413
        assert made.ingest.waiting == 0


@pytest.mark.fault("F35")
async def test_a_page_of_another_origin_cannot_make_a_browser_act(tmp_path):
    async with daemon(tmp_path) as made:
        host = made.server.url.removeprefix("http://")
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://["},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ):
            answer = await made.ask("POST", "/v1/stop", {"reason": "r"}, **headers)
            assert answer.status == 403, headers
        assert len(made.events("command_refused")) == 5
        assert made.engine.state.active_containments == ()
        assert (await made.ask("GET", "/v1/agents", Origin="http://evil.example")).status == 200, (
            "reading needs a token, and no CORS header lets a page see it"
        )
        assert (await made.ask("POST", "/v1/stop", {"reason": "r"}, Origin=f"http://{host}", Sec_Fetch_Site="same-origin")).status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "169.254.169.254", "[::2]:1"])
@pytest.mark.fault("F35")
async def test_a_name_that_was_pointed_here_is_not_answered(tmp_path, host):
    async with daemon(tmp_path) as made:
        assert (await made.ask("GET", "/healthz", who=None, Host=host)).status == 421


async def test_who_fails_too_often_is_slowed_down_and_nobody_else(tmp_path):
    async with daemon(tmp_path) as made:
        statuses = [(await made.ask("GET", "/v1/agents", who=None)).status for _ in range(25)]
        assert statuses == [401] * 20 + [429] * 5
        assert (await made.ask("GET", "/v1/agents")).status == 200
        made.clock.at_us += 2 * US
        assert (await made.ask("GET", "/v1/agents", who=None)).status == 401


async def test_a_client_that_runs_wild_is_slowed_down_and_nobody_else(tmp_path):
    async with daemon(tmp_path, policy=with_limits(requests_per_s=5.0)) as made:
        answers = [await made.ask("GET", "/v1/agents", who="viewer") for _ in range(12)]
        assert [answer.status for answer in answers] == [200] * 10 + [429] * 2
        assert answers[-1].headers["Retry-After"] == "1"
        assert (await made.ask("GET", "/v1/agents", who="operator")).status == 200
        made.clock.at_us += US
        assert (await made.ask("GET", "/v1/agents", who="viewer")).status == 200


async def test_a_revoked_token_is_worthless_at_once(tmp_path):
    async with daemon(tmp_path) as made:
        assert (await made.ask("GET", "/v1/agents", who="viewer")).status == 200
        made.tokens.revoke("viewer")
        assert (await made.ask("GET", "/v1/agents", who="viewer")).status == 401


# -- approvals -----------------------------------------------------------------------------------------------------------


async def test_the_answers_to_a_decision(tmp_path):
    async with daemon(tmp_path) as made:
        request = open_request(made)
        path, body = f"/v1/approvals/{request['id']}/decision", {"decision": "approve", "plan_hash": request["plan_hash"], "reason": "looks right"}
        assert (await made.ask("POST", path, body, who="operator")).status == 403
        assert (await made.ask("POST", path, body, who="agent")).status == 403
        assert (await made.ask("POST", path, {**body, "plan_hash": "0" * 64}, who="approver")).status == 412
        assert (await made.ask("POST", path, {"decision": "reject", "plan_hash": request["plan_hash"]}, who="approver")).status == 400
        granted = await made.ask("POST", path, body, who="approver")
        assert granted.status == 200
        assert granted.document["status"] == "granted"
        assert granted.document["by"] == "person:approver"
        assert granted.document["not_before"] == iso(made.clock.at_us + 5 * US)
        [event] = made.events("approval_granted")
        assert granted.document["events"] == [event.id]
        again = await made.ask("POST", path, body, who="admin")
        assert again.status == 409
        assert f"approved by person:approver at {iso(made.clock.at_us)}" in again.document["detail"]
        assert [(e.event().status, e.actor) for e in made.events("command_refused")] == [
            (403, "person:operator"),
            (403, "agent:agent"),
            (412, "person:approver"),
            (409, "person:admin"),
        ]
        shown = (await made.ask("GET", f"/v1/approvals/{request['id']}", who="viewer")).document
        assert (shown["status"], shown["decided_by"], shown["plan"]["id"]) == ("granted", "person:approver", request["plan"])
        back = await made.ask("POST", f"/v1/approvals/{request['id']}/undo", {"reason": "wait"}, who="approver")
        assert (back.status, back.document["status"]) == (200, "rejected")
        assert (await made.ask("POST", f"/v1/approvals/{request['id']}/undo", {}, who="approver")).status == 409


@pytest.mark.fault("F38")
async def test_an_expired_request_is_gone(tmp_path):
    async with daemon(tmp_path) as made:
        request = open_request(made)
        made.clock.at_us += 901 * US
        body = {"decision": "approve", "plan_hash": request["plan_hash"]}
        assert (await made.ask("POST", f"/v1/approvals/{request['id']}/decision", body, who="approver")).status == 410
        assert made.events("approval_granted") == []


@pytest.mark.fault("F37")
async def test_of_200_decisions_at_once_one_counts(tmp_path):
    async with daemon(tmp_path) as made:
        for n in range(4):
            made.token[f"ap{n}"] = made.tokens.create(f"ap{n}", "approver")
        request = open_request(made)
        path = f"/v1/approvals/{request['id']}/decision"

        def decide(n):
            decision = "approve" if n % 2 else "reject"
            return made.ask("POST", path, {"decision": decision, "plan_hash": request["plan_hash"], "reason": "r"}, who=f"ap{n % 4}")

        answers = await asyncio.gather(*(decide(n) for n in range(200)))
        assert sorted(answer.status for answer in answers) == [200] + [409] * 199
        winner = next(answer.document["by"] for answer in answers if answer.status == 200)
        assert all(winner in answer.document["detail"] and "2026-01-01T" in answer.document["detail"] for answer in answers if answer.status == 409)
        assert len(made.events("approval_granted")) + len(made.events("approval_closed")) == 1
        assert len(made.events("command_refused")) == 199


# -- what people do ------------------------------------------------------------------------------------------------------


async def test_a_dry_run_shows_steps_risk_and_undo_and_does_nothing(tmp_path):
    async with daemon(tmp_path) as made:
        open_incident(made)
        before = made.engine.state.seq
        answer = await made.ask("POST", "/v1/agents/sick-1/heal", {"dry_run": True}, who="operator")
        assert answer.status == 200
        assert answer.document["steps"][0]["action"]
        assert {"tier", "reversible", "undo", "timeout_s", "summary"} < set(answer.document["steps"][0])
        assert answer.document["risk"]["tier"] >= 1
        assert answer.document["would_ask_a_person"] is True
        assert made.engine.state.seq == before


async def test_heal_asks_and_heal_now_needs_an_approver_and_goes_by_name(tmp_path):
    async with daemon(tmp_path) as made:
        open_incident(made)
        asked = await made.ask("POST", "/v1/agents/sick-1/heal", {}, who="operator")
        assert asked.document["approval"] == "req-0001"
        assert (await made.ask("POST", "/v1/agents/sick-1/heal", {}, who="operator")).status == 409
        assert (await made.ask("POST", "/v1/agents/sick-1/heal", {"now": True}, who="operator")).status == 403
        body = {"decision": "reject", "plan_hash": asked.document["plan_hash"], "reason": "not yet"}
        assert (await made.ask("POST", "/v1/approvals/req-0001/decision", body, who="approver")).status == 200
        assert (await made.ask("POST", "/v1/agents/sick-1/heal", {}, who="operator")).status == 409
        by_name = await made.ask("POST", "/v1/agents/sick-1/heal", {"now": True}, who="approver")
        assert (by_name.status, by_name.document["approval"]) == (200, None)
        assert made.events("plan_proposed")[-1].actor == "person:approver"


async def test_stopping_the_fleet_is_one_event_and_holds_for_who_comes_later(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": "a"}, {"agent": "b"})
        await made.tick()
        before = made.engine.state.seq
        stopped = await made.ask("POST", "/v1/stop", {"reason": "drill"}, who="operator")
        assert stopped.status == 200
        assert made.engine.state.seq == before + 1
        await made.vitals({"agent": "late"})
        await made.tick()
        for agent in ("a", "b", "late", "never-seen"):
            gate = (await made.ask("GET", f"/v1/gate/{agent}")).document
            assert (gate["allowed"], gate["level"], gate["reason"]) == (False, "isolated", "drill (person:operator)"), agent
        assert (await made.ask("POST", "/v1/containments/fleet/release", {"reason": "over"}, who="operator")).status == 200
        for agent in ("a", "late", "never-seen"):
            assert (await made.ask("GET", f"/v1/gate/{agent}")).document["allowed"] is True


async def test_a_tool_is_turned_off_for_everybody_and_on_again(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": "a"})
        await made.tick()
        body = {"scope": "tool", "target": "shell/rm -rf", "level": "restricted", "reason": "r"}
        assert (await made.ask("POST", "/v1/containments", body, who="operator")).status == 200
        gate = (await made.ask("GET", "/v1/gate/a")).document
        assert (gate["allowed"], gate["level"], gate["tools_off"]) == (True, "none", ["shell/rm -rf"])
        assert (await made.ask("DELETE", "/v1/containments/shell%2Frm%20-rf?reason=mended", who="operator")).status == 200
        assert (await made.ask("GET", "/v1/gate/a")).document["tools_off"] == []


async def test_a_throttled_agent_may_act_and_is_told_its_level(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": "a"})
        await made.tick()
        assert (await made.ask("POST", "/v1/agents/a/contain", {"level": "throttled", "reason": "r"}, who="operator")).status == 200
        gate = (await made.ask("GET", "/v1/gate/a")).document
        assert (gate["allowed"], gate["level"], gate["tools_off"], gate["until"]) == (True, "throttled", [], None)
        await made.tick()
        assert made.engine.state.agents["a"].observed == "throttled"


async def test_looking_at_a_gate_is_not_the_agent_asking(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": "a"})
        await made.tick()
        await made.ask("POST", "/v1/agents/a/contain", {"level": "isolated", "reason": "r"}, who="operator")
        for who, path in (("viewer", "/v1/gate/a"), ("admin", "/v1/gate/a?look=1")):
            assert (await made.ask("GET", path, who=who)).document["allowed"] is False
            await made.tick()
            assert made.engine.state.agents["a"].observed == "none"
        await made.ask("GET", "/v1/gate/a", who="operator")
        await made.tick()
        assert made.engine.state.agents["a"].observed == "isolated"


async def test_ids_that_nobody_knows_leave_no_trace_at_the_gate(tmp_path):
    async with daemon(tmp_path) as made:
        await made.ask("POST", "/v1/stop", {"reason": "r"})
        for n in range(50):
            assert (await made.ask("GET", f"/v1/gate/ghost-{n}")).document["known"] is False
        assert made.gate._told == {}


async def test_feedback_announcements_reports_and_retirement_are_events_with_a_name(tmp_path):
    async with daemon(tmp_path) as made:
        incident = open_incident(made)
        await made.vitals({"agent": "agent"}, who="agent")
        await made.tick()
        assert (await made.ask("POST", "/v1/agents/sick-1/report", {"reason": "talks nonsense"}, who="agent")).status == 200
        assert (await made.ask("POST", f"/v1/incidents/{incident}/feedback", {"verdict": "false_alarm"}, who="operator")).status == 200
        body = {"cohort": "version=2", "until": iso(made.clock.at_us + 3600 * US), "reason": "deploy"}
        assert (await made.ask("POST", "/v1/announcements", body, who="operator")).status == 200
        assert (await made.ask("POST", "/v1/agents/sick-1/retire", {"reason": "old"}, who="operator")).status == 200
        assert (await made.ask("POST", "/v1/agents/sick-1/retire", {}, who="operator")).status == 409
        actors = {kind: made.events(kind)[-1].actor for kind in ("sickness_reported", "feedback_given", "change_announced", "liveness_changed")}
        assert actors == {
            "sickness_reported": "agent:agent",
            "feedback_given": "person:operator",
            "change_announced": "person:operator",
            "liveness_changed": "person:operator",
        }


async def test_who_is_enrolled_while_the_fleet_is_stopped_is_held_at_once(tmp_path, monkeypatch):
    async with daemon(tmp_path) as made:
        await made.ask("POST", "/v1/stop", {"reason": "enough"})
        ordered = []
        monkeypatch.setattr(made.engine.executor, "enforce", ordered.append)
        await made.ask("POST", "/v1/agents", {"id": "late-1"})
        assert [(order.agent_id, order.level) for order in ordered] == [("late-1", "isolated")]


async def test_an_enrolled_agent_is_durable_when_it_is_answered_and_counted_on_with_the_others(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": "posted", "latency_ms": 1})
        answer = await made.ask("POST", "/v1/agents", {"id": "announced", "type": "t", "service": "s"}, who="operator")
        assert (answer.status, answer.document["index"]) == (200, 1)
        assert [(e.subject, e.event().index, e.actor) for e in made.events("agent_enrolled")] == [
            ("posted", 0, "system"),
            ("announced", 1, "person:operator"),
        ]
        assert (await made.ask("POST", "/v1/agents", {"id": "announced"}, who="operator")).status == 409
        await made.tick()
        assert made.engine.telemetry.agents("run-1") == ("posted", "announced")
        assert len(made.events("agent_enrolled")) == 2


# -- ingest --------------------------------------------------------------------------------------------------------------


async def test_an_agent_reports_and_asks_for_itself_only(tmp_path):
    async with daemon(tmp_path) as made:
        assert (await made.vitals({"agent": "agent", "latency_ms": 1}, who="agent")).status == 202
        refused = await made.vitals({"agent": "agent"}, {"agent": "bob", "latency_ms": 1}, who="agent")
        assert (refused.status, refused.document["field"], refused.document["value"]) == (403, "agent", "'bob'")
        assert made.ingest.waiting == 1, "nothing of it was taken"
        assert (await made.ask("GET", "/v1/gate/agent", who="agent")).status == 200
        assert (await made.ask("GET", "/v1/gate/bob", who="agent")).status == 403
        assert [(e.subject, e.event().command, e.actor) for e in made.events("command_refused")] == [
            ("bob", "vitals", "agent:agent"),
            ("bob", "gate", "agent:agent"),
        ]


async def test_lines_of_json_are_taken_and_a_broken_line_is_one_broken_sample(tmp_path):
    async with daemon(tmp_path) as made:
        lines = b'{"agent": "a", "latency_ms": 5}\n\n{"agent": \n{"agent": "b", "latency_ms": -5}\n\xff\n' + b"[" * 50_000 + b'\n{"agent": "c"}'
        answer = await made.ask("POST", "/v1/vitals", raw=lines, Content_Type="application/x-ndjson")
        assert answer.status == 202
        assert answer.document["accepted"] == 2
        assert [(one["index"], one["field"], one["reason"]) for one in answer.document["rejected"]] == [
            (1, "", "not_an_object"),
            (2, "latency_ms", "negative"),
            (3, "", "not_an_object"),
            (4, "", "not_an_object"),
        ]


async def test_the_list_of_rejections_is_bounded_and_their_number_exact(tmp_path):
    async with daemon(tmp_path) as made:
        answer = await made.vitals(*[{"agent": "a", "latency_ms": -1}] * 1000, {"agent": "a"})
        assert (answer.document["accepted"], len(answer.document["rejected"]), answer.document["rejected_not_shown"]) == (1, 100, 900)


@pytest.mark.fault("F30")
async def test_ten_thousand_new_ids_in_a_second_do_not_harm_the_others(tmp_path):
    async with daemon(tmp_path, policy=with_limits(max_agents=500)) as made:
        await made.vitals({"agent": "honest", "latency_ms": 1})
        await made.tick()
        answer = await made.vitals(*[{"agent": f"made-up-{n}", "latency_ms": 1} for n in range(10_000)])
        assert (answer.status, answer.document["accepted"]) == (202, 499)
        assert answer.document["rejected"][0]["reason"] == "fleet_full"
        await made.tick()
        assert len(made.engine.state.agents) == 500
        assert (await made.vitals({"agent": "honest", "latency_ms": 1})).document == {"accepted": 1, "rejected": []}
        assert (await made.ask("GET", "/v1/gate/honest")).document["known"] is True


async def test_a_queue_without_room_asks_to_come_again(tmp_path):
    async with daemon(tmp_path, policy=with_limits(ingest_queue_samples=5)) as made:
        assert (await made.vitals(*[{"agent": "a"}] * 5)).status == 202
        full = await made.vitals({"agent": "a"})
        assert (full.status, full.headers["Retry-After"]) == (503, "1")
        await made.tick()
        assert (await made.vitals({"agent": "a"})).status == 202


HOSTILE = [
    "a/b",
    "..",
    ".",
    "%2F",
    "a?b#c",
    "<script>alert(1)</script>",
    "'; drop table events; --",
    "a,b=c d",
    "{id}",
    "ünïcødé",
    "🧬",
    "a\\b",
    'x"y',
    "${jndi:x}",
]


@pytest.mark.parametrize("agent", HOSTILE)
@pytest.mark.fault("F34")
async def test_a_hostile_id_is_only_text_on_every_route(tmp_path, agent):
    async with daemon(tmp_path) as made:
        path = quote(agent, safe="")
        assert (await made.vitals({"agent": agent, "latency_ms": 1})).document["accepted"] == 1
        await made.tick()
        assert (await made.ask("GET", "/v1/agents")).document["agents"][0]["id"] == agent
        assert (await made.ask("POST", "/v1/containments", {"scope": "agent", "target": agent, "level": "isolated", "reason": "r"})).status == 200
        shown = await made.ask("GET", f"/v1/agents/{path}")
        assert (shown.status, shown.document["id"]) == (200, agent)
        gate = await made.ask("GET", f"/v1/gate/{path}")
        assert (gate.document["agent"], gate.document["allowed"]) == (agent, False)
        assert (await made.ask("POST", f"/v1/agents/{path}/release", {"reason": "r"})).status == 200
        assert (await made.ask("GET", f"/v1/why/{path}")).status == 200
        assert agent not in (await made.ask("GET", "/metrics")).text or agent in {".", "..", "a/b"}
        assert made.api.context.counters.bugs == 0


# -- reading -------------------------------------------------------------------------------------------------------------


async def test_lists_come_in_pages(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals(*[{"agent": f"a{n:03d}"} for n in range(25)])
        await made.tick()
        page = (await made.ask("GET", "/v1/agents?limit=10&offset=20")).document
        assert ([one["id"] for one in page["agents"]], page["total"], page["limit"], page["offset"]) == (
            [f"a{n:03d}" for n in range(20, 25)],
            25,
            10,
            20,
        )


async def test_everything_readable_has_its_document(tmp_path):
    async with daemon(tmp_path) as made:
        request = open_request(made)
        await made.ask("POST", "/v1/agents/sick-1/contain", {"level": "isolated", "reason": "r"})
        await made.tick()
        for path, name in (
            ("/v1/agents", "agents"),
            ("/v1/incidents?status=open", "incidents"),
            ("/v1/approvals?status=pending", "approvals"),
            ("/v1/plans", "plans"),
            ("/v1/containments?status=active", "containments"),
            ("/v1/runs", "runs"),
        ):
            answer = await made.ask("GET", path, who="viewer")
            assert (answer.status, answer.document["total"], len(answer.document[name])) == (200, 1, 1), path
        for path in (
            f"/v1/plans/{request['plan']}",
            f"/v1/incidents/{request['incident']}",
            f"/v1/approvals/{request['id']}",
            "/v1/agents/sick-1",
            "/v1/tasks",
            "/v1/memory",
        ):
            assert (await made.ask("GET", path, who="viewer")).status == 200, path
        why = (await made.ask("GET", f"/v1/why/{request['incident']}", who="viewer")).document
        assert why["chain"]


async def test_health_and_readiness_need_no_token_and_say_little(tmp_path):
    async with daemon(tmp_path) as made:
        assert (await made.ask("GET", "/healthz", who=None)).document["status"] == "ok"
        starting = await made.ask("GET", "/readyz", who=None)
        assert (starting.status, starting.document["status"]) == (503, "starting")
        await made.tick()
        assert (await made.ask("GET", "/readyz", who=None)).status == 200
        made.clock.at_us += 20 * US
        stalled = await made.ask("GET", "/readyz", who=None)
        assert (stalled.status, stalled.document["status"]) == (503, "stalled")


async def test_metrics_are_prometheus_text(tmp_path):
    async with daemon(tmp_path) as made:
        open_request(made)
        await made.vitals({"agent": "a"}, {"agent": "a", "latency_ms": -1})
        await made.tick()
        made.clock.at_us += 30 * US
        answer = await made.ask("GET", "/metrics", who="viewer")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        found = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
        assert found["immune_ticks_total"] == "1"
        assert found["immune_approvals_pending"] == "1"
        assert found["immune_approvals_oldest_age_seconds"] == "31"
        assert found["immune_incidents_open"] == "1"
        assert found["immune_ingest_accepted_samples_total"] == "1"
        assert found['immune_ingest_rejected_samples_total{reason="negative"}'] == "1"
        assert found['immune_api_requests_total{route="post_v1_vitals",status="202"}'] == "1"
        declared = {line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE")}
        families = {re.sub(r"(_seconds|_usage)_(bucket|sum|count)$", r"\1", name.partition("{")[0]) for name in found}
        assert families <= declared


async def test_the_openapi_document_has_exactly_the_routes_of_the_router(tmp_path):
    async with daemon(tmp_path) as made:
        document = (await made.ask("GET", "/openapi.json", who=None)).document
        described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
        routed = {(route.method, route.resource.canonical) for route in made.api.application().router.routes()}
        assert described == routed
        assert document["openapi"].startswith("3.1")
        ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
        assert len(set(ids)) == len(ids)
        for item in document["paths"].values():
            for method, operation in item.items():
                assert ("requestBody" in operation) <= (method in {"post", "delete"})
                keyed = method == "post" and operation["operationId"] not in {"post_v1_login", "post_v1_logout"}  # no answer of theirs is kept
                assert any(one["name"] == "Idempotency-Key" for one in operation["parameters"]) == keyed


async def test_the_why_of_a_long_journal_is_read_beside_the_loop(tmp_path):
    async with daemon(tmp_path, on_disk=True) as made:
        request = open_request(made)
        why = await made.ask("GET", f"/v1/why/{request['incident']}", who="viewer")
        assert (why.status, len(why.document["chain"])) == (200, 3)
        assert (await made.ask("GET", "/v1/why/nothing", who="viewer")).status == 404


async def test_refused_attempts_are_on_record_and_nobody_can_fill_the_journal_with_them(tmp_path):
    async with daemon(tmp_path) as made:
        statuses = [(await made.ask("POST", "/v1/stop", REASON, who="viewer")).status for _ in range(310)]
        assert statuses == [403] * 300 + [429] * 10
        assert len(made.events("command_refused")) == 300
        assert (await made.ask("GET", "/v1/gate/a", who="agent")).status == 403
        made.clock.at_us += US
        assert (await made.ask("POST", "/v1/stop", REASON, who="viewer")).status == 403


JUNK = [None, True, 0, -1, 1e308, 10**30, "", "x", "\x00", "\ud800", "a" * 5000, [], {}, [[]], {"a": {"b": []}}, "2026-13-45", "NaN"]


async def test_no_body_whatever_brings_a_route_down(tmp_path):
    async with daemon(tmp_path) as made:
        open_request(made)
        await made.tick()
        for route in ROUTES:
            if route.body != "fields":
                continue
            path = route.path.replace("{id}", "sick-1" if "agents" in route.path else "req-0001")
            good = {**BODIES.get(route.path, REASON)}
            for field in route.fields:
                for junk in JUNK:
                    made.clock.at_us += US
                    answer = await made.ask(route.method, path, {**good, field.name: junk}, who="approver")
                    assert answer.status < 500, (path, field.name, junk, answer.text)
        for junk in JUNK:
            for name in ("agent", "at", "latency_ms", "model", "step", "status", "task_id"):
                assert (await made.vitals({"agent": "a", name: junk})).status == 202
            assert (await made.ask("POST", "/v1/vitals", raw=json.dumps(junk).encode())).status == 400
            assert (await made.ask("POST", "/v1/vitals", {"samples": junk})).status == (202 if isinstance(junk, list) else 400)
        await made.tick()
        assert made.api.context.counters.bugs == 0
        assert made.engine.journal.verify("run-1") == made.engine.state.seq


async def test_an_agent_that_calls_itself_fleet_is_not_the_fleet(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": "fleet"}, {"agent": "a"})
        await made.tick()
        await made.ask("POST", "/v1/agents/fleet/contain", {"level": "throttled", "reason": "r"})
        await made.ask("POST", "/v1/stop", REASON)
        assert (await made.ask("POST", "/v1/containments/fleet/release", REASON)).status == 409
        released = await made.ask("POST", "/v1/agents/fleet/release", REASON)
        assert released.document["released"] == ["con-p0001"]
        assert (await made.ask("GET", "/v1/gate/a")).document["allowed"] is False
        assert (await made.ask("POST", "/v1/agents/fleet/release", REASON)).status == 409
        assert (await made.ask("POST", "/v1/containments/fleet/release", {**REASON, "scope": "fleet"})).status == 200
        assert (await made.ask("GET", "/v1/gate/a")).document["allowed"] is True


async def test_an_unknown_level_scope_or_decision_is_an_attempt_to_act_and_on_record(tmp_path):
    async with daemon(tmp_path) as made:
        tries = {
            "/v1/containments": {"scope": "galaxy", "target": "bob", "level": "isolated", "reason": "r"},
            "/v1/agents/bob/contain": {"level": "zapped", "reason": "r"},
            "/v1/approvals/req-0001/decision": {"decision": "maybe", "plan_hash": "0" * 64},
        }
        assert [(await made.ask("POST", path, body)).status for path, body in tries.items()] == [400] * 3
        assert [e.event().status for e in made.events("command_refused")] == [400] * 3


@pytest.mark.fault("F34")
async def test_what_people_read_later_cannot_drive_their_terminal(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": "bob", "latency_ms": 1})
        await made.tick()
        assert (await made.ask("POST", "/v1/agents/bob/report", {"reason": "a\x1b[2Jb\n e99 forged\u202e"}, who="agent")).status == 200
        [event] = made.events("sickness_reported")
        assert event.event().reason == "a [2Jb  e99 forged "
