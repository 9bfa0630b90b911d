"""What is outside the daemon: agents that work whether it lives or not, what they report, and hands that fail in every way."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from immune.actions import ACTIONS
from immune.clock import US
from immune.core.events import LEVELS, Level, iso
from immune.core.vitals import SampleBatch
from immune.ports import Answer, Desk
from immune.sources.ingest import IngestSource
from proving.mortal import Fate

START_US = 1_767_225_600 * US
ISOLATED = LEVELS.index("isolated")
HOURS_S = 36_000.0
LEASE_US = 30 * US
BACKLOG = 30
RELAPSES = 0.3
NORMAL = {"output_tokens": 300.0, "latency_ms": 800.0, "errors": 1.0}
VITALS = tuple(NORMAL)
MISHAPS = ("failed", "lied", "late", "very_late", "hung", "hung_but_done", "raised", "half", "lands_later")
"""How an order goes wrong: refused · done and unsaid · done after a while · after its timeout · never · done, no answer · line dead ·
half done · lands when nobody waits."""
SAMPLE_MISHAPS = ("twice", "late", "reordered", "lost", "nan", "negative", "huge", "future", "garbage", "stale")

Ask = Callable[[str], tuple[bool, Level]]


@dataclass
class Patient:
    """One agent: what it is, how it is held, what it has done."""

    agent_id: str
    service: str
    gated: bool
    ratio: float = 1.0
    vital: str = "output_tokens"
    level: Level = "none"
    obeys: bool = True
    canary: int = 0
    told: Level = "none"
    let: bool = True
    told_us: int = 0
    backlog: list[dict[str, Any]] = field(default_factory=list)

    @property
    def held(self) -> Level:
        """The level that it really keeps."""
        if not self.obeys:
            return "none"
        return self.told if self.gated else self.level


class World:
    """Everything that a crash does not touch."""

    def __init__(self, agents: int, seed: int, cures: float) -> None:
        self.seed, self.cures = seed, cures
        self.patients = [Patient(agent_id=f"a-{n}", service=("search", "billing")[n % 2], gated=n % 3 == 2) for n in range(agents)]
        self.enrolled = agents - 1
        self.outage = False
        self.now_us = START_US
        self.mishaps: deque[str] = deque()
        self.sample_mishaps: deque[str] = deque()
        self.agenda: list[tuple[int, Callable[[], None]]] = []
        self.effects: list[tuple[str, str, str]] = []
        self.orders: dict[str, int] = {}
        self.answers: dict[str, Answer] = {}
        self.undone: set[str] = set()
        self.ask: Ask | None = None
        self.on_work: Callable[[Patient, bool], None] = lambda patient, by_canary: None
        self.agent_seconds = 0
        self._by_id = {patient.agent_id: patient for patient in self.patients}

    def find(self, agent_id: str) -> Patient | None:
        """An agent by id; None for an invented one."""
        return self._by_id.get(agent_id)

    def advance(self, until_us: int) -> None:
        """Let the seconds up to a time pass: everybody works who may, and what was to land lands."""
        while self.now_us + US <= until_us:
            self.now_us += US
            due = [act for at, act in self.agenda if at <= self.now_us]
            self.agenda = [(at, act) for at, act in self.agenda if at > self.now_us]
            for act in due:
                act()
            self.agent_seconds += self.enrolled
            if until_us - self.now_us > 300 * US:  # nobody needs every second of a night in which nothing runs
                continue
            for patient in self.patients[: self.enrolled]:
                self._live(patient)

    def _live(self, patient: Patient) -> None:
        may, by_canary = self._ask_gate(patient) if patient.gated else self._look_at_level(patient)
        if may:
            self.on_work(patient, by_canary)
            self._report(patient)

    def everybody_asks(self) -> None:
        """Every agent at a gate asks it now."""
        for patient in self.patients[: self.enrolled]:
            if patient.gated:
                self._ask_gate(patient)

    def _look_at_level(self, patient: Patient) -> tuple[bool, bool]:
        stopped = LEVELS.index(patient.held) >= ISOLATED
        if stopped and patient.canary == 0:
            return False, False
        patient.canary -= stopped
        return True, stopped

    def _ask_gate(self, patient: Patient) -> tuple[bool, bool]:
        if not patient.obeys:
            return True, False
        if self.ask is not None:
            patient.let, patient.told = self.ask(patient.agent_id)
            patient.told_us = self.now_us
            return patient.let, patient.let and LEVELS.index(patient.told) >= ISOLATED
        stopped = LEVELS.index(patient.told) >= ISOLATED
        return patient.let and not stopped and self.now_us - patient.told_us <= LEASE_US, False

    def _report(self, patient: Patient) -> None:
        at_us = self.now_us - US // 2
        row: dict[str, Any] = {name: normal * (patient.ratio if name == patient.vital else 1.0) for name, normal in NORMAL.items()}
        row.update(agent=patient.agent_id, type="coder", service=patient.service, at=iso(at_us), status="working")
        patient.backlog.append(row)
        del patient.backlog[:-BACKLOG]

    def rows(self) -> list[dict[str, Any]]:
        """What was reported since the last call, as the network delivers it."""
        rows = [row for patient in self.patients for row in patient.backlog]
        for patient in self.patients:
            patient.backlog = []
        if rows and self.sample_mishaps:
            rows = self._mangled(rows, self.sample_mishaps.popleft())
        return rows

    def _mangled(self, rows: list[dict[str, Any]], how: str) -> list[dict[str, Any]]:
        first = rows[0]
        match how:
            case "twice":
                return [*rows, *rows]
            case "late":
                self.patients[0].backlog = [row for row in rows if row["agent"] == self.patients[0].agent_id]
                return [row for row in rows if row["agent"] != self.patients[0].agent_id]
            case "reordered":
                return rows[::-1]
            case "lost":
                return []
            case "nan":
                first["output_tokens"] = "nan"
            case "negative":
                first["latency_ms"] = -5
            case "huge":
                first["output_tokens"] = 1e300
            case "future":
                first["at"] = iso(self.now_us + 7200 * US)
            case "stale":
                return [*rows, {**first, "at": iso(self.now_us - 600 * US)}]
            case _:
                return [*rows, {"agent": "\x00", "output_tokens": {"deep": [1]}}, {"no": "agent"}]
        return rows

    def chance(self, *what: str) -> float:
        """The same number for the same question, whatever else happened before."""
        text = "/".join((str(self.seed), *what)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") / 2**32


class Feed:
    """Moves the world on before each tick, and brings what it reported to the inbox."""

    name = "world"

    def __init__(self, world: World, inbox: IngestSource, skew_us: int) -> None:
        self.world, self.inbox, self.skew_us = world, inbox, skew_us

    def open(self, desk: Desk) -> None:
        """Nothing to open."""

    async def collect(self, now_us: int) -> SampleBatch:
        """No samples of its own."""
        self.world.advance(now_us - self.skew_us)
        self.inbox.offer(self.world.rows(), now_us)
        return SampleBatch.empty()

    async def close(self) -> None:
        """Nothing to let go of."""


class Hands:
    """One process's hands on the world. Who holds them is looked at when an order is given, and again when it lands."""

    name = "hands"

    def __init__(self, world: World, fate: Fate, newest_epoch: Callable[[], int], *, replaceable: bool) -> None:
        self.world, self.fate, self.newest_epoch = world, fate, newest_epoch
        self.supported = {action.name for action in ACTIONS} - (set() if replaceable else {"restart_agent"})
        self.stale: list[str] = []

    def knows(self, agent_id: str) -> bool:
        """Everybody in the world who is not held by the gate."""
        patient = self.world.find(agent_id)
        return patient is not None and not patient.gated

    def can(self, agent_id: str, action: str) -> bool:
        """It believes that it can do everything."""
        return True

    def observed(self, agent_id: str) -> Level | None:
        """What is really in force."""
        patient = self.world.find(agent_id)
        return patient.held if patient is not None else None

    async def contain(self, agent_id: str, level: Level, *, epoch: int) -> Answer:
        """Set the level, perhaps."""
        self.world.orders[agent_id] = self.world.orders.get(agent_id, 0) + 1

        def effect() -> None:
            patient = self.world._by_id[agent_id]
            patient.level, patient.canary = level, 0

        return await self._perhaps(f"contain {agent_id}", epoch, effect)

    async def allow(self, agent_id: str, dispatches: int, *, epoch: int) -> Answer:
        """Open for canary work, perhaps."""

        def effect() -> None:
            self.world._by_id[agent_id].canary = dispatches

        return await self._perhaps(f"allow {agent_id}", epoch, effect)

    async def perform(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """Carry an action out, perhaps; it may cure."""
        if action not in self.supported:
            return Answer(outcome="unsupported", detail="no hands for this")

        def effect() -> None:
            if key.replace("/do", "/undo") in self.world.undone:
                return  # the receiver knows that this was taken back before it came
            self.world.effects.append((key, agent_id, action))
            if self.world.chance("cure", key) < self.world.cures:
                self.world._by_id[agent_id].ratio = 1.0
                if self.world.chance("relapse", key) < RELAPSES:
                    self.world.agenda.append((self.world.now_us + 20 * US, lambda: setattr(self.world._by_id[agent_id], "ratio", 8.0)))

        return await self._once(key, epoch, effect)

    async def compensate(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """Undo an action, perhaps."""

        def effect() -> None:
            self.world.undone.add(key)
            self.world.effects.append((key, agent_id, action))

        return await self._once(key, epoch, effect)

    async def _once(self, key: str, epoch: int, effect: Callable[[], None]) -> Answer:
        """The receiver remembers its keys, whoever asks again."""
        if key in self.world.answers:
            return self.world.answers[key]

        def first_time() -> None:
            if key not in self.world.answers:
                self.world.answers[key] = Answer(outcome="succeeded")
                effect()

        return await self._perhaps(key, epoch, first_time)

    async def _perhaps(self, what: str, epoch: int, effect: Callable[[], None]) -> Answer:
        self.fate.passes("hand")
        if epoch < self.newest_epoch():
            self.stale.append(what)
        how = self.world.mishaps.popleft() if self.world.mishaps else ""

        def land() -> Answer:
            if epoch < self.newest_epoch():
                return Answer(outcome="failed", detail="a newer writer gives the orders")
            effect()
            return Answer(outcome="succeeded")

        answer = await self._go(how, land)
        self.fate.passes("reply")
        return answer

    async def _go(self, how: str, land: Callable[[], Answer]) -> Answer:
        match how:
            case "":
                return land()
            case "late" | "very_late":
                await asyncio.sleep(0.3 if how == "late" else 20.0)
                return land()
            case "lands_later":
                self.world.agenda.append((self.world.now_us + 15 * US, lambda: (land(), None)[1]))
                await asyncio.sleep(HOURS_S)
            case "lied" | "half":
                land()
                return Answer(outcome="unknown", detail=how)
            case "hung_but_done":
                land()
                await asyncio.sleep(HOURS_S)
            case "hung":
                await asyncio.sleep(HOURS_S)
            case "raised":
                raise ConnectionError("the line is dead")
        return Answer(outcome="failed", detail=how)
