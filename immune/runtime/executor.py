"""Carries effects out through connectors, with timeout, idempotency key and fencing epoch, and reports what came of it.

Orders about levels are a desired state, so only the newest per agent waits; steps of plans are few (the policy bounds
plans at once). A connector that hangs costs its own task until the timeout, nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from immune.core.decision import AllowCanary, Enforce, RunStep
from immune.core.events import Level
from immune.ports import Answer, Connector

LEVEL_TIMEOUT_S = 10.0
LEVELS_AT_ONCE = 16

Report = Callable[[RunStep, Answer], None]


class Executor:
    """The hands of one engine. `report` is called with the outcome of every step."""

    def __init__(self, connectors: Sequence[Connector], report: Report) -> None:
        self.connectors = tuple(connectors)
        self.report = report
        self.epoch = 0
        self.level_errors: dict[str, str] = {}
        self._wanted: dict[str, Level] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._steps: dict[str, asyncio.Task[None]] = {}

    def connector_for(self, agent_id: str) -> Connector:
        """The first connector in line that knows an agent."""
        return next(connector for connector in self.connectors if connector.knows(agent_id))

    def observed(self, agent_id: str) -> Level | None:
        """What is really in force at an agent, or None if nobody can know."""
        return self.connector_for(agent_id).observed(agent_id)

    def enforce(self, effect: Enforce) -> None:
        """Bring an agent to a level; a newer order for the same agent replaces a waiting one."""
        self._wanted[effect.agent_id] = effect.level
        self._wake()

    def allow(self, effect: AllowCanary) -> None:
        """Open for canary work, after whatever level order still waits for this agent."""
        level = self._wanted.pop(effect.agent_id, None)
        self._spawn(self._allow(effect, level))

    def run_step(self, effect: RunStep) -> None:
        """Start a step, unless the same one is under way."""
        if effect.key not in self._steps:
            task = asyncio.create_task(self._step(effect), name=effect.key)
            self._steps[effect.key] = task
            task.add_done_callback(lambda _: self._steps.pop(effect.key, None))

    async def settle(self) -> None:
        """Wait until no order about levels is under way (not for steps, which may take their time)."""
        while self._workers:
            await asyncio.gather(*self._workers)

    async def stop(self) -> None:
        """Let go. Steps under way are abandoned; after a restart their outcome is unknown and they are undone."""
        tasks = [*self._workers, *self._steps.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wake(self) -> None:
        if len(self._workers) < LEVELS_AT_ONCE:
            self._spawn(self._work_levels())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._workers.add(task)
        task.add_done_callback(self._workers.discard)

    async def _work_levels(self) -> None:
        while self._wanted:
            agent_id = next(iter(self._wanted))
            level = self._wanted.pop(agent_id)
            answer = await self._within(LEVEL_TIMEOUT_S, self.connector_for(agent_id).contain(agent_id, level, epoch=self.epoch))
            if answer.outcome == "succeeded":
                self.level_errors.pop(agent_id, None)
            else:
                self.level_errors[agent_id] = answer.detail

    async def _allow(self, effect: AllowCanary, level: Level | None) -> None:
        connector = self.connector_for(effect.agent_id)
        if level is not None:
            await self._within(LEVEL_TIMEOUT_S, connector.contain(effect.agent_id, level, epoch=self.epoch))
        await self._within(LEVEL_TIMEOUT_S, connector.allow(effect.agent_id, effect.dispatches, epoch=self.epoch))

    async def _step(self, effect: RunStep) -> None:
        connector = self.connector_for(effect.agent_id)
        order = connector.compensate if effect.undo else connector.perform
        answer = await self._within(effect.timeout_s, order(effect.agent_id, effect.action, key=effect.key, epoch=self.epoch))
        self.report(effect, answer)

    async def _within(self, timeout_s: float, work: Coroutine[Any, Any, Answer]) -> Answer:
        try:
            return await asyncio.wait_for(work, timeout_s)
        except TimeoutError:
            return Answer(outcome="unknown", detail=f"no answer within {timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - a connector is foreign ground: whatever it throws, the outcome is unknown
            return Answer(outcome="unknown", detail=f"{type(error).__name__}: {error}")
