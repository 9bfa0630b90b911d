"""Logging in with a password: what it gives, what it refuses, and what it never says."""

from __future__ import annotations

import asyncio

import pytest

from immune.api.app import ROUTES
from immune.api.login import NOBODY, WAITING_MAX
from tests.integration.daemon_kit import US, daemon

GOOD = "correct horse battery"


async def log_in(made, name="ada", password=GOOD, **headers):
    return await made.ask("POST", "/v1/login", {"name": name, "password": password}, who=None, **headers)


async def test_a_name_and_a_password_give_a_token_that_acts_under_that_name(tmp_path):
    async with daemon(tmp_path) as made:
        made.people.add("ada", "operator", GOOD)
        answer = await log_in(made)
        assert (answer.status, answer.document["name"], answer.document["role"]) == (200, "ada", "operator")
        made.token["ada"] = answer.document["token"]
        stopped = await made.ask("POST", "/v1/stop", {"reason": "r"}, who="ada")
        assert stopped.document["by"] == "person:ada"
        assert (await made.ask("POST", "/v1/logout", who="ada")).status == 200
        assert (await made.ask("GET", "/v1/agents", who="ada")).status == 401
        made.clock.at_us += 13 * 3600 * US
        made.token["ada"] = (await log_in(made)).document["token"]
        made.clock.at_us += 13 * 3600 * US
        assert (await made.ask("GET", "/v1/agents", who="ada")).status == 401, "a session ends by itself"


@pytest.mark.fault("F42")
async def test_a_failure_says_nothing_and_is_on_record_without_what_was_typed(tmp_path, caplog):
    async with daemon(tmp_path) as made:
        made.people.add("ada", "operator", GOOD)
        wrong, stranger = await log_in(made, password="wrong but long"), await log_in(made, name="hunter2hunter2")
        assert (wrong.status, stranger.status) == (401, 401)
        same = [{key: value for key, value in one.document.items() if key != "request_id"} for one in (wrong, stranger)]
        assert same[0] == same[1], "nobody learns who exists"
        assert [event.event().target for event in made.events("command_refused")] == ["ada", NOBODY]
        odd = await made.ask("POST", "/v1/login", {"name": "ada", "password": ["hunter2hunter2"]}, who=None)
        long = await made.ask("POST", "/v1/login", {"name": "ada", "password": "hunter2hunter2" * 40}, who=None)
        journal = "".join(str(event.as_json()) for event in made.engine.journal.read("run-1"))
        for text in (wrong.text, stranger.text, odd.text, long.text, journal, caplog.text, (await made.ask("GET", "/v1/status")).text):
            assert "hunter2" not in text
            assert "wrong but" not in text
        assert (odd.status, long.status) == (400, 400)


async def test_who_guesses_is_slowed_down_and_cannot_fill_the_journal(tmp_path):
    async with daemon(tmp_path) as made:
        made.people.add("ada", "operator", GOOD)
        made.people.add("bob", "operator", GOOD)
        statuses = [(await log_in(made, password=f"guess number {n}")).status for n in range(40)]
        assert statuses.count(401) == 10
        assert statuses.count(429) == 30
        assert (await log_in(made)).status == 429, "even the right password waits: nobody learns that it was right"
        assert (await log_in(made, name="bob")).status == 200, "another person does not suffer"
        for n in range(100):
            await log_in(made, name=f"nobody-{n}")
        assert len(made.events("command_refused")) <= 20
        made.clock.at_us += 120 * US
        assert (await log_in(made)).status == 200


async def test_only_so_many_wait_for_a_check_and_the_tick_does_not_wait_at_all(tmp_path, monkeypatch):
    async with daemon(tmp_path) as made:
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(name, password):
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(20)

        monkeypatch.setattr(made.people, "check", slow)
        asked = [asyncio.create_task(log_in(made, name=f"n-{n}")) for n in range(WAITING_MAX + 4)]
        for _ in range(2000):
            if made.api.context.login.waiting == WAITING_MAX:
                break
            await asyncio.sleep(0.005)
        before = made.engine.counters.ticks
        await made.tick(3)
        assert made.engine.counters.ticks == before + 3
        gate.set()
        statuses = [answer.status for answer in await asyncio.gather(*asked)]
        assert statuses.count(503) == 4
        assert made.api.context.login.waiting == 0


@pytest.mark.fault("F35")
async def test_no_route_that_changes_anything_listens_to_a_page_of_another_origin(tmp_path):
    changing = [route for route in ROUTES if route.method not in {"GET", "HEAD"}]
    assert len(changing) > 10
    async with daemon(tmp_path) as made:
        made.people.add("ada", "operator", GOOD)
        before = made.engine.state
        for route in changing:
            path = route.path.replace("{id}", "agent")
            body = {"name": "ada", "password": GOOD} if route.path == "/v1/login" else {"reason": "r"}
            for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
                made.clock.at_us += US
                answer = await made.ask(route.method, path, body, **headers)
                assert answer.status == 403, f"{route.method} {path}: {answer.status}"
        after = made.engine.state
        assert (after.active_containments, after.incidents, after.agents) == (before.active_containments, before.incidents, before.agents)


async def test_where_nobody_logs_in_the_route_says_so(tmp_path):
    async with daemon(tmp_path) as made:
        made.api.context.login = None
        assert (await log_in(made)).status == 404


@pytest.mark.fault("F11")
async def test_without_a_thread_it_asks_to_come_again(tmp_path, monkeypatch):
    async with daemon(tmp_path, on_disk=True) as made:
        made.people.add("ada", "operator", GOOD)

        def refuse(*_):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr("threading.Thread.start", refuse)
            assert (await log_in(made)).status == 503
            assert (await made.ask("GET", "/v1/why/run-1")).status == 503
            ticks = made.engine.counters.ticks
            await made.tick(3)
            assert made.engine.counters.ticks == ticks + 3, "the tick needs no thread"
            assert (await made.ask("GET", "/v1/gate/agent")).status == 200, "nor does the gate"
        assert (await log_in(made)).status == 200
        assert made.api.context.counters.bugs == 0
