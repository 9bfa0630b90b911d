"""The way to the daemon: every change a person asks for goes through its control API, under that person's own token."""

from __future__ import annotations

import http.client
import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from dashboard.composition import daemon_note
from immune.clock import Clock
from immune.errors import UnreachableError

TIMEOUT_S = 10.0
PROBE_TIMEOUT_S = 2.0
PROBE_EVERY_S = 1.0
ANSWER_BYTES = 16 * 1024 * 1024
START_IT = "start it: `immune run`, `python main.py` or `python demo.py`"

Word = Literal["up", "not ready", "away"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the daemon said."""

    status: int
    document: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStatus:
    """How the daemon is, as last seen."""

    word: Word = "away"
    detail: str = "not asked yet"
    url: str = ""
    run_id: str = ""
    ready: Mapping[str, Any] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """Whether it takes orders."""
        return self.word != "away"


class DaemonLink:
    """Asks the daemon of a data directory; its address is read anew each time, so a restart elsewhere is followed."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self.data_dir = data_dir
        self.clock = clock
        self.status = DaemonStatus()
        self.changed = 0
        """Grows whenever the status became another."""
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.on_change: list[Any] = []

    def ask(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        body: Mapping[str, object] | None = None,
        key: str = "",
        keyed: bool = True,
        timeout_s: float = TIMEOUT_S,
    ) -> Answer:
        """One question. Raises UnreachableError when no daemon answers."""
        note = daemon_note(self.data_dir)
        where = urlsplit(note.get("url", ""))
        if where.scheme != "http" or not where.hostname:
            raise UnreachableError("no daemon runs on this data directory", way_out=START_IT)
        headers = {"Accept": "application/json"}
        content = None
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            content = json.dumps(dict(body)).encode()
            headers["Content-Type"] = "application/json"
        if method != "GET" and keyed:
            headers["Idempotency-Key"] = key or secrets.token_hex(16)
        connection = http.client.HTTPConnection(where.hostname, where.port or 80, timeout=timeout_s)
        try:
            connection.request(method, path, body=content, headers=headers)
            response = connection.getresponse()
            raw = response.read(ANSWER_BYTES)
            is_json = "json" in response.headers.get("Content-Type", "")
            document = json.loads(raw) if is_json else raw.decode("utf-8", "replace")
            return Answer(status=response.status, document=document, headers=dict(response.headers.items()))
        except TimeoutError:
            raise UnreachableError("the daemon did not answer in time; what was asked may still be done", way_out="look at the journal") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError(f"the daemon does not answer: {error}", way_out=START_IT) from None
        finally:
            connection.close()

    # -- the probe -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look after the daemon once a second."""
        self._thread = threading.Thread(target=self._watch, name="daemon-probe", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(PROBE_TIMEOUT_S + 1.0)

    def _watch(self) -> None:
        while not self._closing.is_set():
            self.look()
            self._closing.wait(PROBE_EVERY_S)

    def look(self) -> None:
        """See how the daemon is now."""
        found = self._probe()
        before, self.status = self.status, found
        if (before.word, before.detail, before.url, before.run_id) != (found.word, found.detail, found.url, found.run_id):
            self.changed += 1
            for tell in self.on_change:
                tell()

    def _probe(self) -> DaemonStatus:
        url = daemon_note(self.data_dir).get("url", "")
        try:
            answer = self.ask("GET", "/readyz", timeout_s=PROBE_TIMEOUT_S)
        except UnreachableError as error:
            return DaemonStatus(word="away", detail=str(error), url=url)
        document = answer.document if isinstance(answer.document, dict) else {}
        run_id = str(document.get("run_id", ""))
        if answer.status == 200:
            return DaemonStatus(word="up", detail="", url=url, run_id=run_id, ready=document)
        detail = str(document.get("reason") or document.get("status") or answer.status)
        return DaemonStatus(word="not ready", detail=detail, url=url, run_id=run_id, ready=document)


def path_of(*parts: str) -> str:
    """``/v1/…`` with every part quoted: an id may hold anything that prints."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)
