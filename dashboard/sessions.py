"""Who is logged in.

A session is a row in a file of the data directory that only its owner may read, beside the admin's token: it outlives a
restart of the dashboard, so that an open page goes on. The cookie holds a random number, the file its digest.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dashboard.composition import digest, replace_private
from immune.clock import Clock

US = 1_000_000
SESSIONS_FILE = "dashboard.sessions"
LASTS_S = 12 * 3600
SESSIONS_MAX = 1000
SNOOZES_MAX = 200


@dataclass(slots=True, kw_only=True)
class Session:
    """One login; without a name, one that only looks. `token` speaks for the person at the daemon; their own pages send `csrf` with every change."""

    digest: str
    name: str
    token: str
    csrf: str
    expires_us: int
    snoozed: dict[str, int] = field(default_factory=dict)


class Sessions:
    """The logins of a dashboard; at most `SESSIONS_MAX`, the oldest make room."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self.path = data_dir / SESSIONS_FILE
        self.clock = clock
        self.evicted = 0
        """Sessions that made room for others before their time was over."""
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = self._read()

    def open(self, name: str, token: str) -> tuple[str, Session]:
        """Log somebody in: what goes into the cookie, and the session."""
        secret = secrets.token_urlsafe(32)
        session = Session(
            digest=digest(secret), name=name, token=token, csrf=secrets.token_urlsafe(24), expires_us=self.clock.now_us() + LASTS_S * US
        )
        with self._lock:
            self._sessions[session.digest] = session
            while len(self._sessions) > SESSIONS_MAX:
                self._sessions.pop(next(iter(self._sessions)))
                self.evicted += 1
            self._write()
        return secret, session

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, secret: str) -> Session | None:
        """The session of a cookie; None when there is none, or it is over."""
        if not secret or len(secret) > 200:
            return None
        session = self._sessions.get(digest(secret))
        if session is None or session.expires_us <= self.clock.now_us():
            return None
        return session

    def close(self, session: Session) -> None:
        """Log out."""
        with self._lock:
            self._sessions.pop(session.digest, None)
            self._write()

    def snooze(self, session: Session, request_id: str, until_us: int) -> None:
        """Keep a request quiet for one person until a time; it expires as it would."""
        with self._lock:
            now_us = self.clock.now_us()
            kept = {key: at_us for key, at_us in session.snoozed.items() if at_us > now_us}
            kept[request_id] = until_us
            session.snoozed = dict(list(kept.items())[-SNOOZES_MAX:])
            self._write()

    def _read(self) -> dict[str, Session]:
        try:
            rows = json.loads(self.path.read_text(encoding="utf-8"))["sessions"]
            found = [Session(**row) for row in rows]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        now_us = self.clock.now_us()
        return {session.digest: session for session in found if session.expires_us > now_us}

    def _write(self) -> None:
        rows = [asdict(session) for session in self._sessions.values()]
        # where nothing can be written, people log in again after a restart
        with suppress(OSError):
            replace_private(self.path, json.dumps({"version": 1, "sessions": rows}))


def same(given: str, kept: str) -> bool:
    """Whether two secrets are equal, in a time that does not depend on them."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), kept.encode())


def link_path(secret: str) -> str:
    """Where a link leads: the secret stands behind a #, which no server and no log ever sees."""
    return f"/login#{secret}"
