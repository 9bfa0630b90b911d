"""The gate: an agent that asks before it acts is held by the answer. The connector for everyone nobody else knows.

The gate cannot heal; its answers to healing orders are `unsupported`, which makes them a person's task. What it observes
is what it told: an agent counts as contained once it asked and was refused, and as not enforced until then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from immune.core.events import LEVELS, Level
from immune.ports import Answer, Bound

REMEMBERED = 100_000


class GateConnector:
    """Remembers, per agent, the level it was last told and how many canary dispatches are left; the oldest are forgotten first."""

    name = "gate"

    def __init__(self, limit: int = REMEMBERED) -> None:
        self.limit = limit
        self.forgotten = 0
        self._told: OrderedDict[str, Level] = OrderedDict()
        self._canary: OrderedDict[str, int] = OrderedDict()

    def knows(self, agent_id: str) -> bool:
        """Everyone: the gate stands last in line."""
        return bool(agent_id)

    def can(self, agent_id: str, action: str) -> bool:
        """Nothing: a gate has no hands."""
        return False

    async def contain(self, agent_id: str, level: Level, *, epoch: int) -> Answer:
        """Take back what canary work is left; which level an agent is told is decided when it asks."""
        self._canary.pop(agent_id, None)
        if level == "none":
            # nobody needs to ask to be free
            self._tell(agent_id, level)
        return Answer(outcome="succeeded", detail="the gate answers so from now on; it holds once the agent asks")

    def observed(self, agent_id: str) -> Level | None:
        """What the agent was last told; None if it never asked."""
        return self._told.get(agent_id)

    async def allow(self, agent_id: str, dispatches: int, *, epoch: int) -> Answer:
        """Open the gate for this many passages."""
        self._canary[agent_id] = dispatches
        self._canary.move_to_end(agent_id)
        while len(self._canary) > self.limit:
            self._canary.popitem(last=False)
            self.forgotten += 1
        return Answer(outcome="succeeded")

    async def perform(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """A gate cannot heal."""
        return Answer(outcome="unsupported", detail=f"no connector can {action.replace('_', ' ')} {agent_id}")

    async def compensate(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """A gate cannot undo either."""
        return await self.perform(agent_id, action, key=key, epoch=epoch)

    def ask(self, agent_id: str, level: Level) -> tuple[bool, Level]:
        """An agent asks whether it may act while `level` is decided for it: (may it, level it is told)."""
        stopped = LEVELS.index(level) >= LEVELS.index("isolated")
        if stopped and self._canary.get(agent_id, 0) > 0:
            self._canary[agent_id] -= 1
            return True, level
        self._tell(agent_id, level)
        return not stopped, level

    def bounds(self) -> Sequence[Bound]:
        """Agents that asked, and agents on probation."""
        return (
            Bound(name="gate.told", size=len(self._told), limit=self.limit, lost=self.forgotten),
            Bound(name="gate.canary", size=len(self._canary), limit=self.limit),
        )

    def _tell(self, agent_id: str, level: Level) -> None:
        self._told[agent_id] = level
        self._told.move_to_end(agent_id)
        while len(self._told) > self.limit:
            self._told.popitem(last=False)
            self.forgotten += 1
