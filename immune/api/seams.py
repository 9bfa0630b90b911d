"""What the API needs of its siblings, as protocols: it imports neither runtime nor stores, `bootstrap` brings them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

from immune.core.commands import Principal, Role
from immune.core.decision import Decision, Rules
from immune.core.events import Envelope, Level
from immune.core.state import AgentState, ApprovalState, ContainmentState, IncidentState, PlanState, RunState, TaskState
from immune.hosting import Hosted, Received
from immune.ports import Journal, Telemetry

Document = dict[str, Any]
Signal = Literal["traces", "metrics"]


class Host(Hosted, Protocol):
    """The engine as the API sees it."""

    rules: Rules

    @property
    def period_us(self) -> int:
        """Time from tick to tick."""
        ...

    @property
    def view(self) -> object | None:
        """The newest published picture; None before the first tick."""
        ...

    @property
    def telemetry(self) -> Telemetry:
        """The measurements."""
        ...

    def confirm(self) -> None:
        """Return while this daemon is the writer of its run. Raises FencedError."""
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


class Export(Protocol):
    """An OTLP export request that was read; its length is of spans or points."""

    @property
    def bad(self) -> int:
        """Spans or points that could not be read."""
        ...

    def agents(self, speaker: str = "") -> Collection[str]:
        """Whom it speaks of, tools and all."""
        ...

    def rows(self, speaker: str = "") -> Sequence[Mapping[str, object]]:
        """Its samples, in order of time; `speaker` is who is meant where nothing names an agent. To be asked once."""
        ...

    def __len__(self) -> int: ...


class Otlp(Protocol):
    """What agents export by OTLP, as rows of samples."""

    def read(self, signal: Signal, raw: bytes, media_type: str) -> Export:
        """An export request. Raises InputError for what is none."""
        ...

    def answer(self, signal: Signal, media_type: str, refused: int, why: str) -> bytes:
        """What its sender is told, in its own encoding."""
        ...


class Inbox(Received, Protocol):
    """Where reported samples wait for the next tick."""

    @property
    def otlp(self) -> Otlp | None:
        """What reads OTLP for it; None while nothing is taken."""
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
