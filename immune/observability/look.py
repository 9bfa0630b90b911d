"""What the instruments look at, as protocols, and one look at it: whatever many instruments need is worked out once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from immune.core import acts
from immune.core.events import LEVELS, Envelope
from immune.core.state import ApprovalState, RunState
from immune.core.vitals import SampleBatch
from immune.hosting import Account, Hosted, Received, Refusals
from immune.ports import Bound, Companion

US = 1_000_000


class Host(Hosted, Protocol):
    """The engine as the instruments see it."""

    @property
    def sample_taps(self) -> list[Callable[[int, SampleBatch], None]]:
        """Called with every tick's accepted samples."""
        ...


class Failures(Protocol):
    """Whoever counts strangers."""

    @property
    def failed(self) -> int:
        """Requests without a valid token."""
        ...


class ApiCounted(Protocol):
    """What the control API counts itself."""

    @property
    def requests(self) -> Mapping[tuple[str, int], int]:
        """Answers by (route name, status), both from its own table."""
        ...

    @property
    def refused_acts(self) -> int:
        """Attempts to act that were refused."""
        ...

    @property
    def bugs(self) -> int:
        """Requests that failed for a reason nobody foresaw."""
        ...


class Listening(Protocol):
    """The live stream."""

    @property
    def clients(self) -> int:
        """Listeners now."""
        ...

    @property
    def dropped(self) -> int:
        """Listeners that could not keep up."""
        ...


class ApiSide(Protocol):
    """The control API as the instruments see it."""

    @property
    def counters(self) -> ApiCounted:
        """What it counts."""
        ...

    @property
    def doorman(self) -> Failures:
        """Who lets people in."""
        ...

    @property
    def buckets(self) -> Refusals:
        """What holds back who asks too much."""
        ...

    @property
    def stream(self) -> Listening:
        """The live stream."""
        ...


@dataclass(slots=True, kw_only=True)
class Tallies:
    """What was counted from the events themselves since the process began; the state forgets what is long over."""

    events: Counter[str] = field(default_factory=Counter)
    containments: Counter[str] = field(default_factory=Counter)
    heals: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(("succeeded", "compensated", "escalated"), 0)))
    approvals: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(("granted", "rejected", "expired", "withdrawn"), 0)))

    def count(self, envelope: Envelope) -> None:
        """One event."""
        self.events[envelope.kind] += 1
        if envelope.kind in _TALLIED:
            match envelope.event():
                case acts.Contained(level=level):
                    self.containments[level] += 1
                case acts.PlanEnded(outcome=outcome):
                    self.heals[outcome] += 1
                case acts.ApprovalGranted():
                    self.approvals["granted"] += 1
                case acts.ApprovalClosed(outcome=ending):
                    self.approvals[ending] += 1


_TALLIED = frozenset(cls.kind for cls in (acts.Contained, acts.PlanEnded, acts.ApprovalGranted, acts.ApprovalClosed))


@dataclass(frozen=True, kw_only=True)
class Look:
    """Everything at one moment. Made, read and thrown away on the engine's own loop; no instrument changes anything."""

    engine: Host
    inbox: Received | None
    api: ApiSide | None
    companions: Sequence[Companion]
    tallies: Tallies
    now_us: int

    @property
    def state(self) -> RunState:
        """What is true."""
        return self.engine.state

    @cached_property
    def samples(self) -> Account:
        """Where the measurements are."""
        return self.engine.queue.account()

    @cached_property
    def _agents(self) -> tuple[Counter[str], Counter[str], Counter[str], int]:
        levels: Counter[str] = Counter(dict.fromkeys(LEVELS, 0))
        health: Counter[str] = Counter(dict.fromkeys(("learning", "healthy", "suspected", "sick"), 0))
        liveness: Counter[str] = Counter(dict.fromkeys(("working", "idle", "silent", "retired"), 0))
        deviating = 0
        for agent in self.state.agents.values():
            levels[agent.observed] += 1
            health[agent.health] += 1
            liveness[agent.liveness] += 1
            deviating += agent.desired != agent.observed
        return levels, health, liveness, deviating

    @property
    def levels(self) -> Mapping[str, int]:
        """Agents by the containment that is observed in force."""
        return self._agents[0]

    @property
    def health(self) -> Mapping[str, int]:
        """Agents by health."""
        return self._agents[1]

    @property
    def liveness(self) -> Mapping[str, int]:
        """Agents by liveness."""
        return self._agents[2]

    @property
    def deviating(self) -> int:
        """Agents whose desired and observed containment differ."""
        return self._agents[3]

    @cached_property
    def bounds(self) -> Sequence[Bound]:
        """How full everything is."""
        return self.engine.bounds()

    @cached_property
    def pending(self) -> Sequence[ApprovalState]:
        """Requests that nobody has answered yet."""
        asked = (self.state.approvals[key] for key in self.state.open_approvals)
        return [one for one in asked if one.status == "pending"]

    @cached_property
    def oldest_pending_s(self) -> float:
        """How long the oldest request that nobody answered has waited."""
        return max((max(0, self.now_us - one.requested_at_us) / US for one in self.pending), default=0.0)

    @cached_property
    def peak_nats(self) -> float:
        """The strongest evidence among open incidents."""
        return max((self.state.incidents[key].nats for key in self.state.open_incidents), default=0.0)

    @cached_property
    def beside(self) -> Mapping[str, Mapping[str, str | int | float | bool]]:
        """What every companion says of itself, by name."""
        return {one.name: one.health() for one in self.companions}
