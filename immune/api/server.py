"""Serving an `Api`: on the loopback unless told otherwise, its address written where programs look for it."""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.http import HttpProcessingError

from immune.api.app import Api
from immune.api.auth import is_loopback
from immune.core.events import iso
from immune.errors import InputError, RefusedError, StoreUnavailableError, UnreachableError

DAEMON_FILE = "daemon.json"
DEFAULT_PORT = 8710
MAX_PORT = 65_535
STOP_WITHIN_S = 2.0
LINGER_S = 2.0


class WithoutContent(logging.Filter):
    """Keeps what a broken request said out of the log: aiohttp quotes the line at fault, which may hold a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say what kind of error it was, and no more."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg, record.args = "not a request: %s", (type(error).__name__,)
            record.exc_info = None
        return True


log = logging.getLogger("immune.api.http")
log.addFilter(WithoutContent())


@dataclass(slots=True, kw_only=True)
class Server:
    """An API that answers at `url` until it is closed."""

    url: str
    host: str
    port: int
    api: Api
    runner: web.AppRunner
    note: Path | None = None

    async def close(self) -> None:
        """Answer what is under way, let listeners go, take the address back."""
        self.api.close()
        await self.runner.cleanup()
        if self.note is not None and _pid_in(self.note) == os.getpid():
            self.note.unlink(missing_ok=True)


async def serve(api: Api, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT, data_dir: Path | None = None, allow_remote: bool = False) -> Server:
    """Answer from now on; port 0 takes a free one. With a data directory the address is written to ``daemon.json`` there.

    Raises InputError for a port that is none, RefusedError for an address that others can reach (unless allowed: the API
    has no transport encryption of its own) and for a port that is taken, UnreachableError for an address that is not ours.
    """
    if not 0 <= port <= MAX_PORT:
        raise InputError("not a port", field="IMMUNE_PORT", value=port, way_out=f"0 to {MAX_PORT}; 0 takes a free one")
    if not allow_remote and not is_loopback(host):
        raise RefusedError(
            "others could reach this address, and tokens would travel in the clear",
            field="host",
            value=host,
            way_out="keep 127.0.0.1 and put a TLS proxy before it, or allow it explicitly",
        )
    runner = web.AppRunner(
        api.application(),
        access_log=None,
        logger=log,
        handle_signals=False,
        shutdown_timeout=STOP_WITHIN_S,
        auto_decompress=False,
        lingering_time=LINGER_S,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise _why_not(error, host, port) from None
    taken = int(runner.addresses[0][1])
    shown = f"[{host}]" if ":" in host else host
    server = Server(url=f"http://{shown}:{taken}", host=host, port=taken, api=api, runner=runner)
    if data_dir is not None:
        try:
            server.note = _write_note(data_dir, server)
        except StoreUnavailableError:
            await server.close()
            raise
    return server


def announce(server: Server, data_dir: Path) -> None:
    """Write the address where programs look for it. Raises StoreUnavailableError; the server answers all the same."""
    server.note = _write_note(data_dir, server)


def _why_not(error: OSError, host: str, port: int) -> RefusedError | UnreachableError:
    if error.errno == errno.EADDRINUSE:
        return RefusedError(
            f"port {port} is taken", field="IMMUNE_PORT", value=port, way_out="stop what holds it, name another port, or 0 for a free one"
        )
    if error.errno == errno.EACCES:
        return RefusedError("this port needs more rights", field="IMMUNE_PORT", value=port, way_out="use a port from 1024 on")
    reason = (error.strerror or str(error)).lower()
    return UnreachableError(f"cannot listen there: {reason}", field="host", value=f"{host}:{port}", way_out="use 127.0.0.1")


def _write_note(data_dir: Path, server: Server) -> Path:
    context = server.api.context
    path = data_dir / DAEMON_FILE
    content = {"url": server.url, "pid": os.getpid(), "run_id": context.engine.run_id, "started_at": iso(context.clock.now_us())}
    fresh = path.with_name(f".{DAEMON_FILE}.{secrets.token_hex(4)}")
    try:
        fresh.write_text(json.dumps(content) + "\n", encoding="utf-8")
        fresh.chmod(0o600)
        fresh.replace(path)
    except OSError as error:
        raise StoreUnavailableError(
            f"cannot write the address: {(error.strerror or str(error)).lower()}", field="data_dir", value=str(path), way_out="mend its rights"
        ) from None
    return path


def _pid_in(path: Path) -> int:
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
