"""The only place that reads a clock, and the loop that jumps through time.

`SystemClock` follows the wall clock. `VirtualClock` runs on a `VirtualLoop`: an asyncio loop whose selector never
waits; when nothing is ready it moves its own time to the next timer. The same coroutines then run thousands of times
faster than life, in an order that depends on nothing but the program, and a forgotten wake-up is an immediate
`DeadlockError` instead of a hang.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from immune.errors import ImmuneError

US = 1_000_000
T = TypeVar("T")


class DeadlockError(ImmuneError):
    """Every task on the virtual loop waits for something that nobody will ever do."""


class Clock(Protocol):
    """Time as the shell sees it."""

    def now_us(self) -> int:
        """Now, in microseconds UTC."""
        ...

    async def sleep_until_us(self, at_us: int) -> None:
        """Return at or after this time; at once if it has passed."""
        ...


class SystemClock:
    """The wall clock, made monotonic: a step back of the system's clock never turns time back within a process."""

    def __init__(self) -> None:
        self._wall_us = time.time_ns() // 1000
        self._start_ns = _running_ns()

    def now_us(self) -> int:
        """Now, in microseconds UTC."""
        return self._wall_us + (_running_ns() - self._start_ns) // 1000

    async def sleep_until_us(self, at_us: int) -> None:
        """Sleep until this time."""
        await asyncio.sleep(max(0.0, (at_us - self.now_us()) / US))


def _running_ns() -> int:
    """Nanoseconds since the machine was started, those that it slept through included.

    Linux leaves sleep out of its monotonic clock: after a night the daemon would live hours ago, and every sample in its future.
    """
    counter = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if counter is None else time.clock_gettime_ns(counter)


class VirtualClock:
    """Time of the running `VirtualLoop`, counted from `start_us`."""

    def __init__(self, start_us: int) -> None:
        self.start_us = start_us
        self._frozen_us = start_us

    def now_us(self) -> int:
        """Now, in microseconds UTC; outside a running loop, the last time seen inside one."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._frozen_us
        self._frozen_us = self.start_us + round(loop.time() * US)
        return self._frozen_us

    async def sleep_until_us(self, at_us: int) -> None:
        """Let virtual time pass until then."""
        await asyncio.sleep(max(0, at_us - self.now_us()) / US)


class _NeverWaitingSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type, unused-ignore]
    """A selector that moves virtual time where a real one would wait."""

    advance: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise DeadlockError("nothing will ever wake this loop again", way_out="look for a task that waits for an event nobody sets")
        self.advance(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, starting at 0 s."""

    def __init__(self) -> None:
        self._virtual_us = 0
        selector = _NeverWaitingSelector()
        selector.advance = self._advance
        super().__init__(selector)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_us / US

    def _advance(self, seconds: float) -> None:
        self._virtual_us += max(1, round(seconds * US))


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def elapsed_s() -> Callable[[], float]:
    """A stopwatch: call the result for the seconds of real time since."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
