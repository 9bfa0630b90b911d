"""The live stream: what happens, as server-sent events, resumable after any seq."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Response

from dashboard.frames import EVENTS_MAX, Frame, frame_of, message
from dashboard.projection import Projection
from dashboard.routing import Ask, Route
from dashboard.site import Site
from immune.api.problems import ProblemError
from immune.core.events import iso
from immune.errors import ImmuneError

BEAT_S = 5.0
SEEN_AGENTS_MAX = 300
RETRY_MS = 1000


def follow(ask: Ask) -> Response:
    """Every change after ``Last-Event-ID`` (or ``?after=``), from now on without either. 503 with too many listeners."""
    site = ask.site
    after = beginning(ask)
    if not site.streams.acquire(blocking=False):
        site.counters.streams_refused += 1
        raise ProblemError(503, "too many pages are open", way_out="close one and try again", headers={"Retry-After": "5"})
    gone = ask.request.environ.get("waitress.client_disconnected", lambda: False)
    listener = Listener(site, after, ask.query("run_id"))
    response = Response(listener.lines(gone), content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(listener.close)
    site.counters.streams += 1
    return response


def beginning(ask: Ask) -> int | None:
    """The seq after which a page goes on; None for one that has seen nothing yet."""
    name = "Last-Event-ID" if "Last-Event-ID" in ask.request.headers else "after"
    text = ask.request.headers.get("Last-Event-ID", ask.query("after"))
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ProblemError(400, "not a seq", field=name, value=text, way_out="the number of the last event that you have seen")
    return int(text)


class Listener:
    """One open page: where it is, and what it has been told."""

    def __init__(self, site: Site, after: int | None, run_id: str) -> None:
        self.site = site
        projection = site.projection
        self.run_id = run_id or projection.run_id
        self.seq = projection.state.seq if after is None else after
        self.told_status = -1
        self.told_trouble = ("", "")
        self.told_seen = -1
        self._open = True

    def close(self) -> None:
        """Give the place back."""
        if self._open:
            self._open = False
            self.site.counters.streams -= 1
            self.site.streams.release()

    def lines(self, gone: object) -> Iterator[bytes]:
        """Server-sent events until the page or the dashboard goes away."""
        try:
            yield b"retry: %d\n\n" % RETRY_MS
            yield self._hello()
            while not self.site.closing.is_set() and not (callable(gone) and gone()):
                news = self._news()
                if news:
                    yield news
                elif not self._wait():
                    yield self._beat()
        finally:
            self.close()

    def _hello(self) -> bytes:
        projection = self.site.projection
        if self.run_id != projection.run_id or self.seq > projection.state.seq:
            # another run than the page knows: it asks for everything anew
            self.run_id, self.seq = projection.run_id, projection.state.seq
        return message("hello", {"run_id": projection.run_id, "from": self.seq, "seq": projection.state.seq, "now": iso(self.site.clock.now_us())})

    def _wait(self) -> bool:
        site, follower = self.site, self.site.follower
        with follower.news:
            return follower.news.wait_for(lambda: site.closing.is_set() or follower.closing.is_set() or self._anything(), BEAT_S)

    def _anything(self) -> bool:
        site = self.site
        projection = site.projection
        return (
            projection.state.seq != self.seq
            or projection.run_id != self.run_id
            or site.daemon.changed != self.told_status
            or site.follower.told != self.told_trouble
            or site.follower.seen_pulse != self.told_seen
        )

    def _news(self) -> bytes:
        parts = []
        site = self.site
        projection = site.projection
        if projection.run_id != self.run_id:
            self.run_id, self.seq = projection.run_id, projection.state.seq
            parts.append(message("run", {"run_id": projection.run_id, "seq": projection.state.seq}, projection.state.seq))
        elif projection.state.seq > self.seq:
            frames = self._frames(projection)
            self.seq = frames[-1].seq
            parts += [frame.content for frame in frames]
        if site.daemon.changed != self.told_status or site.follower.told != self.told_trouble:
            self.told_status, self.told_trouble = site.daemon.changed, site.follower.told
            parts.append(message("status", status_document(site)))
        if site.follower.seen_pulse != self.told_seen:
            self.told_seen = site.follower.seen_pulse
            parts.append(self._beat())
        return b"".join(parts)

    def _frames(self, projection: Projection) -> list[Frame]:
        """What continues where this page is; put together from the journal where the kept frames do not reach back so far."""
        frames = self.site.follower.frames_after(self.run_id, self.seq)
        if frames:
            return frames
        missed = projection.state.seq - self.seq
        envelopes = []
        if missed <= EVENTS_MAX:
            try:
                with self.site.sources.journal() as journal:
                    envelopes = list(journal.read(self.run_id, after_seq=self.seq, limit=missed))
            except ImmuneError:
                envelopes = []
        return [frame_of(projection, envelopes, self.seq)]

    def _beat(self) -> bytes:
        """A sign of life, with the newest sample of every agent where they are few."""
        projection = self.site.projection
        seen_us = projection.seen_us
        newest_us = max(seen_us.values(), default=0)
        few = len(seen_us) <= SEEN_AGENTS_MAX
        document = {
            "run_id": projection.run_id,
            "seq": projection.state.seq,
            "now": iso(self.site.clock.now_us()),
            "newest_sample_at": iso(newest_us) if newest_us else None,
            "seen_us": dict(seen_us) if few else None,
        }
        return message("beat", document)


def status_document(site: Site) -> dict[str, object]:
    """``{daemon, troubles}`` as banners show them."""
    return {"daemon": {"status": site.daemon.status.word, "run_id": site.daemon.status.run_id}, "troubles": site.troubles}


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/api/stream",
        handler=follow,
        summary="Changes as they happen; resumes after `Last-Event-ID`",
        query=(("after", "a seq, for clients that cannot send Last-Event-ID"), ("run_id", "the run that the page shows")),
        media_type="text/event-stream",
    ),
)
