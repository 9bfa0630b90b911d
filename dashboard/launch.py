"""The dashboard as a child of a demo or a daemon: started, restarted when it dies, stopped with them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dashboard.composition import issue_link
from dashboard.sessions import link_path
from immune.clock import Clock
from immune.errors import StoreUnavailableError, UnreachableError

STARTS_WITHIN_S = 20.0
STOPS_WITHIN_S = 4.0
LOG_FILE = "dashboard.log"
ROOT = str(Path(__file__).resolve().parent.parent)

Person = Callable[[], tuple[str, str]]
"""(name, token) of whoever the one-time link is for."""


class DashboardChild:
    """Runs ``python -m dashboard`` beside its parent; `heard` is told the address and a one-time link each time it listens anew.

    With port 0 it takes a free port, and also when the wanted one is taken. What it has to say goes to `dashboard.log` in the
    data directory, so that it never writes across a screen.
    """

    name = "dashboard"

    def __init__(
        self, data_dir: Path, clock: Clock, person: Person, heard: Callable[[str, str], None], *, port: int, arguments: tuple[str, ...] = ()
    ) -> None:
        self.data_dir = data_dir
        self.clock = clock
        self.person = person
        self.heard = heard
        self.port = port
        self.arguments = arguments
        self.url = ""
        self.starts = 0
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Start it and wait until it ends, which it only does when it fails. Raises UnreachableError then."""
        try:
            self._process = await self._start()
            self.url = await self._listening(self._process)
            self.starts += 1
            self.heard(self.url, self.url + link_path(issue_link(self.data_dir, *self.person(), self.clock.now_us())))
            # the line was all that it ever says; reading on keeps its pipe open
            code = await self._process.wait()
            raise UnreachableError(f"the dashboard ended with code {code}", way_out=f"see {self.data_dir / LOG_FILE}")
        finally:
            self.url = ""
            await self.close()

    async def close(self) -> None:
        """Stop it; nothing happens the second time."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOPS_WITHIN_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    def health(self) -> Mapping[str, str | int | float | bool]:
        """Where it is, and how often it was started."""
        return {"url": self.url, "starts": self.starts, "trouble": "" if self.url else "the dashboard does not run"}

    async def _start(self) -> asyncio.subprocess.Process:
        path = os.pathsep.join(one for one in (ROOT, os.environ.get("PYTHONPATH", "")) if one)
        command = [sys.executable, "-m", "dashboard", "--data-dir", str(self.data_dir), "--port", str(self.port)]
        try:
            # a session of its own: Ctrl-C is meant for the parent, who then stops it in order
            with (self.data_dir / LOG_FILE).open("wb") as log:
                return await asyncio.create_subprocess_exec(
                    *command, "--json", "--or-free-port", "--with-parent", *self.arguments,
                    stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
                    env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise StoreUnavailableError(
                f"the dashboard cannot be started: {error.strerror}", field="--data-dir", value=str(self.data_dir), way_out="mend its rights"
            ) from None

    async def _listening(self, process: asyncio.subprocess.Process) -> str:
        stdout = process.stdout
        try:
            line = await asyncio.wait_for(stdout.readline(), STARTS_WITHIN_S) if stdout else b""
            return str(json.loads(line)["url"])
        except (TimeoutError, ValueError, KeyError):
            raise UnreachableError("the dashboard did not start", way_out=f"see {self.data_dir / LOG_FILE}") from None
