"""What carries traces and metrics to a collector beside the engine.

The journal is the outbox of the traces: spans are told from its events, and the place up to which they were delivered
is kept in a file, so that neither a restart nor an absent collector loses one. A crash between the delivery and the
note of it sends a span again, with the same ids. Metrics are of the moment: what could not be sent is not sent later.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from immune.errors import StoreUnavailableError
from immune.observability.courier import Sends
from immune.observability.cursor import Cursor, Place
from immune.observability.otel_settings import OtelSettings
from immune.observability.panel import Panel
from immune.observability.snapshot import Snapshot
from immune.observability.spans import Moment
from immune.observability.story import Story
from immune.ports import Clock

US = 1_000_000
LOOK_EVERY_US = US
BREATH_US = US // 50
EVENTS_AT_ONCE = 200
"""Telling these takes a few milliseconds of the loop."""
MOMENTS_AT_ONCE = 400
RETRY_S = (2.0, 5.0, 15.0, 30.0, 60.0)
SAY_EVERY_US = 60 * US
LAST_WORDS_S = 0.7
"""What is left at the end is sent within this, or stays in the journal for the next start."""
LAST_TRY_S = 0.1
"""As much of it as a collector gets that took nothing before."""


class Sink(Protocol):
    """Where moments and snapshots go; `otel.Outlet` is one. Blocks."""

    def send_moments(self, moments: Sequence[Moment]) -> bool:
        """Whether they were taken."""
        ...

    def send_snapshot(self, snapshot: Snapshot) -> bool:
        """Whether it was taken."""
        ...

    def refused(self) -> int:
        """Spans that were left behind, because they will never be taken."""
        ...

    def complaint(self) -> str:
        """Why the newest was not taken, as far as anybody knows."""
        ...

    def shut_down(self) -> None:
        """Make whatever hangs give up."""
        ...


def open_outlet(settings: OtelSettings, run_id: str) -> Sink:
    """The SDK's exporters. The import is by name and late, so that nobody pays for the SDK who does not use it."""
    outlet: Sink = importlib.import_module("immune.observability.otel").Outlet(settings, run_id)
    return outlet


