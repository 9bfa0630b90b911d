"""The dashboard's server without a browser: who is let in, what every answer carries, what every route refuses."""

from __future__ import annotations

import gzip
import re

import pytest

from dashboard.app import ROUTES
from dashboard.composition import issue_link
from dashboard.guard import CSP
from dashboard.serving import make_server
from dashboard.site import Options
from immune.clock import SystemClock
from immune.errors import RefusedError
from immune.stores.links import page_link
from tests.integration.daemon_kit import open_incident, open_request
from tests.integration.dashboard_kit import dashboard, start

CHANGES = [route for route in ROUTES if route.method == "POST" and route.role]
READS = [route for route in ROUTES if route.method == "GET" and route.role and route.media_type == "application/json"]
HOSTILE = "<img src=x onerror=alert(1)>"


def path_of(route, *, id_="x-1"):
    return re.sub(r"<(?:path:)?id>", id_, route.path)


async def test_every_page_and_its_twin_answer_with_every_security_header(tmp_path):
    async with dashboard(tmp_path) as shown:
        request = open_request(shown.daemon)
        await shown.caught_up()
        page = shown.page()
        ids = {
            "agents": "sick-1",
            "incidents": request["incident"],
            "approvals": request["id"],
            "journal": "e1",
            "runs": "run-1",
            "why": "e1",
            "agent": "",
        }
        for route in ROUTES:
            if route.method != "GET" or route.media_type == "text/event-stream" or route.path in {"/", "/favicon.ico", "/runs/<id>/report"}:
                continue
            subject = next((ids[part] for part in route.path.split("/") if part in ids), "")
            query = "?id=sick-1" if route.path in {"/api/agent", "/api/series", "/agent"} else ""
            answer = await page.get(path_of(route, id_=subject) + query)
            assert answer.status == 200, (route.path, answer.text[:300])
            assert answer.headers["Content-Security-Policy"] == CSP
            assert "unsafe" not in CSP
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert "Server" not in answer.headers or not answer.headers["Server"]
            assert answer.headers["X-Request-Id"]


async def test_pages_hold_no_inline_script_style_or_handler_and_name_no_other_origin(tmp_path):
    async with dashboard(tmp_path) as shown:
        page = shown.page()
        for path in (
            "/fleet",
            "/agents/x",
            "/incidents",
            "/incidents/x",
            "/approvals",
            "/approvals/x",
            "/journal",
            "/policy",
            "/runs",
            "/system",
            "/login",
        ):
            text = (await page.get(path)).text
            assert not re.search(r"<script(?![^>]*src=)", text)
            assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
            assert not re.search(r"(?:href|src)=\"(?:https?:)?//", text)


async def test_a_request_meant_for_another_host_is_refused(tmp_path):
    async with dashboard(tmp_path) as shown:
        answer = await shown.page().get("/api/agents", Host="evil.example")
        assert answer.status == 421


async def test_looking_is_open_on_the_loopback_and_closed_with_login(tmp_path):
    async with dashboard(tmp_path) as shown:
        assert (await shown.page().get("/api/agents")).status == 200
        closed = start(tmp_path, made=shown.daemon, login=True)
        try:
            for route in READS:
                assert (await closed.page().get(path_of(route))).status == 401, route.path
            sent = await closed.page().get("/incidents?q=x")
            assert (sent.status, sent.headers["Location"]) == (302, "/login?next=/incidents%3Fq%3Dx")
            assert (await closed.script("viewer").get("/api/agents")).status == 200
            assert (await closed.page().get("/api/stream")).status == 401
            for path in ("/healthz", "/readyz", "/login", "/openapi.json", "/api/session"):
                assert (await closed.page().get(path)).status == 200, path
        finally:
            await closed.close()


def test_another_address_than_the_loopback_needs_a_login(tmp_path):
    with pytest.raises(RefusedError, match="without saying who they are"):
        make_server(Options(data_dir=tmp_path, host="0.0.0.0", port=0), SystemClock())


async def test_a_port_that_is_taken_is_named(tmp_path):
    async with dashboard(tmp_path) as shown:
        port = shown.served.site.options.port
        with pytest.raises(RefusedError, match=f"port {port} is taken"):
            make_server(Options(data_dir=tmp_path, port=port), SystemClock())


