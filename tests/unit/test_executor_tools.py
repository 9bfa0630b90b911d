"""Tools that are taken away: the newest order for a tool wins, and tools that hang cost no agent its containment."""

from __future__ import annotations

import asyncio

from immune.clock import run_virtual
from immune.core.decision import BlockTool, Enforce
from immune.ports import Answer
from immune.runtime.executor import LEVEL_TIMEOUT_S, LEVELS_AT_ONCE, Executor


class ToolHand:
    """Takes its time to take a tool away, and gives it back at once."""

    name = "hand"

    def __init__(self, blocking_s: float) -> None:
        self.blocking_s = blocking_s
        self.done: list[tuple[str, object]] = []

    def knows(self, agent_id):
        return True

    async def contain(self, agent_id, level, *, epoch):
        self.done.append((agent_id, level))
        return Answer(outcome="succeeded")

    async def block_tool(self, tool, *, blocked, epoch):
        await asyncio.sleep(self.blocking_s if blocked else 0.0)
        self.done.append((tool, blocked))
        return Answer(outcome="succeeded")


def ordered(hand, *orders, for_s):
    async def main():
        executor = Executor([hand], lambda effect, answer: None)
        for order in orders:
            (executor.enforce if isinstance(order, Enforce) else executor.block_tool)(order)
            await asyncio.sleep(0.1)
        await asyncio.sleep(for_s)
        await executor.stop()
        return executor

    return run_virtual(main())


def test_a_tool_given_back_stays_given_back_however_slowly_it_was_taken():
    hand = ToolHand(5.0)
    ordered(hand, BlockTool(tool="search", blocked=True), BlockTool(tool="search", blocked=False), for_s=20.0)
    assert hand.done == [("search", True), ("search", False)]


def test_of_orders_that_wait_for_a_tool_only_the_newest_is_given():
    hand = ToolHand(5.0)
    ordered(hand, *(BlockTool(tool="search", blocked=blocked) for blocked in (True, False, True, False)), for_s=20.0)
    assert hand.done == [("search", True), ("search", False)]


def test_tools_that_hang_leave_the_agents_their_workers():
    hand = ToolHand(3600.0)
    tools = [BlockTool(tool=f"tool-{n}", blocked=True) for n in range(LEVELS_AT_ONCE)]
    executor = ordered(hand, *tools, Enforce(agent_id="a", level="isolated"), for_s=LEVEL_TIMEOUT_S + 1)
    assert ("a", "isolated") in hand.done
    assert len(executor.level_errors) == LEVELS_AT_ONCE
    assert "no answer within" in executor.level_errors["tool tool-0"]
