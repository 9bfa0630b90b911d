"""What a demo was asked for, and what it remembers of itself for the screen and the report."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from immune.core.containing import automatically_contained
from immune.core.events import Envelope
from immune.core.policy import Policy
from immune.reports.live import happening
from immune.reports.model import Happening
from immune.runtime.engine import View
from immune.settings import InfluxSettings


class Speed(StrEnum):
    """How time passes."""

    REALTIME = "realtime"
    MAX = "max"


class Decide(StrEnum):
    """What the person of the demo does."""

    ASK = "ask"
    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user asked for."""

    duration_s: int
    agents: int
    seed: int
    out: Path
    speed: Speed
    decide: Decide
    run_id: str
    start_us: int
    scenario: str
    policy: Policy
    show: bool
    dashboard: bool = False
    influx: InfluxSettings | None = None


@dataclass(slots=True, kw_only=True)
class Witness:
    """Listens to the engine and remembers what the screen and the report need."""

    happened: deque[Happening] = field(default_factory=lambda: deque(maxlen=40))
    share_max: float = 0.0

    def hear(self, envelopes: Sequence[Envelope], view: View) -> None:
        """One publication of the engine."""
        self.happened.extend(said for envelope in envelopes if (said := happening(envelope)) is not None)
        if view.state.active_containments:
            self.share_max = max(self.share_max, len(automatically_contained(view.state)) / max(1, len(view.state.agents)))
