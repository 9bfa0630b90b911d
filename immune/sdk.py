"""For programs that run agents: report vitals, ask the gate. Standard library only; copy this one file if you like.

    client = ImmuneClient("http://127.0.0.1:8710", token)
    client.report_vitals("writer-1", latency_ms=812, input_tokens=950, output_tokens=310)
    if client.gate("writer-1"):
        ...  # it may act

Reporting never waits: samples go into a bounded buffer that a background thread sends. Asking waits `timeout_s` at most,
and not at all for a moment after the daemon could not be reached.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

log = logging.getLogger("immune.sdk")

WhenLost = Literal["fail_open", "fail_closed"]
Source = Literal["daemon", "lease", "lost"]
BATCH = 1000
RETRY_S = 1.0
IDLE_KEPT = 4
DEFAULT_LEASE_S = 30.0
AGENTS_KEPT = 10_000
"""Answers of the gate that are remembered; the one asked for longest ago goes first."""
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class GateAnswer:
    """Whether an agent may act, and why; true in a condition when it may.

    source  `daemon`: said just now · `lease`: said a while ago, the daemon cannot be reached · `lost`: the lease is over
    """

    agent: str
    allowed: bool
    level: str = "none"
    reason: str = ""
    tools_off: tuple[str, ...] = ()
    source: Source = "daemon"

    def __bool__(self) -> bool:
        return self.allowed

    def may_use(self, tool: str) -> bool:
        """Whether a tool may be used; ``*`` among `tools_off` means none may."""
        return self.allowed and tool not in self.tools_off and "*" not in self.tools_off


@dataclass(slots=True, kw_only=True)
class Counts:
    """Where every reported sample is: ``reported = sent + refused + dropped + waiting``."""

    reported: int = 0
    sent: int = 0
    refused: int = 0
    dropped: int = 0
    waiting: int = 0


class UnreachableDaemonError(Exception):
    """The daemon did not answer, or asked to be tried again later."""


class RefusedRequestError(Exception):
    """The daemon answered, and the answer is no: a wrong token, a role that is missing, a request that it does not take."""


@dataclass(slots=True, kw_only=True)
class _Kept:
    answer: GateAnswer
    until_s: float


class ImmuneClient:
    """One daemon as an agent's program sees it. May be shared between threads.

    when_lost  what to do once the lease is over and the daemon is still gone. `fail_open` lets an agent act whose last
               answer let it; an agent that was held stays held in either case.
    buffer     samples that may wait; beyond it the oldest is dropped and counted.
    clock, now monotonic seconds, and seconds since 1970
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        when_lost: WhenLost = "fail_closed",
        lease_s: float | None = None,
        timeout_s: float = 1.0,
        buffer: int = 10_000,
        flush_every_s: float = 1.0,
        background: bool = True,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"not the address of a daemon: {url!r}; give http://HOST:PORT")
        token = token.strip()  # as it is read from a file, with the end of its line
        if not token.isascii() or not token.isprintable():
            raise ValueError("not a token; give the text that `immune tokens create` printed")
        if when_lost not in {"fail_open", "fail_closed"}:
            raise ValueError(f"when_lost is fail_open or fail_closed, not {when_lost!r}")
        self.when_lost = when_lost
        self.lease_s = lease_s
        self.timeout_s = timeout_s
        self.flush_every_s = flush_every_s
        self.counts = Counts()
        self.last_error = ""
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)
        self._base = parts.path.rstrip("/")
        self._token = token
        self._clock = clock
        self._now = now
        self._limit = max(1, buffer)
        self._buffer: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._background = background
        self._idle: list[http.client.HTTPConnection] = []
        self._kept: dict[str, _Kept] = {}
        self._asleep_until_s = 0.0

    # -- vitals --------------------------------------------------------------------------------------------------------

    def report_vitals(self, agent: str, *, at: float | str | None = None, **fields: object) -> None:
        """Report one sample: vitals and context by the names of replay files. Returns at once, never raises for the daemon's sake."""
        sample = {"agent": agent, "at": self._now() if at is None else at, **fields}
        with self._lock:
            self.counts.reported += 1
            self._buffer.append(sample)
            while len(self._buffer) > self._limit:
                self._buffer.popleft()
                self.counts.dropped += 1
            self.counts.waiting = len(self._buffer)
            if self._background and self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._send_on, name="immune-vitals", daemon=True)
                self._thread.start()

    def flush(self) -> bool:
        """Send what waits, now; False if the daemon could not be reached and something still waits."""
        with self._sending:
            while batch := self._first():
                try:
                    accepted = self._post(batch)
                except UnreachableDaemonError as error:
                    self._note(str(error))
                    return False
                except RefusedRequestError as error:
                    self._note(str(error))
                    accepted = 0
                self._done(batch, accepted)
        return True

    def close(self) -> None:
        """Send what waits if the daemon is there, and stop."""
        self._stopped.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(self.timeout_s * 2 + 1)
        self.flush()
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _send_on(self) -> None:
        while not self._stopped.wait(self.flush_every_s):
            self.flush()

    def _first(self) -> list[dict[str, Any]]:
        with self._lock:
            return [self._buffer[n] for n in range(min(BATCH, len(self._buffer)))]

    def _done(self, batch: list[dict[str, Any]], accepted: int) -> None:
        """Take a batch out of the buffer. What overflowed meanwhile is gone from its front already, and counted as dropped."""
        with self._lock:
            gone = 0
            for sample in batch:
                if self._buffer and self._buffer[0] is sample:
                    self._buffer.popleft()
                    gone += 1
            sent = min(accepted, gone)
            self.counts.sent += sent
            self.counts.refused += gone - sent
            self.counts.waiting = len(self._buffer)

    def _post(self, batch: list[dict[str, Any]]) -> int:
        body = f'{{"samples": [{", ".join(self._written(batch))}]}}'.encode("utf-8", "backslashreplace")
        answer = self._request("POST", "/v1/vitals", body, {"Content-Type": "application/json"})
        return int(answer.get("accepted", 0))

    def _written(self, batch: list[dict[str, Any]]) -> Iterator[str]:
        """The samples as JSON; what cannot be written is left out, and with that refused."""
        for sample in batch:
            try:
                yield json.dumps(sample, default=str)
            except (TypeError, ValueError, RecursionError) as error:
                self._note(f"a sample of {sample['agent']!r} cannot be sent: {error}")

    # -- the gate ------------------------------------------------------------------------------------------------------

    def gate(self, agent: str) -> GateAnswer:
        """Ask whether an agent may act now. Never raises: when the daemon is gone, the last answer holds for its lease."""
        if self._clock() >= self._asleep_until_s:
            try:
                told = self._request("GET", f"/v1/gate/{quote(agent, safe='')}", None, {})
                return self._keep(agent, told)
            except UnreachableDaemonError as error:
                self._asleep_until_s = self._clock() + RETRY_S
                self._note(str(error))
            except RefusedRequestError as error:
                # the daemon is there: a token that was taken away must not open the gate
                self._note(str(error))
                return GateAnswer(agent=agent, allowed=False, reason=str(error))
        return self._without_daemon(agent)

    def _keep(self, agent: str, told: dict[str, Any]) -> GateAnswer:
        answer = GateAnswer(
            agent=agent,
            allowed=told.get("allowed") is True,
            level=str(told.get("level", "none")),
            reason=str(told.get("reason", "")),
            tools_off=tuple(map(str, told.get("tools_off", ()))),
        )
        lease_s = float(told.get("lease_s", DEFAULT_LEASE_S)) if self.lease_s is None else self.lease_s
        self._kept.pop(agent, None)
        self._kept[agent] = _Kept(answer=answer, until_s=self._clock() + lease_s)
        while len(self._kept) > AGENTS_KEPT:
            del self._kept[next(iter(self._kept))]
        return answer

    def _without_daemon(self, agent: str) -> GateAnswer:
        kept = self._kept.get(agent)
        if kept is not None and self._clock() < kept.until_s:
            return _as_of(kept.answer, "lease", allowed=kept.answer.allowed, reason=kept.answer.reason)
        held = kept is not None and not kept.answer.allowed
        allowed = self.when_lost == "fail_open" and not held
        known = kept.answer if kept is not None else GateAnswer(agent=agent, allowed=allowed)
        why = "it was held when it last asked" if held else f"the daemon cannot be reached: {self.when_lost}"
        return _as_of(known, "lost", allowed=allowed, reason=why)

    # -- transport -----------------------------------------------------------------------------------------------------

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> dict[str, Any]:
        """One request; once more on a new connection if a kept one turned out to be closed."""
        sent = {"Authorization": f"Bearer {self._token}", "Accept": "application/json", **headers}
        kept = self._take_idle()
        if kept is not None:
            try:
                return self._exchange(kept, method, path, body, sent)
            except UnreachableDaemonError as error:
                if isinstance(error.__cause__, TimeoutError):
                    raise
        return self._exchange(self._connect(), method, path, body, sent)

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> dict[str, Any]:
        try:
            connection.request(method, self._base + path, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UnreachableDaemonError(f"{type(error).__name__}: {error}") from error
        self._keep_idle(connection, response.will_close)
        return _read(response.status, content)

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self.timeout_s)

    def _take_idle(self) -> http.client.HTTPConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _keep_idle(self, connection: http.client.HTTPConnection, closing: bool) -> None:
        with self._lock:
            if not closing and not self._stopped.is_set() and len(self._idle) < IDLE_KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def _note(self, error: str) -> None:
        if error != self.last_error:
            log.warning("immune daemon: %s", error)
        self.last_error = error


def _as_of(answer: GateAnswer, source: Source, *, allowed: bool, reason: str) -> GateAnswer:
    return GateAnswer(agent=answer.agent, allowed=allowed, level=answer.level, reason=reason, tools_off=answer.tools_off, source=source)


def _read(status: int, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content) if content else {}
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise UnreachableDaemonError(f"{status}: this is not the daemon's answer")
    if status in _WORTH_ANOTHER_TRY:
        raise UnreachableDaemonError(f"{status}: {document.get('detail', 'try again later')}")
    if status >= http.client.BAD_REQUEST:
        raise RefusedRequestError(f"{status}: {document.get('detail', 'refused')}")
    return document
