"""Follows the journal of the running daemon and folds it: the one writer of what every page shows.

The journal's file is looked at twenty times a second, which costs a microsecond or ten and no word to the daemon: pages
go on when it is away, and hear of an event as soon as it is on disk.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dashboard.composition import Sources
from dashboard.documents import Document, event_document, seen_from
from dashboard.frames import Frame, frame_of
from dashboard.history import EVERY, History
from dashboard.projection import Projection
from immune.clock import Clock, elapsed_s
from immune.core.events import Envelope
from immune.core.fold import fold
from immune.errors import ImmuneError
from immune.ports import Journal

log = logging.getLogger("dashboard.follower")

RUNS_EVERY_S = 0.5
SEEN_EVERY_S = 1.0
SEEN_LARGE_EVERY_S = 5.0
LARGE_FLEET = 1000
RETRY_S = 1.0
FRAMES_KEPT = 512
EVENTS_KEPT = 2000


@dataclass(slots=True, kw_only=True)
class Following:
    """One run as far as it has been read."""

    projection: Projection = field(default_factory=Projection)
    history: History = field(default_factory=History)
    events: deque[Document] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))


class Follower:
    """Tails one journal on a thread of its own. Everything public may be read from any thread."""

    def __init__(self, sources: Sources, clock: Clock, run_id: str | None = None) -> None:
        self.sources = sources
        self.clock = clock
        self.wanted = run_id
        self.news = threading.Condition()
        self.closing = threading.Event()
        self.trouble = "not read yet"
        """Why the journal cannot be read at this moment; empty while it can."""
        self.unseen = ""
        """Why the measurements cannot be read; the journal goes on without them."""
        self.seen_pulse = 0
        """Grows whenever the newest samples were looked at."""
        self.followed_us = 0
        self._following = Following()
        self._frames: deque[Frame] = deque(maxlen=FRAMES_KEPT)
        self._thread: threading.Thread | None = None
        self._since_runs = self._since_seen = elapsed_s()
        self._runs_looked = self._seen_looked = -1e9
        self._names: tuple[str, ...] = ()
        self._caught_up = False

    # -- for readers ---------------------------------------------------------------------------------------------------

    @property
    def projection(self) -> Projection:
        """The run as it stands."""
        return self._following.projection

    @property
    def history(self) -> History:
        """Earlier states of the same run."""
        return self._following.history

    @property
    def told(self) -> tuple[str, str]:
        """What cannot be read: whoever showed something else says it anew."""
        return self.trouble, self.unseen

    def recent_events(self) -> list[Document]:
        """The newest events, told, oldest first."""
        while True:
            try:
                return list(self._following.events)
            except RuntimeError:  # the follower added one meanwhile
                continue

    def wait_for(self, seq: int, timeout_s: float) -> bool:
        """True as soon as the projection has reached a seq."""
        with self.news:
            return self.news.wait_for(lambda: self.projection.state.seq >= seq or self.closing.is_set(), timeout_s)

    def frames_after(self, run_id: str, seq: int) -> list[Frame] | None:
        """The frames that continue exactly there, in order; None when they do not reach back so far."""
        with self.news:
            frames = list(self._frames)
        found = [frame for frame in frames if frame.run_id == run_id and frame.after_seq >= seq]
        if found and found[0].after_seq == seq:
            return found
        return None

    # -- the thread ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to follow."""
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and wake everybody who waits."""
        self.closing.set()
        with self.news:
            self.news.notify_all()
        if self._thread is not None:
            self._thread.join(5.0)

    def _run(self) -> None:
        while not self.closing.is_set():
            try:
                with self.sources.journal() as journal:
                    self._follow(journal)
            except ImmuneError as error:
                self._set_trouble(str(error))
            self.closing.wait(RETRY_S)

    def _follow(self, journal: Journal) -> None:
        """Until the journal fails, or another file lies in its place."""
        self._runs_looked = -1e9
        file = self.sources.journal_mark()
        while not self.closing.is_set():
            looked_s = self._runs_looked
            self.step(journal)
            if self._runs_looked != looked_s and self.sources.journal_mark() != file:
                return
            self.closing.wait(self.sources.poll_s)

    def step(self, journal: Journal) -> None:
        """One look: another run, new events, newer samples."""
        now_s = self._since_runs()
        if now_s - self._runs_looked >= RUNS_EVERY_S:
            self._runs_looked = now_s
            self._choose_run(journal)
        run_id = self._following.projection.state.run_id or self._chosen
        if run_id:
            self._read_on(journal, run_id)
            self._look_at_samples(run_id)
        self.followed_us = self.clock.now_us()
        self._set_trouble("")

    _chosen = ""

    def _choose_run(self, journal: Journal) -> None:
        runs = journal.runs()
        newest = self.wanted or (runs[0].run_id if runs else "")
        if newest != self._chosen:
            self._chosen = newest
            self._names = ()
            self._caught_up = False
            self._following = Following()
            with self.news:
                self._frames.clear()

    def _read_on(self, journal: Journal, run_id: str) -> None:
        following = self._following
        state = following.projection.state
        if journal.head(run_id)[0] <= state.seq:
            self._caught_up = True
            return
        behind = state.seq
        tail: deque[Envelope] = deque(maxlen=EVENTS_KEPT)
        while envelopes := list(journal.read(run_id, after_seq=state.seq, limit=EVERY)):
            state = fold(state, envelopes)
            following.history.note(state, envelopes)
            if self._caught_up:
                following.events.extend(event_document(one) for one in envelopes)
                self._publish(replace(following.projection, state=state), envelopes, behind)
                behind = state.seq
            else:
                tail.extend(envelopes)
            if self.closing.is_set():
                return
        if not self._caught_up:
            following.events.extend(event_document(one) for one in tail)
            # a run that is read from its beginning shows itself when it is read to its end, never as it was half way
            self._publish(replace(following.projection, state=state), [], behind)
        self._caught_up = True

    def _publish(self, projection: Projection, envelopes: Sequence[Envelope], after_seq: int) -> None:
        frame = frame_of(projection, envelopes, after_seq) if envelopes else None
        with self.news:
            self._following.projection = projection
            if frame is not None:
                self._frames.append(frame)
            self.news.notify_all()

    def _look_at_samples(self, run_id: str) -> None:
        every_s = SEEN_LARGE_EVERY_S if len(self.projection.state.agents) > LARGE_FLEET else SEEN_EVERY_S
        now_s = self._since_seen()
        if now_s - self._seen_looked < every_s:
            return
        self._seen_looked = now_s
        try:
            with self.sources.telemetry() as telemetry:
                if len(self._names) < len(self.projection.state.agents):
                    self._names = telemetry.agents(run_id)
                newest = telemetry.latest(run_id)
        except ImmuneError as error:
            self._set_unseen(error.what)
            return
        self._set_unseen("")
        seen_us = seen_from(self._names, newest.agent.tolist(), newest.at_us.tolist())
        before = self.projection
        if seen_us == before.seen_us:
            return
        with self.news:
            self._following.projection = replace(self.projection, seen_us=seen_us, seen_version=before.seen_version + 1)
            self.seen_pulse += 1
            self.news.notify_all()

    def _set_unseen(self, unseen: str) -> None:
        if unseen != self.unseen:
            self.unseen = unseen
            with self.news:
                self.news.notify_all()

    def _set_trouble(self, trouble: str) -> None:
        if trouble != self.trouble:
            if trouble:
                log.warning("the journal cannot be read: %s", trouble)
            self.trouble = trouble
            with self.news:
                self.news.notify_all()
