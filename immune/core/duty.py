"""Who is told of a notice, and when: once for the same thing, later or not at all in quiet hours, again while nobody answers.

Time is a parameter. A channel with ``after_s`` is for those who come second: it hears only of what has waited so long.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from immune.core.notices import NOTICE_KINDS, URGENT, Notice, NoticeKind

US = 1_000_000
SAME_WITHIN_US = 600 * US
"""The same thing again within ten minutes is counted, not told."""
REMINDERS = 10
WAITING_MAX = 1_000
TOLD_MAX = 10_000
HELD_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """From one minute of the local day (0 to 1439) to another, over midnight too. What is below `min_severity` waits until they end."""

    from_minute: int
    to_minute: int
    zone: tzinfo = UTC
    min_severity: float = 8.0

    def now(self, now_us: int) -> bool:
        """Whether it is quiet at this moment."""
        local = datetime.fromtimestamp(now_us / US, self.zone)
        minute = local.hour * 60 + local.minute
        if self.from_minute <= self.to_minute:
            return self.from_minute <= minute < self.to_minute
        return minute >= self.from_minute or minute < self.to_minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One way to reach people, and what they want to hear through it.

    after_s   0: at once. More: only what waits for an answer and has had none for so long
    repeat_s  what still waits is told again after this long; 0 never
    """

    name: str
    kinds: tuple[NoticeKind, ...] = NOTICE_KINDS
    min_severity: float = 0.0
    after_s: float = 0.0
    repeat_s: float = 1_800.0
    quiet: QuietHours | None = None

    def wants(self, notice: Notice) -> bool:
        """Whether a notice is for this channel at all."""
        return notice.kind in self.kinds and (notice.severity >= self.min_severity or notice.kind in URGENT)

    def holds(self, notice: Notice, now_us: int) -> bool:
        """Whether it has to wait for the end of the quiet hours."""
        if self.quiet is None or not self.quiet.now(now_us):
            return False
        return notice.kind not in URGENT and notice.severity < self.quiet.min_severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Notices for one channel, several at once only after quiet hours. `reminders` is how often they were told before."""

    channel: str
    notices: tuple[Notice, ...]
    reminders: int = 0


@dataclass(slots=True, kw_only=True)
class _Waiting:
    notice: Notice
    next_us: int
    reminders: int = 0


class Duty:
    """Takes notices, gives deliveries. Everything it keeps is bounded, and what did not fit is counted."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.channels = {channel.name: channel for channel in channels}
        self.repeated = 0
        self.dropped = 0
        self._told: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._held: dict[str, deque[Notice]] = {channel.name: deque() for channel in channels}

    @property
    def held(self) -> int:
        """Notices that wait for the end of quiet hours."""
        return sum(map(len, self._held.values()))

    @property
    def waiting(self) -> int:
        """Pairs of a channel and an unanswered question."""
        return len(self._waiting)

    def take(self, notice: Notice, now_us: int) -> list[Delivery]:
        """Hear of a notice; what is to be sent at once."""
        found = [self._first(channel, notice, now_us) for channel in self.channels.values() if channel.wants(notice)]
        return [delivery for delivery in found if delivery is not None]

    def due(self, now_us: int, waits: Callable[[str], bool]) -> list[Delivery]:
        """What is to be sent by now: ends of quiet hours, and what `waits` says still has no answer."""
        return [*self._after_quiet(now_us), *self._again(now_us, waits)]

    def _first(self, channel: Channel, notice: Notice, now_us: int) -> Delivery | None:
        known_us = self._told.get((channel.name, notice.key))
        if known_us is not None and now_us - known_us < SAME_WITHIN_US:
            self.repeated += 1
            return None
        self._told[channel.name, notice.key] = now_us
        self._told.move_to_end((channel.name, notice.key))
        while len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        if notice.waits:
            self._wait(channel, notice, now_us)
        return None if channel.after_s else self._dispatch(channel, notice, now_us)

    def _wait(self, channel: Channel, notice: Notice, now_us: int) -> None:
        pause_s = channel.after_s or channel.repeat_s
        if not pause_s:
            return
        if len(self._waiting) >= WAITING_MAX:
            self.dropped += 1
            return
        self._waiting[channel.name, notice.waits] = _Waiting(notice=notice, next_us=now_us + round(pause_s * US))

    def _dispatch(self, channel: Channel, notice: Notice, now_us: int, reminders: int = 0) -> Delivery | None:
        if not channel.holds(notice, now_us):
            return Delivery(channel=channel.name, notices=(notice,), reminders=reminders)
        held = self._held[channel.name]
        if any(one.key == notice.key for one in held):
            self.repeated += 1
        elif len(held) >= HELD_MAX:
            self.dropped += 1
        else:
            held.append(notice)
        return None

    def _after_quiet(self, now_us: int) -> list[Delivery]:
        over = [name for name, held in self._held.items() if held and not self._is_quiet(name, now_us)]
        deliveries = [Delivery(channel=name, notices=tuple(self._held[name])) for name in over]
        for name in over:
            self._held[name].clear()
        return deliveries

    def _is_quiet(self, name: str, now_us: int) -> bool:
        quiet = self.channels[name].quiet
        return quiet is not None and quiet.now(now_us)

    def _again(self, now_us: int, waits: Callable[[str], bool]) -> list[Delivery]:
        deliveries: list[Delivery | None] = []
        for key, entry in list(self._waiting.items()):
            channel = self.channels[key[0]]
            if not waits(entry.notice.waits):
                del self._waiting[key]
            elif now_us >= entry.next_us:
                told_before = entry.reminders + (not channel.after_s)
                deliveries.append(self._dispatch(channel, entry.notice, now_us, told_before))
                entry.reminders += 1
                entry.next_us = now_us + round(channel.repeat_s * US)
                if not channel.repeat_s or entry.reminders >= REMINDERS:
                    del self._waiting[key]
        return [delivery for delivery in deliveries if delivery is not None]
