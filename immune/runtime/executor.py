"""Carries effects out through connectors, with timeout, idempotency key and fencing epoch, and reports what came of it.

Orders about levels and about tools are a desired state, so only the newest per agent or tool waits, and each gets one order at a
time: a slow order can never land after a newer one. Steps of plans are few (the policy bounds plans at once). A connector that hangs
costs its own agent until the timeout, nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from immune.core.decision import AllowCanary, BlockTool, Enforce, RunStep
from immune.core.events import Level
from immune.errors import FencedError
from immune.ports import Answer, Bound, Connector, ToolBlocker

LEVEL_TIMEOUT_S = 10.0
LEVELS_AT_ONCE = 16
ERRORS_KEPT = 10_000

Report = Callable[[RunStep, Answer], None]
Confirm = Callable[[], None]
"""Raises FencedError once another writer took over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """Bring an agent to a level (None: it is there already), then let it do so much canary work (None: none is due)."""

    level: Level | None
    dispatches: int | None


class Executor:
    """The hands of one engine. `report` is called with the outcome of every step, `confirm` before every order.

    An order may have waited while this process was stopped and another one took over: then it is not given any more.
    """

    def __init__(self, connectors: Sequence[Connector], report: Report, confirm: Confirm = lambda: None) -> None:
        self.connectors = tuple(connectors)
        self.report = report
        self.confirm = confirm
        self.epoch = 0
        self.level_errors: dict[str, str] = {}
        self.errors_forgotten = 0
        self._wanted: dict[str, _Order] = {}
        self._under_way: set[str] = set()
        self._workers: set[asyncio.Task[None]] = set()
        self._tools_wanted: dict[str, bool] = {}
        self._tools: dict[str, asyncio.Task[None]] = {}
        """By tool, and apart from the workers: tools that hang must not take their places from agents that are to be contained."""
        self._steps: dict[str, asyncio.Task[None]] = {}

    def connector_for(self, agent_id: str) -> Connector | None:
        """The first connector in line that knows an agent; None if none does."""
        return next((connector for connector in self.connectors if connector.knows(agent_id)), None)

    def can(self, agent_id: str, action: str) -> bool:
        """Whether the connector of an agent has a way to carry an action out."""
        connector = self.connector_for(agent_id)
        return connector is not None and connector.can(agent_id, action)

    def observed(self, agent_id: str) -> Level | None:
        """What is really in force at an agent, or None if nobody can know."""
        connector = self.connector_for(agent_id)
        return connector.observed(agent_id) if connector is not None else None

    def enforce(self, effect: Enforce) -> None:
        """Bring an agent to a level; a newer order for the same agent replaces a waiting one."""
        self._wanted[effect.agent_id] = _Order(level=effect.level, dispatches=None)
        self._wake()

    def allow(self, effect: AllowCanary) -> None:
        """Open for canary work, after whatever level order still waits for this agent."""
        waiting = self._wanted.get(effect.agent_id)
        self._wanted[effect.agent_id] = _Order(level=waiting.level if waiting else None, dispatches=effect.dispatches)
        self._wake()

    def block_tool(self, effect: BlockTool) -> None:
        """Tell every connector that can take tools away; a newer order for the same tool replaces a waiting one."""
        self._tools_wanted[effect.tool] = effect.blocked
        if effect.tool not in self._tools:
            self._tools[effect.tool] = asyncio.create_task(self._work_tool(effect.tool))

    async def _work_tool(self, tool: str) -> None:
        blockers = [one for one in self.connectors if isinstance(one, ToolBlocker)]
        try:
            while (blocked := self._tools_wanted.pop(tool, None)) is not None:
                await asyncio.gather(*(self._block(one, tool, blocked=blocked) for one in blockers))
        finally:
            del self._tools[tool]

    async def _block(self, connector: ToolBlocker, tool: str, *, blocked: bool) -> None:
        answer = await self._within(LEVEL_TIMEOUT_S, lambda: connector.block_tool(tool, blocked=blocked, epoch=self.epoch))
        if answer.outcome != "succeeded":
            self._failed(f"tool {tool}", answer.detail)

    def run_step(self, effect: RunStep) -> None:
        """Start a step, unless the same one is under way."""
        if effect.key not in self._steps:
            task = asyncio.create_task(self._step(effect), name=effect.key)
            self._steps[effect.key] = task
            task.add_done_callback(lambda _: self._steps.pop(effect.key, None))

    async def settle(self, timeout_s: float = LEVEL_TIMEOUT_S) -> None:
        """Wait until no order about levels or tools is under way, or time is up (not for steps, which may take their time)."""
        if orders := [*self._workers, *self._tools.values()]:
            await asyncio.wait(orders, timeout=timeout_s)

    def bounds(self, agents: int) -> Sequence[Bound]:
        """Orders that wait, one an agent at most, and the newest errors."""
        return (
            Bound(name="executor.waiting_orders", size=len(self._wanted), limit=agents),
            Bound(name="executor.errors", size=len(self.level_errors), limit=ERRORS_KEPT, lost=self.errors_forgotten),
        )

    def _failed(self, whom: str, detail: str) -> None:
        self.level_errors.pop(whom, None)
        self.level_errors[whom] = detail
        while len(self.level_errors) > ERRORS_KEPT:
            del self.level_errors[next(iter(self.level_errors))]
            self.errors_forgotten += 1

    async def stop(self) -> None:
        """Let go. Steps under way are abandoned; after a restart their outcome is unknown and they are undone."""
        self._wanted.clear()
        self._tools_wanted.clear()
        tasks = [*self._workers, *self._tools.values(), *self._steps.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wake(self) -> None:
        if sum(not worker.done() for worker in self._workers) < LEVELS_AT_ONCE:
            worker = asyncio.create_task(self._work_levels())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work_levels(self) -> None:
        while (agent_id := next((one for one in self._wanted if one not in self._under_way), None)) is not None:
            order = self._wanted.pop(agent_id)
            self._under_way.add(agent_id)
            try:
                await self._carry_out(agent_id, order)
            finally:
                self._under_way.discard(agent_id)

    async def _carry_out(self, agent_id: str, order: _Order) -> None:
        connector = self.connector_for(agent_id)
        answer = Answer(outcome="unsupported", detail="no connector knows this agent")
        if connector is not None and (level := order.level) is not None:
            answer = await self._within(LEVEL_TIMEOUT_S, lambda: connector.contain(agent_id, level, epoch=self.epoch))
        if connector is not None and (dispatches := order.dispatches) is not None:
            answer = await self._within(LEVEL_TIMEOUT_S, lambda: connector.allow(agent_id, dispatches, epoch=self.epoch))
        if answer.outcome == "succeeded":
            self.level_errors.pop(agent_id, None)
        else:
            self._failed(agent_id, answer.detail)

    async def _step(self, effect: RunStep) -> None:
        connector = self.connector_for(effect.agent_id)
        if connector is None:
            self.report(effect, Answer(outcome="unsupported", detail="no connector knows this agent"))
            return
        order = connector.compensate if effect.undo else connector.perform
        answer = await self._within(effect.timeout_s, lambda: order(effect.agent_id, effect.action, key=effect.key, epoch=self.epoch))
        with suppress(FencedError):
            self.report(effect, answer)

    async def _within(self, timeout_s: float, order: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        try:
            self.confirm()
        except FencedError as fenced:
            # the tick says so and ends; until then nothing more is ordered, and the append of this answer is refused as well
            return Answer(outcome="failed", detail=fenced.what)
        try:
            return await asyncio.wait_for(order(), timeout_s)
        except TimeoutError:
            return Answer(outcome="unknown", detail=f"no answer within {timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - a connector is foreign ground: whatever it throws, the outcome is unknown
            return Answer(outcome="unknown", detail=f"{type(error).__name__}: {error}")
