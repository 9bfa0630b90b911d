"""Fleets and faults for benchmarks/detection.py: written from what agents do, knowing nothing of how they are judged.

A `Fleet` makes one tick of healthy vitals at a time, of a given shape; a `Recorded` fleet deals out the requests of a real
recording; a fault changes the vitals of one agent. Everything is drawn from seeds: other seeds give other levels, prices, rates,
noises, sizes and times. Nothing here knows a signature: what a kind of fault does to the vitals is written from what it is.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from immune.core.vitals import AgentIdentity, Lexicon, Roster, SampleBatch, Status

US = 1_000_000
START_US = 1_767_225_600 * US
DAY_S = 86_400
LATENCY, INPUT, OUTPUT, COST, TOOLS, RETRIES, ERRORS, CONTEXT, CONFIDENCE = range(9)
VERSION, PROMPT, TASK = 2, 3, 5
SHAPES = ("gaussian", "lognormal", "gamma", "ar", "diurnal", "deploys", "tasks", "tasks_unsaid", "sparse", "heavy", "mixture", "tasks_paused")
"""What healthy vitals look like, in the words of `Fleet._sizes`; the last three stand in no table of figures and were never tuned on."""
STRONG = ("token_explosion", "tool_loop", "latency_spike", "retry_storm", "error_burst", "silent_stall")
DEPLOY_EVERY_S = 1800
AR_PHI = 0.8
STEPS_OF_A_TASK = 14
PAUSE_S = 20.0
PROMPT_USUAL, PROMPT_OTHER = 0, 1
"""Codes of the two prompts, the first words of every fleet's lexicon."""

Floats = NDArray[np.float64]


class Population(Protocol):
    """Anything whose healthy samples come second by second."""

    n: int
    roster: Roster
    lexicon: Lexicon
    rng: np.random.Generator

    def tick(self, t: int) -> SampleBatch:
        """Samples of second t; row i is agent i's, or has agent -1 where it sends nothing."""
        ...


