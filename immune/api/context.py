"""What all routes share: the engine and its siblings, the clock, the limits, and what the API counts of itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from immune.api.auth import Doorman
from immune.api.limits import Buckets
from immune.api.seams import Document, Explain, Gate, Host, Inbox, Keys, Papers
from immune.api.stream import Stream
from immune.clock import Clock
from immune.core.policy import LimitsPolicy
from immune.ports import Journal

if TYPE_CHECKING:
    from immune.api.login import Desk as Login


@dataclass(slots=True, kw_only=True)
class ApiCounters:
    """What the API counts. The keys of `requests` are (route name, status), both from our own table."""

    requests: dict[tuple[str, int], int] = field(default_factory=dict)
    refused_acts: int = 0
    replayed: int = 0
    bugs: int = 0

    def answered(self, route: str, status: int) -> None:
        """Count an answer."""
        self.requests[route, status] = self.requests.get((route, status), 0) + 1


@dataclass(slots=True, kw_only=True)
class Context:
    """Everything a route may need."""

    engine: Host
    inbox: Inbox
    keys: Keys
    gate: Gate
    papers: Papers
    explain: Explain
    clock: Clock
    doorman: Doorman
    stream: Stream
    buckets: Buckets
    refusals: Buckets
    """How many refused attempts of one principal go on record; each costs an event and a sync of the disk."""
    metrics: Callable[[str], tuple[bytes, str]] | None = None
    """(Accept header) -> body and content type of ``GET /metrics``."""
    reader: Callable[[], Journal] | None = None
    """Opens a second, read-only handle on the journal for long reads beside the loop."""
    counters: ApiCounters = field(default_factory=ApiCounters)
    receipts: OrderedDict[str, tuple[str, Document]] = field(default_factory=OrderedDict)
    """Answers to ingest requests with an idempotency key, and to OTLP exports; in memory, the newest few thousand."""
    under_way: set[str] = field(default_factory=set)
    """Keys of requests with samples that are being taken at this moment: one that comes again meanwhile has to wait."""
    login: Login | None = None
    """Where people log in; None where nobody does."""
    surroundings: Callable[[], Mapping[str, Any]] = dict
    """What runs beside the engine: ``children`` as a list, ``companions`` as a mapping of name to health, ``doubts`` about the journal,
    ``order_errors`` as a mapping of agent to what came back of the last order that failed."""
    ticked_at_us: int = 0

    @property
    def limits(self) -> LimitsPolicy:
        """The limits that hold."""
        return self.engine.rules.policy.limits

    def refresh_approvers(self) -> None:
        """Bring the rules up to date about who may approve at this moment."""
        approvers = self.keys.approvers()
        if approvers != self.engine.rules.approvers:
            self.engine.rules = replace(self.engine.rules, approvers=approvers)
