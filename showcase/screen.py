"""The live view of a demo in the terminal, and the keys of the person in front of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live

from immune.clock import US, SystemClock, elapsed_s
from immune.reports.live import live_view
from immune.reports.terminal import screen
from immune.runtime.engine import Engine
from showcase.choices import Choices, Witness
from showcase.person import DemoPerson

REDRAW_TICKS = 20
SHOWN_HAPPENINGS = 12


class LiveScreen:
    """Draws the newest view of an engine once a tick; on the virtual clock, every few ticks."""

    def __init__(self, engine: Engine, witness: Witness, person: DemoPerson, choices: Choices, *, start_us: int, live_us: int, end_us: int) -> None:
        self.engine, self.witness, self.person, self.choices = engine, witness, person, choices
        self.start_us, self.live_us, self.end_us = start_us, live_us, end_us
        self.elapsed_s = elapsed_s()
        self._console = Console()
        self._link = ""
        self._live = Live(console=self._console, screen=False, auto_refresh=False, transient=False) if choices.show else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def fast_forward(self, now_us: int) -> None:
        """A tick of virtual time."""
        if self._live is not None and self.engine.counters.ticks % REDRAW_TICKS == 0:
            healthy = now_us < self.live_us
            phase = "fast-forward: ten healthy minutes" if healthy else "fast-forward"
            self._draw(now_us, phase, virtual=True, first_us=self.start_us, last_us=self.live_us if healthy else self.end_us)

    def live(self, now_us: int) -> None:
        """A tick of real time."""
        self._draw(now_us, "live", virtual=False, first_us=self.live_us, last_us=self.end_us)

    def heard(self, url: str, link: str) -> None:
        """The dashboard listens, and a link logs its person in once; an empty address: what the link says instead."""
        self._link = f"decide in the browser: {link}" if url else link
        if self._live is None:
            sys.stderr.write(f"immune: dashboard on {url}, {self._link}\n" if url else f"immune: {link}\n")
            sys.stderr.flush()
        else:
            self._live.console.print(self._link, soft_wrap=True, markup=False, highlight=False)

    async def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work while keys are listened to, where there is somebody to press them."""
        if self._live is None or not sys.stdin.isatty():
            await work
            return
        with _Keys(self._pressed):
            await work

    def _pressed(self, key: str) -> None:
        now_us = SystemClock().now_us()
        self.person.press(key, now_us)
        self.live(now_us)

    def _draw(self, now_us: int, phase: str, *, virtual: bool, first_us: int, last_us: int) -> None:
        view = self.engine.view
        if self._live is None or view is None:
            return
        shown = live_view(
            view.state,
            view.assessment,
            title=f"Immune demo: {self.choices.agents} simulated agents",
            mode=self.choices.policy.mode,
            phase=phase,
            virtual=virtual,
            now_us=now_us,
            min_samples=self.choices.policy.detection.min_samples,
            last_seen_us=self.engine.last_seen_us(),
            done_s=(now_us - first_us) / US,
            total_s=(last_us - first_us) / US,
            happened=tuple(self.witness.happened)[-SHOWN_HAPPENINGS:],
            footer=self._footer(),
            answer=self._answer(),
            probation_from=self.engine.mirror.probation_samples,
        )
        size = self._console.size
        self._live.update(screen(shown, width=size.width, height=min(size.height - 1, 40)), refresh=True)

    def _footer(self) -> str:
        rest = f"report will be in {self.choices.out / 'report.html'}   Ctrl-C ends the demo"
        return self.person.last_refusal or self._link or rest

    def _answer(self) -> str:
        if self.choices.decide.value != "ask":
            return f"the script will {self.choices.decide.value}"
        return "[a] approve  [r] reject" if sys.stdin.isatty() else ""


class _Keys:
    """Single key presses from the terminal, without waiting for Enter; the terminal is put back afterwards."""

    def __init__(self, pressed: Any) -> None:
        self._pressed = pressed
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        import termios
        import tty

        self._before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin.fileno())
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), lambda: self._pressed(sys.stdin.read(1)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import termios

        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
