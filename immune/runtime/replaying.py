"""A recording through the same engine, as fast as it goes: the past's own time decides when a tick is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from immune.clock import US
from immune.ports import AgentSource
from immune.runtime.engine import Engine

WATCHED_GAP_US = 900 * US
GAP_STEP_US = 5 * US
TICKS_BETWEEN_PAUSES = 64


class Recording(AgentSource, Protocol):
    """A source that knows when its next sample is due."""

    @property
    def first_us(self) -> int:
        """Time of the first sample."""
        ...

    @property
    def next_us(self) -> int | None:
        """Time of the next sample not handed over yet; None when all are."""
        ...

    @property
    def rejected(self) -> dict[str, int]:
        """How many rows were not taken so far, by reason."""
        ...


async def replay(engine: Engine, recording: Recording, *, on_tick: Callable[[int], None] = lambda now_us: None) -> None:
    """Run a recording from its first sample to its last.

    Where samples come, a tick is due every period. In a gap the engine still looks every few seconds for a quarter of
    an hour, so that silence is noticed when it would have been; then it jumps to the next sample.
    """
    period_us = engine.period_us
    engine.open(0)
    now_us = _ceil(recording.first_us, period_us)
    engine.start(recording.first_us)
    while True:
        await engine.tick(now_us)
        on_tick(now_us)
        if engine.counters.ticks % TICKS_BETWEEN_PAUSES == 0:
            await asyncio.sleep(0)  # nothing here ever waits, and Ctrl-C is heard only where something does
        next_us = recording.next_us
        if next_us is None:
            break
        now_us = await _through_gap(engine, now_us, _ceil(next_us, period_us))
    engine.count_rejected(recording.rejected)
    await engine.finish(now_us, "end of the recording")


async def _through_gap(engine: Engine, now_us: int, next_us: int) -> int:
    """Tick through a gap without samples; the time of the tick that brings the next one."""
    step_us = max(engine.period_us, GAP_STEP_US)
    watched_until_us = min(next_us, now_us + WATCHED_GAP_US)
    while now_us + step_us < watched_until_us:
        now_us += step_us
        await engine.tick(now_us)
    return max(next_us, now_us + engine.period_us)


def _ceil(at_us: int, period_us: int) -> int:
    return -(-at_us // period_us) * period_us
