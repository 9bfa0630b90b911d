"""Heads of chains, witnessed outside the journal: one line now and then, so that a chain that lost its end is found out.

A journal alone cannot tell: whoever cuts its tail and mends the row that says where it ends leaves a chain that holds.
A line is ``at run seq head why``; lines are only ever added. The file is bounded: full, it becomes ``.1`` and a new one
begins with the newest line of each run. A head that a person accepted by restoring an older copy is marked ``restored``;
what was witnessed before it is history and no longer held against the journal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from immune.core.events import GENESIS, iso
from immune.errors import JournalBrokenError
from immune.ports import Journal
from immune.stores.sqlite import FILE_MODE, make_directory, unavailable

LIMIT_BYTES = 256 * 1024
RUNS_CARRIED = 500

Why = Literal["started", "running", "stopped", "restored"]
_LINE = re.compile(r"(\S{27}) (\S{1,100}) (\d{1,18}) ([0-9a-f]{64}) (" + "|".join(get_args(Why)) + ")")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One head as it was seen: that of `run_id` was `head` at `seq`. `at` is ISO 8601."""

    at: str
    run_id: str
    seq: int
    head: str
    why: str

    def line(self) -> str:
        """As it stands in the file."""
        return f"{self.at} {self.run_id} {self.seq} {self.head} {self.why}\n"


class Witness:
    """The witness file of one data directory, wherever it lies."""

    def __init__(self, path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.path = path
        self.limit_bytes = limit_bytes

    def note(self, at_us: int, run_id: str, seq: int, head: str, why: Why) -> None:
        """Add a line; it is on the disk when this returns. Raises StoreUnavailableError."""
        make_directory(self.path.parent)
        line = Sighting(at=iso(at_us), run_id=run_id, seq=seq, head=head, why=why).line()
        try:
            if self.path.exists() and self.path.stat().st_size + len(line) > self.limit_bytes:
                self._turn_over()
            _add(self.path, line)
        except OSError as error:
            raise unavailable(error, self.path) from error

    def _turn_over(self) -> None:
        newest = {sighting.run_id: sighting for sighting in self._read(self.path)}
        self.path.replace(self._older)
        _add(self.path, "".join(sighting.line() for sighting in list(newest.values())[-RUNS_CARRIED:]))

    @property
    def _older(self) -> Path:
        return self.path.with_name(self.path.name + ".1")

    def sightings(self, run_id: str) -> list[Sighting]:
        """What was seen of a run and still counts, oldest first; lines that a crash tore are left out. Raises StoreUnavailableError."""
        found = [one for path in (self._older, self.path) for one in self._read(path) if one.run_id == run_id]
        accepted = max((place for place, one in enumerate(found) if one.why == "restored"), default=0)
        return found[accepted:]

    def _read(self, path: Path) -> list[Sighting]:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        except OSError as error:
            raise unavailable(error, path) from error
        matches = [match for line in lines if (match := _LINE.fullmatch(line))]
        return [Sighting(at=m[1], run_id=m[2], seq=int(m[3]), head=m[4], why=m[5]) for m in matches]


def _add(path: Path, text: str) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
    try:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        os.write(handle, (("\n" if torn else "") + text).encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def compare(journal: Journal, run_id: str, sightings: Sequence[Sighting]) -> None:
    """Hold a run's chain against what was seen of it. Raises JournalBrokenError naming the first seq that is gone or another."""
    end, _ = journal.head(run_id)
    for seen in sorted(sightings, key=lambda one: one.seq):
        if seen.seq > end:
            raise JournalBrokenError(f"the journal was cut: at {seen.at} it had {seen.seq} events, head {seen.head}", run_id=run_id, seq=end + 1)
        if hash_at(journal, run_id, seen.seq) != seen.head:
            raise JournalBrokenError(f"this is not the event that was witnessed at {seen.at}, head {seen.head}", run_id=run_id, seq=seen.seq)


def hash_at(journal: Journal, run_id: str, seq: int) -> str:
    """The hash of one event, "" where there is none; before the first event stands the genesis."""
    return next((envelope.hash for envelope in journal.read(run_id, after_seq=seq - 1, limit=1)), "") if seq else GENESIS
