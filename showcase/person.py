"""The person of a demo: decides by script, or by key on a terminal. Always by name, through the same commands as anybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from immune.core.commands import CommandError, Commands, Principal
from immune.core.state import ApprovalState
from immune.runtime.engine import Engine

US = 1_000_000
THINKING_S = 3.0
NAME = "demo"
REASONS = {"approve": "approved in the demo", "reject": "rejected in the demo"}
PERSON = Principal(name=NAME, role="approver")


class DemoPerson:
    """Answers approvals of an engine as ``person:demo``. `decision` is ``ask``, ``approve`` or ``reject``."""

    def __init__(self, engine: Engine, decision: str) -> None:
        self.engine = engine
        self.decision = decision
        self.last_refusal = ""
        self.before_acting: Callable[[], None] = lambda: None
        engine.rules = replace(engine.rules, approvers=frozenset({NAME}))

    def waiting(self) -> list[ApprovalState]:
        """Requests that wait for an answer, oldest first."""
        state = self.engine.state
        return [state.approvals[key] for key in state.open_approvals if state.approvals[key].status == "pending"]

    def act(self, now_us: int) -> None:
        """Answer by script whatever has waited long enough to be read."""
        self.before_acting()
        if self.decision == "ask":
            return
        for request in self.waiting():
            if now_us - request.requested_at_us >= THINKING_S * US:
                self.answer(request, self.decision, now_us)

    def press(self, key: str, now_us: int) -> None:
        """``a`` approves the oldest waiting request, ``r`` rejects it."""
        answers = {"a": "approve", "r": "reject"}
        waiting = self.waiting()
        if key in answers and waiting:
            self.answer(waiting[0], answers[key], now_us)

    def answer(self, request: ApprovalState, decision: str, now_us: int) -> None:
        """Decide one request; a refusal is remembered for the screen."""
        engine = self.engine
        commands = Commands(state=engine.state, rules=engine.rules, principal=PERSON, now_us=now_us)
        try:
            engine.submit(commands.decide(request.request_id, decision, REASONS[decision], request.plan_hash))
            self.last_refusal = ""
        except CommandError as refused:
            self.last_refusal = str(refused)
