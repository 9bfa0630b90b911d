"""What can happen: one frozen class per kind of event, and the envelope that carries it.

A kind is a stable string, not a class path; `schema` is the version of the body's shape. Old shapes are upcast when
read (`UPCASTERS`). Every event applies to every reachable state; refusing is the business of commands, before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar, Literal

from immune.core import codec
from immune.core.forms import reader
from immune.errors import InputError, JournalBrokenError, SchemaTooNewError

GENESIS = "0" * 64
_SIZED = tuple(f"{size}:" for size in range(256))
"""How a length is written before its part, for all but the longest."""
SYSTEM = "system"

Health = Literal["learning", "healthy", "suspected", "sick"]
Liveness = Literal["working", "idle", "silent", "retired"]
Level = Literal["none", "throttled", "restricted", "isolated", "evicted"]
Mode = Literal["observe", "recommend", "act"]
Scope = Literal["agent", "service", "fleet"]
LEVELS: tuple[Level, ...] = ("none", "throttled", "restricted", "isolated", "evicted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    kind: ClassVar[str]
    schema: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event about to be appended: everything but its place in the chain."""

    at_us: int
    subject: str
    event: Event
    correlation_id: str = ""
    causation_id: str = ""
    actor: str = SYSTEM


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An event with its place in a run's chain. `body` is the stored bytes; they are never re-encoded."""

    run_id: str
    seq: int
    at_us: int
    kind: str
    schema: int
    subject: str
    correlation_id: str
    causation_id: str
    actor: str
    body: bytes
    prev_hash: str
    hash: str

    @property
    def id(self) -> str:
        """How people and causation name it within the run: ``e17``."""
        return event_id(self.seq)

    def computed_hash(self) -> str:
        """The hash this envelope ought to have."""
        return _hash_of(self)

    def event(self) -> Event:
        """The event inside, upcast to today's shape. Raises SchemaTooNewError for one from the future."""
        return read_event(self.kind, self.schema, self.body)

    def as_json(self) -> dict[str, Any]:
        """The envelope as one JSON object, body included."""
        return {
            "run_id": self.run_id,
            "seq": self.seq,
            "id": self.id,
            "at": iso(self.at_us),
            "kind": self.kind,
            "schema": self.schema,
            "subject": self.subject,
            "correlation_id": self.correlation_id,
            "causation_id": self.causation_id,
            "actor": self.actor,
            "body": json.loads(self.body),
            "prev_hash": self.prev_hash,
            "hash": self.hash,
        }


def event_id(seq: int) -> str:
    """``e17`` for 17."""
    return f"e{seq}"


def iso(at_us: int) -> str:
    """ISO 8601 in UTC with microseconds, without touching a clock or a locale."""
    days, rest = divmod(at_us, 86_400_000_000)
    year, month, day = _civil(days)
    seconds, micros = divmod(rest, 1_000_000)
    return f"{year:04d}-{month:02d}-{day:02d}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{micros:06d}Z"


def _civil(days: int) -> tuple[int, int, int]:
    """(year, month, day) of a day counted from 1970-01-01 (Howard Hinnant's days-to-civil algorithm)."""
    days += 719_468
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * shifted_month + 2) // 5 + 1


def chain_hash(
    prev_hash: str,
    run_id: str,
    seq: int,
    at_us: int,
    kind: str,
    schema: int,
    subject: str,
    correlation_id: str,
    causation_id: str,
    actor: str,
    body: bytes,
) -> str:
    """SHA-256, hex, over the previous hash and the whole envelope, each part with its length before it.

    The lengths make the parts unambiguous: no two different envelopes have the same bytes.
    """
    number, at, version, sized = str(seq), str(at_us), str(schema), _SIZED
    try:  # written out, each length looked up: a loop over the parts takes three times as long, and every event of a replay comes by here
        plain = (
            f"{sized[len(prev_hash)]}{prev_hash},{sized[len(run_id)]}{run_id},{sized[len(number)]}{number},{sized[len(at)]}{at},"
            f"{sized[len(kind)]}{kind},{sized[len(version)]}{version},{sized[len(subject)]}{subject},{sized[len(correlation_id)]}{correlation_id},"
            f"{sized[len(causation_id)]}{causation_id},{sized[len(actor)]}{actor},{len(body)}:"
        )
        head = plain.encode()
        if len(head) == len(plain):  # a length counts bytes; only where all is ASCII it is also that of the text
            return sha256(head + body + b",").hexdigest()
    except IndexError:  # longer than any that is looked up
        pass
    texts = (prev_hash, run_id, number, at, kind, version, subject, correlation_id, causation_id, actor)
    head = b"".join([b"%d:%b," % (len(part), part) for part in map(str.encode, texts)]) + b"%d:" % len(body)
    return sha256(head + body + b",").hexdigest()


