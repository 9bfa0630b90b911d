"""One history: lives of a daemon, faults between and within them, then calm, in which everything must come to an end by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from immune.api.app import Api
from immune.api.gates import level_of
from immune.clock import US, VirtualClock
from immune.connectors.gate import GateConnector
from immune.core.decision import Rules
from immune.core.events import Level
from immune.core.fold import canonical_hash, fold
from immune.core.policy_file import policy_version
from immune.core.state import RunState
from immune.core.vitals import Lexicon, Roster, VitalSchema
from immune.errors import FencedError, StoreUnavailableError
from immune.ports import Desk as SourceDesk
from immune.reports import documents
from immune.reports.explain import explain
from immune.runtime.engine import Engine
from immune.sources.ingest import IngestSource
from proving.auditor import Alarm, Auditor, hold
from proving.disk import Disk, DiskJournal
from proving.eyes import SentinelEyes, SymptomSentinel
from proving.happening import happen
from proving.mortal import POINTS, Fate, KilledError, Life, PausedError
from proving.people import Desk, Keyring, Wish
from proving.script import Fault, Script
from proving.setup import FEW_KINDS, POLICY, QUICK_ACTIONS, RUN, FickleTelemetry, Process
from proving.world import START_US, Feed, Hands, World

QUIET_WITHIN_TICKS = 500
CLOCK_TURN_US = 7_200 * US
"""From an hour back to an hour ahead: the most that a turned clock makes anything late."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a history."""

    head: str
    events: int
    crashes: int
    restarts: int
    take_overs: int
    agent_seconds: int
    escaped: int
    kinds: frozenset[str]
    answers: int


