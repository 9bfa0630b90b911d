"""The companion that tells people: hears of events, asks `duty` who is to be told when, sends, and puts on record what arrived."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from immune.clock import US, Clock
from immune.core.acts import PersonTold
from immune.core.duty import Delivery, Duty
from immune.core.events import Envelope
from immune.core.notices import Notice, notice_of, still_waits, waiting_now
from immune.core.state import RunState
from immune.notify.message import DeliveryError, Way, compose

PAUSES_S = (2.0, 10.0, 60.0)
LOOK_EVERY_S = 1.0
OUTBOX_MAX = 500
DETAIL_CHARS = 200


class Notifier:
    """`hear` is called by the engine and never blocks; `run` sends. Each channel has its own bounded outbox and does not wait for another.

    state   what is true now
    tell    an event in one sentence
    link    address of the page of a notice
    record  puts what became of a notice into the journal
    """

    name = "notifier"

    def __init__(
        self,
        ways: Mapping[str, Way],
        duty: Duty,
        clock: Clock,
        *,
        state: Callable[[], RunState],
        tell: Callable[[Envelope], str],
        link: Callable[[Notice], str],
        record: Callable[[str, PersonTold], None],
        run_id: str,
    ) -> None:
        self.duty = duty
        self.delivered = 0
        self.failed = 0
        self.dropped = 0
        self.troubles: dict[str, str] = {}
        self._ways = dict(ways)
        self._clock = clock
        self._state, self._tell, self._link, self._record = state, tell, link, record
        self._run_id = run_id
        self._outbox: dict[str, deque[Delivery]] = {name: deque() for name in ways}
        self._filled = {name: asyncio.Event() for name in ways}
        self._greeted = False

    def hear(self, envelopes: Sequence[Envelope], state: RunState) -> None:
        """New events, in order, and the state after them."""
        now_us = self._clock.now_us()
        for envelope in envelopes:
            notice = notice_of(envelope, state, self._tell(envelope))
            if notice is not None:
                self._post(self.duty.take(notice, now_us))

    async def run(self) -> None:
        """Send until cancelled."""
        if not self._greeted:
            self._greeted = True
            now_us = self._clock.now_us()
            for notice in waiting_now(self._state(), now_us):
                self._post(self.duty.take(notice, now_us))
        async with asyncio.TaskGroup() as group:
            for name in self._ways:
                group.create_task(self._serve(name), name=f"notify {name}")
            group.create_task(self._look(), name="notify: what is due")

    async def close(self) -> None:
        """Let go of connections; what could not be sent yet is told again by the next start if it still waits."""
        await asyncio.gather(*(way.close() for way in self._ways.values()))

    def health(self) -> Mapping[str, str | int | float | bool]:
        """What was told, what could not be, and why."""
        return {
            "trouble": "; ".join(f"{name}: {why}" for name, why in sorted(self.troubles.items())),
            "delivered": self.delivered,
            "failed": self.failed,
            "repeated": self.duty.repeated,
            "dropped": self.dropped + self.duty.dropped,
            "outbox": sum(map(len, self._outbox.values())),
            "outbox_limit": OUTBOX_MAX * len(self._outbox),
            "held_for_quiet_hours": self.duty.held,
            "unanswered": self.duty.waiting,
        }

    def _post(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            box = self._outbox[delivery.channel]
            if len(box) >= OUTBOX_MAX:
                self.dropped += 1
                continue
            box.append(delivery)
            self._filled[delivery.channel].set()

    async def _look(self) -> None:
        while True:
            now_us = self._clock.now_us()
            self._post(self.duty.due(now_us, partial(still_waits, self._state())))
            await self._clock.sleep_until_us(now_us + round(LOOK_EVERY_S * US))

    async def _serve(self, name: str) -> None:
        box, filled = self._outbox[name], self._filled[name]
        while True:
            while box:
                await self._deliver(name, box.popleft())
            filled.clear()
            await filled.wait()

    async def _deliver(self, name: str, delivery: Delivery) -> None:
        message = compose(delivery, self._run_id, self._link(_opens(delivery)))
        for pause_s in (*PAUSES_S, None):
            try:
                await self._ways[name].send(message)
            except DeliveryError as error:
                self.troubles[name] = str(error)
                if pause_s is None or not error.again:
                    self.failed += 1
                    self._note(delivery, "failed", str(error))
                    return
                await self._clock.sleep_until_us(self._clock.now_us() + round(pause_s * US))
            else:
                self.troubles.pop(name, None)
                self.delivered += 1
                self._note(delivery, "delivered", "")
                return

    def _note(self, delivery: Delivery, outcome: str, detail: str) -> None:
        for notice in delivery.notices:
            told = PersonTold(
                channel=delivery.channel,
                about=notice.event_id,
                outcome="delivered" if outcome == "delivered" else "failed",
                detail=detail[:DETAIL_CHARS],
                reminders=delivery.reminders,
            )
            self._record(notice.subject, told)


def _opens(delivery: Delivery) -> Notice:
    """What the link of a message opens: the page of its one notice; for several, the list of what waits for an answer, or of incidents."""
    first = delivery.notices[0]
    if len(delivery.notices) == 1:
        return first
    return replace(first, page="/approvals" if any(notice.waits for notice in delivery.notices) else "/incidents")
