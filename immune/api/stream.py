"""The live stream: every envelope of the journal as a server-sent event, its id the seq, resumable after any seq.

Nothing is queued per client: each has a cursor into one bounded buffer of the newest envelopes, and into the journal for
what is older. A client that cannot keep up is dropped and counted, it resumes where it was.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from itertools import islice

from immune.core.events import Envelope
from immune.ports import Journal

BUFFERED = 2_000
PAGE = 200
HEARTBEAT_S = 15.0
STUCK_S = 20.0


class Stream:
    """What happened lately, and who waits for more."""

    def __init__(self, journal: Journal, run_id: str) -> None:
        self.journal = journal
        self.run_id = run_id
        self.clients = 0
        self.dropped = 0
        self.refused = 0
        self.closing = False
        self.head = 0
        self._recent: deque[Envelope] = deque(maxlen=BUFFERED)
        self._news = asyncio.Event()

    @property
    def kept(self) -> int:
        """Envelopes in the buffer."""
        return len(self._recent)

    def publish(self, envelopes: Sequence[Envelope], head: int) -> None:
        """Remember what was appended and wake everyone; `head` may be beyond it, the journal has the rest."""
        if head <= self.head:
            return
        if envelopes:
            if self._recent and envelopes[0].seq != self._recent[-1].seq + 1:
                self._recent.clear()
            self._recent.extend(envelopes)
        self.head = head
        self._wake()

    def close(self) -> None:
        """Let every client go."""
        self.closing = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def wait(self, after_seq: int, timeout_s: float) -> bool:
        """True once there may be something after this seq, False when nothing came in time."""
        if self.head > after_seq or self.closing:
            return True
        try:
            await asyncio.wait_for(self._news.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def page(self, after_seq: int) -> list[Envelope]:
        """The next envelopes after a seq, a page at most."""
        if self._recent and self._recent[0].seq <= after_seq + 1 <= self._recent[-1].seq:
            start = after_seq + 1 - self._recent[0].seq
            return list(islice(self._recent, start, start + PAGE))
        return list(self.journal.read(self.run_id, after_seq=after_seq, limit=PAGE))


def frame(envelope: Envelope) -> bytes:
    """One server-sent event."""
    text = json.dumps(envelope.as_json(), ensure_ascii=False, separators=(",", ":"))
    return f"id: {envelope.seq}\nevent: {envelope.kind}\ndata: {text}\n\n".encode("utf-8", "backslashreplace")
