"""The hands on a simulated fleet: its agents obey this connector, and its actions fail as the scenario has it."""

from __future__ import annotations

import asyncio
import math

from immune.core.events import Level
from immune.errors import ImmuneError
from immune.ports import Answer
from simulation.cures import ACTIONS, ActionAnswer
from simulation.fleet import SimulatedFleet

HOURS_S = 36_000.0


class SimulatedConnector:
    """Orders to a `SimulatedFleet`. A key that was seen before gets its first answer again and has no second effect."""

    name = "simulation"

    def __init__(self, fleet: SimulatedFleet) -> None:
        self.fleet = fleet
        self._answered: dict[str, ActionAnswer] = {}
        self._epoch = 0

    def knows(self, agent_id: str) -> bool:
        """Whether the fleet has such an agent."""
        return agent_id in self.fleet.cast.ids

    def can(self, agent_id: str, action: str) -> bool:
        """Every action there is."""
        return action in ACTIONS

    async def contain(self, agent_id: str, level: Level, *, epoch: int) -> Answer:
        """Set the level; the step in progress may finish."""
        if not self._fence(epoch):
            return Answer(outcome="failed", detail="a newer writer gives the orders")
        self.fleet.set_level(agent_id, level, drain=True)
        return Answer(outcome="succeeded")

    def observed(self, agent_id: str) -> Level | None:
        """The level that the agent really holds."""
        return self.fleet.observed_level(agent_id)

    async def allow(self, agent_id: str, dispatches: int, *, epoch: int) -> Answer:
        """Let it do a few steps."""
        if not self._fence(epoch):
            return Answer(outcome="failed", detail="a newer writer gives the orders")
        try:
            self.fleet.canary(agent_id, dispatches)
        except ImmuneError as refused:
            return Answer(outcome="failed", detail=str(refused))
        return Answer(outcome="succeeded")

    async def block_tool(self, tool: str, *, blocked: bool, epoch: int) -> Answer:
        """Take a tool from the whole fleet, or give it back."""
        if not self._fence(epoch):
            return Answer(outcome="failed", detail="a newer writer gives the orders")
        self.fleet.block_tool(tool, blocked=blocked)
        return Answer(outcome="succeeded")

    async def perform(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """Carry the action out in the simulated world."""
        if not self._fence(epoch):
            return Answer(outcome="failed", detail="a newer writer gives the orders")
        if key not in self._answered:
            self._answered[key] = self.fleet.perform(agent_id, action)
        return await self._wait(self._answered[key])

    async def compensate(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """Undo the action in the simulated world."""
        if not self._fence(epoch):
            return Answer(outcome="failed", detail="a newer writer gives the orders")
        if key not in self._answered:
            self._answered[key] = self.fleet.compensate(agent_id, action)
        return await self._wait(self._answered[key])

    def _fence(self, epoch: int) -> bool:
        self._epoch = max(self._epoch, epoch)
        return epoch == self._epoch

    async def _wait(self, answer: ActionAnswer) -> Answer:
        """An answer comes when the world gives it; one that never comes is waited for until the caller gives up."""
        await asyncio.sleep(answer.after_s if math.isfinite(answer.after_s) else HOURS_S)
        return Answer(outcome=answer.outcome)
