"""What a trace is made of: spans that have begun, and spans that are over, with ids that any process works out alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from immune.core.events import Envelope

US = 1_000_000
TEXT_MAX = 200
Value = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A span that is over. `words` are those of the histogram that its duration belongs to, None if to none.

    `parent` 0 is a root. `wrong` says what went wrong, empty for all that is in order. `seq` is of the event that ended it.
    """

    trace_id: int
    span_id: int
    parent: int
    name: str
    start_us: int
    end_us: int
    attributes: Mapping[str, Value]
    seq: int
    wrong: str = ""
    words: tuple[str, ...] | None = None

    @property
    def duration_s(self) -> float:
        """How long it took, in seconds."""
        return (self.end_us - self.start_us) / US


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A span that has begun."""

    key: str
    name: str
    at_us: int
    seq: int
    parent: int
    facts: Mapping[str, Value] = field(default_factory=dict)
    level: str = ""
    whom: str = ""


def trace_id(run_id: str, key: str) -> int:
    """128 bits of what the trace is of: an incident, or a containment or plan that belongs to none."""
    return _number(16, "trace", run_id, key)


def span_id(run_id: str, name: str, key: str) -> int:
    """64 bits of what the span is of."""
    return _number(8, "span", run_id, name, key)


def _number(size: int, *parts: str) -> int:
    digest = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=size).digest()
    return int.from_bytes(digest, "big") or 1


class Spans:
    """The spans of one run that have begun, each in a slot: its kind, and what it is of. Those that end are told."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.begun: dict[tuple[str, str], Begun] = {}
        self.told: list[Moment] = []

    def id_of(self, begun: Begun) -> int:
        """A root is named by its incident, so that children can be told before it is over; all others by the event that began them."""
        return span_id(self.run_id, begun.name, begun.key if begun.name == "immune.incident" else str(begun.seq))

    def begun_now(self, kind: str, key: str, envelope: Envelope, facts: Mapping[str, Value], parent: int | None = None) -> Begun:
        """A span that begins with this event: below the root of its incident unless another parent is named."""
        root = span_id(self.run_id, "immune.incident", key) if ("incident", key) in self.begun or key == envelope.correlation_id else 0
        return Begun(
            key=key,
            name=f"immune.{kind}",
            at_us=envelope.at_us,
            seq=envelope.seq,
            parent=root if parent is None else parent,
            facts=facts,
            whom=envelope.subject,
        )

    def begin(
        self,
        kind: str,
        slot: str,
        envelope: Envelope,
        *,
        facts: Mapping[str, Value],
        key: str = "",
        parent: int | None = None,
        at_us: int | None = None,
        level: str = "",
    ) -> None:
        """Begin a span; whatever was begun in its slot is over, superseded."""
        self.end(kind, slot, envelope, {"immune.outcome": "superseded"})
        begun = self.begun_now(kind, key or slot, envelope, facts, parent)
        self.begun[kind, slot] = replace(begun, level=level, at_us=envelope.at_us if at_us is None else at_us)

    def under_plan(self, kind: str, plan_id: str, part: str, envelope: Envelope, facts: Mapping[str, Value]) -> None:
        """Begin a span below a plan; nothing where no such plan has begun."""
        plan = self.begun.get(("plan", plan_id))
        if plan is not None:
            more = {"immune.plan.id": plan_id, **facts}
            self.begin(kind, f"{plan_id}/{part}", envelope, key=plan.key, facts=more, parent=self.id_of(plan))

    def end(
        self,
        kind: str,
        slot: str,
        envelope: Envelope,
        more: Mapping[str, Value],
        *,
        wrong: str = "",
        words: tuple[str, ...] | None = None,
    ) -> None:
        """Tell the span of a slot, if one has begun there."""
        begun = self.begun.pop((kind, slot), None)
        if begun is not None:
            self.tell(begun, envelope, more, wrong=wrong, words=words)

    def tell(self, begun: Begun, envelope: Envelope, more: Mapping[str, Value], *, wrong: str = "", words: tuple[str, ...] | None = None) -> None:
        """This span is over with this event."""
        whom = begun.whom or envelope.subject
        told: dict[str, Value] = {
            "immune.correlation_id": begun.key,
            **({"gen_ai.agent.id": whom} if whom and begun.key != "journal" else {}),
            **begun.facts,
            **more,
            "immune.event.seq": envelope.seq,
            "immune.event.hash": envelope.hash,
        }
        self.told.append(
            Moment(
                trace_id=trace_id(self.run_id, begun.key),
                span_id=self.id_of(begun),
                parent=begun.parent,
                name=begun.name,
                start_us=begun.at_us,
                end_us=max(begun.at_us, envelope.at_us),
                attributes=told,
                seq=envelope.seq,
                wrong=wrong[:TEXT_MAX],
                words=words,
            )
        )
