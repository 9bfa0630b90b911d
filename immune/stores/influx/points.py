"""Events as points: the whole envelope in `immune_event`, and beside it what people ask for by name.

The time of a point is the event's time, moved by less than a millisecond so that it is unique: a point with equal
measurement, tags and time would silently replace the other. `seq` stays a field, and `at_us` says the event's own time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from immune.core.events import Envelope
from immune.stores.influx.escape import one_line, plain_text, quoted, tag, text_fields
from immune.stores.influx.facts import REMEMBERED, TOLD, Fact, Known, fact_of

EVENT = "immune_event"
SPREAD = 1_000_000


def point_ns(at_us: int, seq: int) -> int:
    """The time of an event's points, nanoseconds: two events of one kind and agent share it only a million events apart."""
    return at_us * 1000 + seq % SPREAD


@dataclass(slots=True, kw_only=True)
class Telling:
    """Turns one run's events into lines, in order. Remembers of plans and requests what later events leave unsaid."""

    run_id: str
    known: Known = field(default_factory=Known)

    def learn(self, envelope: Envelope) -> None:
        """Remember what an event says that was told before."""
        if envelope.kind in REMEMBERED:
            self.known.remember(envelope.subject, envelope.event())

    def lines(self, envelope: Envelope) -> list[str]:
        """The event's own line, and what it says to people, in nanoseconds."""
        own = event_line(envelope)
        if envelope.kind not in TOLD:
            return [own]
        event = envelope.event()
        self.known.remember(envelope.subject, event)
        told = fact_of(self.known, envelope, event)
        return [own] if told is None else [own, fact_line(envelope, told)]


def event_line(envelope: Envelope) -> str:
    """The whole envelope as one point; a body over 60,000 bytes goes on in `body_2` and so on."""
    fields = [
        f"seq={envelope.seq}i",
        f"at_us={envelope.at_us}i",
        f"schema={envelope.schema}i",
        *text_fields("subject", plain_text(envelope.subject)),
        *text_fields("correlation_id", plain_text(envelope.correlation_id)),
        *text_fields("causation_id", plain_text(envelope.causation_id)),
        *text_fields("actor", plain_text(envelope.actor)),
        *text_fields("body", envelope.body.decode()),
        f"prev_hash={quoted(envelope.prev_hash)}",
        f"hash={quoted(envelope.hash)}",
    ]
    tags = tag("agent", envelope.subject) + tag("kind", envelope.kind) + tag("run_id", envelope.run_id)
    return f"{EVENT}{tags} {','.join(fields)} {point_ns(envelope.at_us, envelope.seq)}"


def fact_line(envelope: Envelope, fact: Fact) -> str:
    """What an event says to people, as one point beside it."""
    tags = {**fact.tags, "agent": fact.agent, "run_id": envelope.run_id}
    fields: Mapping[str, str | bool | int | float] = {**fact.fields, "seq": envelope.seq, "actor": envelope.actor}
    told = ",".join(part for name, value in fields.items() for part in _field(name, value))
    return f"{fact.measurement}{''.join(tag(key, tags[key]) for key in sorted(tags))} {told} {point_ns(envelope.at_us, envelope.seq)}"


def _field(name: str, value: str | bool | float) -> list[str]:
    if isinstance(value, bool):
        return [f"{name}={'true' if value else 'false'}"]
    if isinstance(value, str):
        return text_fields(name, one_line(value))
    return [f"{name}={value}i" if isinstance(value, int) else f"{name}={value!r}"]
