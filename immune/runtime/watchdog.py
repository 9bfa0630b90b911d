"""Notices when the loop no longer comes round, from a thread of its own, because nothing on a stalled loop can say so.

The loop beats several times a second. The thread looks at the beat: older than `stalled_after_s`, it says so at once, with
the place where the loop is stuck; the loop itself puts the stall on record when it comes round again. A thread that overslept
as well means that the whole process stood still (suspended, or starved of the processor), and nothing in it is to blame.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from immune.clock import US, Clock

STALLED_AFTER_S = 3.0
BEAT_EVERY_S = 0.25
LOOK_EVERY_S = 0.5
FRAMES_TOLD = 3
PROCESS = "the whole process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """One time the loop did not come round. `where` is the innermost of its frames, newest first."""

    since_us: int
    for_s: float
    where: str


class Watchdog:
    """A companion: `run` beats on the loop and keeps the thread; `recovered` hears of every stall that is over.

    say     tells people at once, from the thread, while the loop stands still
    dump    file for the stacks of all threads, written over at every stall; none without it
    """

    name = "watchdog"

    def __init__(
        self,
        clock: Clock,
        *,
        say: Callable[[str], None],
        recovered: Callable[[Stall], None],
        stalled_after_s: float = STALLED_AFTER_S,
        dump: Path | None = None,
    ) -> None:
        self.clock = clock
        self.say = say
        self.recovered = recovered
        self.stalled_after_us = round(stalled_after_s * US)
        self.dump = dump
        self.stalls = 0
        self.pauses = 0
        self.longest_s = 0.0
        self.last: Stall | None = None
        self._beat_us = 0
        self._loop_thread = 0
        self._where = ""
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stalled_s(self) -> float:
        """How long the loop has not come round; 0.0 while it does. May be asked from any thread."""
        silent_us = self.clock.now_us() - self._beat_us if self._beat_us else 0
        return silent_us / US if silent_us > self.stalled_after_us else 0.0

    async def run(self) -> None:
        """Beat until cancelled."""
        self._loop_thread = threading.get_ident()
        self._beat_us = self.clock.now_us()
        self._start_thread()
        while True:
            await asyncio.sleep(BEAT_EVERY_S)
            self.beat()

    async def close(self) -> None:
        """End the thread; it is asleep most of the time and ends within a look."""
        self._closed.set()
        self._beat_us = 0
        if self._thread is not None:
            self._thread.join(timeout=2 * LOOK_EVERY_S)
            self._thread = None

    def health(self) -> Mapping[str, str | int | float | bool]:
        """How often the loop stood still, and whether anybody would notice."""
        alive = self._thread is not None and self._thread.is_alive()
        stalled_s = self.stalled_s
        trouble = "" if alive else "the thread that watches the loop does not run"
        trouble = f"the loop has not come round for {stalled_s:.1f} s" if stalled_s else trouble
        return {
            "trouble": trouble,
            "stalls": self.stalls,
            "pauses": self.pauses,
            "longest_stall_s": round(self.longest_s, 3),
            "last_stall_in": self.last.where if self.last else "",
        }

    def beat(self) -> None:
        """The loop comes round. On the loop's thread; whoever wants to test a stall calls it by hand."""
        now_us, before_us = self.clock.now_us(), self._beat_us
        self._beat_us = now_us
        where, self._where = self._where, ""
        if not where and before_us and now_us - before_us > self.stalled_after_us + 2 * round(LOOK_EVERY_S * US):
            where = PROCESS  # the thread would have looked in that time, had it run
            self.say(f"the whole process stood still for {(now_us - before_us) / US:.1f} s")
        if where:
            stall = Stall(since_us=before_us, for_s=(now_us - before_us) / US, where=where)
            self.last, self.longest_s = stall, max(self.longest_s, stall.for_s)
            self.stalls += where != PROCESS
            self.pauses += where == PROCESS
            self.recovered(stall)
            self.say(f"the loop comes round again after {stall.for_s:.1f} s")

    def look(self, slept_s: float) -> None:
        """The thread looks, after having slept this long by the clock."""
        silent_us = self.clock.now_us() - self._beat_us
        if not self._beat_us or silent_us <= self.stalled_after_us or self._where:
            return
        if slept_s * US > self.stalled_after_us:
            self._where = PROCESS
            self.say(f"the whole process stood still for {slept_s:.1f} s")
            return
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way to another thread's stack
        stack = traceback.extract_stack(frame) if frame else traceback.StackSummary()
        told = [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in reversed(stack[-FRAMES_TOLD:])]
        self._where = " < ".join(told) or "an unknown place"
        self.say(f"the loop has not come round for {silent_us / US:.1f} s: it is in {self._where}")
        self._write_dump()

    def _start_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._closed.clear()
            # a daemon thread: it must never keep a process alive
            self._thread = threading.Thread(target=self._watch, name=self.name, daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        before_us = self.clock.now_us()
        while not self._closed.wait(LOOK_EVERY_S):
            now_us = self.clock.now_us()
            self.look((now_us - before_us) / US)
            before_us = now_us

    def _write_dump(self) -> None:
        if self.dump is None:
            return
        threads = {thread.ident: thread.name for thread in threading.enumerate()}
        parts = [
            f"-- {threads.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}"
            for ident, frame in sys._current_frames().items()  # noqa: SLF001 - as above
        ]
        try:
            self.dump.write_text("\n".join(parts), encoding="utf-8")
            self.dump.chmod(0o600)
        except OSError as error:
            self.say(f"the stacks could not be written: {error}")
