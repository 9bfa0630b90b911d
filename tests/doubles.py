"""Stand-ins for the world, the eyes and the hands of an engine: what they do is scripted, and everything is counted."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import numpy as np

from immune.actions import ACTIONS
from immune.clock import VirtualClock, run_virtual
from immune.core.decision import Rules
from immune.core.events import LEVELS
from immune.core.evidence import Assessment, Bands, CohortFinding, Finding, VitalEvidence
from immune.core.policy import Policy
from immune.core.policy_file import policy_version
from immune.core.vitals import AgentIdentity, Lexicon, Roster, SampleBatch, VitalSchema
from immune.errors import StoreUnavailableError
from immune.infections import CATALOGUE
from immune.ports import Answer, Desk
from immune.runtime.engine import Engine
from immune.stores.memory import MemoryJournal, MemoryTelemetry

US = 1_000_000
START_US = 1_767_225_600 * US
THRESHOLD_NATS = 12.0
ISOLATED = LEVELS.index("isolated")
HOURS_S = 36_000.0


def evidence(vital="output_tokens", direction="up", nats=30.0, ratio=4.0, onset_us=START_US):
    """One vital's evidence."""
    return VitalEvidence(
        vital=vital,
        direction=direction,
        nats=nats,
        ratio=ratio,
        observed=ratio,
        expected=1.0,
        effect=2.0,
        growth=0.0,
        onset_us=onset_us,
        calibration=1.0,
        basis="own",
    )


def rules(policy=None, actions=ACTIONS, approvers=("ann",), catalogue=CATALOGUE):
    """Rules over the real catalogues, unless told otherwise."""
    policy = policy or Policy(mode="act")
    known = {action.name: action for action in actions}
    return Rules(policy=policy, version=policy_version(policy), catalogue=tuple(catalogue), actions=known, approvers=frozenset(approvers))


@dataclass
class Patient:
    """One agent of a `World`: what it is, how it is held, and what it has done."""

    agent_id: str
    service: str = "search"
    ratio: float = 1.0
    vital: str = "output_tokens"
    level: str = "none"
    obeys: bool = True
    canary: int = 0
    samples: int = 0
    worked_at: list[int] = field(default_factory=list)
    nats: float = 0.0
    shows: bool = False

    @property
    def held(self):
        """The level that it really keeps."""
        return self.level if self.obeys else "none"


class World:
    """Agents that work a step a tick unless they are held; the source, and what the scripted sentinel looks at."""

    name = "world"

    def __init__(self, agents=6, services=("search", "billing")):
        self.patients = [Patient(agent_id=f"a-{n}", service=services[n % len(services)]) for n in range(agents)]
        self.enrolled = agents
        self.outage = False
        self.quiet = False
        self.on_work = lambda patient, by_canary, now_us: None
        self._desk = None

    def find(self, agent_id):
        """An agent by id."""
        return next(patient for patient in self.patients if patient.agent_id == agent_id)

    def open(self, desk):
        """Enrol those who are there."""
        self._desk = desk
        for patient in self.patients[: self.enrolled]:
            desk.roster.enroll(AgentIdentity(agent_id=patient.agent_id, type="coder", service=patient.service))

    async def collect(self, now_us):
        """Let everybody work who may."""
        self.open(self._desk)
        for patient in self.patients[: self.enrolled]:
            stopped = LEVELS.index(patient.held) >= ISOLATED
            if stopped and patient.canary == 0:
                continue
            patient.canary -= stopped
            patient.samples += 1
            patient.worked_at.append(now_us)
            ill = patient.ratio > 1.0
            patient.nats = min(60.0, patient.nats + 5.0) if ill else max(0.0, patient.nats - 10.0)
            patient.shows = ill
            self.on_work(patient, stopped, now_us)
        return SampleBatch.empty()

    async def close(self):
        """Nothing to let go of."""


