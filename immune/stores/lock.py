"""One writer per data directory: an advisory lock of the operating system, which a killed process cannot keep."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from immune.core.events import iso
from immune.errors import WriterHeldError
from immune.stores.sqlite import FILE_MODE, unavailable

LOCK_NAME = "writer.lock"


class WriterLock:
    """The lock file of a data directory; its content only tells people who holds it."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / LOCK_NAME
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._handle is not None

    def note_of_holder(self) -> str:
        """The name that whoever took the lock last gave, "" if none can be read."""
        try:
            return str(json.loads(self.path.read_text(encoding="utf-8"))["holder"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def take(self, holder: str, now_us: int, *, by_force: bool = False) -> None:
        """Hold the lock from now on. Raises WriterHeldError naming who has it, StoreUnavailableError.

        By force: another file takes the lock file's name, so that whoever holds the old one holds nothing that counts.
        A stopped process cannot be asked to let go; that it may not write any more is up to the fencing epoch.
        """
        if self._handle is not None:
            return
        if by_force:
            self._replace()
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise unavailable(error, self.path) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_note(handle, holder, now_us)
        except BlockingIOError:
            note = _read_note(handle)
            os.close(handle)
            raise WriterHeldError(
                f"second writer on the same data directory: {note} writes here",
                field="data_dir",
                value=str(self.path.parent),
                way_out="stop that process or use another directory; if it hangs and cannot be stopped: `immune run --take-over`",
            ) from None
        except OSError as error:
            os.close(handle)
            raise unavailable(error, self.path) from error
        self._handle = handle

    def _replace(self) -> None:
        fresh = self.path.with_name(f"{LOCK_NAME}.{os.getpid()}")
        try:
            os.close(os.open(fresh, os.O_RDWR | os.O_CREAT, FILE_MODE))
            fresh.replace(self.path)
        except OSError as error:
            raise unavailable(error, self.path) from error

    def drop(self) -> None:
        """Let go; nothing happens if it is not held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _write_note(handle: int, holder: str, now_us: int) -> None:
    note = json.dumps({"pid": os.getpid(), "holder": holder, "since": iso(now_us) if now_us else ""})
    os.ftruncate(handle, 0)
    os.pwrite(handle, note.encode(), 0)


def _read_note(handle: int) -> str:
    try:
        note = json.loads(os.pread(handle, 4096, 0))
        holder, pid = str(note["holder"]), f"pid {note['pid']}"
        known = [*([] if pid in holder else [pid]), *([f"since {note['since']}"] if note["since"] else [])]
        return f"{holder} ({', '.join(known)})" if known else holder
    except (ValueError, KeyError, TypeError):
        return "another process"
