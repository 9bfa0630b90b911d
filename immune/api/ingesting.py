"""POST /v1/vitals: samples from whoever runs agents, parsed at the door, each rejection with index, field, value, reason."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from aiohttp import web

from immune.api.bodies import parse_samples
from immune.api.commanding import refuse
from immune.api.idempotency import Slot, check_print, slot_of
from immune.api.problems import ProblemError, json_response
from immune.api.routing import REPORTERS, Call, Route
from immune.api.seams import Document
from immune.core.commands import CommandError
from immune.core.vitals import check_agent_id
from immune.errors import InputError

SLICE = 250
"""Samples parsed before others get their turn: about 5 ms."""
SHOWN = 100
"""Rejections shown in one answer; all are counted."""
RECEIPTS_KEPT = 5000
REPLAYED = {"Idempotency-Replayed": "true"}


async def take_vitals(call: Call) -> web.StreamResponse:
    """202 with what was accepted and what was not. 403 when an agent speaks for another; 503 when the queue has no room."""
    slot = slot_of(call.request, call.principal, "vitals", call.raw)
    if slot is not None and (known := receipt_of(call, slot)) is not None:
        return json_response(known, status=202, headers=REPLAYED)
    rows = parse_samples(call.raw, call.request.content_type, call.context.limits.max_samples_per_request)
    check_speaks_for_itself(call, rows)
    if len(rows) > call.context.inbox.room:
        raise ProblemError(503, "the queue of samples is full", way_out="send them again after the next tick", headers={"Retry-After": "1"})
    if slot is None:
        return json_response(await offer_rows(call, rows), status=202)
    with taken_once(call, slot):
        document = await offer_rows(call, rows)
        keep_receipt(call, slot, document)
    return json_response(document, status=202)


async def offer_rows(call: Call, rows: Sequence[object]) -> Document:
    """Queue them a slice at a time; ``accepted``, and the first hundred ``rejected``."""
    shown: list[Document] = []
    refused = 0
    for start in range(0, len(rows), SLICE):
        if start:
            await asyncio.sleep(0)
        away = call.context.inbox.offer(rows[start : start + SLICE], call.now_us, first_index=start)
        refused += len(away)
        call.context.engine.count_rejected(Counter(one.reason for one in away))
        shown += [{"index": one.index, "field": one.field, "value": one.value, "reason": one.reason} for one in away[: SHOWN - len(shown)]]
    document: Document = {"accepted": len(rows) - refused, "rejected": shown}
    if refused > len(shown):
        document["rejected_not_shown"] = refused - len(shown)
    return document


@contextmanager
def taken_once(call: Call, slot: Slot) -> Iterator[None]:
    """Samples are taken a slice at a time: 503 for the same request again before it has its receipt, or they would count twice."""
    under_way = call.context.under_way
    if slot.key in under_way:
        raise ProblemError(503, "this request is being taken at this moment", way_out="ask again for its answer", headers={"Retry-After": "1"})
    under_way.add(slot.key)
    try:
        yield
    finally:
        under_way.discard(slot.key)


def receipt_of(call: Call, slot: Slot) -> Document | None:
    """The answer given before to this key; 422 when it came with another body then."""
    known = call.context.receipts.get(slot.key)
    if known is None:
        return None
    check_print(slot, known[0])
    call.context.counters.replayed += 1
    return known[1]


def keep_receipt(call: Call, slot: Slot, document: Document) -> None:
    """Remember an answer; the oldest is forgotten."""
    call.context.receipts[slot.key] = (slot.print, document)
    while len(call.context.receipts) > RECEIPTS_KEPT:
        call.context.receipts.popitem(last=False)


def check_speaks_for_itself(call: Call, rows: Sequence[object]) -> None:
    """Raises CommandError 403, which goes on record, when an agent's token brings samples of another agent."""
    if call.principal.role != "agent":
        return
    for row in rows:
        named = row.get("agent") if isinstance(row, Mapping) else None
        if isinstance(named, str) and named and _normal(named) != call.principal.name:
            error = CommandError(403, "an agent reports its own vitals only", field="agent", value=named, way_out="use the token of that agent")
            raise refuse(call, "vitals", named if _is_text(named) else call.principal.name, error)


def _normal(name: str) -> str:
    try:
        return check_agent_id(name)
    except InputError:
        return name


def _is_text(name: str) -> bool:
    return name.isprintable() and name.encode("utf-8", "replace").decode() == name


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/vitals",
        handler=take_vitals,
        summary="Report samples, as JSON or NDJSON, fields as in replay files; an unknown agent is enrolled",
        roles=REPORTERS,
        command="vitals",
        body="samples",
        status=202,
    ),
)
