"""Stands in for the engine while the disk takes nothing: what was decided is known and told, nothing new is.

A daemon that did not start for want of room would leave its gate unanswered, and whoever is contained would be free once their lease
ran out. So the run is folded from what can be read, every question is answered from it, and every attempt to act is refused with the reason.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from immune.core.decision import Decision, Rules
from immune.core.events import Envelope
from immune.core.fold import fold
from immune.core.state import RunState
from immune.core.vitals import Lexicon, Roster, VitalSchema
from immune.errors import StoreUnavailableError
from immune.ports import Bound, Desk, Journal, Telemetry
from immune.runtime.measurements import Account

PROBE_BYTES = 1024 * 1024
"""So much must fit before the daemon tries to start: the first minutes of a journal, and room to say that it is full again."""


@dataclass(slots=True, kw_only=True)
class Still:
    """Counters of something that does nothing."""

    ticks: int = 0
    ticks_skipped: int = 0
    samples: int = 0
    lag_us: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0

    def account(self) -> Account:
        """No sample is taken."""
        return Account(accepted=0, stored=0, waiting=0, dropped=0)


class StandIn:
    """The engine as the API sees it, without hands: see `Host` in immune/api/seams.py."""

    def __init__(self, *, journal: Journal, telemetry: Telemetry, run_id: str, rules: Rules, period_us: int, error: StoreUnavailableError) -> None:
        """Raises StoreUnavailableError when the journal cannot even be read."""
        self.journal = journal
        self.telemetry = telemetry
        self.run_id = run_id
        self.rules = rules
        self.period_us = period_us
        self.trouble = str(error)
        self.state = fold(RunState(), journal.read(run_id))
        self.view: object | None = self
        self.counters = self.outage = self.queue = Still()
        self.desk = Desk(roster=Roster(limit=1), lexicon=Lexicon(limit=1), schema=VitalSchema())
        self.listeners: list[Callable[[Sequence[Envelope], Any], None]] = []

    def confirm(self) -> None:
        """Nobody else can write either."""

    def bounds(self) -> Sequence[Bound]:
        """Nothing is taken, so nothing fills."""
        return ()

    def count_rejected(self, rejected: Mapping[str, int]) -> None:
        """Nothing is taken, so nothing is turned away but at the door."""

    def submit(self, decision: Decision) -> list[Envelope]:
        """Refused: nothing that cannot be recorded is done. Raises StoreUnavailableError."""
        self.counters.refused += 1
        raise StoreUnavailableError(f"nothing can be recorded: {self.trouble}", way_out="free some space; the daemon goes on by itself")


class ClosedInbox:
    """An inbox without room: whoever reports is asked to come again."""

    def __init__(self) -> None:
        self.counts = _NoCounts()
        self.waiting = 0
        self.room = 0
        self.otlp = None

    def offer(self, rows: Sequence[object], now_us: int, *, first_index: int = 0) -> Sequence[Any]:
        """Takes nothing; it is not even asked while there is no room."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _NoCounts:
    offered: int = 0
    accepted: int = 0
    delivered: int = 0
    enrolled: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)


def room_again(data_dir: Path) -> bool:
    """Whether the disk of a data directory takes something: tried, not guessed from what it says of itself."""
    probe = data_dir / f".room.{secrets.token_hex(4)}"
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        os.write(handle, bytes(PROBE_BYTES))
        os.fsync(handle)
        fits = os.fstat(handle).st_size == PROBE_BYTES
    except OSError:
        fits = False
    finally:
        os.close(handle)
        probe.unlink(missing_ok=True)
    return fits
