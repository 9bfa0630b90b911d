"""What every page is made from: the state of one run at one moment, folded from its journal. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from immune.core.state import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """One run, seen at one seq. `seen_us` is the time of each agent's newest sample by id, `seen_version` grows with it."""

    state: RunState = field(default_factory=RunState)
    seen_us: Mapping[str, int] = field(default_factory=dict)
    seen_version: int = 0
    past: bool = False
    """Whether this is a moment that is over: nothing in it will change, and nobody can act on it."""

    @property
    def run_id(self) -> str:
        """The run."""
        return self.state.run_id

    @property
    def version(self) -> str:
        """Equal versions have equal documents; part of every ETag."""
        return f"{self.state.run_id}-{self.state.seq}-{self.seen_version}"
