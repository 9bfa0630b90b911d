"""What the telemetry store needs besides samples: names, bands, transposing, forgetting. A little of it each tick."""

from __future__ import annotations

from collections.abc import Callable

from immune.clock import US
from immune.core.evidence import Bands
from immune.core.sentinel.watch import Sentinel
from immune.core.vitals import Roster
from immune.ports import Telemetry

BANDS_EVERY_US = 10 * US
EXPIRE_EVERY_US = 60 * US


class Tidying:
    """Of one run. `taps` are told of the bands beside the store; they must return at once."""

    def __init__(self, telemetry: Telemetry, run_id: str, roster: Roster, sentinel: Sentinel, retention_us: int) -> None:
        self.taps: list[Callable[[int, Bands], None]] = []
        self._telemetry, self._run_id, self._roster, self._sentinel = telemetry, run_id, roster, sentinel
        self._retention_us = retention_us
        self._named = 0
        self._bands_us = 0
        self._expire_us = 0

    def begin(self, now_us: int) -> None:
        """Bands at the first tick; nothing to forget yet."""
        self._bands_us, self._expire_us = now_us, now_us + EXPIRE_EVERY_US

    def tidy(self, now_us: int) -> None:
        """What is due at this tick. Raises StoreUnavailableError; what was not done is done at the next."""
        if self._named < len(self._roster):
            self._telemetry.name_agents(self._run_id, self._named, [who.agent_id for who in self._roster.identities[self._named :]])
            self._named = len(self._roster)
        if now_us >= self._bands_us:
            bands = self._sentinel.bands()
            for tap in self.taps:
                tap(now_us, bands)
            self._telemetry.write_bands(self._run_id, now_us, bands)
            self._bands_us = now_us + BANDS_EVERY_US
        # a little every tick: a whole minute of a large fleet at once would stall the next tick
        self._telemetry.compact(self._run_id, now_us, parts=1)
        if now_us >= self._expire_us:
            self._telemetry.expire(self._run_id, now_us - self._retention_us)
            self._expire_us = now_us + EXPIRE_EVERY_US
