"""The engine: ten steps a tick, from samples to durable decisions.

    1 wake at start + n x period        6 fleet test (inside the sentinel)
    2 collect batches from the sources  7 decide: events and effects
    3 screen them                       8 append, then fold, then publish
    4 offer to the telemetry queue      9 run the effects
    5 score, then learn                10 swap the view

A tick that comes too late is skipped and counted, never caught up: time does not drift and work does not pile up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from immune import __version__
from immune.clock import US, Clock
from immune.core import acts
from immune.core import events as ev
from immune.core.acting import act
from immune.core.decision import (
    Decision,
    Docket,
    Effect,
    Enforce,
    EnforcementRetried,
    Rules,
    RunStep,
)
from immune.core.events import Draft, Envelope
from immune.core.evidence import Assessment
from immune.core.fold import fold
from immune.core.intake import Intake
from immune.core.mirror import Mirror
from immune.core.policy_file import canonical
from immune.core.see import see
from immune.core.sentinel.watch import Sentinel
from immune.core.snapshot import freeze
from immune.core.state import RunState, split_memory_key
from immune.core.vitals import AgentIdentity, SampleBatch
from immune.core.words import words_of
from immune.errors import JournalBrokenError, StoreUnavailableError
from immune.ports import AgentSource, Answer, Bound, Connector, Desk, Journal, Telemetry
from immune.runtime import continuity
from immune.runtime.bounds import PENDING_MAX, bounds_of
from immune.runtime.effects import carry_out
from immune.runtime.executor import Executor
from immune.runtime.measurements import MeasurementQueue
from immune.runtime.outage import Outage
from immune.runtime.supervisor import Failure
from immune.runtime.taking_up import STATE_SNAPSHOT, folded, taken_up
from immune.runtime.tidying import Tidying

COUNTS_EVERY_US = 60 * US
SWEEP_EVERY_US = 30 * US
BASELINES_EVERY_US = 60 * US
AWAY_US = 5 * US
"""A pause between ticks longer than this (and than five of them) is one in which nobody listened."""
STATE_EVERY_EVENTS = 2000
STATE_WORTH_SAVING = 200
"""Fewer events are folded as fast as a snapshot of them is read."""
BASELINES_EVERY_US_PER_AGENT = US // 20
"""A large fleet saves its baselines less often, so that saving costs each agent the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What readers see: one immutable picture, swapped at the end of every tick."""

    state: RunState
    assessment: Assessment
    tick: int
    ticks_skipped: int
    lag_us: int


@dataclass(slots=True, kw_only=True)
class Counters:
    """What the engine counts of itself."""

    ticks: int = 0
    ticks_skipped: int = 0
    samples: int = 0
    lag_us: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    notes_dropped: int = 0


class Engine:
    """One run. Time comes from outside: `tick(now_us)` does one tick, `run` does them on a clock."""

    def __init__(
        self,
        *,
        run_id: str,
        journal: Journal,
        telemetry: Telemetry,
        sources: Sequence[AgentSource],
        sentinel: Sentinel,
        desk: Desk,
        rules: Rules,
        period_us: int,
        holder: str,
        source: str = "",
        connectors: Sequence[Connector] = (),
        keep: int = 0,
    ) -> None:
        self.run_id = run_id
        self.journal = journal
        self.telemetry = telemetry
        self.sources = tuple(sources)
        self.sentinel = sentinel
        self.desk = desk
        self.rules = rules
        self.period_us = period_us
        self.holder = holder
        self.source = source
        self.intake = Intake(roster=desk.roster, schema=desk.schema, max_skew_us=round(rules.policy.limits.max_clock_skew_s * US))
        self.queue = MeasurementQueue(telemetry, run_id, rules.policy.limits.telemetry_queue_ticks)
        self.tidying = Tidying(telemetry, run_id, desk.roster, sentinel, round(rules.policy.limits.telemetry_retention_s * US))
        self.executor = Executor(connectors, self._step_answered, self.confirm) if connectors else None
        if self.executor is not None:
            self.rules = replace(rules, can=self.executor.can)
        self.mirror = Mirror()
        self.mirror.order_errors = self.executor.level_errors if self.executor is not None else {}
        self.counters = Counters()
        self.outage = Outage()
        self.state = RunState(keep=keep)
        self.view: View | None = None
        self.listeners: list[Callable[[Sequence[Envelope], View], None]] = []
        self.on_tick: Callable[[int], None] = lambda now_us: None
        self.sample_taps: list[Callable[[int, SampleBatch], None]] = []
        """Told of each tick's samples beside the telemetry store; must return at once and keep the arrays as they are."""
        self._epoch = 0
        self.take_over = False
        """Whether `open` takes the place of a writer that still holds the run: one that hangs and cannot be stopped."""
        self.broken: JournalBrokenError | None = None
        """Where the chain of this run does not hold, as far as it was read at the start."""
        self._state_saved_seq = 0
        self.learns_anew = False
        """There were baselines of this run, and they could not be used."""
        self._opened = False
        self._now_us = 0
        self._listened_us = 0
        """When it last listened to the agents; 0 before the first tick of a run that nobody watched before."""
        self._pending: list[Draft] = []
        self._answers: list[tuple[RunStep, Answer]] = []
        self._unpublished: list[Envelope] = []
        self._unreported: dict[str, int] = {}
        self._inherited: acts.MemoryInherited | None = None
        self._saved_us = 0
        self._due_us = dict.fromkeys(("sweep", "counts"), 0)

    # -- life of a run -----------------------------------------------------------------------------------------------

    @property
    def opened(self) -> bool:
        """Whether this engine is the writer of its run already."""
        return self._opened

    @property
    def trouble(self) -> str:
        """Why the journal cannot be written; empty while it can. Until then nothing is decided and nothing new is done."""
        return self.outage.trouble

    @property
    def notes_waiting(self) -> int:
        """Events about the daemon itself that wait for the next append."""
        return len(self._pending)

    def bounds(self) -> Sequence[Bound]:
        """How full everything is that outsiders could fill."""
        return bounds_of(self)

    def open(self, now_us: int) -> None:
        """Become the writer, fold what is there already, and open the sources; `start` does it if nobody did."""
        self._epoch = self.journal.acquire(self.run_id, self.holder, now_us, take_over=self.take_over)
        if self.executor is not None:
            self.executor.epoch = self._epoch
        found = folded(self.journal, self.run_id, self.state)
        self.state, self.broken, self._state_saved_seq = found.state, found.broken, found.saved_seq
        self._enroll_known()
        snapshot = self.journal.load_snapshot(self.run_id, continuity.NAME)
        recalled = self._recall(snapshot)
        self.learns_anew = not recalled and snapshot is not None
        if recalled:
            self.sentinel.wake(now_us)
            self._listened_us = now_us
        self.intake.accept_earlier_clock(now_us)
        self.telemetry.begin(self.run_id, self.desk.schema)
        for source in self.sources:
            source.open(self.desk)
        self._opened = True

    def confirm(self) -> None:
        """Return while this engine is the writer of its run. Raises FencedError once another took over: it may neither write nor act."""
        with suppress(StoreUnavailableError):  # who cannot be asked has not refused; what is in force must still be kept in force
            self.journal.confirm(self.run_id, self._epoch)

    def start(self, now_us: int) -> None:
        """Record the start, and take up again whatever an earlier process left open."""
        if not self._opened:
            self.open(now_us)
        self._now_us = now_us
        started = ev.RunStarted(
            version=__version__,
            epoch=self._epoch,
            period_us=self.period_us,
            policy_version=self.rules.version,
            policy=canonical(self.rules.policy),
            source=self.source,
        )
        drafts = [Draft(at_us=now_us, subject=self.run_id, event=started)]
        if self._inherited is not None:
            drafts.append(Draft(at_us=now_us, subject=self.run_id, event=self._inherited))
        self._append(drafts)
        self._enroll_new(now_us)
        self._apply(taken_up(self.state, now_us))
        self._saved_us = now_us
        self._due_us = {"sweep": now_us, "counts": now_us + COUNTS_EVERY_US}
        self.tidying.begin(now_us)

    async def finish(self, now_us: int, reason: str) -> None:
        """End in order: what waits is written, the end is recorded. Approves, heals and releases nothing.

        A journal that cannot be written does not keep it from ending; `trouble` then says why the end is not on record.
        """
        for source in self.sources:
            await source.close()
        if self.executor is not None:
            await self.executor.stop()
        self._record_counts(now_us)
        self._now_us = now_us
        with suppress(StoreUnavailableError):
            self._record_answers()
            self._pending.append(Draft(at_us=now_us, subject=self.run_id, event=ev.RunEnded(reason=reason, ticks=self.counters.ticks)))
            self._append_pending()
        if self.view is not None:
            self._publish(self.view.assessment)
        self.queue.drain()
        self._try_to_save_baselines(now_us)
        self._save_state_if_due(now_us, STATE_WORTH_SAVING)
        self.journal.release(self.run_id, self._epoch)

    def save_baselines(self) -> None:
        """Keep what was learned, so that a restart goes on instead of learning anew."""
        content = continuity.pack(self.desk, self.intake, self.sentinel)
        self.journal.save_snapshot(self.run_id, self.state.seq, continuity.NAME, content, epoch=self._epoch)

    def save_state(self) -> None:
        """Keep the folded state, so that a restart folds only what comes after it."""
        self.journal.save_snapshot(self.run_id, self.state.seq, STATE_SNAPSHOT, freeze(self.state), epoch=self._epoch)
        self._state_saved_seq = self.state.seq

    def _save_state_if_due(self, now_us: int, events: int) -> None:
        if self.trouble or self.broken is not None or self.state.seq - self._state_saved_seq < events:
            return
        try:
            self.save_state()
        except StoreUnavailableError as error:
            self.outage.came(error, now_us)

    def warm_start(self, journal: Journal, from_run: str) -> bool:
        """Before `start`: take the baselines and the memory of cures of another run over; False if they do not fit."""
        snapshot = journal.load_snapshot(from_run, continuity.NAME)
        memory = fold(RunState(), journal.read(from_run)).memory
        entries = tuple((*split_memory_key(key), known.worked, known.failed) for key, known in sorted(memory.items()))
        self._inherited = acts.MemoryInherited(from_run=from_run, entries=entries)
        return self._recall(snapshot)

    def _recall(self, snapshot: tuple[int, bytes] | None) -> bool:
        return snapshot is not None and continuity.unpack(snapshot[1], self.desk, self.intake, self.sentinel)

    async def run(self, clock: Clock, *, first_us: int, until_us: int | None, stopped: Callable[[], bool] = lambda: False) -> None:
        """Tick at ``first_us + n x period`` until `until_us` (exclusive) or until stopped."""
        due_us = first_us
        if self.executor is not None:
            await self.executor.settle()  # after a restart the block holds before anything else goes on
        while (until_us is None or due_us < until_us) and not stopped():
            await clock.sleep_until_us(due_us)
            lag_us = clock.now_us() - due_us
            self.counters.lag_us = max(0, lag_us)
            if lag_us >= self.period_us:
                due_us += self._skip(lag_us // self.period_us, due_us, until_us)
                continue
            await self.tick(due_us)
            due_us += self.period_us

    def _skip(self, missed: int, due_us: int, until_us: int | None) -> int:
        """Count ticks that are too late to be done, none of them beyond the end; how much time they would have taken."""
        if until_us is not None:
            missed = min(missed, -((due_us - until_us) // self.period_us))
        self.counters.ticks_skipped += missed
        return missed * self.period_us

    def failed(self, failure: Failure, now_us: int) -> None:
        """Put a child's death on record with the next tick."""
        event = ev.ChildFailed(child=failure.child, error=failure.error, failures=failure.failures, restart_in_s=failure.restart_in_s)
        self.note(failure.child, event, now_us)

    def note(self, subject: str, event: ev.Event, now_us: int) -> None:
        """Put what befell the daemon itself on record with the next tick."""
        if len(self._pending) < PENDING_MAX:  # only an outage lets them pile up
            self._pending.append(Draft(at_us=now_us, subject=subject, event=event))
        else:
            self.counters.notes_dropped += 1

    # -- one tick ----------------------------------------------------------------------------------------------------

    async def tick(self, now_us: int) -> None:
        """One tick at this time. Raises FencedError once another writer took over."""
        self.confirm()
        batch = SampleBatch.concatenate([await source.collect(now_us) for source in self.sources], len(self.desk.schema))
        screened = self.intake.screen(batch, now_us)
        self.count_rejected(screened.rejected)
        # counted from the epoch, so that a resumed run goes on where it was and no tick is written over
        self.queue.offer(now_us // self.period_us, now_us, screened.batch)
        for tap in self.sample_taps:
            tap(now_us, screened.batch)
        self.sentinel.heed(words_of(self.state, now_us), now_us)
        self._listen(now_us)
        assessment = self.sentinel.observe(screened.batch, now_us)
        self.mirror.saw(assessment)
        self._now_us = now_us
        with suppress(StoreUnavailableError):  # `outage` has it on record; the next tick asks the state for the same things again
            self._decide(assessment, now_us)
        self.counters.ticks += 1
        self.counters.samples += len(screened.batch)
        self._publish(assessment)
        self._housekeep(now_us)
        self.on_tick(now_us)

    def _listen(self, now_us: int) -> None:
        """A daemon that was down, stalled or asleep heard nobody: that is no silence of the agents."""
        if self._listened_us and now_us - self._listened_us > max(AWAY_US, 5 * self.period_us):
            self.sentinel.wake(now_us)
        self._listened_us = now_us

    def _decide(self, assessment: Assessment, now_us: int) -> None:
        self._enroll_new(now_us)
        self._record_answers()
        self._apply(see(self.state, self.mirror, assessment, self.rules))
        if self.executor is not None:
            self._apply(self._what_is_in_force(self.executor, now_us))
            self._apply(act(self.state, self.mirror, assessment, self.rules))
        self._append_pending()

    def last_seen_us(self) -> dict[str, int]:
        """Time of the newest sample of every agent that sent one, by id."""
        newest = self.intake.last_us
        return {who.agent_id: at_us for who, at_us in zip(self.desk.roster.identities, newest.tolist(), strict=False) if at_us > 0}

    def submit(self, decision: Decision) -> list[Envelope]:
        """Make a command's decision durable and let it happen; what was appended. Returns only after it is on disk."""
        envelopes = self._apply(decision)
        if self.view is not None:
            self._publish(self.view.assessment)
        return envelopes

    def _apply(self, decision: Decision) -> list[Envelope]:
        envelopes = self._append(decision.drafts)
        for effect in decision.effects:
            self._run(effect)
        return envelopes

    def _what_is_in_force(self, executor: Executor, now_us: int) -> Decision:
        """What the connectors see at every agent that is, or ought to be, contained; now and then at all of them.

        An order that was believed lost may land late, at an agent that nobody watches any more.
        """
        docket = Docket(state=self.state, now_us=now_us)
        sweep = now_us >= self._due_us["sweep"]
        if sweep:
            self._due_us["sweep"] = now_us + SWEEP_EVERY_US
        for agent_id in sorted(self.state.agents if sweep else self.mirror.watched):
            agent = self.state.agents[agent_id]
            seen = executor.observed(agent_id)
            if seen is not None and seen != agent.observed:
                docket.add(agent_id, acts.EnforcementObserved(before=agent.observed, after=seen), correlation=agent.incident_id)
        return docket.close()

    def _step_answered(self, effect: RunStep, answer: Answer) -> None:
        self._answers.append((effect, answer))
        with suppress(StoreUnavailableError):  # it is kept, and goes on record when there is room
            self._record_answers()

    def _record_answers(self) -> None:
        while self._answers:
            self._record_answer(*self._answers[0])
            del self._answers[0]

    def _record_answer(self, effect: RunStep, answer: Answer) -> None:
        plan = self.state.plans.get(effect.plan_id)
        docket = Docket(state=self.state, now_us=self._now_us)
        cls = acts.CompensationFinished if effect.undo else acts.StepFinished
        event = cls(plan_id=effect.plan_id, step=effect.step, action=effect.action, outcome=answer.outcome, detail=answer.detail[:300])
        incident_id = plan.incident_id if plan else ""
        docket.add(effect.agent_id, event, correlation=incident_id, cause=ev.event_id(plan.seq) if plan else "")
        self.submit(docket.close())

    def _append(self, drafts: Sequence[Draft]) -> list[Envelope]:
        """Last in line comes the note of an outage that is over: ids that a docket gave out beforehand stay right."""
        drafts = (*drafts, *self.outage.note(self.run_id, self._now_us))
        if not drafts:
            return []
        try:
            envelopes = self.journal.append(self.run_id, drafts, expected_seq=self.state.seq, epoch=self._epoch)
        except StoreUnavailableError as error:
            self.outage.came(error, self._now_us)
            raise
        self.outage.ended()
        self.state = fold(self.state, envelopes)
        self._unpublished += envelopes
        self.mirror.sync(self.state, {agent_id for envelope in envelopes for agent_id in self._touched(envelope)})
        self._hold_newcomers([envelope.subject for envelope in envelopes if envelope.kind == "agent_enrolled"])
        return envelopes

    def _hold_newcomers(self, agent_ids: Sequence[str]) -> None:
        """Whoever comes while the fleet or its service is contained is contained from the start, whichever way they came."""
        for agent_id in agent_ids:
            level = self.state.agents[agent_id].desired
            if level != "none":
                self._run(Enforce(agent_id=agent_id, level=level))

    def _touched(self, envelope: Envelope) -> tuple[str, ...]:
        event = envelope.event() if envelope.kind in ("contained", "released") else None
        if isinstance(event, acts.Contained | acts.Released):
            held = self.state.containments.get(event.containment_id)
            if held is None or held.scope != "agent":
                return tuple(self.state.agents)  # a service or the whole fleet may be concerned
            return (held.target,)
        incident = self.state.incidents.get(envelope.correlation_id)
        return (envelope.subject, *(incident.agents if incident and incident.scope == "agent" else ()))

    def _run(self, effect: Effect) -> None:
        if isinstance(effect, EnforcementRetried):
            self.mirror.retried_us[effect.agent_id] = self._now_us
        else:
            carry_out(effect, self.sentinel, self.executor)

    def _publish(self, assessment: Assessment) -> None:
        """Swap the view, and tell listeners of everything that was appended since the last time, without gaps."""
        envelopes, self._unpublished = self._unpublished, []
        view = View(
            state=self.state,
            assessment=assessment,
            tick=self.counters.ticks,
            ticks_skipped=self.counters.ticks_skipped,
            lag_us=self.counters.lag_us,
        )
        self.view = view
        for listener in self.listeners:
            listener(envelopes, view)

    def _housekeep(self, now_us: int) -> None:
        if now_us >= self._due_us["counts"] and not self.trouble:
            self._record_counts(now_us)
            self.mirror.forget_ended(self.state)
            self._due_us["counts"] = now_us + COUNTS_EVERY_US
        self.queue.drain()
        try:
            self.tidying.tidy(now_us)
        except StoreUnavailableError as error:
            self.queue.last_error = str(error)  # measurements are best effort: the next tick tries again
        if now_us >= self._saved_us + BASELINES_EVERY_US + BASELINES_EVERY_US_PER_AGENT * len(self.state.agents):
            self._try_to_save_baselines(now_us)
            self._saved_us = now_us
        self._save_state_if_due(now_us, max(STATE_EVERY_EVENTS, len(self.state.agents)))

    def _try_to_save_baselines(self, now_us: int) -> None:
        if self.trouble:
            return
        try:
            self.save_baselines()
        except StoreUnavailableError as error:
            self.outage.came(error, now_us)

    # -- bookkeeping -------------------------------------------------------------------------------------------------

    def _enroll_known(self) -> None:
        for agent in sorted(self.state.agents.values(), key=lambda agent: agent.index):
            self.desk.roster.enroll(AgentIdentity(agent_id=agent.agent_id, type=agent.type, service=agent.service))
        self.mirror.sync(self.state, self.state.agents)

    def _enroll_new(self, now_us: int) -> None:
        known = len(self.state.agents)
        fresh = self.desk.roster.identities[known:]
        if not fresh:
            return
        events = [
            Draft(at_us=now_us, subject=who.agent_id, event=ev.AgentEnrolled(index=known + n, type=who.type, service=who.service))
            for n, who in enumerate(fresh)
        ]
        self._append(events)

    def count_rejected(self, rejected: Mapping[str, int]) -> None:
        """Take samples into the account that were turned away, here or by a source, by reason."""
        for reason, count in rejected.items():
            self.counters.rejected[reason] = self.counters.rejected.get(reason, 0) + count
            self._unreported[reason] = self._unreported.get(reason, 0) + count

    def _record_counts(self, now_us: int) -> None:
        if self._unreported:
            counts = tuple(sorted(self._unreported.items()))
            self._pending.append(Draft(at_us=now_us, subject=self.run_id, event=ev.SamplesRejected(counts=counts)))
            self._unreported = {}
        lost = self.queue.newly_dropped()
        if lost:
            event = ev.TelemetryLost(samples=lost, reason=self.queue.last_error or "queue full")
            self._pending.append(Draft(at_us=now_us, subject=self.run_id, event=event))

    def _append_pending(self) -> None:
        self._append(self._pending)
        self._pending = []