class Fleet:
    """n healthy agents of one shape: `tick(t)` is everybody's sample at second t (in the sparse shape: of those that call then)."""

    def __init__(
        self, shape: str, agents: int, seed: int, *, noise: tuple[float, float] = (0.25, 0.6), every_s: float = 1.0, services: int = 8
    ) -> None:
        self.shape, self.n, self.every_s = shape, agents, every_s
        self.rng = rng = np.random.default_rng([seed, SHAPES.index(shape)])
        self.roster, self.lexicon = Roster(), Lexicon()
        assert [self.lexicon.code(word) for word in ("prompt-a", "prompt-b")] == [PROMPT_USUAL, PROMPT_OTHER]
        self.kind = rng.integers(0, 4, agents)
        for index, kind in enumerate(self.kind):
            self.roster.enroll(AgentIdentity(agent_id=f"agent-{index:05d}", type=f"type-{kind}", service=f"service-{index % services}"))
        usual = np.log([900.0, 1500.0, 250.0, 4000.0]) + rng.normal(0, 0.7, (4, 4))
        self.usual = np.exp(usual[self.kind] + rng.normal(0, 0.25, (agents, 4)))
        self.noise = rng.uniform(*noise, (agents, 1))
        self.prices = (rng.uniform(1e-6, 5e-6, 4)[self.kind], rng.uniform(4e-6, 2e-5, 4)[self.kind])
        self.tools = rng.uniform(0.3, 2.5, 4)[self.kind]
        self.retries, self.errors = rng.uniform(0.02, 0.15, agents), rng.uniform(0.005, 0.04, agents)
        self.sure = rng.uniform(10, 30, agents)
        self.phase = rng.uniform(0, 2 * np.pi)
        self.memory = rng.standard_normal((agents, 4))
        self.next_s = rng.uniform(0, every_s, agents)
        self.moved = np.ones((agents, 4))
        self.version = np.full(agents, self.lexicon.code("v1"))
        self.step, self.run, self.work = np.zeros(agents, dtype=np.int64), np.arange(agents) * 100_000 + 1, rng.integers(0, 3, agents)
        self.growth, self.context = rng.uniform(0.05, 0.3, 3), np.zeros(agents)
        self.works = [self.lexicon.code(f"work-{n}") for n in range(3)]
        self.ends, self.rests_until = np.ones(agents, dtype=np.bool_), np.zeros(agents)

    def tick(self, t: int) -> SampleBatch:
        """Healthy samples of second t."""
        n, rng = self.n, self.rng
        sizes, busy = self._sizes(t)
        batch = SampleBatch.blank(n)
        values = batch.values
        batch.agent[:] = np.arange(n)
        batch.at_us[:] = START_US + t * US
        batch.status[:] = Status.WORKING
        batch.codes[:, VERSION], batch.codes[:, PROMPT] = self.version, PROMPT_USUAL
        values[:, LATENCY] = sizes[:, 0]
        values[:, INPUT], values[:, OUTPUT], values[:, CONTEXT] = np.rint(sizes[:, 1]), np.rint(sizes[:, 2]), np.rint(sizes[:, 3])
        values[:, COST] = values[:, INPUT] * self.prices[0] + values[:, OUTPUT] * self.prices[1]
        values[:, TOOLS] = rng.poisson(self.tools * busy)
        values[:, RETRIES], values[:, ERRORS] = rng.poisson(self.retries * busy), rng.poisson(self.errors * busy)
        values[:, CONFIDENCE] = rng.beta(self.sure, 3.0)
        if self.shape in {"tasks", "tasks_paused"}:
            batch.step[:], batch.task_id[:] = self.step, self.run
            batch.codes[:, TASK] = np.array(self.works)[self.work]
            batch.status[self.ends] = Status.DONE
        if self.shape == "tasks_paused":
            batch.agent[self.resting(t)] = -1
            return batch
        if self.shape == "sparse":
            calls = self.next_s <= t
            self.next_s[calls] = t + self.every_s * rng.uniform(0.6, 1.4, int(calls.sum()))
            return batch.take(np.flatnonzero(calls))
        return batch

    def _sizes(self, t: int) -> tuple[Floats, Floats | float]:
        """(latency, input, output, context of everybody, how busy they are)."""
        n, rng, usual = self.n, self.rng, self.usual
        if self.shape == "gaussian":
            return usual * np.maximum(1 + 0.25 * rng.standard_normal((n, 4)), 0.02), 1.0
        if self.shape == "gamma":
            return usual * rng.gamma(2.0, 0.5, (n, 4)), 1.0
        if self.shape == "ar":
            self.memory = AR_PHI * self.memory + np.sqrt(1 - AR_PHI**2) * rng.standard_normal((n, 4))
            return usual * np.exp(0.5 * self.memory), 1.0
        if self.shape == "diurnal":
            wave = np.exp(0.5 * np.sin(2 * np.pi * t / DAY_S + self.phase))
            return usual * wave * np.exp(self.noise * rng.standard_normal((n, 4))), wave
        if self.shape == "deploys" and t and t % DEPLOY_EVERY_S == 0:
            self._deploy(t)
        if self.shape.startswith("tasks"):
            return self._within_task(t), 1.0
        if self.shape == "heavy":
            return usual * np.exp(0.4 * np.clip(rng.standard_t(3, (n, 4)), -12, 12)), 1.0
        if self.shape == "mixture":
            short = rng.random((n, 1)) < 0.3
            return usual * np.where(short, 0.15, 1.0) * np.exp(0.3 * rng.standard_normal((n, 4))), 1.0
        noise = 0.8 if self.shape == "lognormal" else self.noise
        return usual * self.moved * np.exp(noise * rng.standard_normal((n, 4))), 1.0

    def _deploy(self, t: int) -> None:
        """A fifth of the fleet works otherwise from now on; every second time without telling."""
        some = self.rng.permutation(self.n)[: self.n // 5]
        self.moved[some] *= np.exp(self.rng.choice([-1, 1], 4) * self.rng.uniform(0.15, 0.5, 4))
        number = t // DEPLOY_EVERY_S
        if number % 2:
            self.version[some] = self.lexicon.code(f"v{number + 1}")

    def resting(self, t: int) -> NDArray[np.bool_]:
        """Agents that pause between two tasks at second t."""
        done = self.ends & (self.rests_until <= t)
        resting = self.rests_until > t
        self.rests_until[done] = t + 1 + self.rng.exponential(PAUSE_S, int(done.sum()))
        return resting

    def _within_task(self, t: int) -> Floats:
        """The context grows by what was said and falls back at the next task; input and latency follow it."""
        n, rng = self.n, self.rng
        busy = self.rests_until <= t
        begins = self.ends & busy
        self.step = np.where(begins, 0, self.step + busy)
        self.run = np.where(begins, self.run + 1, self.run)
        self.work = np.where(begins, rng.integers(0, 3, n), self.work)
        noise = np.exp(self.noise * rng.standard_normal((n, 4)))
        start = self.usual[:, 3] * (1 + 0.5 * self.work)
        grown = self.context + self.growth[self.work] * self.usual[:, 3] * noise[:, 3] * busy
        self.context = np.where(begins, start * noise[:, 3] ** 0.3, grown)
        self.ends = np.where(busy, rng.random(n) < 1 / STEPS_OF_A_TASK, self.ends)
        sizes = self.usual * noise
        sizes[:, 1] = self.context + 0.2 * sizes[:, 1]
        sizes[:, 0] *= 1 + 0.15 * self.context / self.usual[:, 3]
        sizes[:, 3] = self.context
        return sizes


class Recorded:
    """Agents that make the requests of real recordings at 1 Hz, each from a place of its own, in their order (`mixed`: in an order drawn anew).

    At its end a recording is played backwards: beginning anew would make a jump that nothing real made, and the way back has the same
    tides and the same memory. Columns ContextTokens and GeneratedTokens; agent i takes its requests from recording i modulo their number, its type.
    """

    def __init__(self, paths: list[Path], agents: int, seed: int, *, mixed: bool = False) -> None:
        self.n = agents
        self.rng = rng = np.random.default_rng([seed, 99])
        self.roster, self.lexicon = Roster(), Lexicon()
        self.sizes = [read_azure(path)[1] for path in paths]
        if mixed:
            self.sizes = [sizes[rng.permutation(len(sizes))] for sizes in self.sizes]
        self.source = np.arange(agents) % len(paths)
        for index, source in enumerate(self.source):
            self.roster.enroll(AgentIdentity(agent_id=f"agent-{index:05d}", type=paths[source].stem))
        self.length = np.array([len(sizes) for sizes in self.sizes])[self.source]
        self.place = rng.integers(0, self.length)

    def tick(self, t: int) -> SampleBatch:
        """Everybody's request of second t."""
        self.place = (self.place + 1) % (2 * self.length)
        turned = np.where(self.place < self.length, self.place, 2 * self.length - 1 - self.place)
        batch = SampleBatch.blank(self.n)
        batch.agent[:], batch.at_us[:], batch.status[:] = np.arange(self.n), START_US + t * US, Status.WORKING
        for source, sizes in enumerate(self.sizes):
            mine = np.flatnonzero(self.source == source)
            batch.values[mine, INPUT], batch.values[mine, OUTPUT] = sizes[turned[mine]].T
        return batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What befalls one agent from second `start` on, at full size after `ramp_s` seconds. size: factor, or added rate for counts."""

    kind: str
    agent: int
    start: int
    size: float
    ramp_s: int = 0

    def share(self, t: int) -> float:
        """How much of the fault is there at second t, 0 to 1."""
        if t < self.start:
            return 0.0
        return 1.0 if not self.ramp_s else min(1.0, (t - self.start + 1) / self.ramp_s)

    def strike(self, batch: SampleBatch, t: int, rng: np.random.Generator, kept: dict[int, Floats]) -> None:
        """Change this agent's row, which is at its index; kept: what frozen agents repeat."""
        share = self.share(t)
        if not share:
            return
        row, factor = batch.values[self.agent], 1 + (self.size - 1) * share
        match self.kind:
            case "token_explosion":
                cost = row[COST] * factor
                row[[INPUT, OUTPUT]] = np.rint(row[[INPUT, OUTPUT]] * factor)
                row[COST] = cost
            case "tool_loop":
                row[TOOLS] = np.rint(row[TOOLS] * factor) + 2
            case "latency_spike":
                row[LATENCY] *= factor
            case "retry_storm":
                row[RETRIES] += rng.poisson(self.size)
            case "error_burst":
                row[ERRORS] += rng.poisson(self.size)
            case "silent_stall":
                batch.agent[self.agent] = -1
            case "context_leak":
                row[CONTEXT] = np.rint(row[CONTEXT] * factor)
            case "cost_creep":
                row[COST] *= factor
            case "prompt_drift":
                row[OUTPUT] = np.rint(row[OUTPUT] * factor)
            case "confidence_collapse":
                row[CONFIDENCE] /= self.size
            case "prompt_injection":
                batch.codes[self.agent, PROMPT] = PROMPT_OTHER
                row[TOOLS] = np.rint(row[TOOLS] * factor) + rng.poisson(1.0)
                row[[OUTPUT, COST]] = np.rint(row[OUTPUT] * factor), row[COST] * (1 + (factor - 1) * 0.6)
                row[CONFIDENCE] *= 0.7
            case "frozen":
                row[:] = kept.setdefault(self.agent, row.copy())
            case "boiling_latency" | "boiling_output":
                column = LATENCY if self.kind == "boiling_latency" else OUTPUT
                row[column] *= self.size ** ((t - self.start) // 10)


def strong_fault(kind: str, agent: int, start: int, rng: np.random.Generator) -> Fault:
    """A kind at a size drawn from the sizes that are promised (the last three: sizes of our own choice)."""
    low, high = {
        "token_explosion": (3.0, 8.0),
        "tool_loop": (3.0, 6.0),
        "latency_spike": (2.5, 6.0),
        "retry_storm": (1.5, 3.5),
        "error_burst": (0.8, 1.8),
        "silent_stall": (1.0, 1.0),
        "confidence_collapse": (1.8, 4.0),
        "prompt_injection": (1.5, 3.0),
        "frozen": (1.0, 1.0),
    }[kind]
    return Fault(kind=kind, agent=agent, start=start, size=float(np.exp(rng.uniform(np.log(low), np.log(high)))))


def struck(fleet: Population, faults: list[Fault], ticks: int) -> Iterator[tuple[int, SampleBatch]]:
    """(t, samples) of a fleet in which these faults happen."""
    rng = np.random.default_rng(fleet.rng.integers(1 << 32))
    kept: dict[int, Floats] = {}
    for t in range(ticks):
        batch = fleet.tick(t)
        for fault in faults:
            fault.strike(batch, t, rng, kept)
        yield t, batch if (batch.agent >= 0).all() else batch.take(np.flatnonzero(batch.agent >= 0))


def read_azure(path: Path) -> tuple[NDArray[np.int64], Floats]:
    """(times in microseconds, (n, 2) input and output tokens) of a file with columns TIMESTAMP, ContextTokens, GeneratedTokens."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    at_us = np.array([round(dt.datetime.fromisoformat(row["TIMESTAMP"][:26] + "+00:00").timestamp() * US) for row in rows], dtype=np.int64)
    return at_us, np.array([[float(row["ContextTokens"]), float(row["GeneratedTokens"])] for row in rows])
