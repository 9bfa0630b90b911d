"""What an open page is told: one frame per publication, made once and sent to everybody who was up to date before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.documents import agent_row, event_document, stats_document
from dashboard.encoding import encode
from dashboard.projection import Projection
from immune.core.events import Envelope

AGENTS_MAX = 400
EVENTS_MAX = 200
"""Beyond these a page is told to ask for everything anew: that is shorter than the news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """News of one run from `after_seq` (exclusive) to `seq`, as server-sent event."""

    run_id: str
    after_seq: int
    seq: int
    content: bytes


def frame_of(projection: Projection, envelopes: Sequence[Envelope], after_seq: int) -> Frame:
    """The frame that brings a page from `after_seq` to the projection. `envelopes` are the events between, or a part of them."""
    state = projection.state
    complete = len(envelopes) == state.seq - after_seq and len(envelopes) <= EVENTS_MAX
    changed = _changed(projection, envelopes, after_seq) if complete else []
    reset = not complete or len(changed) > AGENTS_MAX
    document = {
        "run_id": state.run_id,
        "after": after_seq,
        "seq": state.seq,
        "reset": reset,
        "events": [event_document(one) for one in envelopes[-EVENTS_MAX:]],
        "agents": [] if reset else changed,
        "stats": stats_document(projection),
    }
    return Frame(run_id=state.run_id, after_seq=after_seq, seq=state.seq, content=message("change", document, state.seq))


def _changed(projection: Projection, envelopes: Sequence[Envelope], after_seq: int) -> list[dict[str, object]]:
    """Agents whose line may read differently now: changed themselves, or concerned by an incident or plan that did."""
    state, seen_us = projection.state, projection.seen_us
    incidents = {one.correlation_id for one in envelopes if one.correlation_id}
    subjects = {one.subject for one in envelopes}
    return [
        agent_row(state, agent, seen_us.get(agent.agent_id, 0))
        for agent in state.agents.values()
        if agent.last_change_seq > after_seq or agent.agent_id in subjects or (agent.incident_id and agent.incident_id in incidents)
    ]


def message(kind: str, document: object, seq: int | None = None) -> bytes:
    """One server-sent event; only news of the journal carry an id to resume from."""
    own = b"" if seq is None else b"id: %d\n" % seq
    return own + b"event: " + kind.encode() + b"\ndata: " + encode(document) + b"\n\n"
