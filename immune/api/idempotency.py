"""One effect and one answer per `Idempotency-Key`, also after a crash: the answer is an event beside the command's own.

The key is kept as a digest together with who sent it and where to, so that nobody meets another's answer.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from aiohttp import web

from immune.api.problems import ProblemError
from immune.api.seams import Document
from immune.core.acts import CommandAnswered
from immune.core.commands import Principal
from immune.core.decision import Decision
from immune.core.events import Draft
from immune.core.state import RunState

MAX_KEY_CHARS = 255
HEADER = "Idempotency-Key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where the answer to one key belongs; `print` is a digest of the body."""

    key: str
    print: str
    command: str
    principal: Principal


def slot_of(request: web.Request, principal: Principal, command: str, raw: bytes) -> Slot | None:
    """The slot of a request, None without a key. 400 for a key that is none."""
    given = request.headers.get(HEADER)
    return None if given is None else _slot(given, request, principal, command, raw)


def slot_of_body(request: web.Request, principal: Principal, command: str, raw: bytes) -> Slot:
    """The slot of a request whose body is its key where it brings none: a sender that repeats itself sends the same bytes."""
    given = request.headers.get(HEADER)
    return _slot(f"body {hashlib.blake2b(raw, digest_size=20).hexdigest()}" if given is None else given, request, principal, command, raw)


def _slot(given: str, request: web.Request, principal: Principal, command: str, raw: bytes) -> Slot:
    if not 1 <= len(given) <= MAX_KEY_CHARS or not given.isprintable():
        raise ProblemError(400, "not a key", field=HEADER, value=given, way_out=f"1 to {MAX_KEY_CHARS} printable characters")
    parts = (given, principal.actor, request.method, request.path_qs)
    key = hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
    return Slot(key=key, print=hashlib.blake2b(raw, digest_size=12).hexdigest(), command=command, principal=principal)


def known_answer(slot: Slot, state: RunState) -> tuple[int, Document] | None:
    """(status, document) given before. 422 when the key came with another body then."""
    found = state.answers.get(slot.key)
    if found is None:
        return None
    _, status, text = found
    kept = json.loads(text)
    check_print(slot, kept["print"])
    return status, kept["document"]


def check_print(slot: Slot, kept: str) -> None:
    """422 unless the body is the one that came with this key before."""
    if kept != slot.print:
        raise ProblemError(422, "this key came with another body before", field=HEADER, way_out="use a new key for a new request")


def with_answer(decision: Decision, slot: Slot | None, status: int, document: Document, now_us: int) -> Decision:
    """The decision and, in the same append, the answer that belongs to its key."""
    if slot is None:
        return decision
    text = json.dumps({"print": slot.print, "document": document}, ensure_ascii=False, separators=(",", ":"))
    event = CommandAnswered(key=slot.key, command=slot.command, status=status, answer=text)
    return replace(decision, drafts=(*decision.drafts, Draft(at_us=now_us, subject=slot.command, event=event, actor=slot.principal.actor)))