class ScriptedSentinel:
    """Sees exactly who is ill in a `World`, once its samples have shown it. Forgets everything with the process, as a crash would."""

    threshold_nats = THRESHOLD_NATS

    def __init__(self, world):
        self.world = world
        self.held, self.ready = set(), True
        self.calls = []
        self.woken_us = []

    def wake(self, now_us):
        """Remember since when it has been listened again."""
        self.woken_us.append(now_us)

    def heed(self, words, now_us):
        self.words = words

    def observe(self, batch, now_us):
        """What the samples of the world show at this time."""
        patients = self.world.patients[: self.world.enrolled]
        n = len(patients)
        cohort = "c-1" if self.world.outage else ""
        findings = [self._finding(index, patient, cohort) for index, patient in enumerate(patients) if patient.nats > 0.0]
        return Assessment(
            now_us=now_us,
            threshold_nats=THRESHOLD_NATS,
            nats=np.array([patient.nats for patient in patients], dtype=np.float32),
            samples=np.array([patient.samples for patient in patients], dtype=np.int64),
            ready=np.full(n, self.ready),
            silent=np.full(n, self.world.quiet),
            idle=np.zeros(n, dtype=bool),
            findings=tuple(sorted(findings, key=lambda finding: -finding.nats)),
            cohorts=(self._cohort(n),) if cohort else (),
        )

    def _finding(self, index, patient, cohort):
        seen = (evidence(patient.vital, nats=patient.nats, ratio=max(1.1, patient.ratio)),)
        alarm = patient.nats >= THRESHOLD_NATS
        return Finding(
            agent=index,
            nats=patient.nats,
            alarm=alarm,
            present=patient.shows,
            onset_us=START_US,
            samples=patient.samples,
            basis="own",
            evidence=seen,
            explained_by=cohort,
        )

    def _cohort(self, n):
        return CohortFinding(
            key="c-1",
            scope="fleet",
            field="",
            value="",
            nats=40.0,
            alarm=True,
            present=True,
            onset_us=START_US,
            members=n,
            agents=tuple(range(n)),
            evidence=(evidence(),),
        )

    def hold(self, agents):
        """Remember who must not be learned from."""
        self.held |= set(agents)

    def resume(self, agents):
        """The opposite of `hold`."""
        self.held -= set(agents)

    def restart(self, agents):
        """Evidence from zero."""
        for index in agents:
            self.world.patients[index].nats, self.world.patients[index].shows = 0.0, False

    def rebase(self, agents):
        """Whatever it does is normal now."""
        for index in agents:
            self.world.patients[index].ratio = 1.0
        self.restart(agents)

    def retire(self, agents):
        """Neither judged nor missed."""
        self.calls.append(("retire", tuple(agents)))

    def bands(self):
        """No bands."""
        empty = np.zeros((0, 9), dtype=np.float32)
        return Bands(expected=empty, low=empty, high=empty)

    def snapshot(self):
        """Nothing is kept."""
        return b""

    def restore(self, content):
        """Nothing is taken over."""