def _hash_of(one: Envelope) -> str:
    return chain_hash(
        one.prev_hash,
        one.run_id,
        one.seq,
        one.at_us,
        one.kind,
        one.schema,
        one.subject,
        one.correlation_id,
        one.causation_id,
        one.actor,
        one.body,
    )


def follow(envelopes: Iterable[Envelope], seq: int, head: str) -> Iterator[Envelope]:
    """The same envelopes, each checked to come right after the one before it, the first after (seq, head).

    Raises JournalBrokenError at the first seq that is missing, altered or out of place.
    """
    for envelope in envelopes:
        seq += 1
        if envelope.seq != seq or envelope.prev_hash != head:
            raise JournalBrokenError("the event does not follow the one before it", run_id=envelope.run_id, seq=seq)
        head = envelope.hash
        if head != _hash_of(envelope):
            raise JournalBrokenError("the event was altered after it was written", run_id=envelope.run_id, seq=seq)
        yield envelope


def seal(run_id: str, drafts: list[Draft] | tuple[Draft, ...], seq: int, prev_hash: str) -> list[Envelope]:
    """Number and chain drafts after (seq, prev_hash). Pure; the journal stores what comes out."""
    sealed = []
    for draft in drafts:
        seq += 1
        kind, schema = draft.event.kind, draft.event.schema
        body = codec.encode(draft.event)
        own_hash = chain_hash(
            prev_hash, run_id, seq, draft.at_us, kind, schema, draft.subject, draft.correlation_id, draft.causation_id, draft.actor, body
        )
        sealed.append(
            Envelope(
                run_id=run_id,
                seq=seq,
                at_us=draft.at_us,
                kind=kind,
                schema=schema,
                subject=draft.subject,
                correlation_id=draft.correlation_id,
                causation_id=draft.causation_id,
                actor=draft.actor,
                body=body,
                prev_hash=prev_hash,
                hash=own_hash,
            )
        )
        prev_hash = own_hash
    return sealed


