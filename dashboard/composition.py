"""Where the dashboard meets the control plane's stores; no other module of it opens one, or knows which kind they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dashboard.places import APART
from immune.bootstrap import open_stores_read_only
from immune.core.commands import Principal
from immune.errors import ImmuneError, StoreUnavailableError, UnknownIdError
from immune.ports import Journal, Telemetry
from immune.settings import InfluxSettings
from immune.stores.influx.asking import Asker
from immune.stores.influx.reading import InfluxJournal, InfluxTelemetry
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.links import ADDRESS_FILE, digest, issue_link, redeem_link
from immune.stores.people import PREFIX, PeopleStore
from immune.stores.private import replace_private
from immune.stores.tokens import TokenStore

__all__ = ["Keys", "Sources", "alive", "daemon_note", "digest", "issue_link", "open_keys", "redeem_link", "replace_private"]

DAEMON_FILE = "daemon.json"
DASHBOARD_FILE = ADDRESS_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Read-only handles on a data directory. A handle belongs to the thread that opened it, so each use opens its own."""

    data_dir: Path
    influx: InfluxSettings | None = None
    """Where to read the mirrored run from, instead of the data directory's own stores."""

    @property
    def poll_s(self) -> float:
        """How often the journal is looked at: a file costs microseconds, a server a request."""
        return 0.05 if self.influx is None else 1.0

    @property
    def apart(self) -> int:
        """Seqs closer than this are read in one go: a file gives single events quickly, a server everything at once."""
        return APART if self.influx is None else 2**62

    def journal_mark(self) -> tuple[int, int] | None:
        """Which file the journal is; another one after it was moved away or restored."""
        try:
            found = (self.data_dir / "journal.db").stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @property
    def recorded(self) -> bool:
        """Whether any run was ever recorded here: a house without one is empty, not broken."""
        return self.influx is not None or self.journal_mark() is not None

    def file_sizes(self) -> dict[str, int]:
        """Bytes of the stores' files, by name."""
        found = {}
        for name in ("journal.db", "journal.db-wal", "telemetry.db", "telemetry.db-wal"):
            try:
                found[name] = (self.data_dir / name).stat().st_size
            except OSError:
                continue
        return found

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        """The journal, for one use. Raises StoreUnavailableError while there is none."""
        if self.influx is not None:
            with closing(InfluxJournal(Asker(self.influx))) as there:
                yield there
            return
        if not (self.data_dir / "journal.db").exists():
            raise StoreUnavailableError("no run has been recorded here", way_out="start one: `python demo.py` or `immune run`")
        journal = SqliteJournal.open_read_only(self.data_dir)
        try:
            yield journal
        finally:
            journal.close()

    @contextmanager
    def telemetry(self) -> Iterator[Telemetry]:
        """The measurements, for one use. Raises StoreUnavailableError while there are none."""
        if self.influx is not None:
            with closing(InfluxTelemetry(Asker(self.influx))) as measured:
                yield measured
            return
        try:
            stores = open_stores_read_only(self.data_dir)
        except UnknownIdError as error:
            raise StoreUnavailableError(error.what, field=error.field, value=error.value, way_out=error.way_out) from None
        try:
            yield stores.telemetry
        finally:
            stores.close()


@dataclass(slots=True, kw_only=True)
class Keys:
    """Whose token is whose, from the data directory of the daemon. What a password opens is known to the daemon alone."""

    tokens: TokenStore
    people: PeopleStore

    def find(self, token: str) -> Principal | None:
        """Whose token this is; None for nobody's, and for an agent's: agents have no business here."""
        found = self.tokens.find(token)
        return None if found is None or found.role == "agent" else found

    def of_session(self, name: str, token: str) -> Principal | None:
        """Who has this session: the holder of a named token, or somebody who logged in with a password and is still known."""
        if not token.startswith(PREFIX):
            found = self.find(token)
            return found if found is not None and found.name == name else None
        role = self.people.roles().get(name)
        return Principal(name=name, role=role) if role is not None else None

    def admin_token(self) -> str | None:
        """The admin's token where this process may read it."""
        try:
            return self.tokens.admin_token()
        except ImmuneError:
            return None


def open_keys(data_dir: Path) -> Keys:
    """The keys of a data directory."""
    return Keys(tokens=TokenStore(data_dir), people=PeopleStore(data_dir))


def daemon_note(data_dir: Path) -> dict[str, str]:
    """What a running daemon wrote of itself: ``url pid run_id started_at``; empty while none runs."""
    try:
        content = json.loads((data_dir / DAEMON_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}


def alive(pid: int) -> bool:
    """Whether a process with this number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
