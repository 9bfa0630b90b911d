"""The bounded way from the tick to the telemetry store, with an exact account of every sample."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from immune.core.vitals import SampleBatch
from immune.errors import StoreUnavailableError
from immune.ports import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where every accepted sample is: ``accepted = stored + waiting + dropped``, always."""

    accepted: int
    stored: int
    waiting: int
    dropped: int


class MeasurementQueue:
    """Ticks wait here while the store cannot take them; beyond the limit the oldest tick is dropped and counted."""

    def __init__(self, store: Telemetry, run_id: str, limit_ticks: int) -> None:
        self.store = store
        self.run_id = run_id
        self.limit_ticks = limit_ticks
        self.last_error = ""
        self._waiting: deque[tuple[int, int, SampleBatch]] = deque()
        self._accepted = self._stored = self._dropped = 0
        self._reported = 0

    def offer(self, tick: int, now_us: int, batch: SampleBatch) -> None:
        """Take one tick's samples; never fails and never waits."""
        self._accepted += len(batch)
        if len(batch):
            self._waiting.append((tick, now_us, batch))
        while len(self._waiting) > self.limit_ticks:
            self._dropped += len(self._waiting.popleft()[2])

    def drain(self) -> None:
        """Write what waits, oldest first, until the store refuses; what it refuses goes on waiting."""
        while self._waiting:
            tick, now_us, batch = self._waiting[0]
            try:
                self.store.write(self.run_id, tick, now_us, batch)
            except StoreUnavailableError as error:
                self.last_error = str(error)
                return
            self._waiting.popleft()
            self._stored += len(batch)
        self.last_error = ""

    def newly_dropped(self) -> int:
        """Samples dropped since the last call."""
        fresh = self._dropped - self._reported
        self._reported = self._dropped
        return fresh

    @property
    def waiting_ticks(self) -> int:
        """Ticks that wait for the store."""
        return len(self._waiting)

    def account(self) -> Account:
        """The exact account so far."""
        waiting = sum(len(batch) for _, _, batch in self._waiting)
        return Account(accepted=self._accepted, stored=self._stored, waiting=waiting, dropped=self._dropped)
