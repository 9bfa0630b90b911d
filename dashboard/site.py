"""Everything a running dashboard consists of, in one place that every route gets."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dashboard.composition import Keys, Sources, open_keys
from dashboard.daemonlink import DaemonLink
from dashboard.documents import FleetList
from dashboard.follower import Follower
from dashboard.history import History, in_batches
from dashboard.places import Concerning
from dashboard.projection import Projection
from dashboard.sessions import Sessions
from dashboard.shelf import Shelf
from immune.api.limits import Buckets
from immune.api.problems import ProblemError
from immune.clock import Clock
from immune.core.events import Envelope
from immune.core.fold import fold
from immune.core.policy import Policy
from immune.core.state import RunState
from immune.settings import InfluxSettings

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
OTHER_RUNS_KEPT = 3
STREAMS_MAX = 48
US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for. `login`: whoever only looks must say who they are, too. `hosts`: names besides those of the loopback."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8711
    run_id: str | None = None
    login: bool = False
    hosts: frozenset[str] = frozenset()
    secure: bool = False
    """Whether people come through https, so that cookies may insist on it."""
    influx: InfluxSettings | None = None
    """Where journal and measurements are read from, instead of the data directory."""
    grafana_url: str = ""


@dataclass(slots=True, kw_only=True)
class Counters:
    """What the dashboard counts of itself; lost updates between threads are accepted."""

    requests: int = 0
    refused: int = 0
    bugs: int = 0
    streams: int = 0
    streams_refused: int = 0
    logins: int = 0
    failed_logins: int = 0


@dataclass(slots=True, kw_only=True)
class Site:
    """One dashboard."""

    options: Options
    clock: Clock
    sources: Sources
    keys: Keys
    sessions: Sessions
    follower: Follower
    daemon: DaemonLink
    shelf: Shelf = field(default_factory=Shelf)
    fleet_list: FleetList = field(default_factory=FleetList)
    counters: Counters = field(default_factory=Counters)
    tries: Buckets = field(default_factory=lambda: Buckets(per_s=0.5, burst=10.0))
    started_us: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    streams: threading.Semaphore = field(default_factory=lambda: threading.BoundedSemaphore(STREAMS_MAX))
    policies: OrderedDict[str, tuple[Policy, str]] = field(default_factory=OrderedDict)
    """Policies by version, as far as somebody looked at them; the newest looked at."""
    _others: OrderedDict[str, tuple[RunState, History]] = field(default_factory=OrderedDict)
    _others_lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def projection(self) -> Projection:
        """The followed run as it stands."""
        return self.follower.projection

    @property
    def troubles(self) -> list[dict[str, str]]:
        """What people must know of before they trust a page: ``{what, detail}`` each."""
        found = []
        if self.follower.trouble:
            found.append({"what": "journal", "detail": self.follower.trouble})
        if self.follower.unseen:
            detail = f"the measurements cannot be read: {self.follower.unseen}; charts and last seen are missing or old, all else is of the journal"
            found.append({"what": "telemetry", "detail": detail})
        status = self.daemon.status
        empty = not self.sources.recorded  # which is told of once
        if status.word == "away" and not empty:
            found.append({"what": "daemon", "detail": f"the daemon is away, what you see is the last it wrote: {status.detail}"})
        elif status.word == "not ready":
            found.append({"what": "daemon", "detail": f"the daemon is not ready: {status.detail}"})
        return found

    def live_run(self, run_id: str) -> bool:
        """Whether orders for this run can be given now: the daemon runs exactly this one."""
        status = self.daemon.status
        return status.up and status.run_id == run_id

    @contextmanager
    def concerning(self, projection: Projection, keys: Iterable[str]) -> Iterator[Concerning]:
        """The journal of a moment, as far as it concerns these subjects, incidents, plans, requests, containments or tasks."""
        places = self.history_of(projection.run_id).places
        with self.sources.journal() as journal:
            yield Concerning(journal, places, keys, last=projection.state.seq, apart=self.sources.apart)

    # -- other runs, other moments ---------------------------------------------------------------------------------------

    def moment(self, run_id: str, at: str) -> Projection:
        """The projection of a run (the followed one for "") at a moment ("" for the newest): a seq, or `t` and microseconds.

        Raises ProblemError 404 for an unknown run, 400 for what is no moment.
        """
        followed = self.follower.projection
        same_run = not run_id or run_id == followed.run_id
        if same_run and not at:
            return followed
        if same_run:
            state, history, run_id = followed.state, self.follower.history, followed.run_id
        else:
            state, history = self._other(run_id)
        if not at:
            return Projection(state=state, past=True)
        seq = self._seq(history, at)
        if seq >= state.seq:
            return followed if same_run else Projection(state=state, past=True)
        with self.sources.journal() as journal:

            def read(after_seq: int, count: int) -> Iterable[Envelope]:
                return journal.read(run_id, after_seq=after_seq, limit=count)

            return Projection(state=history.state_at(seq, read), past=True)

    def history_of(self, run_id: str) -> History:
        """The times and kept states of a run."""
        return self.follower.history if not run_id or run_id == self.follower.projection.run_id else self._other(run_id)[1]

    @staticmethod
    def _seq(history: History, at: str) -> int:
        digits = at.removeprefix("t")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
            raise ProblemError(400, "not a moment", field="at", value=at, way_out="a seq (at=120), or t and microseconds (at=t1767225600000000)")
        return history.seq_at(int(digits)) if at.startswith("t") else int(digits)

    def _other(self, run_id: str) -> tuple[RunState, History]:
        with self._others_lock, self.sources.journal() as journal:
            head = journal.head(run_id)[0]
            if head == 0:
                raise ProblemError(404, "no such run", field="run", value=run_id, way_out="see /api/runs")
            known = self._others.get(run_id)
            if known is None or known[0].seq < head:
                state, history = known or (RunState(), History())
                for batch in in_batches(journal.read(run_id, after_seq=state.seq)):
                    state = fold(state, batch)
                    history.note(state, batch)
                known = self._others[run_id] = (state, history)
            self._others.move_to_end(run_id)
            while len(self._others) > OTHER_RUNS_KEPT:
                self._others.popitem(last=False)
            return known


def build_site(options: Options, clock: Clock) -> Site:
    """The parts, not started."""
    sources = Sources(data_dir=options.data_dir, influx=options.influx)
    follower = Follower(sources, clock, options.run_id)
    daemon = DaemonLink(options.data_dir, clock)

    def tell() -> None:
        with follower.news:
            follower.news.notify_all()

    daemon.on_change.append(tell)
    return Site(
        options=options,
        clock=clock,
        sources=sources,
        keys=open_keys(options.data_dir),
        sessions=Sessions(options.data_dir, clock),
        follower=follower,
        daemon=daemon,
        started_us=clock.now_us(),
    )
