"""One trace per incident, told from the journal alone: the same events give the same spans, with the same ids, in any process.

A span is told when the event arrives that ends it, so whoever remembers up to which event spans were delivered
neither loses nor doubles one across a restart. Ids are hashes of the run and of what the span is of; times are the
events' own. Pure: no clock, no SDK.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from immune.core import acts
from immune.core import events as ev
from immune.core.events import LEVELS, Envelope, Event
from immune.observability.spans import TEXT_MAX, US, Begun, Moment, Spans, Value, span_id

MINUTE_US = 60 * US
UNSEEN_AFTER_US = 600 * US
"""An order of which no connector ever says that it is in force is told as unseen after this."""
_HEARD = frozenset(
    cls.kind
    for cls in (
        *(ev.IncidentOpened, ev.IncidentUpdated, ev.IncidentClosed),
        *(acts.Contained, acts.EnforcementObserved, acts.EnforcementFailed, acts.Released),
        *(acts.PlanProposed, acts.PlanStarted, acts.PlanEnded, acts.PlanWithdrawn),
        *(acts.StepStarted, acts.StepFinished, acts.CompensationStarted, acts.CompensationFinished, acts.ProbationStarted, acts.ProbationEnded),
        *(acts.ApprovalRequested, acts.ApprovalGranted, acts.ApprovalClosed),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A containment in force."""

    key: str
    target: str
    level: str
    since_us: int
    seq: int