class History:
    """Plays one script. `build_journal` and `adapt` are for breaking a rule on purpose, to see who notices."""

    def __init__(
        self,
        script: Script,
        *,
        build_journal: Callable[[Disk, Fate], DiskJournal] = DiskJournal,
        adapt: Callable[[Engine], None] = lambda engine: None,
    ) -> None:
        setting = script.setting
        self.script, self.build_journal, self.adapt = script, build_journal, adapt
        self.world = World(setting.agents, setting.seed, setting.cures)
        self.disk = Disk()
        self.telemetry = FickleTelemetry()
        self.keys = Keyring()
        self.desk = Desk(self._heard)
        self.policy = replace(POLICY, mode=setting.mode)  # type: ignore[arg-type]
        self.now: Process | None = None
        self.paused: list[Process] = []
        self.auditor = Auditor(self.world, self._rules, lambda name: self.keys.held.get(name, ""), self._speaking)
        self.auditor.faultless = not any(fault.what == "hand" for fault in script.faults)
        self.faults = list(script.faults)
        self.crashes = self.restarts = self.take_overs = 0
        self.doomed: Fault | None = None
        self.down_s = 0
        self._skew_us = 0
        self._ends_us: list[tuple[int, Callable[[], None]]] = []
        self._requests = 0
        self._last_rules: Rules | None = None
        self.disk.on_synced = self.auditor.hear
        self.disk.stall = self.suspend

    # -- playing -------------------------------------------------------------------------------------------------------

    def play(self) -> Outcome:
        """Play it to the end. Raises BreachError."""
        try:
            self._play()
        except Alarm as alarm:
            raise alarm.breach from alarm
        finally:
            for process in [*self.paused, *([self.now] if self.now else [])]:
                process.life.end()
        return Outcome(
            head=self.auditor.state.head,
            events=self.auditor.state.seq,
            crashes=self.crashes,
            restarts=self.restarts,
            take_overs=self.take_overs,
            agent_seconds=self.world.agent_seconds,
            escaped=self.auditor.escaped,
            kinds=frozenset(self.auditor.kinds),
            answers=len(self.auditor.answers),
        )

    def _play(self) -> None:
        true_us = START_US
        end_us = START_US + self.script.setting.ticks * US
        while true_us < end_us - US:
            true_us = self._one_life(true_us, end_us)
        self._be_calm(true_us)

    def _one_life(self, true_us: int, end_us: int, *, on_tick: Callable[[Process], None] | None = None) -> int:
        """From a start to a death, an end or a pause; the time at which the next one starts."""
        self._let_pass(true_us)
        process = self._make(true_us)
        self.now = process
        taking_over = bool(self.paused) and any(not one.fenced for one in self.paused)
        process.engine.take_over = taking_over
        self.down_s = 0
        if self.doomed is not None:
            self.doom(process, self.doomed)
            self.doomed = None
        try:
            process.life.run(self._live(process, end_us, on_tick or self._storm))
        except KilledError:
            self.crashes += 1
            self._died(process)
        except PausedError:
            process.epoch = self.disk.epoch(RUN)
            self.paused.append(process)
            self.world.ask = None
            self.now = None
            return process.true_us
        else:
            self.restarts += 1
            self._ended(process)
        self.down_s += not process.started  # whoever starts it again waits a moment
        after_us = process.true_us + self.down_s * US
        self.auditor.excused_us += self.down_s * US
        self._wake_the_paused(after_us)
        process.life.end()
        self.now = None
        return after_us

    def _died(self, process: Process) -> None:
        self.world.ask = None
        process.engine.journal.close()
        self.disk.crash(RUN)
        self.auditor.recovered(self.disk.envelopes(RUN), self.disk.acknowledged)
        self.disk.acknowledged = self.disk.envelopes(RUN)
        self.desk.speaking = {}

    def _ended(self, process: Process) -> None:
        self.world.ask = None
        process.engine.journal.close()
        if process.fenced:
            return
        if process.started:
            self._accounts(process)
            hold(
                canonical_hash(process.engine.state) == canonical_hash(self.auditor.state), "I4", "the engine's state is not the fold of its journal"
            )

    def _accounts(self, process: Process) -> None:
        counts, account = process.inbox.counts, process.engine.queue.account()
        hold(counts.offered == counts.accepted + sum(counts.rejected.values()), "I30", "offered is not accepted and rejected")
        hold(counts.accepted == counts.delivered + process.inbox.waiting, "I30", "accepted is not delivered and waiting")
        hold(account.accepted == account.stored + account.waiting + account.dropped, "I30", "a sample is nowhere")
        hold(len(process.engine._pending) <= 1000 and len(process.engine._answers) <= 100, "I31", "a queue without a bound")

    def _wake_the_paused(self, true_us: int) -> None:
        """Whoever was stopped goes on now. If somebody took over meanwhile, it may neither write nor act."""
        for process in self.paused:
            if self.disk.epoch(RUN) > process.epoch:
                self._resume(process, true_us)
            process.life.end()
        self.paused = []

    def _resume(self, process: Process, true_us: int) -> None:
        before = (self.disk.journal.head(RUN), len(self.world.effects), [(p.level, p.canary) for p in self.world.patients])
        process.life.loop.suspend(max(0.0, (true_us - process.true_us) / US))
        serving, self.world.ask = self.world.ask, None
        try:
            process.life.resume()
        except KilledError:
            process.fenced = True  # doomed before it was paused
        self.world.ask = serving
        after = (self.disk.journal.head(RUN), len(self.world.effects), [(p.level, p.canary) for p in self.world.patients])
        hold(process.fenced, "I28", "a writer that lost its place goes on")
        hold(before == after, "I28", "a writer that lost its place wrote or acted")
        hold(not process.hands.stale, "I28", f"a writer that lost its place gave orders: {process.hands.stale}")

    # -- one life ------------------------------------------------------------------------------------------------------

    def _make(self, true_us: int) -> Process:
        fate = Fate()
        life = Life(fate)
        inbox, gate = IngestSource(self.policy.limits), GateConnector()
        hands = Hands(self.world, fate, lambda: self.disk.epoch(RUN), replaceable=self.script.setting.replaceable)
        desk = SourceDesk(roster=Roster(limit=self.policy.limits.max_agents), lexicon=Lexicon(), schema=VitalSchema())
        sentinel = self._eyes(desk)
        engine = Engine(
            run_id=RUN,
            journal=self.build_journal(self.disk, fate),
            telemetry=self.telemetry,
            sources=[Feed(self.world, inbox, self._skew_us), inbox],
            sentinel=sentinel,
            desk=desk,
            rules=Rules(
                policy=self.policy,
                version=policy_version(self.policy),
                catalogue=FEW_KINDS,
                actions=QUICK_ACTIONS,
                approvers=self.keys.approvers(),
            ),
            period_us=US,
            holder="proving",
            connectors=[hands, gate],
        )
        self.adapt(engine)
        clock = VirtualClock(true_us + self._skew_us)
        return Process(life=life, engine=engine, inbox=inbox, hands=hands, gate=gate, clock=clock, skew_us=self._skew_us, began_us=true_us)

    def _eyes(self, desk: SourceDesk) -> Any:
        if self.script.setting.eyes == "sentinel":
            return SentinelEyes(desk, self.policy.detection, US, self.auditor.scored)
        return SymptomSentinel(self.world, desk.roster, desk.schema, self.auditor.scored)

    async def _live(self, process: Process, end_us: int, on_tick: Callable[[Process], None]) -> None:
        engine, clock = process.engine, process.clock
        try:
            engine.open(clock.now_us())
            self.auditor.a_new_life()
            self.world.ask = lambda agent_id: self._ask_gate(process, agent_id)
            self.world.everybody_asks()  # before the first instruction after the start
            engine.start(clock.now_us())
        except StoreUnavailableError:
            return  # the real one says so and exits
        process.started = True
        api = Api(
            engine=engine,
            inbox=process.inbox,
            keys=self.keys,
            gate=process.gate,
            papers=documents,
            explain=explain,
            clock=clock,
            request_ids=self._request_id,
        )
        process.application = api.application()
        process.application.freeze()
        if engine.executor is not None:
            await engine.executor.settle()
        self.spawn(process, self.desk.ask_again(process.application))

        def ticked(now_us: int) -> None:
            api.refresh_approvers()
            on_tick(process)

        engine.on_tick = ticked
        first_us = -(-clock.now_us() // US) * US
        try:
            await engine.run(clock, first_us=first_us, until_us=end_us + process.skew_us, stopped=lambda: process.orderly)
        except FencedError:
            process.fenced = True
            for task in process.tasks:
                task.cancel()
            return
        await asyncio.gather(*process.tasks, return_exceptions=True)
        try:
            await engine.finish(clock.now_us(), "the end of a chapter")
        except FencedError:
            process.fenced = True

    def _request_id(self) -> str:
        self._requests += 1
        return f"{self._requests:016x}"

    def _ask_gate(self, process: Process, agent_id: str) -> tuple[bool, Level]:
        process.engine.confirm()
        state = process.engine.state
        agent = state.agents.get(agent_id)
        level, _ = level_of(state, agent)
        allowed, told = process.gate.ask(agent_id, level) if agent is not None else (True, level)
        self.auditor.let_through(agent_id, allowed, told)
        return allowed, told

    def spawn(self, process: Process, work: Any) -> None:
        """Work beside the ticks of a life, ended with it."""
        task = process.life.loop.create_task(work)
        process.tasks.add(task)
        task.add_done_callback(lambda done: _done(process, done))

    def _heard(self, wish: Wish, status: int, document: Any) -> None:
        self.auditor.answered(wish.key, status, document, self.disk.synced)

    def _speaking(self) -> set[str]:
        return {name for name, count in self.desk.speaking.items() if count}

    def _rules(self) -> Rules:
        if self.now is not None:
            self._last_rules = self.now.engine.rules
        assert self._last_rules is not None
        return self._last_rules

    def suspend(self, seconds: float) -> None:
        """The whole process stands still."""
        if self.now is not None:
            self.now.life.loop.suspend(seconds)
            self.auditor.excused_us += round(seconds * US)

    # -- what happens ----------------------------------------------------------------------------------------------------

    def _storm(self, process: Process) -> None:
        true_us = process.true_us
        self._let_pass(true_us)
        while self.faults and START_US + self.faults[0].tick * US <= true_us:
            happen(self, process, self.faults.pop(0))
        self._silence_is_told(process)

    def _let_pass(self, true_us: int) -> None:
        """Troubles whose time is over."""
        for at_us, undo in [one for one in self._ends_us if one[0] <= true_us]:
            self._ends_us.remove((at_us, undo))
            undo()

    def turn_clock(self, skew_us: int) -> None:
        """The next process sees another time. Deadlines are moments: turned forward, they are late; turned back, they come later."""
        if skew_us != self._skew_us:
            self.auditor.excused_us += CLOCK_TURN_US
        self._skew_us = skew_us

    def until(self, process: Process, seconds: int, undo: Callable[[], None]) -> None:
        """A trouble that is over by then."""
        self._ends_us.append((process.true_us + seconds * US, undo))

    @staticmethod
    def doom(process: Process, fault: Fault) -> None:
        """The process dies at one of its next awaits or writes."""
        point = POINTS[fault.a % len(POINTS)]
        process.life.fate.doom(point, 1 + fault.b % (60 if point == "await" else 4))

    def _silence_is_told(self, process: Process) -> None:
        """I27: whoever has said nothing for long is not shown as working."""
        view, state = process.engine.view, process.engine.state
        if view is None or process.engine.trouble or self.disk.trouble:
            return
        for index in view.assessment.silent.nonzero()[0].tolist():
            agent = state.agents.get(process.engine.desk.roster.identities[index].agent_id)
            if agent is not None and agent.desired == agent.observed == "none":
                hold(agent.liveness in ("silent", "retired"), "I27", f"{agent.agent_id} says nothing and is shown as {agent.liveness}")

    def _deviating(self) -> list[str]:
        """Agents that are not held as they ought to be; invented ones never ask, and nobody can hold them."""
        agents = self.auditor.state.agents.values()
        return [a.agent_id for a in agents if a.desired != a.observed and self.world.find(a.agent_id) is not None]

    # -- calm --------------------------------------------------------------------------------------------------------------

    def _be_calm(self, true_us: int) -> None:
        """I32: with the faults stopped everything comes to an end by itself, and nobody has to be there."""
        world = self.world
        for _, undo in self._ends_us:
            undo()
        world.mishaps.clear()
        world.sample_mishaps.clear()
        true_us = max(true_us, self.auditor.latest_us)  # a clock that was set back: what was to end at a time ends at that time
        world.cures, world.outage, self.doomed = 1.0, False, None
        self.turn_clock(0)
        for patient in world.patients:
            patient.obeys = True
        quiet: list[int] = []
        until_us = true_us + QUIET_WITHIN_TICKS * US

        def look(process: Process) -> None:
            state = process.engine.state
            waits = state.open_plans or state.open_approvals or self._deviating() or world.agenda
            if not waits:
                quiet.append(process.true_us)
                process.orderly = True

        self._one_life(true_us, until_us, on_tick=look)
        state = self.auditor.state
        hold(quiet, "I32", f"still open: {state.open_plans} {state.open_approvals} {self._deviating()}")
        self.auditor.last_words()
        whole = fold(RunState(), self.disk.journal.read(RUN))
        hold(canonical_hash(whole) == canonical_hash(state), "I4", "the fold of the journal is another state")
        hold(self.disk.journal.verify(RUN) == state.seq, "I1", "the chain ends elsewhere")


def _done(process: Process, task: asyncio.Task[Any]) -> None:
    process.tasks.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise Alarm("I6", f"a request fell over: {type(error).__name__}: {error}") from error