@pytest.mark.fault("F35")
async def test_every_change_needs_a_name_its_role_its_page_and_its_origin(tmp_path):
    async with dashboard(tmp_path) as shown:
        nobody, person = shown.page(), await shown.browser("approver")
        csrf, person.csrf = person.csrf, ""
        scripts = {role: shown.script(role) for role in ("viewer", "operator")}
        assert len(CHANGES) > 20
        for route in CHANGES:
            path = path_of(route)
            assert (await nobody.post(path)).status == 401, path
            weaker = {"viewer": None, "operator": "viewer", "approver": "operator"}[route.role]
            if weaker is not None:
                refused = await scripts[weaker].post(path)
                assert (refused.status, refused.document["field"]) == (403, "role"), path
            assert (await person.post(path)).document["field"] == "X-CSRF-Token", path
            assert (await person.post(path, X_CSRF_Token=csrf + "x")).status == 403, path
            assert (await person.post(path, X_CSRF_Token=csrf, Origin="http://evil.example")).document["field"] == "Origin", path
            assert (await person.post(path, X_CSRF_Token=csrf, Sec_Fetch_Site="cross-site")).document["field"] == "Sec-Fetch-Site", path
            form = await person.ask("POST", path, raw=b"a=b", X_CSRF_Token=csrf, Content_Type="application/x-www-form-urlencoded")
            assert form.status == 415, path
        assert shown.daemon.engine.state.seq == 1, "nothing of this may reach the journal"


async def test_a_link_logs_in_once_and_not_when_it_is_old(tmp_path):
    async with dashboard(tmp_path) as shown:
        now_us = shown.served.site.clock.now_us()
        secret = issue_link(tmp_path, "approver", shown.daemon.token["approver"], now_us)
        page = shown.page()
        assert (await page.get("/login")).status == 200
        answer = await page.login(link=secret)
        assert (answer.status, answer.document["name"], answer.document["role"]) == (200, "approver", "approver")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert secret not in cookie
        assert shown.daemon.token["approver"] not in cookie
        assert (await shown.page().login(link=secret)).status == 401
        old = issue_link(tmp_path, "approver", shown.daemon.token["approver"], now_us - 601 * 1_000_000)
        assert (await shown.page().login(link=old)).status == 401


async def test_a_session_ends_with_its_token_with_logging_out_and_survives_a_restart(tmp_path):
    async with dashboard(tmp_path) as shown:
        person = await shown.browser("approver")
        port = shown.served.site.options.port
        cookies = {cookie.key: cookie.value for cookie in person.session.cookie_jar}
        await shown.close()
        again = start(tmp_path, made=shown.daemon, port=port)
        try:
            page = again.page()
            page.session.cookie_jar.update_cookies(cookies, response_url=page_url(again))
            assert (await page.get("/api/session")).document["name"] == "approver"
            shown.daemon.tokens.revoke("approver")
            assert (await page.get("/api/session")).document["name"] is None
            other = again.page()
            assert (await other.login(token=shown.daemon.token["viewer"])).status == 200
            assert (await other.post("/api/logout")).document == {"logged_out": True}
            assert (await other.get("/api/session")).document["name"] is None
        finally:
            await again.close()
            shown.served, shown.thread, shown.pages = again.served, again.thread, []


def page_url(shown):
    from yarl import URL

    return URL(shown.url)


async def test_an_agents_token_opens_nothing(tmp_path):
    async with dashboard(tmp_path) as shown:
        assert (await shown.script("agent").get("/api/agents")).status == 401
        assert (await shown.page().login(token=shown.daemon.token["agent"])).status == 401


async def test_who_fails_too_often_waits(tmp_path):
    async with dashboard(tmp_path) as shown:
        page = shown.page()
        statuses = [(await page.login(token="x" * 40)).status for _ in range(14)]
        assert statuses[0] == 401
        assert statuses[-1] == 429


@pytest.mark.fault("F33")
async def test_a_hostile_name_is_text_in_every_answer(tmp_path):
    async with dashboard(tmp_path) as shown:
        open_incident(shown.daemon, HOSTILE)
        await shown.caught_up()
        page = shown.page()
        row = (await page.get("/api/agents")).document["agents"][0]
        assert row["id"] == HOSTILE
        quoted = "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E"
        for path in (f"/api/agent?id={quoted}", f"/api/agents/{quoted}"):
            found = await page.get(path)
            assert found.document["agent"]["id"] == HOSTILE
            assert found.headers["Content-Type"].startswith("application/json")
        html = (await page.get(f"/agents/{quoted}")).text
        assert "<img" not in html
        missing = await page.get(f"/agents/{quoted}/x?next={quoted}", Accept="text/html")
        assert "<img" not in missing.text


