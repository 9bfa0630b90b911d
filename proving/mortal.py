"""A process that can be killed at any point: before a write, between a write and its answer, at any await.

A killed life stops dead: no handler, no `finally` and no answer of it reaches the world any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal

from immune.clock import US, VirtualLoop

Point = Literal["await", "write", "sync", "ack", "hand", "reply"]
POINTS: tuple[Point, ...] = ("await", "write", "sync", "ack", "hand", "reply")
"""An await · before a write · written, not synced · synced, not acknowledged · before an effect · before its answer."""


class KilledError(SystemExit):
    """The process is no more. A SystemExit, because asyncio lets nothing else through at once."""


class PausedError(Exception):
    """The process was stopped (SIGSTOP) and may be resumed."""


class Fate:
    """What is to become of one life: alive until a point is passed for the n-th time from when that was decided."""

    def __init__(self) -> None:
        self.alive = True
        self.left: dict[Point, int] = {}
        self.passed: dict[Point, int] = dict.fromkeys(POINTS, 0)

    def doom(self, point: Point, nth: int) -> None:
        """Die at the n-th next passing of a point, counted from 1."""
        self.left[point] = nth

    def passes(self, point: Point) -> None:
        """Called by everything that touches the world. Raises KilledError at the point of death, and ever after."""
        if not self.alive:
            raise KilledError
        self.passed[point] += 1
        if point in self.left:
            self.left[point] -= 1
            if self.left[point] <= 0:
                self.die()

    def die(self) -> None:
        """Now."""
        self.alive = False
        raise KilledError


class MortalLoop(VirtualLoop):
    """A loop in virtual time that dies between any two of its callbacks."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self.fate = fate
        self.set_exception_handler(lambda loop, context: None)

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        """Run soon, if still alive."""
        return super().call_soon(self._if_alive, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        """Run then, if still alive."""
        return super().call_at(when, self._if_alive, callback, *args, context=context)

    def _if_alive(self, callback: Callable[..., Any], *args: Any) -> None:
        if self.fate.alive:
            self.fate.passes("await")
            callback(*args)

    def suspend(self, seconds: float) -> None:
        """Time passes and nothing runs."""
        self._virtual_us += round(seconds * US)

    def bury(self) -> None:
        """Let go of everything that was under way, without letting any of it run."""
        self.fate.alive = False
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with suppress(KilledError, RuntimeError):
                task.get_coro().close()
        self.close()


class Life:
    """One process: a loop, a main task, and what is left of them."""

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.loop = MortalLoop(fate)
        self._main: asyncio.Task[None] | None = None

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run to the end. Raises KilledError when it is killed, PausedError when it was stopped."""
        self._main = self.loop.create_task(main)
        self.resume()

    def resume(self) -> None:
        """Go on after a pause."""
        assert self._main is not None
        try:
            self.loop.run_until_complete(self._main)
        except RuntimeError as error:
            if self._main.done():
                raise
            raise PausedError from error
        except KilledError:
            self.fate.alive = False
            raise

    def pause(self) -> None:
        """Stop after the callback that runs now."""
        self.loop.stop()

    def end(self) -> None:
        """Whatever is left of it goes."""
        self.loop.bury()