class Story:
    """Tells spans from the events of one run, given in order. Events of which it knows no beginning tell nothing."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.seq = 0
        self._last: Envelope | None = None
        self._spans = Spans(run_id)
        self._diagnosed: dict[str, tuple[str, int]] = {}
        self._held: dict[str, _Held] = {}

    @property
    def needs_from_seq(self) -> int:
        """Where the events begin that a fresh story needs in order to go on after the last one heard."""
        return min([self.seq, *(begun.seq for begun in self._spans.begun.values()), *(held.seq for held in self._held.values())])

    def hear(self, envelope: Envelope) -> list[Moment]:
        """The spans that this event ends."""
        self._spans.told = []
        self._bear_witness(envelope)
        self._give_up(envelope)
        self.seq, self._last = envelope.seq, envelope
        if envelope.kind in _HEARD:
            event = envelope.event()
            self._hear_of_illness(envelope, event)
            self._hear_of_healing(envelope, event)
            self._hear_of_people(envelope, event)
        return self._spans.told

    def _hear_of_illness(self, envelope: Envelope, event: Event) -> None:
        match event:
            case ev.IncidentOpened():
                self._opened(envelope, event)
            case ev.IncidentUpdated():
                self._updated(envelope, event)
            case ev.IncidentClosed():
                self._closed(envelope, event)
            case acts.Contained():
                self._contain(envelope, event)
            case acts.EnforcementObserved():
                self._observed(envelope, event)
            case acts.EnforcementFailed():
                self._not_enforced(envelope, event)
            case acts.Released():
                self._released(envelope, event)

    def _hear_of_healing(self, envelope: Envelope, event: Event) -> None:
        match event:
            case acts.PlanProposed():
                self._proposed(envelope, event)
            case acts.PlanStarted():
                self._plan_started(event)
            case acts.PlanEnded():
                self._plan_ended(envelope, event)
            case acts.PlanWithdrawn():
                self._spans.end("plan", event.plan_id, envelope, {"immune.outcome": "withdrawn", "immune.reason": event.reason[:TEXT_MAX]})
            case acts.StepStarted():
                self._spans.under_plan("step", event.plan_id, str(event.step), envelope, {"immune.action": event.action, "immune.step": event.step})
            case acts.StepFinished():
                self._step_finished(envelope, event)
            case acts.CompensationStarted():
                self._undo_started(envelope, event)
            case acts.CompensationFinished():
                self._undo_finished(envelope, event)
            case acts.ProbationStarted():
                self._on_probation(envelope, event)
            case acts.ProbationEnded():
                self._judged(envelope, event)

    def _hear_of_people(self, envelope: Envelope, event: Event) -> None:
        match event:
            case acts.ApprovalRequested():
                self._requested(envelope, event)
            case acts.ApprovalGranted():
                self._granted(envelope, event)
            case acts.ApprovalClosed():
                self._not_granted(envelope, event)

    # -- the journal itself ------------------------------------------------------------------------------------------

    def _bear_witness(self, envelope: Envelope) -> None:
        """The last event of every minute, with its hash: a head of the journal that is kept where the journal is not."""
        last = self._last
        if last is not None and last.kind != "run_ended" and last.at_us // MINUTE_US != envelope.at_us // MINUTE_US:
            self._witness(last)
        if envelope.kind == "run_ended":
            self._witness(envelope)

    def _witness(self, envelope: Envelope) -> None:
        begun = Begun(key="journal", name="immune.journal", at_us=envelope.at_us, seq=envelope.seq, parent=0)
        self._spans.tell(begun, envelope, {"immune.journal.events": envelope.seq, "immune.journal.head": envelope.hash})

    def _give_up(self, envelope: Envelope) -> None:
        """An order that nobody can confirm must not keep its beginning waiting for ever."""
        if self._last is not None and self._last.at_us // US == envelope.at_us // US:
            return  # once a second: thousands are contained at once, and looking at all of them with each would be a stall
        late = [
            slot for slot, begun in self._spans.begun.items() if slot[0] in {"contain", "release"} and envelope.at_us - begun.at_us > UNSEEN_AFTER_US
        ]
        for slot in late:
            begun = self._spans.begun.pop(slot)
            self._spans.tell(begun, replace(envelope, at_us=begun.at_us), {"immune.enforced": "unseen"})

    # -- incidents ---------------------------------------------------------------------------------------------------

    def _opened(self, envelope: Envelope, event: ev.IncidentOpened) -> None:
        root = span_id(self.run_id, "immune.incident", event.incident_id)
        kind = event.diagnosis[0].kind if event.diagnosis else "unknown"
        facts: dict[str, Value] = {"immune.scope": event.scope, "immune.agents": event.agents[:20], "immune.severity": event.severity}
        self._spans.begin("incident", event.incident_id, envelope, facts=facts, parent=0, at_us=min(event.onset_us or envelope.at_us, envelope.at_us))
        detect = Begun(
            key=event.incident_id, name="immune.detect", at_us=min(event.onset_us or envelope.at_us, envelope.at_us), seq=envelope.seq, parent=root
        )
        vitals = tuple(f"{note.vital} {note.direction}" for note in event.evidence[:8])
        proof: dict[str, Value] = {"immune.nats": event.nats, "immune.threshold_nats": event.threshold_nats, "immune.evidence": vitals}
        self._spans.tell(detect, envelope, proof, words=(kind,))
        self._diagnose(envelope, event.incident_id, event.diagnosis, envelope.at_us)

    def _updated(self, envelope: Envelope, event: ev.IncidentUpdated) -> None:
        known = self._diagnosed.get(event.incident_id)
        if known is not None and event.diagnosis and event.diagnosis[0].kind != known[0]:
            self._diagnose(envelope, event.incident_id, event.diagnosis, known[1])

    def _diagnose(self, envelope: Envelope, incident_id: str, diagnosis: tuple[ev.HypothesisNote, ...], since_us: int) -> None:
        kind = diagnosis[0].kind if diagnosis else "unknown"
        self._diagnosed[incident_id] = (kind, envelope.at_us)
        root = span_id(self.run_id, "immune.incident", incident_id)
        begun = Begun(key=incident_id, name="immune.diagnose", at_us=since_us, seq=envelope.seq, parent=root)
        ranked = tuple(f"{line.kind} {line.confidence:.2f}" for line in diagnosis[:5])
        self._spans.tell(begun, envelope, {"immune.diagnosis": kind, "immune.differential": ranked})

    def _closed(self, envelope: Envelope, event: ev.IncidentClosed) -> None:
        for slot in [slot for slot, begun in self._spans.begun.items() if slot[0] in {"plan", "approve"} and begun.key == event.incident_id]:
            self._spans.tell(self._spans.begun.pop(slot), envelope, {"immune.outcome": "left"})
        kind, _ = self._diagnosed.pop(event.incident_id, ("unknown", 0))
        more: dict[str, Value] = {"immune.diagnosis": kind, "immune.outcome": event.outcome, "immune.reason": event.reason[:TEXT_MAX]}
        self._spans.end("incident", event.incident_id, envelope, more, words=(event.outcome,))

    # -- containment -------------------------------------------------------------------------------------------------

    def _contain(self, envelope: Envelope, event: acts.Contained) -> None:
        key = event.incident_id or event.containment_id
        self._held[event.containment_id] = _Held(key=key, target=event.target, level=event.level, since_us=envelope.at_us, seq=envelope.seq)
        facts: dict[str, Value] = {
            "immune.containment.id": event.containment_id,
            "immune.level": event.level,
            "immune.scope": event.scope,
            "immune.automatic": event.automatic,
            "immune.actor": envelope.actor,
            "immune.rule": event.rule,
        }
        if event.scope == "agent":
            self._spans.begin("contain", event.target, envelope, key=key, facts=facts, level=event.level)
        else:
            self._spans.tell(self._spans.begun_now("contain", key, envelope, facts), envelope, {"immune.enforced": "ordered"})

    def _observed(self, envelope: Envelope, event: acts.EnforcementObserved) -> None:
        ordered = self._spans.begun.get(("contain", envelope.subject))
        if ordered is not None and LEVELS.index(event.after) >= LEVELS.index(_level(ordered.level)):
            self._spans.end("contain", envelope.subject, envelope, {"immune.enforced": "seen"}, words=(ordered.level,))
        freed = self._spans.begun.get(("release", envelope.subject))
        if freed is not None and LEVELS.index(event.after) < LEVELS.index(_level(freed.level)):
            self._spans.end("release", envelope.subject, envelope, {"immune.enforced": "seen"})

    def _not_enforced(self, envelope: Envelope, event: acts.EnforcementFailed) -> None:
        kind = "release" if event.desired == "none" else "contain"
        self._spans.end(kind, envelope.subject, envelope, {"immune.enforced": "failed"}, wrong=event.error or "not in force")

    def _released(self, envelope: Envelope, event: acts.Released) -> None:
        held = self._held.pop(event.containment_id, None)
        if held is None:
            return
        facts: dict[str, Value] = {
            "immune.containment.id": event.containment_id,
            "immune.basis": event.basis,
            "immune.actor": envelope.actor,
            "immune.held_s": round((envelope.at_us - held.since_us) / US, 6),
        }
        self._spans.end("contain", held.target, envelope, {"immune.enforced": "unseen"})
        self._spans.begin("release", held.target, envelope, key=held.key, facts=facts, level=held.level)

    # -- healing -----------------------------------------------------------------------------------------------------

    def _proposed(self, envelope: Envelope, event: acts.PlanProposed) -> None:
        facts: dict[str, Value] = {
            "immune.plan.id": event.plan_id,
            "immune.diagnosis": event.diagnosis,
            "immune.rung": event.rung,
            "immune.actions": tuple(step.action for step in event.steps),
            "immune.needs_approval": event.needs_approval,
            "immune.severity": event.severity,
        }
        self._spans.begin("plan", event.plan_id, envelope, key=event.incident_id or event.plan_id, facts=facts)

    def _plan_started(self, event: acts.PlanStarted) -> None:
        plan = self._spans.begun.get(("plan", event.plan_id))
        if plan is not None:
            self._spans.begun["plan", event.plan_id] = replace(plan, facts={**plan.facts, "immune.trigger": event.trigger})

    def _plan_ended(self, envelope: Envelope, event: acts.PlanEnded) -> None:
        for slot in [slot for slot in self._spans.begun if slot[0] in {"step", "compensate", "verify"} and slot[1].startswith(f"{event.plan_id}/")]:
            self._spans.tell(self._spans.begun.pop(slot), envelope, {"immune.outcome": "unknown"}, wrong="the plan ended without an answer")
        wrong = "" if event.outcome == "succeeded" else event.reason or event.outcome
        more: dict[str, Value] = {"immune.outcome": event.outcome, "immune.reason": event.reason[:TEXT_MAX]}
        self._spans.end("plan", event.plan_id, envelope, more, wrong=wrong, words=(event.outcome,))

    def _step_finished(self, envelope: Envelope, event: acts.StepFinished) -> None:
        wrong = "" if event.outcome == "succeeded" else f"{event.outcome}: {event.detail}"
        self._spans.end(
            "step", f"{event.plan_id}/{event.step}", envelope, {"immune.outcome": event.outcome}, wrong=wrong, words=(event.action, event.outcome)
        )

    def _undo_started(self, envelope: Envelope, event: acts.CompensationStarted) -> None:
        facts: dict[str, Value] = {"immune.action": event.action, "immune.step": event.step, "immune.reason": event.reason[:TEXT_MAX]}
        self._spans.under_plan("compensate", event.plan_id, str(event.step), envelope, facts)

    def _undo_finished(self, envelope: Envelope, event: acts.CompensationFinished) -> None:
        wrong = "" if event.outcome == "succeeded" else f"{event.outcome}: {event.detail}"
        self._spans.end("compensate", f"{event.plan_id}/{event.step}", envelope, {"immune.outcome": event.outcome}, wrong=wrong)

    def _on_probation(self, envelope: Envelope, event: acts.ProbationStarted) -> None:
        facts: dict[str, Value] = {"immune.samples_needed": event.samples_needed, "immune.dispatches": event.dispatches}
        self._spans.under_plan("verify", event.plan_id, "probation", envelope, facts)

    def _judged(self, envelope: Envelope, event: acts.ProbationEnded) -> None:
        more: dict[str, Value] = {"immune.passed": event.passed, "immune.samples": event.samples, "immune.nats": event.nats}
        self._spans.end("verify", f"{event.plan_id}/probation", envelope, more, wrong="" if event.passed else event.reason or "not passed")

    # -- people ------------------------------------------------------------------------------------------------------

    def _requested(self, envelope: Envelope, event: acts.ApprovalRequested) -> None:
        facts: dict[str, Value] = {
            "immune.approval.id": event.request_id,
            "immune.about": event.about,
            "immune.rule": event.rule,
            "immune.severity": event.severity,
        }
        plan = self._spans.begun.get(("plan", event.plan_id))
        key = plan.key if plan else event.incident_id or event.request_id
        self._spans.begin("approve", event.request_id, envelope, key=key, facts=facts, parent=self._spans.id_of(plan) if plan else None)

    def _granted(self, envelope: Envelope, event: acts.ApprovalGranted) -> None:
        self._spans.end("approve", event.request_id, envelope, {"immune.outcome": "granted", "immune.actor": envelope.actor}, words=("granted",))

    def _not_granted(self, envelope: Envelope, event: acts.ApprovalClosed) -> None:
        more: dict[str, Value] = {"immune.outcome": event.outcome, "immune.actor": envelope.actor, "immune.reason": event.reason[:TEXT_MAX]}
        self._spans.end("approve", event.request_id, envelope, more, words=(event.outcome,))


def _level(word: str) -> ev.Level:
    return next((level for level in LEVELS if level == word), "none")
