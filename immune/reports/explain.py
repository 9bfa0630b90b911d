"""Why: the chain of events behind an event, an incident, an agent, a plan, a request or a containment, in words. From the journal alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

from immune.core import acts
from immune.core.events import Envelope, iso
from immune.core.state import ApprovalState, ContainmentState, PlanState, RunState, TaskState
from immune.errors import UnknownIdError
from immune.reports.sentences import rule_of, say, version_of
from immune.reports.sentences_acting import actor_words, clock
from immune.reports.words import in_words

__all__ = ["explain", "rule_of", "say"]

SHOWN_PER_AGENT = 200
CARRIED = ("plan_id", "request_id", "containment_id", "task_id")
"""Fields by which an event belongs to a plan, a request, a containment or a task."""


class Reads(Protocol):
    """What can be read as a journal is; who knows where to look may leave out what does not concern the question."""

    def read(self, run_id: str, *, after_seq: int = 0, limit: int | None = None) -> Iterator[Envelope]:
        """Events after a seq, in order."""
        ...


def explain(journal: Reads, state: RunState, subject: str) -> dict[str, Any]:
    """``{id, run_id, sentence, rule, policy_version, who, undo, chain: [{id, at, actor, kind, says, rule, body, hash}]}``. Raises UnknownIdError."""
    if subject in state.agents:
        chain, sentence = _of_agent(journal, state, subject), ""
    elif subject.startswith("e") and subject[1:].isdigit():
        chain = _causes(journal, state, int(subject[1:]))
        sentence = say(chain[-1])
    elif subject in state.incidents:
        chain, sentence = [e for e in journal.read(state.run_id) if e.correlation_id == subject], ""
    else:
        chain, sentence = _carriers(journal, state, subject), in_a_sentence(state, subject)
    if not chain:
        raise UnknownIdError(
            "nothing in this run has that id",
            field="ID",
            value=subject,
            way_out="give an event (e17), an incident (inc-0001), a plan (plan-0001), a request (req-0001), a containment (con-…) or an agent id",
        )
    own = chain[-1] if subject == chain[-1].id else next((e for e in chain if subject in _carried(e)), chain[0])
    return {
        "id": subject,
        "run_id": state.run_id,
        "sentence": sentence or f"{subject}: {len(chain)} events",
        "rule": next((rule for rule in map(rule_of, [own, *reversed(chain)]) if rule), ""),
        "policy_version": version_of(own) or state.policy_version,
        "who": _deciders(chain),
        "undo": how_to_undo(state, subject),
        "chain": [_link(envelope) for envelope in chain],
    }


def _link(e: Envelope) -> dict[str, Any]:
    return {
        "id": e.id,
        "at": iso(e.at_us),
        "actor": e.actor,
        "kind": e.kind,
        "subject": e.subject,
        "says": say(e),
        "rule": rule_of(e),
        "body": e.as_json()["body"],
        "hash": e.hash,
    }


def _of_agent(journal: Reads, state: RunState, agent_id: str) -> list[Envelope]:
    concerned = {i.incident_id for i in state.incidents.values() if agent_id in i.agents}
    return [e for e in journal.read(state.run_id) if e.subject == agent_id or e.correlation_id in concerned][-SHOWN_PER_AGENT:]


def _causes(journal: Reads, state: RunState, seq: int) -> list[Envelope]:
    if not 1 <= seq <= state.seq:
        raise UnknownIdError("no such event in this run", field="ID", value=f"e{seq}", way_out=f"events go from e1 to e{state.seq}")
    chain: list[Envelope] = []
    while seq:
        envelope = next(iter(journal.read(state.run_id, after_seq=seq - 1, limit=1)))
        chain.append(envelope)
        seq = int(envelope.causation_id[1:]) if envelope.causation_id else 0
    return chain[::-1]


def _carried(envelope: Envelope) -> set[str]:
    """Ids of plans, requests, containments and tasks that an event carries."""
    body = json.loads(envelope.body)
    return {str(body[name]) for name in CARRIED if body.get(name)}


def _carriers(journal: Reads, state: RunState, subject: str) -> list[Envelope]:
    """The events that carry an id, led by what caused the first of them."""
    carriers = [e for e in journal.read(state.run_id) if subject in _carried(e)]
    return [*_causes(journal, state, carriers[0].seq)[:-1], *carriers] if carriers else []


def _deciders(chain: list[Envelope]) -> list[str]:
    """Everybody who decided something in a chain, people first."""
    return sorted({e.actor for e in chain}, key=lambda actor: (not actor.startswith("person:"), actor))


def in_a_sentence(state: RunState, subject: str) -> str:
    """A plan, request, containment or task as it stands; empty for anything else."""
    known = state.plans.get(subject) or state.approvals.get(subject) or state.containments.get(subject) or state.tasks.get(subject)
    match known:
        case PlanState():
            steps = ", then ".join(in_words(step.note.action) for step in known.steps)
            where = (
                f"ended, {known.outcome}: {known.reason}" if known.status == "ended" else known.status + (f": {known.reason}" if known.reason else "")
            )
            return f"{subject} heals {known.agent_id} of {in_words(known.diagnosis)} by {steps}; {where}"
        case ApprovalState():
            about = f"{known.plan_id} for {known.subject}" if known.plan_id else f"{known.about} of {known.subject} ({known.level})"
            by = f" by {actor_words(known.decided_by)} at {clock(known.decided_at_us)}" if known.decided_by else ""
            return f"{subject} asks about {about}; {known.status}{by}{f': {known.reason}' if known.reason else ''}"
        case ContainmentState():
            until = f"until {clock(known.ended_at_us)} ({known.basis})" if known.ended_at_us else "and still holds"
            return f"{subject}: {known.target or known.scope} ordered {known.level} from {clock(known.since_us)} {until}: {in_words(known.reason)}"
        case TaskState():
            return f"{subject}: a person is to do {in_words(known.action)} for {known.agent_id} by {clock(known.deadline_us)}: {known.reason}"
    return ""


def how_to_undo(state: RunState, subject: str) -> str:
    """What takes a decision back; empty where there is nothing to take back."""
    plan, request, containment = state.plans.get(subject), state.approvals.get(subject), state.containments.get(subject)
    if containment is not None:
        return f"immune release {containment.target} --reason TEXT" if containment.active else "already released"
    if request is not None:
        window = f"immune approvals undo {subject}" if request.status == "granted" else ""
        return window or (f"immune approvals reject {subject} --reason TEXT" if request.status == "pending" else "nothing left to undo")
    if plan is not None:
        return "; ".join(f"{in_words(step.note.action)}: {_undo_words(step.note)}" for step in plan.steps)
    return ""


def _undo_words(note: acts.StepNote) -> str:
    return note.compensation if note.reversible else "cannot be undone"
