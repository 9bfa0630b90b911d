"""How far a run's spans were delivered: a small file beside the journal, replaced as a whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from immune.errors import StoreUnavailableError

RUNS_KEPT = 200
"""The file is written anew with every delivery, and there is a run for every demo: the longest unused are let go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Spans that ended up to `sent_seq` were delivered; a story that goes on from there needs the events from `needs_from_seq`."""

    sent_seq: int = 0
    needs_from_seq: int = 0


class Cursor:
    """The places of the newest runs of a data directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, run_id: str) -> Place:
        """The place of a run; the beginning where none is known, or the file is unreadable: what is sent twice has the same ids."""
        entry = self._places().get(run_id)
        match entry:
            case {"sent_seq": int(sent), "needs_from_seq": int(needs)}:
                return Place(sent_seq=sent, needs_from_seq=needs)
        return Place()

    def save(self, run_id: str, place: Place) -> None:
        """Remember a place. Raises StoreUnavailableError when the disk refuses."""
        others = [known for known in self._places().items() if known[0] != run_id]
        places = {**dict(others[1 - RUNS_KEPT :]), run_id: {"sent_seq": place.sent_seq, "needs_from_seq": place.needs_from_seq}}
        fresh = self.path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(places), encoding="utf-8")
            fresh.replace(self.path)
        except OSError as error:
            raise StoreUnavailableError(f"the place of the traces cannot be kept: {error.strerror}", field="file", value=str(self.path)) from None

    def _places(self) -> dict[str, object]:
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
