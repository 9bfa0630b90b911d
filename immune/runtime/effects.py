"""What was decided is handed to those who do it: to the sentinel at once, to the executor as an order."""

from __future__ import annotations

from immune.core.decision import AllowCanary, BlockTool, Effect, Enforce, HoldLearning, JudgeAfresh, Rebase, ResumeLearning, Retire, RunStep
from immune.core.sentinel.watch import Sentinel
from immune.runtime.executor import Executor


def carry_out(effect: Effect, sentinel: Sentinel, executor: Executor | None) -> None:
    """One effect. Without an executor nothing outside is ordered: a replay cannot stop the past."""
    match effect:
        case HoldLearning():
            sentinel.hold(effect.agents)
        case ResumeLearning():
            sentinel.restart(effect.agents)
            sentinel.resume(effect.agents)
        case JudgeAfresh():
            sentinel.restart(effect.agents)
        case Rebase():
            sentinel.rebase(effect.agents)
        case Retire():
            sentinel.retire(effect.agents)
        case _ if executor is not None:
            _order(effect, executor)


def _order(effect: Effect, executor: Executor) -> None:
    match effect:
        case Enforce():
            executor.enforce(effect)
        case AllowCanary():
            executor.allow(effect)
        case BlockTool():
            executor.block_tool(effect)
        case RunStep():
            executor.run_step(effect)
        case _:
            raise AssertionError(effect)
