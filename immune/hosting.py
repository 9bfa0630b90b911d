"""The engine, and the door that samples come in by, as their siblings see them: what the API and the instruments both look at.

Each of the two adds what it alone needs (`api/seams.py`, `observability/look.py`); neither imports the runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from immune.core.events import Envelope
from immune.core.state import RunState
from immune.ports import Bound, Desk, Journal


class Counted(Protocol):
    """What the engine counts of itself since the process began."""

    @property
    def ticks(self) -> int:
        """Ticks done."""
        ...

    @property
    def ticks_skipped(self) -> int:
        """Ticks that came too late."""
        ...

    @property
    def samples(self) -> int:
        """Samples scored."""
        ...

    @property
    def lag_us(self) -> int:
        """How late the newest tick was."""
        ...

    @property
    def rejected(self) -> Mapping[str, int]:
        """Samples turned away at the tick, by reason."""
        ...


class Account(Protocol):
    """Where samples are on their way to the telemetry store."""

    @property
    def accepted(self) -> int:
        """Taken at the tick."""
        ...

    @property
    def stored(self) -> int:
        """In the store."""
        ...

    @property
    def waiting(self) -> int:
        """On their way."""
        ...

    @property
    def dropped(self) -> int:
        """Lost."""
        ...


class Measurements(Protocol):
    """The way to the telemetry store."""

    def account(self) -> Account:
        """The exact account so far."""
        ...


class Refusals(Protocol):
    """Whatever counts what it did not take."""

    @property
    def refused(self) -> int:
        """Refused so far."""
        ...


class Hosted(Protocol):
    """The engine, to be looked at."""

    @property
    def run_id(self) -> str:
        """The run."""
        ...

    @property
    def state(self) -> RunState:
        """What is true now."""
        ...

    @property
    def counters(self) -> Counted:
        """What it counts."""
        ...

    @property
    def trouble(self) -> str:
        """Why the journal cannot be written; empty while it can."""
        ...

    @property
    def outage(self) -> Refusals:
        """What the journal did not take."""
        ...

    @property
    def queue(self) -> Measurements:
        """The way to the telemetry store."""
        ...

    @property
    def journal(self) -> Journal:
        """The ledger."""
        ...

    @property
    def desk(self) -> Desk:
        """Roster, lexicon, schema."""
        ...

    @property
    def listeners(self) -> list[Callable[[Sequence[Envelope], Any], None]]:
        """Called with what was appended, after each tick and each command."""
        ...

    def bounds(self) -> Sequence[Bound]:
        """How full everything is that outsiders could fill."""
        ...


class InboxCounts(Protocol):
    """The account of the inbox, in samples."""

    @property
    def offered(self) -> int:
        """What came."""
        ...

    @property
    def accepted(self) -> int:
        """What was taken."""
        ...

    @property
    def delivered(self) -> int:
        """What the engine has fetched."""
        ...

    @property
    def enrolled(self) -> int:
        """Agents that came in this way."""
        ...

    @property
    def rejected(self) -> Mapping[str, int]:
        """What was turned away, by reason."""
        ...


class Received(Protocol):
    """Where reported samples wait for the next tick, to be looked at."""

    @property
    def counts(self) -> InboxCounts:
        """The account."""
        ...

    @property
    def waiting(self) -> int:
        """Samples that wait."""
        ...
