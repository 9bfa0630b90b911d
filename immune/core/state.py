"""What is true, as a fold over what happened.

The types only; `fold` is the function. An agent is four independent facts (health, liveness, containment, plan), not
one enum; the one word that people read is derived from them (`AgentState.word`). The dicts of a state are never changed
in place: a fold works on a `StateDraft` and makes new ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from immune.core import acts
from immune.core import events as ev
from immune.core.events import EvidenceNote, FactNote, Health, HypothesisNote, Level, Liveness, Mode, Scope
from immune.core.forms import copier

T = TypeVar("T")
Plan = Literal["none", "awaiting_approval", "healing", "probation", "rejected", "exhausted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """What is known of one agent. `incident_id` is its own open incident, `proposed` what that asks for."""

    agent_id: str
    index: int
    type: str
    service: str
    health: Health = "learning"
    liveness: Liveness = "working"
    desired: Level = "none"
    observed: Level = "none"
    plan: Plan = "none"
    incident_id: str = ""
    plan_id: str = ""
    proposed: Level = "none"
    deviating_since_us: int = 0
    last_change_seq: int = 0

    @property
    def word(self) -> str:
        """The one word for people, the most pressing fact first."""
        if self.liveness == "retired":
            return "retired"
        if self.observed != "none":
            return self.observed
        if self.health in ("sick", "suspected"):
            return self.health
        return self.liveness if self.liveness in ("silent", "idle") else self.health


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalState:
    """A containment that the policy asked for, and when."""

    level: Level
    mode: Mode
    rule: str
    at_us: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentState:
    """One incident, open while `closed_at_us` is 0.

    peak_why    why it was as severe as at its height
    taken_over  members whose baselines took the change over: it is their normal
    """

    incident_id: str
    scope: Scope
    cohort: str
    cohort_key: str = ""
    agents: tuple[str, ...]
    onset_us: int
    opened_at_us: int
    opened_seq: int
    nats: float
    severity: float
    peak_severity: float
    severity_why: tuple[str, ...]
    peak_why: tuple[str, ...] = ()
    evidence: tuple[EvidenceNote, ...]
    diagnosis: tuple[HypothesisNote, ...]
    ruled_out: tuple[str, ...]
    changed: tuple[FactNote, ...]
    updated_at_us: int
    closed_at_us: int = 0
    outcome: str = "open"
    reason: str = ""
    proposals: tuple[ProposalState, ...] = ()
    feedback: tuple[tuple[str, str], ...] = ()
    taken_over: tuple[str, ...] = ()

    @property
    def open(self) -> bool:
        """Whether it still goes on."""
        return self.closed_at_us == 0

    @property
    def subject(self) -> str:
        """Whom its events are about: the agent, or what the agents have in common."""
        return self.agents[0] if self.scope == "agent" else self.cohort or "fleet"

    @property
    def top_kind(self) -> str:
        """The first line of the differential; ``unknown`` rather than a guess."""
        return self.diagnosis[0].kind if self.diagnosis else "unknown"

    @property
    def proposed(self) -> Level:
        """The strongest containment asked for so far."""
        return max((p.level for p in self.proposals), key=ev.LEVELS.index, default="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainmentState:
    """A containment, in force while `ended_at_us` is 0. `automatic` ones count against the disruption budget."""

    containment_id: str
    scope: acts.ContainScope
    target: str
    level: Level
    automatic: bool
    by: str
    reason: str
    incident_id: str
    rule: str
    since_us: int
    seq: int
    ended_at_us: int = 0
    basis: str = ""

    @property
    def active(self) -> bool:
        """Whether it is in force."""
        return self.ended_at_us == 0

    def covers(self, agent: AgentState) -> bool:
        """Whether it says something about this agent's own level (a tool's containment does not)."""
        if self.scope == "agent":
            return self.target == agent.agent_id
        return self.scope == "fleet" or (self.scope == "service" and self.target == agent.service)


StepStatus = Literal["pending", "running", "succeeded", "failed", "unknown", "unsupported", "compensating", "compensated", "uncompensated"]
PlanStatus = Literal["proposed", "waiting", "granted", "running", "probation", "compensating", "rejected", "ended", "withdrawn"]
LIVE_PLANS: tuple[PlanStatus, ...] = ("running", "probation", "compensating")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """One step of a plan; `finished_nth` orders completions, so that undoing goes in reverse."""

    note: acts.StepNote
    status: StepStatus = "pending"
    key: str = ""
    started_at_us: int = 0
    finished_nth: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanState:
    """One plan: one rung of a ladder for one agent."""

    plan_id: str
    agent_id: str
    incident_id: str
    signature: str
    diagnosis: str
    rung: int
    steps: tuple[StepState, ...]
    skipped: tuple[tuple[str, str], ...]
    plan_hash: str
    severity: float
    needs_approval: bool
    rule: str
    trigger: acts.Trigger
    proposed_at_us: int
    deadline_us: int
    seq: int
    status: PlanStatus = "proposed"
    request_id: str = ""
    started_at_us: int = 0
    probation_us: int = 0
    probation_until_us: int = 0
    samples_needed: int = 0
    relapsed: bool = False
    outcome: str = ""
    reason: str = ""

    @property
    def live(self) -> bool:
        """Whether it has started and not ended."""
        return self.status in LIVE_PLANS

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ("rejected", "ended", "withdrawn")


RequestStatus = Literal["pending", "granted", "used", "rejected", "expired", "withdrawn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalState:
    """One request to a person."""

    request_id: str
    about: str
    subject: str
    plan_id: str
    incident_id: str
    plan_hash: str
    severity: float
    rule: str
    level: Level
    requested_by: str
    requested_at_us: int
    expires_us: int
    seq: int
    status: RequestStatus = "pending"
    decided_by: str = ""
    decided_at_us: int = 0
    not_before_us: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """Something a person has to do. It is over when the incident is: whoever mends the agent releases it."""

    task_id: str
    plan_id: str
    agent_id: str
    action: str
    reason: str
    deadline_us: int
    seq: int
    status: Literal["open", "overdue", "over"] = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """How often an action helped, and did not, for one signature."""

    worked: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """A whole run at one seq."""

    run_id: str = ""
    seq: int = 0
    at_us: int = 0
    head: str = ev.GENESIS
    started_at_us: int = 0
    ended_at_us: int = 0
    epoch: int = 0
    period_us: int = 0
    policy_version: str = ""
    source: str = ""
    agents: dict[str, AgentState] = field(default_factory=dict)
    incidents: dict[str, IncidentState] = field(default_factory=dict)
    open_incidents: tuple[str, ...] = ()
    rejected: dict[str, int] = field(default_factory=dict)
    lost_samples: int = 0
    child_failures: int = 0
    containments: dict[str, ContainmentState] = field(default_factory=dict)
    active_containments: tuple[str, ...] = ()
    plans: dict[str, PlanState] = field(default_factory=dict)
    open_plans: tuple[str, ...] = ()
    approvals: dict[str, ApprovalState] = field(default_factory=dict)
    open_approvals: tuple[str, ...] = ()
    tasks: dict[str, TaskState] = field(default_factory=dict)
    open_tasks: tuple[str, ...] = ()
    memory: dict[str, Experience] = field(default_factory=dict)
    """Keys are `memory_key(signature, action)`."""
    failed_here: dict[str, int] = field(default_factory=dict)
    """Keys are `memory_key(signature, action, agent)`: what was tried in vain on this very agent."""
    budget_allowed: int = 0
    budget_until_us: int = 0
    announced: tuple[tuple[str, int, str], ...] = ()
    eased: dict[str, int] = field(default_factory=dict)
    """Keys are `symptom_key`: how often a person called an alarm on this symptom of this agent a false one."""
    reports: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    """Agent -> who reported it as sick and when, each reporter once."""
    muted: dict[str, int] = field(default_factory=dict)
    """`symptom_key` -> until when nobody wants to hear of it."""
    answers: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    """Idempotency key -> (command, status, answer); the newest `ANSWERS_KEPT`."""
    keep: int = 0
    """How many ended things of each kind are kept (`forgetting`); 0 keeps all."""
    forgotten: dict[str, int] = field(default_factory=dict)
    """How many of each kind were let go of; the journal has them."""

    def ever(self, kind: str) -> int:
        """How many ``incidents``, ``plans`` … there were so far, forgotten ones included."""
        return len(getattr(self, kind)) + self.forgotten.get(kind, 0)

    def open_for_cohort(self, cohort_key: str) -> IncidentState | None:
        """The open incident of a shared cause, if there is one."""
        for incident_id in self.open_incidents:
            if self.incidents[incident_id].cohort_key == cohort_key:
                return self.incidents[incident_id]
        return None


ANSWERS_KEPT = 2_000
"""A retry comes within seconds; this many commands are minutes even under fire."""
ENDED_KEPT = 250
"""What a daemon keeps in mind of each kind of ended thing (`RunState.keep`): a few megabytes."""


def memory_key(signature: str, action: str, agent_id: str = "") -> str:
    """The key under which experience is kept; the parts cannot run into each other."""
    return f"{signature}\x1f{action}\x1f{agent_id}" if agent_id else f"{signature}\x1f{action}"


def symptom_key(agent_id: str, vital: str, direction: str = "") -> str:
    """The key of one symptom of one agent; an empty direction stands for either."""
    return f"{agent_id}\x1f{vital}\x1f{direction}"


def split_memory_key(key: str) -> tuple[str, str]:
    """(signature, action) of a `memory_key`."""
    signature, action, *_ = key.split("\x1f")
    return signature, action


_put = object.__setattr__


class StateDraft:
    """A state under construction; lives for one fold. Scalars wait in `changes`.

    What was made for this draft is seen by nobody else before it is done, so it is changed where it is; the base state's own things
    are copied first. A replay makes one copy of a thing for all the events about it.
    """

    def __init__(self, state: RunState) -> None:
        self.base = state
        self.agents = dict(state.agents)
        self.incidents = dict(state.incidents)
        self.open_incidents = list(state.open_incidents)
        self.rejected = dict(state.rejected)
        self.containments = dict(state.containments)
        self.active_containments = list(state.active_containments)
        self.plans = dict(state.plans)
        self.open_plans = list(state.open_plans)
        self.approvals = dict(state.approvals)
        self.open_approvals = list(state.open_approvals)
        self.tasks = dict(state.tasks)
        self.open_tasks = list(state.open_tasks)
        self.memory = dict(state.memory)
        self.failed_here = dict(state.failed_here)
        self.answers = dict(state.answers)
        self.eased = dict(state.eased)
        self.reports = dict(state.reports)
        self.muted = dict(state.muted)
        self.changes: dict[str, Any] = {}
        self._own: set[int] = set()  # ids; the base keeps all else alive, so none of these can be taken for something of the base

    def scalar(self, name: str) -> Any:
        """A scalar of the state as it stands now."""
        return self.changes.get(name, getattr(self.base, name))

    def change_agent(self, agent_id: str, seq: int, **changes: Any) -> None:
        """Change facts of an agent, if it is known."""
        known = self.agents.get(agent_id)
        if known is not None:
            changes["last_change_seq"] = seq
            self.change(self.agents, agent_id, known, changes)

    def change(self, things: dict[str, T], key: str, known: T, changes: dict[str, Any]) -> None:
        """``things[key]``, which is `known`, gets other values in some fields. Raises AttributeError for a field that there is not."""
        if id(known) in self._own:
            for name, value in changes.items():
                _put(known, name, value)
        else:
            made = copier(type(known))(known, changes)
            things[key] = made
            self._own.add(id(made))

    def freeze(self) -> RunState:
        """The new state."""
        return replace(
            self.base,
            agents=self.agents,
            incidents=self.incidents,
            open_incidents=tuple(self.open_incidents),
            rejected=self.rejected,
            containments=self.containments,
            active_containments=tuple(self.active_containments),
            plans=self.plans,
            open_plans=tuple(self.open_plans),
            approvals=self.approvals,
            open_approvals=tuple(self.open_approvals),
            tasks=self.tasks,
            open_tasks=tuple(self.open_tasks),
            memory=self.memory,
            failed_here=self.failed_here,
            answers=self.answers,
            eased=self.eased,
            reports=self.reports,
            muted=self.muted,
            **self.changes,
        )
