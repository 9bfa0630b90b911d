"""Serving a site with waitress until a signal comes; its address is printed, and written where programs look for it."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import WSGITask

from dashboard.app import create_app
from dashboard.composition import DAEMON_FILE, DASHBOARD_FILE, alive, daemon_note, replace_private
from dashboard.fastlane import FastLane
from dashboard.site import STREAMS_MAX, Options, Site, build_site
from immune.api.auth import is_loopback
from immune.clock import Clock
from immune.core.events import iso
from immune.errors import InputError, RefusedError, UnreachableError

log = logging.getLogger("dashboard")

PORT_MAX = 65_535
THREADS = STREAMS_MAX + 16
"""Every open page holds a thread; what is beyond them answers requests."""
OUTBUF_BYTES = 64 * 1024 * 1024
WATERMARK_BYTES = 8 * 1024 * 1024
"""What waits for a slow reader stays in memory, and holds up its own thread only."""
NOTE_EVERY_S = 2.0
LOOK_S = 0.25
THREADS_END_S = 2.0


class Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    """A request whose connection stays open after an answer without a body: waitress closes it, and a page that asks "still the same?"
    every second would pay for a new one each time.
    """

    def set_close_on_finish(self) -> None:
        """Close it after this answer, unless there is only the missing body against keeping it."""
        if self.has_body or self.version != "1.1" or self.request.headers.get("CONNECTION", "").lower() == "close":
            super().set_close_on_finish()


class Channel(HTTPChannel):  # type: ignore[misc]  # as above
    """A connection with such tasks."""

    task_class = Task


class Served:
    """A dashboard that answers at `url` until it is closed."""

    def __init__(self, site: Site, server: Any, url: str) -> None:
        self.site = site
        self.server = server
        self.url = url
        self._noting = threading.Thread(target=self._keep_noted, name="address", daemon=True)

    def run(self) -> None:
        """Answer until `close` is called from elsewhere."""
        self.site.follower.start()
        self.site.daemon.start()
        self._noting.start()
        try:
            while not self.site.closing.is_set():
                wasyncore.loop(timeout=LOOK_S, map=self.server._map, use_poll=True, count=1)  # noqa: SLF001
        finally:
            self.close()

    def stop(self) -> None:
        """Make `run` return within a moment; to be called from a signal or another thread."""
        self.site.closing.set()
        with self.site.follower.news:
            self.site.follower.news.notify_all()

    def close(self) -> None:
        """Let every page go, take the address back."""
        self.site.closing.set()
        self.site.follower.close()
        self.site.daemon.close()
        # whoever does not read what it asked for is not waited for
        self.server.task_dispatcher.shutdown(timeout=THREADS_END_S)
        wasyncore.close_all(self.server._map)  # noqa: SLF001
        forget_address(self.site.options.data_dir)

    def _keep_noted(self) -> None:
        while not self.site.closing.wait(NOTE_EVERY_S):
            note_address(self.site.options.data_dir, self.url, self.site.clock)


def make_server(options: Options, clock: Clock) -> Served:
    """Listen. Raises RefusedError for an address that others can reach without a login, and for a port that is taken."""
    if not 0 <= options.port <= PORT_MAX:
        raise InputError("not a port", field="IMMUNE_DASHBOARD_PORT", value=options.port, way_out=f"0 to {PORT_MAX}; 0 takes a free one")
    if not is_loopback(options.host) and not options.login:
        raise RefusedError(
            "others could reach this address, and look without saying who they are",
            field="--host",
            value=options.host,
            way_out="keep 127.0.0.1, or add --login and put a TLS proxy before it",
        )
    listening = _listen(options)
    port = listening.getsockname()[1]
    options = replace(options, port=port)
    site = build_site(options, clock)
    server = create_server(
        FastLane(site, create_app(site)),
        sockets=[listening],
        threads=THREADS,
        ident="",
        connection_limit=1000,
        channel_request_lookahead=1,
        outbuf_overflow=OUTBUF_BYTES,
        outbuf_high_watermark=WATERMARK_BYTES,
        asyncore_use_poll=True,
        max_request_body_size=1024 * 1024,
        clear_untrusted_proxy_headers=True,
    )
    server.channel_class = Channel
    shown = f"[{options.host}]" if ":" in options.host else options.host
    served = Served(site, server, f"http://{shown}:{port}")
    note_address(options.data_dir, served.url, clock)
    return served


def _listen(options: Options) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise RefusedError(
                f"port {options.port} is taken", field="IMMUNE_DASHBOARD_PORT", value=options.port, way_out="name another port, or 0 for a free one"
            ) from None
        raise UnreachableError(
            f"cannot listen there: {(error.strerror or str(error)).lower()}", field="--host", value=options.host, way_out="use 127.0.0.1"
        ) from None
    return listening


def note_address(data_dir: Path, url: str, clock: Clock) -> None:
    """Write where the dashboard is: into a file of its own, and beside the address of the daemon that runs."""
    own = data_dir / DASHBOARD_FILE
    if not own.exists():
        _write(own, {"url": url, "pid": os.getpid(), "started_at": iso(clock.now_us())})
    note = data_dir / DAEMON_FILE
    known = daemon_note(data_dir)
    if not known or known.get("dashboard") == url:
        return
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    _write(note, {**content, "dashboard": url})
    if not alive(int(content.get("pid", 0) or 0)):
        # it went away between reading and writing: a daemon that has gone leaves no address
        note.unlink(missing_ok=True)


def forget_address(data_dir: Path) -> None:
    """Take our own address back."""
    own = data_dir / DASHBOARD_FILE
    try:
        if json.loads(own.read_text(encoding="utf-8")).get("pid") == os.getpid():
            own.unlink(missing_ok=True)
    except (OSError, ValueError):
        return


def _write(path: Path, content: dict[str, object]) -> None:
    # what cannot be noted is still printed
    with suppress(OSError):
        replace_private(path, json.dumps(content) + "\n", durable=False)
