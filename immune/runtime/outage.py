"""The time during which the journal takes nothing: known, counted, and on record as soon as it takes something again."""

from __future__ import annotations

from immune.core import events as ev
from immune.core.events import Draft
from immune.errors import StoreUnavailableError


class Outage:
    """Whether the journal can be written. `trouble` says why not, "" while it can; `refused` counts every refused append."""

    def __init__(self) -> None:
        self.trouble = ""
        self.refused = 0
        self._since_us = 0
        self._refused_before = 0

    def came(self, error: StoreUnavailableError, now_us: int) -> None:
        """The journal refused something."""
        if not self.trouble:
            self._since_us = now_us
            self._refused_before = self.refused
        self.trouble = str(error)
        self.refused += 1

    def note(self, run_id: str, now_us: int) -> list[Draft]:
        """What goes on record with the next append; nothing while all is well."""
        if not self.trouble:
            return []
        event = ev.JournalInterrupted(reason=self.trouble, since_us=self._since_us, refused=self.refused - self._refused_before)
        return [Draft(at_us=now_us, subject=run_id, event=event)]

    def ended(self) -> None:
        """The journal took something."""
        self.trouble = ""