@pytest.mark.parametrize("agent_id", ["..", ".", "a/b", "a//b", "/x", "x/", "a?b#c", "ä ö", "a/series", "fleet"])
async def test_any_id_can_be_asked_for(tmp_path, agent_id):
    from urllib.parse import quote

    async with dashboard(tmp_path) as shown:
        open_incident(shown.daemon, agent_id)
        await shown.caught_up()
        found = await shown.page().get(f"/api/agent?id={quote(agent_id, safe='')}")
        assert (found.status, found.document["agent"]["id"]) == (200, agent_id)
        person = await shown.browser("operator")
        answer = await person.post(f"/api/agent/contain?id={quote(agent_id, safe='')}", {"level": "isolated", "reason": "look at it"})
        assert answer.status == 200, answer.text
        assert shown.daemon.engine.state.agents[agent_id].desired == "isolated"


async def test_the_list_of_agents_is_made_once_packed_once_and_known_by_its_tag(tmp_path):
    async with dashboard(tmp_path) as shown:
        for number in range(20):
            open_incident(shown.daemon, f"agent-{number}")
        await shown.caught_up()
        page = shown.page()
        plain = await page.get("/api/agents", Accept_Encoding="identity")
        assert len(plain.document["agents"]) == 20
        sheet = shown.served.site.shelf.get("agents", shown.served.site.projection.version, lambda: b"")
        assert gzip.decompress(sheet.packed) == sheet.raw == plain.text.encode()
        again = await page.get("/api/agents", If_None_Match=plain.headers["ETag"])
        assert (again.status, again.text) == (304, "")
        open_incident(shown.daemon, "one-more")
        await shown.caught_up()
        assert (await page.get("/api/agents", If_None_Match=plain.headers["ETag"])).status == 200


async def test_what_goes_wrong_is_said_with_a_request_id_as_page_and_as_document(tmp_path):
    async with dashboard(tmp_path) as shown:
        page = shown.page()
        told = await page.get("/api/incidents/inc-9999")
        assert (told.status, told.document["status"], told.headers["Content-Type"]) == (404, 404, "application/problem+json")
        assert told.document["request_id"] == told.headers["X-Request-Id"]
        html = await page.get("/nothing-here", Accept="text/html")
        assert html.status == 404
        assert html.headers["X-Request-Id"] in html.text
        assert (await page.ask("PUT", "/api/agents")).status == 405
        for path in ("/api/agents?at=x", "/api/agents?q=sev>x", "/api/agents?format=xml", "/api/journal?limit=0", "/api/stream?after=x"):
            assert (await page.get(path)).status == 400, path


async def test_the_openapi_document_names_every_route(tmp_path):
    async with dashboard(tmp_path) as shown:
        document = (await shown.page().get("/openapi.json")).document
        named = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
        assert named == {(route.method, re.sub(r"<(?:path:)?(\w+)>", r"{\1}", route.path)) for route in ROUTES if route.listed}
        assert {"/api/agents", "/api/stats", "/api/pending", "/api/rejected", "/api/healings"} <= set(document["paths"])


async def test_secrets_stand_in_no_answer(tmp_path):
    async with dashboard(tmp_path) as shown:
        person = await shown.browser("admin")
        for path in ("/api/system", "/api/session", "/metrics", "/fleet", "/openapi.json"):
            text = (await person.get(path)).text
            for token in shown.daemon.token.values():
                assert token not in text
        for name in ("dashboard.sessions",):
            assert (tmp_path / name).stat().st_mode & 0o077 == 0


async def test_the_link_of_a_notice_opens_its_page_once_and_only_lets_look(tmp_path):
    async with dashboard(tmp_path, login=True) as shown:
        path = page_link(tmp_path, "/approvals/req-0001", shown.served.site.clock.now_us())
        assert path.startswith("/login?next=%2Fapprovals%2Freq-0001#")
        secret = path.partition("#")[2]
        page = shown.page()
        assert (await page.get("/api/agents")).status == 401
        answer = await page.login(link=secret)
        assert (answer.status, answer.document["name"], answer.document["role"]) == (200, None, "viewer")
        assert (await page.get("/api/agents")).status == 200
        assert (await page.post("/api/approvals/req-1/approve", {"plan_hash": "x"})).status == 401
        assert (await page.post("/api/approvals/req-1/snooze", {"minutes": 5})).status == 401
        assert (await shown.page().login(link=secret)).status == 401
        person = await shown.browser("approver")
        other = page_link(tmp_path, "/system", shown.served.site.clock.now_us()).partition("#")[2]
        assert (await person.login(link=other)).document["name"] == "approver"
