"""What a decision is made of: rules in, events and effects out. `see` and `act` make decisions; they do nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from immune.core import events as ev
from immune.core.diagnosis import Infection
from immune.core.events import Draft, Event, Level
from immune.core.healing import Action
from immune.core.policy import Policy
from immune.core.state import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds in a run: the policy, its version, the catalogues, who may approve now, and what the hands can do.

    `can(agent_id, action)` answers from configuration, never from what happened: equal runs get equal answers.
    """

    policy: Policy
    version: str
    catalogue: tuple[Infection, ...]
    actions: Mapping[str, Action]
    approvers: frozenset[str] = frozenset()
    can: Callable[[str, str], bool] = lambda agent_id, action: True


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something to be done after the events are durable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldLearning(Effect):
    """The sentinel must not learn from these agents (roster indices)."""

    agents: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeLearning(Effect):
    """These agents are judged afresh and learned from again."""

    agents: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeAfresh(Effect):
    """Evidence of these agents starts from zero, without learning from them: a probation begins."""

    agents: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebase(Effect):
    """What these agents do now is their new normal."""

    agents: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire(Effect):
    """These agents are neither judged nor missed until they send again."""

    agents: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforce(Effect):
    """Bring an agent to a containment level."""

    agent_id: str
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcementRetried(Effect):
    """Whoever deviates was tried again now; the mirror remembers it."""

    agent_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTool(Effect):
    """Take a tool from the whole fleet, or give it back."""

    tool: str
    blocked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowCanary(Effect):
    """Let an isolated agent do a bounded number of dispatches."""

    agent_id: str
    dispatches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep(Effect):
    """Carry out one step of a plan, or undo it. The same key means the same effect, once."""

    plan_id: str
    step: int
    agent_id: str
    action: str
    key: str
    timeout_s: float
    undo: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Events to append, in order, and effects to run once they are durable."""

    drafts: tuple[Draft, ...] = ()
    effects: tuple[Effect, ...] = ()


@dataclass(slots=True, kw_only=True)
class Docket:
    """Collects drafts and effects of one decision; knows the id that each draft will have."""

    state: RunState
    now_us: int
    drafts: list[Draft] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)

    def add(self, subject: str, event: Event, *, correlation: str = "", cause: str = "", actor: str = ev.SYSTEM) -> str:
        """Put an event on the docket; its future id."""
        self.drafts.append(Draft(at_us=self.now_us, subject=subject, event=event, correlation_id=correlation, causation_id=cause, actor=actor))
        return ev.event_id(self.state.seq + len(self.drafts))

    def fresh_id(self, prefix: str, known: int, naming: type[Event]) -> str:
        """The next id of a kind of thing: after those known, and after those that events on this docket name already."""
        pending = sum(isinstance(draft.event, naming) for draft in self.drafts)
        return f"{prefix}-{known + pending + 1:04d}"

    def close(self) -> Decision:
        """The finished decision."""
        return Decision(drafts=tuple(self.drafts), effects=tuple(self.effects))
