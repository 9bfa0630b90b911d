"""How a command is carried out: checked by the core, durable before it is answered, a refusal on record too. Which there are: orders.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from immune.api.idempotency import known_answer, slot_of, with_answer
from immune.api.problems import ACTED, json_response, problem_document
from immune.api.routing import Call, Handler
from immune.api.seams import Document
from immune.core import events as ev
from immune.core.commands import CommandError, Commands
from immune.core.decision import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a command decided, and what is said about it."""

    decision: Decision
    document: Document


Decide = Callable[[Commands, Call], Order]
TargetOf = Callable[[Call], str]


def command(name: str, decide: Decide, target: TargetOf = lambda call: call.id) -> Handler:
    """A handler that carries one command out."""

    async def handle(call: Call) -> web.StreamResponse:
        return carry_out(call, name, target(call), decide)

    return handle


def carry_out(call: Call, name: str, target: str, decide: Decide) -> web.Response:
    """Decide, make it durable together with the answer, answer. Nothing else runs between looking and writing."""
    context = call.context
    engine = context.engine
    context.refresh_approvers()
    slot = slot_of(call.request, call.principal, name, call.raw)
    if slot is not None and (known := known_answer(slot, engine.state)) is not None:
        context.counters.replayed += 1
        return json_response(known[1], status=known[0], headers={"Idempotency-Replayed": "true"})
    commands = Commands(state=engine.state, rules=engine.rules, principal=call.principal, now_us=call.now_us)
    try:
        order = decide(commands, call)
    except CommandError as error:
        if error.status in ACTED:
            document = problem_document(error, call.request_id)
            context.counters.refused_acts += 1
            context.refusals.take(call.principal.actor, call.now_us)
            engine.submit(with_answer(commands.refusal(name, target, error), slot, error.status, document, call.now_us))
        raise
    first = engine.state.seq + 1
    events = [ev.event_id(first + n) for n in range(len(order.decision.drafts))]
    document = {"command": name, "by": call.principal.actor, "at": ev.iso(call.now_us), **order.document, "events": events}
    engine.submit(with_answer(order.decision, slot, 200, document, call.now_us))
    return json_response(document)


def refuse(call: Call, name: str, target: str, error: CommandError) -> CommandError:
    """Put an attempt on record that is refused before it became a command; the error to raise."""
    engine = call.context.engine
    commands = Commands(state=engine.state, rules=engine.rules, principal=call.principal, now_us=call.now_us)
    call.context.counters.refused_acts += 1
    call.context.refusals.take(call.principal.actor, call.now_us)
    engine.submit(commands.refusal(name, target, error))
    return error
