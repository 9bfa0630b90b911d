"""What is sent, and what a way to send it is. A new way is one file with one class, and one line in `config`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from immune.core.duty import Delivery
from immune.core.notices import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message to people. `url` opens the page of what it is about, and decides nothing."""

    title: str
    text: str
    url: str
    run_id: str
    delivery: Delivery

    @property
    def key(self) -> str:
        """The same for the same message sent twice, so that the other side can tell."""
        return "/".join((self.run_id, self.delivery.channel, self.delivery.notices[0].event_id, str(self.delivery.reminders)))


class DeliveryError(Exception):
    """A message did not arrive. `again`: it may be worth another try. The text holds nothing secret."""

    def __init__(self, what: str, *, again: bool) -> None:
        super().__init__(what)
        self.again = again


class Way(Protocol):
    """A way to reach people."""

    async def send(self, message: Message) -> None:
        """Send it. Raises DeliveryError; takes no longer than its own timeout."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def compose(delivery: Delivery, run_id: str, url: str) -> Message:
    """A delivery in words: one notice as it is, several after quiet hours as a list, a reminder as such."""
    first = delivery.notices[0]
    if len(delivery.notices) > 1:
        lines = "\n".join(f"- {notice.title} (severity {notice.severity:.0f})" for notice in delivery.notices)
        return Message(title=f"{len(delivery.notices)} notices from the quiet hours", text=lines, url=url, run_id=run_id, delivery=delivery)
    title = f"Still unanswered: {first.title}" if delivery.reminders else first.title
    return Message(title=title, text=_text(first), url=url, run_id=run_id, delivery=delivery)


def _text(notice: Notice) -> str:
    return f"{notice.text}\nSeverity {notice.severity:.1f}. {notice.event_id}" + (f", {notice.incident_id}" if notice.incident_id else "")
