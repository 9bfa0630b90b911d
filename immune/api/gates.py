"""GET /v1/gate/{id}: may this agent act now. What it was told is what is observed to be in force."""

from __future__ import annotations

from aiohttp import web

from immune.api.commanding import refuse
from immune.api.problems import json_response
from immune.api.routing import EVERYONE, Call, Route
from immune.api.seams import Document
from immune.core.commands import CommandError
from immune.core.events import LEVELS, Level
from immune.core.state import AgentState, ContainmentState, RunState

ISOLATED = LEVELS.index("isolated")
RESTRICTED = LEVELS.index("restricted")
ALL_TOOLS = "*"


async def ask_gate(call: Call) -> web.StreamResponse:
    """The answer of the moment. A viewer, and anyone with ``?look=1``, only looks: that does not count as the agent asking."""
    context = call.context
    agent_id = call.agent_id
    if call.principal.role == "agent" and agent_id != call.principal.name:
        error = CommandError(403, "an agent asks at its own gate only", field="id", value=agent_id, way_out="use the token of that agent")
        raise refuse(call, "gate", agent_id, error)
    context.engine.confirm()  # stopped and gone on with: another daemon may have contained it meanwhile
    state = context.engine.state
    agent = state.agents.get(agent_id)
    level, in_force = level_of(state, agent)
    looks = call.principal.role == "viewer" or call.request.query.get("look", "0") not in {"0", ""}
    if agent is None or looks:
        # nothing is remembered of ids that nobody knows
        allowed, told = LEVELS.index(level) < ISOLATED, level
    else:
        allowed, told = context.gate.ask(agent_id, level)
    document: Document = {
        "agent": agent_id,
        "known": agent is not None,
        "allowed": allowed,
        "level": told,
        "until": None,
        "reason": "; ".join(f"{one.reason} ({one.by})" for one in in_force),
        "probation": allowed and LEVELS.index(told) >= ISOLATED,
        "tools_off": tools_off(state, told),
        "lease_s": context.limits.gate_lease_s,
    }
    return json_response(document)


def level_of(state: RunState, agent: AgentState | None) -> tuple[Level, list[ContainmentState]]:
    """The strongest level in force for an agent, and the containments that ask for it.

    Read from the containments and not from the agent, who may have come after the fleet or its service was stopped.
    """
    active = [state.containments[key] for key in state.active_containments]
    covering = [one for one in active if (one.covers(agent) if agent else one.scope == "fleet")]
    level: Level = max((one.level for one in covering), key=LEVELS.index, default="none")
    return level, [one for one in covering if one.level == level]


def tools_off(state: RunState, level: Level) -> list[str]:
    """Tools that must not be used: all of them from `restricted` on."""
    active = (state.containments[key] for key in state.active_containments)
    off = sorted({one.target for one in active if one.scope == "tool" and LEVELS.index(one.level) >= RESTRICTED})
    return [ALL_TOOLS] if LEVELS.index(level) >= RESTRICTED else off


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/gate/{id}",
        handler=ask_gate,
        summary="May this agent act now: level, reason, tools that are off. An agent asks for itself only",
        roles=EVERYONE,
        query=(("look", "1: only look; it does not count as the agent asking"),),
    ),
)
