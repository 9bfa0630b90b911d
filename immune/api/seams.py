"""What the API needs of its siblings, as protocols: it imports neither runtime nor stores, `bootstrap` brings them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from immune.core.commands import Principal, Role
from immune.core.decision import Decision, Rules
from immune.core.events import Envelope, Level
from immune.core.state import AgentState, ApprovalState, ContainmentState, IncidentState, PlanState, RunState, TaskState
from immune.ports import Bound, Desk, Journal, Telemetry

Document = dict[str, Any]
Signal = Literal["traces", "metrics"]


class Counted(Protocol):
    """What the engine counts of itself."""

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
    """What the journal did not take."""

    @property
    def refused(self) -> int:
        """Refused appends."""
        ...


class Host(Protocol):
    """The engine as the API sees it."""

    rules: Rules

    @property
    def run_id(self) -> str:
        """The run."""
        ...

    @property
    def period_us(self) -> int:
        """Time from tick to tick."""
        ...

    @property
    def state(self) -> RunState:
        """What is true now."""
        ...

    @property
    def view(self) -> object | None:
        """The newest published picture; None before the first tick."""
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
    def telemetry(self) -> Telemetry:
        """The measurements."""
        ...

    @property
    def desk(self) -> Desk:
        """Roster, lexicon, schema."""
        ...

    @property
    def listeners(self) -> list[Callable[[Sequence[Envelope], Any], None]]:
        """Called with what was appended, after each tick and each command."""
        ...

    def confirm(self) -> None:
        """Return while this daemon is the writer of its run. Raises FencedError."""
        ...

    def bounds(self) -> Sequence[Bound]:
        """How full everything is that outsiders could fill."""
        ...

    def count_rejected(self, rejected: Mapping[str, int]) -> None:
        """Take samples that were turned away at the door into the account, by reason."""
        ...

    def submit(self, decision: Decision) -> list[Envelope]:
        """Make a decision durable, then let it happen."""
        ...


class Away(Protocol):
    """A sample that was turned away."""

    @property
    def index(self) -> int:
        """Its place in the request, from 0."""
        ...

    @property
    def field(self) -> str:
        """The field at fault."""
        ...

    @property
    def value(self) -> str:
        """What it said, shortened."""
        ...

    @property
    def reason(self) -> str:
        """A stable word."""
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


class Export(Protocol):
    """An OTLP export request that was read; its length is of spans or points."""

    @property
    def bad(self) -> int:
        """Spans or points that could not be read."""
        ...

    def rows(self, speaker: str = "") -> Sequence[Mapping[str, object]]:
        """Its samples, in order of time; `speaker` is who is meant where nothing names an agent. To be asked once."""
        ...

    def answer(self, refused: int, why: str) -> bytes:
        """What its sender is told, in its own encoding."""
        ...

    def __len__(self) -> int: ...


class Otlp(Protocol):
    """What agents export by OTLP, as rows of samples."""

    def read(self, signal: Signal, raw: bytes, media_type: str) -> Export:
        """An export request. Raises InputError for what is none."""
        ...


class Inbox(Protocol):
    """Where reported samples wait for the next tick."""

    @property
    def otlp(self) -> Otlp | None:
        """What reads OTLP for it; None while nothing is taken."""
        ...

    @property
    def counts(self) -> InboxCounts:
        """The account."""
        ...

    @property
    def waiting(self) -> int:
        """Samples that wait."""
        ...

    @property
    def room(self) -> int:
        """Samples that still fit."""
        ...

    def offer(self, rows: Sequence[object], now_us: int, *, first_index: int = 0) -> Sequence[Away]:
        """Take these samples; what was turned away."""
        ...


class Keys(Protocol):
    """Who may speak."""

    @property
    def broken(self) -> str:
        """Why somebody cannot be checked at this moment; empty while all can."""
        ...

    def find(self, token: str) -> Principal | None:
        """Whose token this is."""
        ...

    def roles(self) -> Mapping[str, Role]:
        """Role by name."""
        ...

    def approvers(self) -> frozenset[str]:
        """Names that may approve at this moment."""
        ...


class LoggedIn(Protocol):
    """What a log-in gives."""

    @property
    def token(self) -> str:
        """For the Authorization header."""
        ...

    @property
    def expires_us(self) -> int:
        """Until when."""
        ...


class People(Protocol):
    """Who may log in with a password. `check` is slow on purpose, and is called in a thread."""

    def check(self, name: str, password: str) -> Principal | None:
        """Who has this name and password."""
        ...

    def begin(self, principal: Principal, now_us: int) -> LoggedIn:
        """A session for them."""
        ...

    def end(self, token: str) -> None:
        """End a session."""
        ...

    def roles(self) -> Mapping[str, Role]:
        """Role by name."""
        ...


class Gate(Protocol):
    """Where agents ask."""

    def ask(self, agent_id: str, level: Level) -> tuple[bool, Level]:
        """(whether it may act, the level it is told)."""
        ...


class Papers(Protocol):
    """The state as documents; `immune.reports.documents` is one."""

    def agent_document(self, state: RunState, agent: AgentState, /) -> Document:
        """One agent."""
        ...

    def incident_document(self, incident: IncidentState, /) -> Document:
        """One incident."""
        ...

    def run_document(self, state: RunState, /) -> Document:
        """One run."""
        ...

    def approval_document(self, state: RunState, approval: ApprovalState, /) -> Document:
        """One request to a person, with what the person must see."""
        ...

    def plan_document(self, plan: PlanState, /) -> Document:
        """One plan."""
        ...

    def containment_document(self, containment: ContainmentState, /) -> Document:
        """One containment."""
        ...

    def task_document(self, task: TaskState, /) -> Document:
        """One task of a person."""
        ...

    def step_document(self, note: Any, /) -> Document:
        """One step of a plan."""
        ...

    def memory_documents(self, state: RunState, /) -> list[Document]:
        """What is remembered of cures."""
        ...


Explain = Callable[[Journal, RunState, str], Document]
"""The why of an id: `immune.reports.explain.explain`. Raises UnknownIdError."""
