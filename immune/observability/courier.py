"""The one thread that talks to a collector: it may hang there, the daemon goes on, and at the end nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Protocol, TypeAlias

Errand: TypeAlias = Callable[[], bool]
"""Something to deliver; whether it arrived."""


_FORESEEN = (ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What wrong settings and mistakes raise: the sender hears of it, the thread goes on."""


class Sends(Protocol):
    """Whoever runs errands, one after the other."""

    async def send(self, errand: Errand) -> bool:
        """Whether it arrived; raises what the errand raised. Takes as long as it takes, and may be given up by cancelling."""
        ...

    def stop(self) -> None:
        """Take no more errands; what is under way is left to itself."""
        ...


class Courier:
    """Runs errands on a thread of its own that does not keep the process alive.

    A thread of an executor would: Python joins those at exit, and an exporter may hang for ten seconds.
    """

    def __init__(self, name: str) -> None:
        self._waiting: SimpleQueue[tuple[Errand, Callable[[bool | Exception], None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def send(self, errand: Errand) -> bool:
        """Run this on the thread."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()

        def settle(arrived: bool | Exception) -> None:
            if answer.done():
                return
            if isinstance(arrived, Exception):
                answer.set_exception(arrived)
            else:
                answer.set_result(arrived)

        def tell(arrived: bool | Exception) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer any more
                loop.call_soon_threadsafe(settle, arrived)

        def unless_given_up() -> bool:
            return not answer.cancelled() and errand()

        self._waiting.put((unless_given_up, tell))
        return await answer

    def stop(self) -> None:
        """Let the thread end once it has nothing under way."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            errand, tell = item
            try:
                tell(errand())
            except _FORESEEN as error:
                tell(error)
