"""GET /v1/stream: the journal as it grows, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from immune.api.problems import ProblemError
from immune.api.routing import READERS, Call, Route
from immune.api.stream import HEARTBEAT_S, STUCK_S, Stream, frame


async def follow(call: Call) -> web.StreamResponse:
    """Every event after `Last-Event-ID` (or ``?after=``), from now on without either. 503 with too many listeners.

    It ends, before the next event, once its token is revoked or its session over.
    """
    stream = call.context.stream
    after = _start(call)
    if stream.clients >= call.context.limits.stream_clients:
        stream.refused += 1
        raise ProblemError(503, "too many listeners", way_out="close one, or raise limits.stream_clients", headers={"Retry-After": "5"})
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no", "X-Immune-Run": stream.run_id}
    )
    stream.clients += 1
    try:
        await response.prepare(call.request)
        await _pass_on(stream, response, after, lambda: _may_listen(call))
    except TimeoutError:
        stream.dropped += 1
        if call.request.transport is not None:
            call.request.transport.abort()
    except ConnectionError:
        pass  # it hung up
    finally:
        stream.clients -= 1
    return response


def _may_listen(call: Call) -> bool:
    """Whether who listens still may: a stream outlives the token or the session that began it."""
    who = call.context.doorman.still(call.request)
    return who is not None and who.role in READERS


async def _pass_on(stream: Stream, response: web.StreamResponse, after: int, may_listen: Callable[[], bool]) -> None:
    await _write(response, b"retry: 2000\n\n")
    while not stream.closing and may_listen():
        page = stream.page(after)
        if page:
            after = page[-1].seq
            await _write(response, b"".join(frame(envelope) for envelope in page))
            await asyncio.sleep(0)
        elif not await stream.wait(after, HEARTBEAT_S):
            await _write(response, b": still here\n\n")


async def _write(response: web.StreamResponse, content: bytes) -> None:
    await asyncio.wait_for(response.write(content), STUCK_S)


def _start(call: Call) -> int:
    head = call.context.engine.state.seq
    field = "Last-Event-ID" if "Last-Event-ID" in call.request.headers else "after"
    text = call.request.headers.get("Last-Event-ID", call.request.query.get("after"))
    if text is None or text == "":
        return head
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ProblemError(400, "not a seq", field=field, value=text, way_out="the number of the last event that you have seen")
    # beyond the head: the client knows another run, and sees by X-Immune-Run that this is a new one
    return min(int(text), head)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/stream",
        handler=follow,
        summary="Every event of the journal as it happens; resumes after `Last-Event-ID`",
        roles=READERS,
        query=(("after", "a seq, for clients that cannot send Last-Event-ID"),),
        media_type="text/event-stream",
    ),
)
