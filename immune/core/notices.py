"""What a person should hear of: an event becomes a notice, or nothing. Who hears it and when is `duty`'s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from immune.core import acts
from immune.core import events as ev
from immune.core.events import LEVELS, Envelope
from immune.core.state import RunState

NoticeKind = Literal["approval", "isolation", "brake", "not_enforced", "task", "exhausted", "expired", "stalled"]
NOTICE_KINDS: tuple[NoticeKind, ...] = get_args(NoticeKind)
URGENT: frozenset[NoticeKind] = frozenset({"brake", "not_enforced"})
"""What wakes people in quiet hours whatever its severity: the system cannot do what it must."""
TEXT_CHARS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that a person should know.

    key       equal for what is the same thing again: told once in a while
    severity  0 to 10, of the incident behind it
    waits     id of the request or task that waits for an answer; empty where nothing does
    page      path of the page that shows it
    """

    key: str
    kind: NoticeKind
    at_us: int
    subject: str
    title: str
    text: str
    severity: float
    page: str
    event_id: str
    incident_id: str = ""
    waits: str = ""


def notice_of(envelope: Envelope, state: RunState, text: str) -> Notice | None:
    """The notice an event gives, with `text` as its sentence; None for most. `state` is that after the event."""
    event = envelope.event()
    match event:
        case acts.ApprovalRequested():
            kind: NoticeKind = "brake" if event.about == "brake" else "approval"
            title = "The fleet brake asks you" if kind == "brake" else f"Approval needed for {envelope.subject}"
            page = f"/approvals/{event.request_id}"
            return _notice(kind, envelope, text, title=title, severity=event.severity, page=page, waits=event.request_id)
        case acts.Contained() if event.automatic and LEVELS.index(event.level) >= LEVELS.index("isolated"):
            return _notice("isolation", envelope, text, title=f"{event.target} is {event.level}", severity=_severity(state, event.incident_id))
        case acts.EnforcementFailed():
            title = f"The block of {envelope.subject} does not hold: {event.observed}, not {event.desired}"
            return _notice("not_enforced", envelope, text, title=title, severity=10.0, page=_agent_page(envelope.subject))
        case acts.TaskAssigned():
            title = f"A person must act on {envelope.subject}: {event.action}"
            return _notice("task", envelope, text, title=title, severity=_severity(state, envelope.correlation_id), waits=event.task_id)
        case acts.LadderExhausted():
            title = f"Nothing more to try for {envelope.subject}"
            return _notice("exhausted", envelope, text, title=title, severity=_severity(state, event.incident_id))
        case acts.ApprovalClosed() if event.outcome == "expired":
            page = f"/approvals/{event.request_id}"
            return _notice("expired", envelope, text, title=f"Nobody answered {event.request_id} in time", severity=6.0, page=page)
        case ev.LoopStalled():
            return _notice("stalled", envelope, text, title=f"The daemon stood still for {event.for_s:.0f} s", severity=6.0, page="/system")
    return None


def still_waits(state: RunState, waits: str) -> bool:
    """Whether a request is pending, or a task is open."""
    request = state.approvals.get(waits)
    if request is not None:
        return request.status == "pending"
    return waits in state.open_tasks


def waiting_now(state: RunState, now_us: int) -> list[Notice]:
    """Notices of the requests that wait already: a daemon that starts again tells people once more rather than not at all."""
    return [
        Notice(
            key=f"approval {request.request_id}",
            kind="brake" if request.about == "brake" else "approval",
            at_us=now_us,
            subject=request.subject,
            title=f"Approval still needed for {request.subject}",
            text=f"{request.request_id} has waited since before the daemon started again",
            severity=request.severity,
            page=f"/approvals/{request.request_id}",
            event_id=ev.event_id(request.seq),
            incident_id=request.incident_id,
            waits=request.request_id,
        )
        for request in state.approvals.values()
        if request.status == "pending"
    ]


def _notice(kind: NoticeKind, envelope: Envelope, text: str, *, title: str, severity: float, page: str = "", waits: str = "") -> Notice:
    about = waits or envelope.subject
    return Notice(
        key=f"{kind} {about}",
        kind=kind,
        at_us=envelope.at_us,
        subject=envelope.subject,
        title=title[:200],
        text=text[:TEXT_CHARS],
        severity=severity,
        page=page or (f"/incidents/{envelope.correlation_id}" if envelope.correlation_id else _agent_page(envelope.subject)),
        event_id=ev.event_id(envelope.seq),
        incident_id=envelope.correlation_id,
        waits=waits,
    )


def _severity(state: RunState, incident_id: str) -> float:
    incident = state.incidents.get(incident_id)
    return incident.severity if incident else 5.0


def _agent_page(agent_id: str) -> str:
    """Any id fits: hostile characters are escaped as UTF-8 bytes."""
    kept = (chr(byte) if (chr(byte).isalnum() and byte < 128) or byte in b"-._~" else f"%{byte:02X}" for byte in agent_id.encode())
    return "/agent?id=" + "".join(kept)
