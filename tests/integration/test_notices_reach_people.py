"""Somebody is told: from the event in the journal over a signed message to the page that its link opens, with a real daemon and a real receiver."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from aiohttp import web
from aiohttp.test_utils import TestServer

from immune.clock import SystemClock
from immune.companions import Beside, notifier
from immune.observability.panel import Panel
from immune.settings import Settings
from tests.integration.daemon_kit import SystemTime, daemon, open_request
from tests.integration.dashboard_kit import start

SECRET = "a secret of this test, long enough"
WITHIN_S = 2.0
DEADLINE_S = 20.0


@dataclass
class Receiver:
    """An endpoint of somebody's: keeps what came, answers as it is told."""

    status: int = 200
    heard: asyncio.Queue[tuple[dict[str, str], bytes]] = field(default_factory=asyncio.Queue)

    async def take(self, request: web.Request) -> web.Response:
        self.heard.put_nowait((dict(request.headers), await request.read()))
        return web.Response(status=self.status)

    async def next(self, within_s: float = WITHIN_S) -> tuple[dict[str, str], dict[str, Any], bytes]:
        async with asyncio.timeout(within_s):
            headers, body = await self.heard.get()
        return headers, json.loads(body), body


@asynccontextmanager
async def receiving():
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    server = TestServer(app)
    await server.start_server()
    try:
        yield receiver, str(server.make_url("/hook"))
    finally:
        await server.close()


@asynccontextmanager
async def telling(folder, hook, monkeypatch, *, port=8711, run_id="run-1"):
    """A daemon with its journal on disk and the companion that tells people, as the settings make it."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    config = folder / "immune.toml"
    config.write_text(f'[[notify]]\nname = "on-call"\nkind = "webhook"\nurl = "{hook}"\nsecret_env = "HOOK_SECRET"\nallow_loopback = true\n')
    async with daemon(folder, on_disk=True, clock=SystemTime(), run_id=run_id) as made:
        beside = Beside(
            settings=Settings(data_dir=folder, dashboard_port=port),
            policy=made.engine.rules.policy,
            engine=made.engine,
            stores=made.stores,
            clock=SystemClock(),
            say=lambda _: None,
            panel=Panel(made.engine, made.clock, inbox=made.ingest),
            config=config,
        )
        teller = notifier(beside)
        made.api.context.surroundings = lambda: {"companions": {teller.name: dict(teller.health())}}
        task = asyncio.create_task(teller.run())
        try:
            yield made, teller
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await teller.close()


async def until(holds):
    async with asyncio.timeout(DEADLINE_S):
        while not await holds():
            await asyncio.to_thread(asyncio.Event)  # another look after a turn of a thread


async def test_a_request_arrives_signed_within_two_seconds_and_its_link_opens_its_page_once_to_look(tmp_path, monkeypatch):
    async with receiving() as (receiver, hook):
        shown = await asyncio.to_thread(start, tmp_path, login=True)
        try:
            async with telling(tmp_path, hook, monkeypatch, port=shown.served.site.options.port) as (made, _):
                shown.daemon = made
                request = open_request(made)
                headers, told, body = await receiver.next()
                signed = hmac.new(SECRET.encode(), headers["Immune-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
                assert headers["Immune-Signature"] == f"v1={signed}"
                assert headers["Idempotency-Key"].startswith("run-1/on-call/e")
                assert told["notices"][0]["waits"] == request["id"]
                assert (told["notices"][0]["kind"], told["notices"][0]["subject"]) == ("approval", "sick-1")
                assert told["url"] in told["text"]
                await shown.caught_up()
                await until(lambda: _noted(made))

                link = urlsplit(told["url"])
                assert f"{link.scheme}://{link.netloc}" == shown.url
                assert unquote(link.query) == f"next=/approvals/{request['id']}"
                phone, page = shown.page(), f"/approvals/{request['id']}"
                # opening the address, as a preview of a chat does, uses nothing up and decides nothing
                for _ in range(3):
                    assert (await phone.get(f"{link.path}?{link.query}")).status == 200
                answer = await phone.login(link=link.fragment)
                assert (answer.status, answer.document["name"], answer.document["role"]) == (200, None, "viewer")
                assert (await phone.get(page)).status == 200
                assert (await phone.get("/api" + page)).document["actions"]["approve"]["why"] == "log in to decide"
                assert (await phone.post(f"/api{page}/approve", {"plan_hash": request["plan_hash"]})).status == 401
                again = await shown.page().login(link=link.fragment)
                assert again.status == 401
                assert "used already" in again.document["detail"]
                assert "log in with your name and password" in again.document["way_out"]
                assert made.engine.state.approvals[request["id"]].status == "pending"
        finally:
            await shown.close()


async def _noted(made) -> bool:
    await made.engine.tick(made.clock.now_us())
    return [one.event().outcome for one in made.events("person_told")] == ["delivered"]


async def test_a_receiver_that_fails_is_seen_in_the_status_and_on_the_system_page(tmp_path, monkeypatch):
    async with receiving() as (receiver, hook):
        receiver.status = 410
        async with telling(tmp_path, hook, monkeypatch) as (made, teller):
            open_request(made)
            await receiver.next()

            async def failed() -> bool:
                await made.engine.tick(made.clock.now_us())
                return teller.failed == 1 and bool(made.events("person_told"))

            await until(failed)
            told = (await made.ask("GET", "/v1/status")).document
            assert "notifier: on-call: answered 410" in told["troubles"]
            assert told["companions"]["notifier"]["failed"] == 1
            note = made.events("person_told")[0].event()
            assert (note.channel, note.outcome, note.detail) == ("on-call", "failed", "answered 410")
            shown = await asyncio.to_thread(start, tmp_path, made=made)
            try:
                await shown.until(lambda: shown.served.site.daemon.status.word == "up")
                system = (await shown.script("admin").get("/api/system")).document
                assert "notifier: on-call: answered 410" in system["daemon"]["report"]["troubles"]
            finally:
                await shown.close()


async def test_what_still_waits_is_told_again_by_the_next_start(tmp_path, monkeypatch):
    async with receiving() as (receiver, hook):
        async with telling(tmp_path, hook, monkeypatch) as (made, _):
            request = open_request(made)
            await receiver.next()
            await until(lambda: _noted(made))
        async with telling(tmp_path, hook, monkeypatch) as (made, _):
            assert made.engine.state.approvals[request["id"]].status == "pending"
            _, told, _ = await receiver.next()
            assert told["title"] == "Approval still needed for sick-1"
            assert told["notices"][0]["waits"] == request["id"]