class FlakyConnector:
    """Hands on a `World` that fail as often as `faults` says, and cure as often as `cures` says."""

    name = "flaky"

    def __init__(self, world, rng=None, *, faults=0.0, cures=1.0, supported=frozenset(action.name for action in ACTIONS)):
        self.world, self.rng = world, rng or random.Random(0)
        self.faults, self.cures, self.supported = faults, cures, supported
        self.epoch = 0
        self.effects = []
        self.orders = {}
        self._seen = {}

    def knows(self, agent_id):
        """Everybody in the world."""
        return any(patient.agent_id == agent_id for patient in self.world.patients)

    def can(self, agent_id, action):
        """It believes that it can do everything; `supported` is the truth."""
        return True

    async def contain(self, agent_id, level, *, epoch):
        """Set the level, perhaps."""
        self.orders.setdefault(agent_id, []).append(level)
        return await self._perhaps(epoch, lambda: self._set(agent_id, level))

    def _set(self, agent_id, level):
        patient = self.world.find(agent_id)
        patient.level, patient.canary = level, 0

    def observed(self, agent_id):
        """What is really in force."""
        return self.world.find(agent_id).held

    async def allow(self, agent_id, dispatches, *, epoch):
        """Open for canary work, perhaps."""
        return await self._perhaps(epoch, lambda: setattr(self.world.find(agent_id), "canary", dispatches))

    async def perform(self, agent_id, action, *, key, epoch):
        """Carry an action out, perhaps; it may cure."""
        if action not in self.supported:
            return Answer(outcome="unsupported", detail="no hands for this")
        return await self._once(key, epoch, lambda: self._cure(agent_id, action))

    def _cure(self, agent_id, action):
        self.effects.append((agent_id, action, "do"))
        if self.rng.random() < self.cures:
            self.world.find(agent_id).ratio = 1.0

    async def compensate(self, agent_id, action, *, key, epoch):
        """Undo an action, perhaps."""
        return await self._once(key, epoch, lambda: self.effects.append((agent_id, action, "undo")))

    async def _once(self, key, epoch, effect):
        if key not in self._seen:
            self._seen[key] = await self._perhaps(epoch, effect)
        return self._seen[key]

    async def _perhaps(self, epoch, effect):
        if epoch < self.epoch:
            return Answer(outcome="failed", detail="a newer writer gives the orders")
        self.epoch = epoch
        if self.rng.random() >= self.faults:
            effect()
            return Answer(outcome="succeeded")
        how = self.rng.choice(("failed", "lied", "late", "hung", "hung_but_done", "raised"))
        if how in ("lied", "hung_but_done"):
            effect()
        if how == "late":
            await asyncio.sleep(self.rng.choice((0.3, 2.5)))
            effect()
            return Answer(outcome="succeeded")
        if how.startswith("hung"):
            await asyncio.sleep(HOURS_S)
        if how == "raised":
            raise ConnectionError("the line is dead")
        return Answer(outcome="unknown" if how == "lied" else "failed", detail=how)


class FailingTelemetry(MemoryTelemetry):
    """Measurements that are refused while `broken`."""

    def __init__(self):
        super().__init__()
        self.broken = False

    def _check(self):
        if self.broken:
            raise StoreUnavailableError("no space left", field="telemetry")

    def write(self, run_id, tick, now_us, batch):
        """Store, or refuse."""
        self._check()
        super().write(run_id, tick, now_us, batch)

    def write_bands(self, run_id, now_us, bands):
        """Store, or refuse."""
        self._check()
        super().write_bands(run_id, now_us, bands)

    def name_agents(self, run_id, first_index, agent_ids):
        """Remember, or refuse."""
        self._check()
        super().name_agents(run_id, first_index, agent_ids)

    def compact(self, run_id, now_us, *, parts=None):
        """Compact, or refuse."""
        self._check()
        return super().compact(run_id, now_us, parts=parts)


def engine_over(world, *, journal=None, telemetry=None, connectors=(), sentinel=None, sources=None, run_id="r-1", **of_rules):
    """An engine over a `World`, one tick a second."""
    return Engine(
        run_id=run_id,
        journal=journal if journal is not None else MemoryJournal(),
        telemetry=telemetry or MemoryTelemetry(),
        sources=[world] if sources is None else sources,
        sentinel=sentinel or ScriptedSentinel(world),
        desk=Desk(roster=Roster(), lexicon=Lexicon(), schema=VitalSchema()),
        rules=rules(**of_rules),
        period_us=US,
        holder="test",
        connectors=connectors,
    )


def live(world, hands=None, *, ticks, at=None, first_tick=0, engine=None, **of_engine):
    """Let an engine over a world live for some ticks of virtual time; `at` says what is done after which tick: (engine, now_us)."""
    engine = engine or engine_over(world, connectors=[hands or FlakyConnector(world)], **of_engine)
    at = at or {}
    first_us = START_US + first_tick * US

    def on_tick(now_us):
        at.get((now_us - START_US) // US, lambda *_: None)(engine, now_us)

    async def life():
        engine.start(first_us)
        engine.on_tick = on_tick
        await engine.run(VirtualClock(START_US + first_tick * US), first_us=first_us, until_us=first_us + ticks * US)
        await engine.executor.stop()

    run_virtual(life())
    return engine


def kinds(engine, *wanted):
    """The events of these kinds in the journal of an engine, in order, as (subject, event)."""
    return [(envelope.subject, envelope.event()) for envelope in engine.journal.read(engine.run_id) if not wanted or envelope.kind in wanted]
