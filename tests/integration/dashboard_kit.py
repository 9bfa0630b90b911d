"""A dashboard in one test: served by waitress on a thread, over a daemon of `daemon_kit` on the test's own loop."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from dashboard.composition import issue_link
from dashboard.serving import Served, make_server
from dashboard.site import Options
from immune.clock import SystemClock
from tests.integration.daemon_kit import Answer, Daemon, daemon

DEADLINE_S = 10.0


@dataclass(kw_only=True)
class Page:
    """Somebody at the dashboard: with a session (a browser), a token (a script), or neither."""

    dashboard: Dashboard
    session: aiohttp.ClientSession
    token: str = ""
    csrf: str = ""

    async def ask(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, follow: bool = False, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if self.csrf and method != "GET":
            sent.setdefault("X-CSRF-Token", self.csrf)
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        sent = {name: value for name, value in sent.items() if value}
        url = URL(self.dashboard.url + path, encoded=True)
        async with self.session.request(method, url, data=raw, headers=sent, allow_redirects=follow, skip_auto_headers=("Content-Type",)) as response:
            content = await response.read()
            is_json = "json" in response.headers.get("Content-Type", "")
            return Answer(
                status=response.status, document=json.loads(content) if is_json and content else None, headers=response.headers, text=content.decode()
            )

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, **headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return await self.ask("POST", path, {} if body is None else body, **headers)

    async def login(self, **body: str) -> Answer:
        answer = await self.post("/api/login", body)
        if answer.status == 200:
            self.csrf = answer.document["csrf"]
        return answer


@dataclass(kw_only=True)
class Dashboard:
    """A served dashboard, and who looks at it."""

    served: Served
    thread: threading.Thread
    folder: Path
    daemon: Daemon | None = None
    pages: list[Page] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.served.url

    def page(self, token: str = "") -> Page:
        made = Page(dashboard=self, session=aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)), token=token)
        self.pages.append(made)
        return made

    def script(self, role: str) -> Page:
        """A script with the token of a role."""
        return self.page(self.daemon.token[role])

    async def browser(self, role: str) -> Page:
        """Somebody who logged in with a one-time link."""
        made = self.page()
        name = "admin" if role == "admin" else role
        secret = issue_link(self.folder, name, self.daemon.token[role], self.served.site.clock.now_us())
        answer = await made.login(link=secret)
        assert answer.status == 200, answer.text
        return made

    async def caught_up(self) -> None:
        """Wait until the dashboard shows what the daemon has written."""
        engine = self.daemon.engine
        await self.until(lambda: (self.served.site.projection.run_id, self.served.site.projection.state.seq) == (engine.run_id, engine.state.seq))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                await asyncio.to_thread(self.served.site.closing.wait, 0.01)

    async def close(self) -> None:
        for page in self.pages:
            await page.session.close()
        self.served.stop()
        await asyncio.to_thread(self.thread.join, DEADLINE_S)
        assert not self.thread.is_alive()


def start(folder: Path, *, made: Daemon | None = None, **options: Any) -> Dashboard:
    """Serve a data directory on a free port, or on the named one."""
    served = make_server(Options(**{"data_dir": folder, "port": 0, **options}), SystemClock())
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    return Dashboard(served=served, thread=thread, folder=folder, daemon=made)


@asynccontextmanager
async def dashboard(folder: Path, **options: Any):
    """A daemon with its journal on disk, and a dashboard over it. Options of both."""
    daemon_options = {name: options.pop(name) for name in ("policy", "run_id", "clock") if name in options}
    async with daemon(folder, on_disk=True, **daemon_options) as made:
        shown = start(folder, made=made, **options)
        try:
            await shown.caught_up()
            await shown.until(lambda: shown.served.site.daemon.status.word != "away")
            yield shown
        finally:
            await shown.close()