class OtelCompanion:
    """Supervised by the daemon; see the module for what it promises."""

    name = "otel"

    def __init__(
        self,
        settings: OtelSettings,
        panel: Panel,
        clock: Clock,
        *,
        cursor: Cursor,
        courier: Sends,
        say: Callable[[str], None],
        make_sink: Callable[[OtelSettings, str], Sink] = open_outlet,
    ) -> None:
        self.settings = settings
        self.panel = panel
        self.clock = clock
        self.cursor = cursor
        self.courier = courier
        self.say = say
        self._make_sink = make_sink
        self._sink: Sink | None = None
        self._run_id = panel.engine.run_id
        self._place = cursor.load(self._run_id)
        self._story = Story(self._run_id)
        self._read_seq = max(0, self._place.needs_from_seq - 1)
        self._moments: list[Moment] = []
        self._spans_sent = self._snapshots_sent = self._failures = self._failed_in_a_row = 0
        self._metrics_due_us = clock.now_us() + min(round(settings.interval_s * US), 10 * US)
        self._retry_at_us = 0
        self._under_way = False
        """Stays so when `run` is cancelled while an errand hangs: the thread is not free, and hardly will be."""
        self._said_us = -SAY_EVERY_US
        self._trouble = ""

    async def warm_up(self) -> None:
        """Import the SDK, which takes as long as all that a stop has time for."""
        self._under_way = True
        await self.courier.send(self._import)
        self._under_way = False

    async def run(self) -> None:
        """Look for new events and due metrics every second, until cancelled."""
        await self.warm_up()
        while True:
            more = await self.step()
            # catching up with a long journal must not keep the loop from its ticks
            await self.clock.sleep_until_us(self.clock.now_us() + (BREATH_US if more else LOOK_EVERY_US))

    async def step(self) -> bool:
        """Do what is due; whether there is more to do at once."""
        self._listen()
        if self.clock.now_us() >= self._metrics_due_us and self.settings.metrics:
            await self._send_metrics()
        if self.clock.now_us() >= self._retry_at_us:
            await self._send_moments()
        return self._behind > 0 and not self._failed_in_a_row

    async def close(self, within_s: float = LAST_WORDS_S) -> None:
        """Send what is left within its short time, and let go of whatever hangs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_TRY_S if self._failed_in_a_row or self._under_way else within_s):
                await self._last_words()
        self.courier.stop()
        if self._sink is not None:
            self._sink.shut_down()

    def health(self) -> Mapping[str, str | int | float | bool]:
        """Counters and trouble for the status page."""
        return {
            "trouble": self._trouble,
            "collector": self.settings.place,
            "spans_sent": self._spans_sent,
            "events_behind": self._behind,
            "sent_seq": self._place.sent_seq,
            "metric_exports": self._snapshots_sent,
            "failures": self._failures,
            "spans_refused": self._sink.refused() if self._sink is not None else 0,
        }

    @property
    def _behind(self) -> int:
        """Events whose spans were not delivered yet."""
        return self.panel.engine.state.seq - self._place.sent_seq

    # -- traces --------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Tell what is new in the journal, as long as what was told is delivered: the journal is where the rest waits."""
        engine = self.panel.engine
        if engine.state.seq <= self._read_seq or len(self._moments) >= MOMENTS_AT_ONCE:
            return
        for envelope in engine.journal.read(self._run_id, after_seq=self._read_seq, limit=EVENTS_AT_ONCE):
            told = self._story.hear(envelope)
            self._read_seq = envelope.seq
            if envelope.seq > self._place.sent_seq and self.settings.traces:
                self._moments += told

    async def _send_moments(self) -> None:
        moments, upto = tuple(self._moments), Place(sent_seq=self._read_seq, needs_from_seq=self._story.needs_from_seq)
        if moments and not await self._deliver(lambda sink: sink.send_moments(moments)):
            return
        del self._moments[: len(moments)]
        self._spans_sent += len(moments)
        if upto.sent_seq > self._place.sent_seq:
            self._place = upto
            self._remember(upto)

    def _remember(self, place: Place) -> None:
        try:
            self.cursor.save(self._run_id, place)
        except StoreUnavailableError as error:
            self._complain(f"{error}; after a restart some spans are sent again, with the same ids")

    # -- metrics -------------------------------------------------------------------------------------------------------

    async def _send_metrics(self) -> None:
        snapshot = self.panel.snapshot()
        self._metrics_due_us = self.clock.now_us() + round(self.settings.interval_s * US)
        if await self._deliver(lambda sink: sink.send_snapshot(snapshot)):
            self._snapshots_sent += 1

    # -- the way there -------------------------------------------------------------------------------------------------

    async def _deliver(self, errand: Callable[[Sink], bool]) -> bool:
        self._under_way = True
        arrived = await self.courier.send(lambda: errand(self._open_sink()))
        self._under_way = False
        if arrived:
            self._recovered()
        else:
            self._failed()
        return arrived

    def _import(self) -> bool:
        self._open_sink()
        return True

    def _open_sink(self) -> Sink:
        """On the courier's thread."""
        if self._sink is None:
            self._sink = self._make_sink(self.settings, self._run_id)
        return self._sink

    def _failed(self) -> None:
        self._failures += 1
        wait_s = RETRY_S[min(self._failed_in_a_row, len(RETRY_S) - 1)]
        self._failed_in_a_row += 1
        self._retry_at_us = self.clock.now_us() + round(wait_s * US)
        why = self._sink.complaint() if self._sink is not None else ""
        self._complain(
            f"the collector at {self.settings.place} takes nothing ({why or 'no answer'}). Traces wait in the journal, metrics are "
            "skipped, nothing else is held up; check OTEL_EXPORTER_OTLP_ENDPOINT and its collector"
        )

    def _complain(self, trouble: str) -> None:
        self._trouble = trouble
        if self.clock.now_us() - self._said_us >= SAY_EVERY_US:
            self._said_us = self.clock.now_us()
            self.say(trouble)

    def _recovered(self) -> None:
        if self._failed_in_a_row:
            self.say(f"the collector at {self.settings.place} takes telemetry again")
        self._failed_in_a_row = 0
        self._retry_at_us = 0
        self._trouble = ""

    async def _last_words(self) -> None:
        """The end of the run is in the journal by now."""
        while self._behind > 0 and self._read_seq < self.panel.engine.state.seq:
            self._listen()
            await self._send_moments()
            if self._failed_in_a_row:
                return
        if self.settings.metrics:
            await self._send_metrics()
