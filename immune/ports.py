"""The seams: what the engine needs of the world, as protocols. Every port has a twin in memory and one contract suite.

Sources bring samples, the journal keeps decisions, the telemetry store keeps measurements. How they are kept is
nobody's business up here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from immune.clock import Clock as Clock
from immune.core.acts import Outcome
from immune.core.events import Draft, Envelope, Level
from immune.core.evidence import Bands
from immune.core.vitals import Lexicon, Roster, SampleBatch, VitalSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a source writes against: who is enrolled, which words are known, which columns there are."""

    roster: Roster
    lexicon: Lexicon
    schema: VitalSchema


class AgentSource(Protocol):
    """Where samples come from: a simulation, a recording, an ingest endpoint."""

    name: str

    def open(self, desk: Desk) -> None:
        """Called once before the first `collect`."""
        ...

    async def collect(self, now_us: int) -> SampleBatch:
        """All samples since the last call, with source times up to about `now_us`; never blocks the loop for long."""
        ...

    async def close(self) -> None:
        """Let go of files and sockets."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a connector says of an order. `unsupported`: it cannot do such a thing, a person must."""

    outcome: Outcome
    detail: str = ""


class Connector(Protocol):
    """The hands: what makes containment and healing real for some agents.

    Every order carries the fencing epoch; a connector that can, refuses a lower one than it has seen. `perform` and
    `compensate` with a key seen before must not take effect twice. An answer is about the order, never about a cure.
    """

    name: str

    def knows(self, agent_id: str) -> bool:
        """Whether this connector is the one for an agent."""
        ...

    def can(self, agent_id: str, action: str) -> bool:
        """Whether it has a way to carry this healing action out; what nobody can do is never planned, but given to a person."""
        ...

    async def contain(self, agent_id: str, level: Level, *, epoch: int) -> Answer:
        """Bring an agent to a level: refuse new work, let what runs finish."""
        ...

    def observed(self, agent_id: str) -> Level | None:
        """The level that is really in force, from what the connector has seen; None when it has no way to know yet."""
        ...

    async def allow(self, agent_id: str, dispatches: int, *, epoch: int) -> Answer:
        """Let an isolated agent do this many dispatches and no more."""
        ...

    async def perform(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """Carry out a healing action."""
        ...

    async def compensate(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """Undo a healing action."""
        ...


@runtime_checkable
class ToolBlocker(Protocol):
    """What a connector may also be: one that can take a tool from all its agents. The gate does without; it tells who asks."""

    async def block_tool(self, tool: str, *, blocked: bool, epoch: int) -> Answer:
        """Take a tool away, or give it back."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """One run in a journal."""

    run_id: str
    events: int
    first_at_us: int
    last_at_us: int
    head: str


@runtime_checkable
class Journal(Protocol):
    """The append-only, gap-free, hash-chained record of every decision, one chain per run."""

    def acquire(self, run_id: str, holder: str, now_us: int, *, take_over: bool = False) -> int:
        """Become the one writer of a run; the new fencing epoch. Raises WriterHeldError while another live one holds it.

        With `take_over` the other one loses its place instead: whatever it still tries is refused as fenced.
        """
        ...

    def confirm(self, run_id: str, epoch: int) -> None:
        """Return while this epoch may write and act; cheap enough to be asked before every act. Raises FencedError once it may not."""
        ...

    def release(self, run_id: str, epoch: int) -> None:
        """Stop being the writer."""
        ...

    def append(self, run_id: str, drafts: Sequence[Draft], *, expected_seq: int, epoch: int) -> list[Envelope]:
        """Make these events durable as ``expected_seq + 1 …`` in one transaction; nothing is written on an error.

        Raises AppendConflictError if the head is elsewhere, FencedError for an old epoch, StoreUnavailableError when
        the disk refuses.
        """
        ...

    def read(self, run_id: str, *, after_seq: int = 0, limit: int | None = None) -> Iterator[Envelope]:
        """Events after a seq, in order. Bytes are as stored; the chain is not checked here."""
        ...

    def head(self, run_id: str) -> tuple[int, str]:
        """(last seq, its hash); (0, genesis) for an unknown run."""
        ...

    def verify(self, run_id: str) -> int:
        """Check the whole chain; the number of events. Raises JournalBrokenError at the first bad seq."""
        ...

    def runs(self) -> list[RunInfo]:
        """Every run, newest first."""
        ...

    def save_snapshot(self, run_id: str, seq: int, name: str, content: bytes, *, epoch: int) -> None:
        """Keep a snapshot that stands for everything up to `seq`; only the newest few of a name are kept."""
        ...

    def load_snapshot(self, run_id: str, name: str) -> tuple[int, bytes] | None:
        """The newest snapshot of this name: (seq, content), or None."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One queue, cache or map that outsiders could fill. `lost` counts what was turned away, dropped or forgotten so far."""

    name: str
    size: int
    limit: int
    lost: int = 0


@runtime_checkable
class Bounded(Protocol):
    """What a source, a connector or a store may also be: one that says how full it is."""

    def bounds(self) -> Sequence[Bound]:
        """Everything it keeps that is keyed or filled from outside."""
        ...


class Companion(Protocol):
    """What runs beside the engine: a mirror, a writer, a notifier, a watchdog. It is supervised, and never delays a tick."""

    name: str

    async def run(self) -> None:
        """Work until cancelled; what it raises is reported, and it is started again with back-off."""
        ...

    async def close(self) -> None:
        """Finish what can be finished within its own short deadline, and let go."""
        ...

    def health(self) -> Mapping[str, str | int | float | bool]:
        """Counters and troubles for the status page; `trouble` is a sentence, empty while all is well."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VitalSeries:
    """One vital of one agent over time: ``at_us`` (n,) int64 ascending, ``value`` (n,) float64."""

    vital: str
    at_us: NDArray[np.int64]
    value: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BandSeries:
    """What the baseline expected of one vital of one agent over time; all (n,), in the vital's unit, NaN before it is learned."""

    vital: str
    at_us: NDArray[np.int64]
    expected: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentRow:
    """One incident as people ask for it; `closed_at_us` is 0 while it is open."""

    incident_id: str
    agent: str
    infection: str
    severity: float
    opened_at_us: int
    closed_at_us: int
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRow:
    """One request; `decision` is requested, approved, rejected, expired or withdrawn, `by` whoever decided."""

    request_id: str
    agent: str
    plan_id: str
    severity: float
    requested_at_us: int
    decision: str
    decided_at_us: int
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRow:
    """One thing that was done or undone, or begun; `success` is None for a beginning."""

    seq: int
    at_us: int
    agent: str
    plan_id: str
    action: str
    trigger: str
    decision: str
    direction: str
    outcome: str
    success: bool | None


@runtime_checkable
class RunReader(Protocol):
    """What people ask of one run, whichever store holds it. Everything is scoped by the run."""

    def agents(self, run_id: str) -> tuple[str, ...]:
        """The run's agent ids, in roster order."""
        ...

    def series(
        self, run_id: str, agent_id: str, vital: str, *, from_us: int = 0, to_us: int | None = None, every_us: int | None = None
    ) -> VitalSeries:
        """One vital of one agent in ``[from_us, to_us)``; with `every_us` the mean of each such span, at its start. Raises UnknownIdError."""
        ...

    def latest(self, run_id: str) -> SampleBatch:
        """The newest sample of every agent that has one."""
        ...

    def incidents(self, run_id: str) -> list[IncidentRow]:
        """Every incident, in order of opening."""
        ...

    def approvals(self, run_id: str) -> list[ApprovalRow]:
        """Every request, in order of asking."""
        ...

    def actions(self, run_id: str) -> list[ActionRow]:
        """Every step done or undone, in order."""
        ...


@runtime_checkable
class Telemetry(Protocol):
    """Measurements by block: written once a tick, read by people, never read inside a tick."""

    def begin(self, run_id: str, schema: VitalSchema) -> None:
        """Start (or go on with) a run's measurements; its columns are remembered."""
        ...

    def write(self, run_id: str, tick: int, now_us: int, batch: SampleBatch) -> None:
        """Store one tick's samples as one block. Agents are named by roster index; see `name_agents`."""
        ...

    def name_agents(self, run_id: str, first_index: int, agent_ids: Sequence[str]) -> None:
        """Remember the ids of the indices from `first_index` on."""
        ...

    def compact(self, run_id: str, now_us: int, *, parts: int | None = None) -> int:
        """Transpose every minute that ended by `now_us` by agent; how many minutes were worked on.

        With `parts`, at most so many bounded steps (tens of milliseconds each): to be called each tick by a large fleet.
        """
        ...

    def expire(self, run_id: str, before_us: int) -> int:
        """Forget samples older than this (retention); how many blocks went."""
        ...

    def vitals(self, run_id: str) -> tuple[str, ...]:
        """The run's vitals, in column order. Empty for an unknown run."""
        ...

    def agents(self, run_id: str) -> tuple[str, ...]:
        """The run's agent ids, in roster order."""
        ...

    def series(self, run_id: str, agent_id: str, vital: str, *, from_us: int = 0, to_us: int | None = None) -> VitalSeries:
        """All values of one vital of one agent in ``[from_us, to_us)``, missing ones left out. Raises UnknownIdError."""
        ...

    def write_bands(self, run_id: str, now_us: int, bands: Bands) -> None:
        """Store what the baselines expect of every agent at this moment (about once a minute)."""
        ...

    def bands(self, run_id: str, agent_id: str, vital: str, *, from_us: int = 0, to_us: int | None = None) -> BandSeries:
        """The band of one vital of one agent over time. Raises UnknownIdError."""
        ...

    def latest(self, run_id: str) -> SampleBatch:
        """The newest sample of every agent that has one (``codes`` are not kept and come back as missing)."""
        ...

    def samples(self, run_id: str, from_us: int, to_us: int) -> SampleBatch:
        """All samples of the whole minutes of ticks that touch ``[from_us, to_us)``, to be taken elsewhere. Raises UnknownIdError."""
        ...

    def counts(self, run_id: str) -> int:
        """How many samples are stored."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...
