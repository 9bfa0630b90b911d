"""GET /v1/status: how the daemon itself is doing, in one document. The troubles come first: each is a sentence for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aiohttp import web

from immune import __version__
from immune.api.context import Context
from immune.api.ingesting import RECEIPTS_KEPT
from immune.api.login import WAITING_MAX, Desk
from immune.api.problems import json_response
from immune.api.routing import READERS, Call, Route
from immune.api.seams import Document
from immune.api.stream import BUFFERED
from immune.core.events import iso
from immune.core.state import RunState
from immune.ports import Bound, Bounded

US = 1_000_000
NEARLY_FULL = 0.9
SHOWN = 10
FULL_IS_FINE = ("state.", "webhook.", "process.", "mirror.", "executor.", "otlp.")


async def show_status(call: Call) -> web.StreamResponse:
    """The status document."""
    return json_response(status_document(call.context, call.now_us))


def status_document(context: Context, now_us: int) -> Document:
    """Run, ticks, journal, measurements, people, children, companions, and every bound with its size and its losses."""
    engine, state = context.engine, context.engine.state
    around = context.surroundings()
    not_enforced = _not_enforced(state, around.get("order_errors"))
    bounds = [*engine.bounds(), *_own_bounds(context)]
    account, counters = engine.queue.account(), engine.counters
    age_s = max(0, now_us - context.ticked_at_us) / US
    return {
        "version": __version__,
        "at": iso(now_us),
        "troubles": [*_troubles(context, around, bounds, age_s), *(f"{one['agent']} is not held as ordered: {one['error']}" for one in not_enforced)],
        "run": {
            "run_id": engine.run_id,
            "started_at": iso(state.started_at_us) if state.started_at_us else None,
            "mode": engine.rules.policy.mode,
            "policy_version": engine.rules.version,
            "writer_epoch": state.epoch,
        },
        "ticks": {
            "done": counters.ticks,
            "skipped": counters.ticks_skipped,
            "lag_ms": counters.lag_us / 1000,
            "last_age_s": round(age_s, 3),
            "period_s": engine.period_us / US,
            "samples": counters.samples,
            "rejected": dict(sorted(counters.rejected.items())),
        },
        "journal": {
            "writable": not engine.trouble,
            "trouble": engine.trouble,
            "doubts": around.get("doubts", []),
            "seq": state.seq,
            "head": state.head,
            "refused": engine.outage.refused,
        },
        "telemetry": {"accepted": account.accepted, "stored": account.stored, "waiting": account.waiting, "dropped": account.dropped},
        "fleet": {
            "agents": len(state.agents),
            "contained": sum(agent.observed != "none" for agent in state.agents.values()),
            "not_enforced": sum(agent.desired != agent.observed for agent in state.agents.values()),
            "incidents_open": len(state.open_incidents),
            "incidents": state.ever("incidents"),
            "plans_open": len(state.open_plans),
            "approvals_waiting": sum(state.approvals[key].status == "pending" for key in state.open_approvals),
        },
        "not_enforced": not_enforced,
        "api": {
            "refused_acts": context.counters.refused_acts,
            "auth_failures": context.doorman.failed,
            "login_failures": context.login.failed if context.login is not None else 0,
            "rate_limited": context.buckets.refused,
            "bugs": context.counters.bugs,
        },
        "children": around.get("children", []),
        "companions": around.get("companions", {}),
        "bounds": [{"name": one.name, "size": one.size, "limit": one.limit, "lost": one.lost} for one in bounds],
        "who_may_speak": [{"name": name, "role": role} for name, role in sorted(context.keys.roles().items())],
    }


def _own_bounds(context: Context) -> Iterable[Bound]:
    limits, stream = context.limits, context.stream
    yield Bound(name="api.stream_clients", size=stream.clients, limit=limits.stream_clients, lost=stream.refused + stream.dropped)
    yield Bound(name="api.stream_events", size=stream.kept, limit=BUFFERED)
    yield Bound(name="api.receipts", size=len(context.receipts), limit=RECEIPTS_KEPT)
    for name, buckets in (("requests", context.buckets), ("refusals", context.refusals), ("failures", context.doorman.failures)):
        yield Bound(name=f"api.buckets_of_{name}", size=len(buckets), limit=buckets.limit, lost=buckets.forgotten)
    if context.login is not None:
        yield from _of_login(context.login)


def _of_login(desk: Desk) -> Iterable[Bound]:
    yield Bound(name="login.waiting", size=desk.waiting, limit=WAITING_MAX)
    for name, buckets in (("names", desk.by_name), ("addresses", desk.by_address)):
        yield Bound(name=f"login.buckets_of_{name}", size=len(buckets), limit=buckets.limit, lost=buckets.forgotten)
    if isinstance(desk.people, Bounded):
        yield from desk.people.bounds()


def _troubles(context: Context, around: Mapping[str, object], bounds: Sequence[Bound], age_s: float) -> list[str]:
    engine = context.engine
    found = [f"the journal cannot be written: {engine.trouble}"] if engine.trouble else []
    found += _texts(around.get("doubts"))
    if engine.view is not None and age_s > 5.0 + 2 * engine.period_us / US:
        found.append(f"the last tick was {age_s:.0f} s ago")
    found += _of_companions(around.get("companions"))
    found += _of_children(around.get("children"))
    found += [
        f"{one.name} is nearly full: {one.size} of {one.limit}"
        for one in bounds
        if one.limit and one.size >= NEARLY_FULL * one.limit and not _full_by_design(one)
    ]
    return [*found, f"not everybody can be checked: {context.keys.broken}"] if context.keys.broken else found


def _full_by_design(bound: Bound) -> bool:
    """Caches that are meant to be full, what has one place an agent, and the state, which lets go of the oldest by itself."""
    return bound.name in {"api.stream_events", "api.receipts", "gate.told"} or bound.name.startswith(FULL_IS_FINE)


def _not_enforced(state: RunState, errors: object) -> list[Document]:
    """Agents that an order has not reached, and why; a few of them."""
    told = errors.items() if isinstance(errors, Mapping) else ()
    missed = [(agent, error) for agent_id, error in told if (agent := state.agents.get(agent_id)) is not None and agent.desired != agent.observed]
    return [{"agent": agent.agent_id, "error": str(error)[:300]} for agent, error in missed[:SHOWN]]


def _texts(told: object) -> list[str]:
    return [str(one) for one in told] if isinstance(told, list) else []


def _of_companions(companions: object) -> list[str]:
    told = companions.items() if isinstance(companions, Mapping) else ()
    return [f"{name}: {health['trouble']}" for name, health in told if health.get("trouble")]


def _of_children(children: object) -> list[str]:
    told = children if isinstance(children, list) else []
    return [f"{one['name']} died and waits to be started again: {one['last_error']}" for one in told if one["status"] == "waiting"]


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/status",
        handler=show_status,
        summary="How the daemon itself is doing: troubles, ticks, journal, children, companions, and how full everything is",
        roles=READERS,
    ),
)
