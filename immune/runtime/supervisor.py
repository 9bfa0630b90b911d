"""Keeps background tasks alive: a child that dies is reported, restarted with back-off, and never takes the others along."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from immune.clock import US, Clock

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
FORGIVEN_AFTER_S = 300.0
ERROR_CHARS = 300
"""So much of an error goes on record: what a child died of may quote whatever it was reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One death of a child."""

    child: str
    error: str
    failures: int
    restart_in_s: float


@dataclass(slots=True, kw_only=True)
class Child:
    """How a child is doing: ``running``, ``waiting`` for its next start, or ``ended`` in order. `failures` never falls."""

    name: str
    status: str = "running"
    failures: int = 0
    last_error: str = ""
    since_us: int = 0
    next_start_us: int = 0


class Supervisor:
    """Runs named children until it is stopped. `report` hears of every failure before the restart."""

    def __init__(self, clock: Clock, report: Callable[[Failure], None]) -> None:
        self.clock = clock
        self.report = report
        self.failures: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._children: dict[str, Child] = {}

    def start(self, name: str, child: Callable[[], Awaitable[None]]) -> None:
        """Start a child; it is expected to run until cancelled, and may also return when its work is done."""
        self._tasks.append(asyncio.create_task(self._keep_alive(name, child), name=name))

    def children(self) -> list[Child]:
        """Every child that was started, in that order."""
        return list(self._children.values())

    async def stop(self) -> None:
        """Cancel all children and wait until they are gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _keep_alive(self, name: str, child: Callable[[], Awaitable[None]]) -> None:
        while True:
            started_us = self.clock.now_us()
            known = self._children.setdefault(name, Child(name=name))
            known.status, known.since_us = "running", started_us
            try:
                await child()
            except (Exception, asyncio.CancelledError) as error:  # the one place that must outlive any failure of a child
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise
                self._reset_if_long_ago(name, started_us)
                delay_s = BACKOFF_S[min(self.failures.get(name, 0), len(BACKOFF_S) - 1)]
                self.failures[name] = self.failures.get(name, 0) + 1
                known.last_error = f"{type(error).__name__}: {error}"[:ERROR_CHARS]
                self.report(Failure(child=name, error=known.last_error, failures=self.failures[name], restart_in_s=delay_s))
                again_us = self.clock.now_us() + round(delay_s * US)
                known.status, known.failures, known.next_start_us = "waiting", known.failures + 1, again_us
                await self.clock.sleep_until_us(again_us)
            else:
                known.status = "ended"
                return

    def _reset_if_long_ago(self, name: str, started_us: int) -> None:
        if self.clock.now_us() - started_us > FORGIVEN_AFTER_S * US:
            self.failures[name] = 0


def _is_cancelled() -> bool:
    """Whether somebody cancels this very task, rather than something inside it having been cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
