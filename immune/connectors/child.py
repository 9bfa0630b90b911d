"""One child process and everything it starts: begun in its own session, signalled as one, looked at as it really is.

The child is not reaped before it is done with: while it is a zombie its number stays taken, so a signal to its group can
never reach a stranger who was given the same number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from immune.connectors.proctable import Seen, family, look, signal_exactly
from immune.errors import UnreachableError

POLL_S = 0.005
STOPS = 4
STOP_WITHIN_S = 2.0
"""A stop signal takes effect within a millisecond, unless the process hangs in the kernel."""

HOLD = ("/bin/sh", "-c", 'kill -STOP $$; exec "$@"', "immune-hold")
"""Begins stopped: the shell stops itself before it becomes the program, which thus executes nothing until it is let go."""


class Child:
    """A running child. Make one with `start`; end it with `end`, which also reaps it."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid
        self.started = 0

    @classmethod
    async def start(cls, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None, log: Path | None, held: bool) -> Child:
        """Start a program in a session of its own; with `held` it executes nothing yet. Raises UnreachableError when it cannot be started."""
        try:
            out = log.open("ab") if log else None
        except OSError as error:
            way_out = "name a file in a directory that is there, with room in it"
            raise UnreachableError(f"its log cannot be written: {error.strerror}", field="log", value=str(log), way_out=way_out) from None
        try:
            # not in a thread: a start that is cancelled half way would leave a child that nobody knows
            popen = subprocess.Popen(  # noqa: ASYNC220, S603 - returns once the program is loaded; the words come from the operator's file
                [*HOLD, *argv] if held else list(argv),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out or subprocess.DEVNULL,
                stderr=out or subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise UnreachableError(f"cannot start: {error.strerror}", field="argv", value=argv[0], way_out="check the path and its rights") from None
        finally:
            if out is not None:
                out.close()
        child = cls(popen)
        seen = look(child.pid)
        child.started = seen.started if seen else 0
        if held and not await child.until(child.still):
            await child.end(grace_s=0.0)
            raise UnreachableError("it could not be started in a stopped state", field="argv", value=argv[0], way_out="is /bin/sh there?")
        return child

    def everyone(self) -> list[Seen]:
        """The child and all that belong to it and live; empty when nothing is left."""
        return [seen for seen in family(self.pid) if not seen.dead]

    def still(self) -> bool:
        """Whether nothing of it executes: all are stopped, or none is left."""
        return all(seen.still for seen in self.everyone())

    def gone(self) -> bool:
        """Whether nothing of it is left."""
        return not self.everyone()

    def leader_ended(self) -> bool:
        """Whether the child itself has ended, whatever it left behind. Does not reap it."""
        return self._popen.returncode is not None or os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    async def stop(self) -> bool:
        """Stop everyone; whether all were seen stopped. Asked again, for whoever was being born meanwhile."""
        for _ in range(STOPS):
            self._signal(signal.SIGSTOP)
            if await self.until(self.still, STOP_WITHIN_S / STOPS):
                return True
        return False

    def go_on(self) -> None:
        """Let everyone go on."""
        self._signal(signal.SIGCONT)

    async def end(self, grace_s: float) -> int | None:
        """End everyone: asked first when `grace_s` is above 0, then killed. The exit code, or None if something would not go."""
        if self._popen.returncode is not None:
            return self._popen.returncode
        if grace_s > 0 and not self.leader_ended():
            self._signal(signal.SIGTERM)
            await self.until(self.gone, grace_s)
        self._signal(signal.SIGKILL)
        if not await self.until(self.gone):
            return None
        return self._popen.wait()

    async def until(self, holds: Callable[[], bool], within_s: float = STOP_WITHIN_S) -> bool:
        """Look again and again until something holds, or the time is up: whether it does."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while not holds():
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._popen.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # what came of it is seen by looking
            os.killpg(self.pid, number)
        for seen in self.everyone():
            if seen.group != self.pid:
                signal_exactly(seen, number)
