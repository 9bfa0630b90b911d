"""The journal in InfluxDB: the journal itself is the outbox, so no event is lost or doubled, whatever crashes when.

Events are read after the mark, brought, and only then is the mark moved. After a crash in between they are brought again;
an event is the same point each time, so twice is once. When a server turns out to hold less than the mark says (it was
restored, or its bucket made anew), everything is brought again from the first event on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from immune.clock import US, Clock
from immune.core.events import Envelope
from immune.ports import Journal
from immune.stores.influx.courier import Courier, NotNowError
from immune.stores.influx.letters import DeadLetters
from immune.stores.influx.mark import Mark
from immune.stores.influx.points import Telling
from immune.stores.influx.writer import pack

AT_ONCE = 200
"""Events that are turned into lines at a time: some milliseconds, beside the ticks."""
LOOK_EVERY_S = 1.0
CLOSE_S = 5.0
CLOSE_REQUEST_S = 0.8

Held = Callable[[str], Awaitable[int | None]]
"""How many events of a run the server holds; None when it cannot be asked."""


class JournalMirror:
    """A companion of the engine: one run's journal into one bucket."""

    name = "influx journal"

    def __init__(
        self, *, run_id: str, journal: Journal, courier: Courier, letters: DeadLetters, mark: Mark, clock: Clock, held: Held | None = None
    ) -> None:
        self.run_id = run_id
        self.journal = journal
        self.courier = courier
        self.letters = letters
        self.mark = mark
        self.clock = clock
        self.mirrored = 0
        self.dead = 0
        self._held = held
        self.elders: list[JournalMirror] = []
        """Mirrors of earlier runs whose tail a crash or a dead server kept back; they come first."""
        self._telling = Telling(run_id=run_id)
        self._told_to = 0
        self._news = asyncio.Event()

    def notice(self, envelopes: Sequence[Envelope]) -> None:
        """There is something new in the journal."""
        if envelopes:
            self._news.set()

    async def run(self) -> None:
        """Bring what is new until cancelled."""
        await self._check_mark()
        while self.elders:
            wait_s = await self.elders[0].bring_all()
            if not wait_s:
                self.elders.pop(0)
            await asyncio.sleep(wait_s)
        while True:
            wait_s = await self.bring_all()
            self._news.clear()
            if wait_s:
                await asyncio.sleep(wait_s)
            elif self.journal.head(self.run_id)[0] <= self.mark.value:
                await self._wait_for_news()

    async def bring_all(self, deadline_us: int | None = None) -> float:
        """Bring everything up to the head, or until the deadline; seconds to wait if the server does not take it."""
        while deadline_us is None or self.clock.now_us() < deadline_us:
            envelopes = list(self.journal.read(self.run_id, after_seq=self.mark.value, limit=AT_ONCE))
            if not envelopes:
                return 0.0
            await self._recall(envelopes[0].seq)
            lines, packed = await asyncio.to_thread(self._pack, envelopes)
            self._told_to = envelopes[-1].seq
            try:
                delivery = await self.courier.deliver(packed, "ns", lines)
            except NotNowError as not_now:
                return not_now.wait_s
            self.dead += len(delivery.dead) + delivery.expired
            if delivery.dead:
                self.letters.add(delivery.dead)
            self.mirrored += len(envelopes)
            self.mark.move(envelopes[-1].seq)
        return LOOK_EVERY_S

    def _pack(self, envelopes: Sequence[Envelope]) -> tuple[int, bytes]:
        lines = [line for envelope in envelopes for line in self._telling.lines(envelope)]
        return len(lines), pack(f"{line}\n".encode() for line in lines)

    async def close(self) -> None:
        """Bring the tail if the server answers at once; what is left stays in the journal, where it is safe."""
        self.courier.timeout_s = CLOSE_REQUEST_S
        if not self.courier.trouble:
            await self.bring_all(self.clock.now_us() + round(CLOSE_S * US))
        await self.courier.close()

    def health(self) -> Mapping[str, str | int | float | bool]:
        """How far it is, and what troubles it."""
        refused = f"{self.dead} points of events were refused for good, see {self.letters.path}" if self.dead else ""
        return {
            "trouble": self.courier.trouble or refused or self.mark.trouble,
            "mirrored_seq": self.mark.value,
            "behind": max(0, self.journal.head(self.run_id)[0] - self.mark.value),
            "dead_lettered": self.dead,
        }

    async def _recall(self, first_seq: int) -> None:
        """Before the first line: what earlier events said that later ones leave unsaid."""
        while (left := first_seq - 1 - self._told_to) > 0:
            for envelope in self.journal.read(self.run_id, after_seq=self._told_to, limit=min(left, AT_ONCE)):
                self._telling.learn(envelope)
            self._told_to += min(left, AT_ONCE)
            await asyncio.sleep(0)

    async def _check_mark(self) -> None:
        if self._held is None or not self.mark.value:
            return
        held = await self._held(self.run_id)
        if held is not None and held < self.mark.value:
            self.mark.move(0)
            self._telling, self._told_to = Telling(run_id=self.run_id), 0

    async def _wait_for_news(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):  # not wait_for: news and a cancellation at once would swallow the latter
                await self._news.wait()