KINDS: dict[str, type[Event]] = {}
UPCASTERS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""(kind, old schema) -> the body one schema later."""


def register(cls: type[Event]) -> type[Event]:
    """Make a kind known; refuses a second class for the same kind."""
    if cls.kind in KINDS:
        raise InputError("two events claim the same kind", field="kind", value=cls.kind)
    KINDS[cls.kind] = cls
    return cls


def read_event(kind: str, schema: int, body: bytes) -> Event:
    """The event of a stored body. Raises SchemaTooNewError for an unknown kind or a schema from the future."""
    cls = KINDS.get(kind)
    if cls is None or schema > cls.schema:
        raise SchemaTooNewError(
            "this event was written by a newer version", field="kind", value=f"{kind} schema {schema}", way_out="upgrade immune to read this journal"
        )
    content = codec.parse(body)
    while schema < cls.schema:
        content = UPCASTERS[kind, schema](content)
        schema += 1
    return reader(cls)(content)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceNote:
    """What a journal keeps of the evidence of one vital. See `VitalEvidence` for the meaning of each figure."""

    vital: str
    direction: Literal["up", "down", "stuck", "silent"]
    nats: float
    ratio: float
    observed: float
    expected: float
    effect: float
    growth: float
    onset_us: int
    calibration: float
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HypothesisNote:
    """One line of a ranked differential."""

    kind: str
    confidence: float
    evidence_for: tuple[str, ...]
    evidence_against: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FactNote:
    """An exact fact of an agent that changed: ``field`` is model, version, prompt_hash or provider."""

    field: str
    before: str
    after: str
    at_us: int


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A daemon, demo or replay began. `policy` is the whole policy as canonical TOML: what was in force is on record."""

    kind = "run_started"
    version: str
    epoch: int
    period_us: int
    policy_version: str
    policy: str
    source: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """The run came to its end in order. Ends nothing else: a shutdown approves, heals and releases nothing."""

    kind = "run_ended"
    reason: str
    ticks: int


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEnrolled(Event):
    """An agent was seen or announced for the first time."""

    kind = "agent_enrolled"
    index: int
    type: str
    service: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChanged(Event):
    """The sentinel's view of an agent changed. `nats` and `samples` are what it rested on."""

    kind = "health_changed"
    before: Health
    after: Health
    nats: float
    samples: int
    basis: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessChanged(Event):
    """An agent fell silent, came back, has long been idle, or retired."""

    kind = "liveness_changed"
    before: Liveness
    after: Liveness
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class FactChanged(Event):
    """An agent's model, version, prompt or provider is another than before. A fact, not an infection."""

    kind = "fact_changed"
    fact: FactNote


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentOpened(Event):
    """Evidence crossed the threshold; one incident per agent, or per shared cause.

    `cohort` says in words what the agents have in common (``model=m-2``, ``fleet``), `cohort_key` which finding it is.
    """

    kind = "incident_opened"
    incident_id: str
    scope: Scope
    cohort: str
    cohort_key: str = ""
    agents: tuple[str, ...]
    onset_us: int
    nats: float
    threshold_nats: float
    severity: float
    severity_why: tuple[str, ...]
    evidence: tuple[EvidenceNote, ...]
    diagnosis: tuple[HypothesisNote, ...]
    ruled_out: tuple[str, ...]
    changed: tuple[FactNote, ...]
    policy_version: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentUpdated(Event):
    """Severity, diagnosis or the agents concerned changed enough to matter."""

    kind = "incident_updated"
    incident_id: str
    agents: tuple[str, ...]
    nats: float
    severity: float
    severity_why: tuple[str, ...]
    evidence: tuple[EvidenceNote, ...]
    diagnosis: tuple[HypothesisNote, ...]
    ruled_out: tuple[str, ...]
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentClosed(Event):
    """Symptoms stayed away for the policy's span, or another incident explains them."""

    kind = "incident_closed"
    incident_id: str
    outcome: Literal["recovered", "explained", "healed", "released", "false_alarm", "new_normal", "retired"]
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class ContainmentProposed(Event):
    """What containment the policy asks for, before mode and cap are applied. In mode observe it stays at that."""

    kind = "containment_proposed"
    incident_id: str
    level: Level
    mode: Mode
    rule: str
    severity: float
    evidence: tuple[EvidenceNote, ...]
    policy_version: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class SamplesRejected(Event):
    """Samples turned away at the door since the last such event, by reason."""

    kind = "samples_rejected"
    counts: tuple[tuple[str, int], ...]


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class ChildFailed(Event):
    """A background task of the daemon died; it is restarted after `restart_in_s`."""

    kind = "child_failed"
    child: str
    error: str
    failures: int
    restart_in_s: float


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryLost(Event):
    """Measurements that could not be kept since the last such event. Counted, never silent."""

    kind = "telemetry_lost"
    samples: int
    reason: str


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class JournalInterrupted(Event):
    """For a while, up to this event, the journal took nothing: so many appends were refused, and nothing was done that needed one."""

    kind = "journal_interrupted"
    reason: str
    since_us: int
    refused: int


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStalled(Event):
    """For a while, up to about now, the daemon did not come round: one piece of work kept its loop, or the whole process stood still."""

    kind = "loop_stalled"
    since_us: int
    for_s: float
    where: str
