"""A real headless Chromium before real dashboards. Every page watches itself: an error on the console, a request to another
origin, or an unexpected answer fails the test that opened it.

Without a browser these tests are skipped; `IMMUNE_REQUIRE=browser` makes that a failure.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dashboard.composition import issue_link
from dashboard.serving import make_server
from dashboard.sessions import link_path
from dashboard.site import Options
from immune.clock import SystemClock
from tests.integration.daemon_kit import Daemon, HandClock, daemon

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("IMMUNE_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DEADLINE_S = 15.0
US = 1_000_000
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def need_chromium():
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no browser at {CHROMIUM}: apt-get install chromium, or set IMMUNE_CHROMIUM")


@pytest.fixture(scope="module")
def chromium():
    """One browser for a module. Not for longer: while it lives, no test of this process may run a loop of its own."""
    need_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Watched:
    """A browser tab and what went wrong in it. `allowed` are statuses that the test means to provoke."""

    page: Any
    base: str
    wrong: list[str] = field(default_factory=list)
    allowed: set[int] = field(default_factory=set)

    def watch(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error in the page: {error}"))
        self.page.on("request", lambda request: self._request(request.url))
        self.page.on("response", self._response)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(f"status of {status}" in message.text for status in self.allowed):
            self.wrong.append(f"console: {message.text}")

    def _request(self, url: str) -> None:
        if not url.startswith((self.base + "/", "data:", "blob:")):
            self.wrong.append(f"another origin: {url}")

    def _response(self, response: Any) -> None:
        if response.status >= 400 and response.status not in self.allowed:
            self.wrong.append(f"{response.status} {response.url}")

    def open(self, path: str) -> Any:
        """Go there and wait until nothing on the page is loading."""
        self.page.goto(self.base + path)
        self.loaded()
        return self.page

    def loaded(self) -> None:
        self.page.wait_for_function("() => !document.querySelector('[aria-busy=\"true\"]')", timeout=DEADLINE_S * 1000)


@dataclass
class Served:
    """A dashboard on a thread of its own."""

    folder: Path
    port: int = 0
    served: Any = None
    thread: Any = None

    @property
    def url(self) -> str:
        return self.served.url

    def start(self, **options: Any) -> Served:
        self.served = make_server(Options(data_dir=self.folder, port=self.port, **options), SystemClock())
        self.port = self.served.site.options.port
        self.thread = threading.Thread(target=self.served.run, daemon=True)
        self.thread.start()
        return self

    def stop(self) -> None:
        self.served.stop()
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()

    def wait(self, holds: Callable[[], bool]) -> None:
        """Until it is so, or the deadline has passed."""
        until = SystemClock().now_us() + DEADLINE_S * 1e6
        while not holds():
            assert SystemClock().now_us() < until, "it did not become so in time"
            self.served.site.closing.wait(0.02)


@dataclass
class Stage(Served):
    """A daemon that does what the test says, and a dashboard over it."""

    made: Daemon | None = None
    loop: Any = None

    def do(self, act: Callable[[Daemon], Any]) -> Any:
        """Run this on the daemon's own loop; waits until the dashboard has read what came of it."""

        async def on_loop() -> Any:
            found = act(self.made)
            return await found if asyncio.iscoroutine(found) else found

        result = asyncio.run_coroutine_threadsafe(on_loop(), self.loop).result(DEADLINE_S)
        self.wait(lambda: self.served.site.projection.state.seq >= self.made.engine.state.seq)
        return result

    def link(self, role: str) -> str:
        """The path of a one-time link for a role."""
        return link_path(issue_link(self.folder, role, self.made.token[role], self.served.site.clock.now_us()))


@contextmanager
def staging(folder: Path, *, ago_s: float = 0.0, run_id: str = "run-1", **options: Any) -> Iterator[Stage]:
    """A daemon driven by hand with a dashboard over it; its clock starts so long ago and stands still."""
    started, done = threading.Event(), threading.Event()
    shown = Stage(folder=folder)
    clock = HandClock(SystemClock().now_us() - round(ago_s * US))

    async def live() -> None:
        async with daemon(folder, on_disk=True, clock=clock, run_id=run_id) as made:
            await made.tick()  # a daemon that has not ticked is not ready, and its pages are not live
            shown.made, shown.loop = made, asyncio.get_running_loop()
            started.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(live()), daemon=True)
    thread.start()
    assert started.wait(DEADLINE_S)
    shown.start(**options)
    shown.wait(lambda: shown.served.site.projection.run_id == run_id and shown.served.site.daemon.status.word == "up")
    try:
        yield shown
    finally:
        shown.stop()
        done.set()
        thread.join(DEADLINE_S)


@pytest.fixture
def stage(tmp_path, chromium):
    """A daemon driven by hand with a dashboard over it; its clock starts now and stands still."""
    with staging(tmp_path) as shown:
        yield shown


def enter(watched: Watched, stage: Stage, role: str, path: str = "/fleet") -> Any:
    """Log in by a one-time link, and go to a page."""
    watched.page.goto(stage.url + stage.link(role))
    watched.page.wait_for_url("**/fleet")
    return watched.open(path)


def live(page: Any) -> Any:
    """Wait until the page hears what happens."""
    page.locator("#live-chip", has_text="live").wait_for()
    return page


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A dashboard over a demo that is over: charts, incidents, plans, decisions."""
    need_chromium()
    folder = tmp_path_factory.mktemp("recorded")
    command = [
        sys.executable,
        "demo.py",
        "--speed",
        "max",
        "--duration",
        "180",
        "--headless",
        "--decide",
        "approve",
        "--out",
        str(folder),
        "--run",
        "demo-1",
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    shown = Served(folder=folder).start()
    shown.wait(lambda: shown.served.site.projection.state.ended_at_us > 0)
    yield shown
    shown.stop()


@pytest.fixture
def tab(chromium):
    """Opens tabs: ``tab(base, viewport=…, scheme=…)``. Each in a context of its own unless one is given; all are checked at the end."""
    opened: list[Watched] = []
    with ExitStack() as stack:

        def make(base: str, *, context: Any = None, viewport: dict[str, int] = WIDE, scheme: str = "light", **options: Any) -> Watched:
            if context is None:
                context = chromium.new_context(viewport=viewport, color_scheme=scheme, **options)
                stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(DEADLINE_S * 1000)
            made = Watched(page=page, base=base)
            made.watch()
            opened.append(made)
            return made

        yield make
        wrong = [one for watched in opened for one in watched.wrong]
    assert not wrong, "\n".join(wrong)
