"""Which parts are run, how large and how often, and the running of them: two processes, results kept as they come."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from immune.core import sentinel
from trials.bound import DEPARTURES, departure, departure_power, ideal, run_length
from trials.door import same_through_the_door
from trials.hunts import bad_values, boiling, drift_over_tasks, from_birth, of_size, other_kinds, slow, slow_in_tasks, strong, sustained
from trials.outages import outage
from trials.quiet import quiet, recorded
from trials.speed import speed

QUIET = ("gaussian", "lognormal", "gamma", "diurnal", "deploys", "ar", "tasks", "tasks_unsaid")
UNTUNED = ("heavy", "mixture", "tasks_paused")
SPARSE = (5.0, 12.0, 30.0)
SIZES = (1.3, 1.6, 2.0, 2.5, 3.0, 4.0, 6.0)
THRESHOLDS = (300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0, 100_000.0)

Parts = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One part: its row's name, what to call, and its turn; the first turns of all rows are run before the second ones."""

    name: str
    work: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything: turns, and per turn the agents and ticks of a quiet fleet, the calls of each sparse agent, the share of
    the fleets with faults, and the sizes of the curve.
    """

    turns: int
    agents: int
    ticks: int
    sparse_agents: int
    calls: int
    ideal_runs: int
    hunts: float
    sizes: tuple[float, ...]


QUICK = Size(turns=1, agents=60, ticks=1800, sparse_agents=200, calls=60, ideal_runs=60, hunts=0.4, sizes=(1.3, 2.0, 4.0))
FULL = Size(turns=24, agents=300, ticks=7200, sparse_agents=1000, calls=300, ideal_runs=300, hunts=1.0, sizes=SIZES)
"""24 turns of 25 agent-days are 600 for each healthy scenario with a limit, and 7.2 million calls for each sparse one."""
Hunt = tuple[str, int, Callable[..., dict[str, Any]], tuple[Any, ...]]
HUNTS: tuple[Hunt, ...] = (
    ("strong 900", 7, strong, (900,)),
    ("strong 60", 10, strong, (60,)),
    ("strong tasks", 4, strong, (900, "tasks")),
    ("other kinds", 3, other_kinds, ()),
    ("from birth", 1, from_birth, (0,)),
    ("born later", 1, from_birth, (900,)),
    ("slow", 3, slow, ()),
    ("slow tasks", 3, slow_in_tasks, ()),
    ("drift 1.3", 3, drift_over_tasks, (1200,)),
    ("drift 1.3 known", 2, drift_over_tasks, (3600,)),
    ("boiling 0.5", 2, boiling, (1.005,)),
    ("boiling 1", 2, boiling, (1.01,)),
    ("bad values", 1, bad_values, ()),
    ("sustained", 1, sustained, ()),
    ("outage at once", 1, outage, (200, 0.3, 1)),
    ("outage staggered", 1, outage, (200, 0.3, 300)),
    ("outage small", 2, outage, (15, 0.2, 60)),
)
"""Rows with faults: how many fleets of each there are in a turn."""
HUNT_TURNS = 12
BESIDE_TURNS = 2
"""The simple rules watch the fleets with faults of so many turns; river's one fleet of each strong row a turn in as many."""
AFTER_FIRST = ("size", "ideal", "run length", "departure")
"""Rows that wait for the second turn where there is one: what they say does not hang on many repetitions."""
WEIGHTS = (
    *((f"quiet {shape}", 0.5) for shape in UNTUNED),
    ("quiet recorded mixed", 0.5),
    ("quiet", 3.0),
    ("sparse", 1.5),
    ("strong", 2.0),
    ("drift", 1.5),
    ("size", 0.3),
    ("departure", 2.0),
)
"""How the minutes are shared between rows, by how a name begins, the first that fits; 1 unless said."""
ALONE_S = {"speed 15": 5.0, "speed 1000": 10.0, "speed tasks": 15.0, "speed 100000": 90.0}
"""Seconds kept for what is measured alone at the end."""
BEGUN_S, UNKNOWN_S = 1.0, 20.0
"""What a part that still runs counts until it is known, and how long one may last of which nothing is known."""
ABLATED = ("ar", "gaussian", "tasks_unsaid")


def hunts(size: Size) -> tuple[Hunt, ...]:
    """The rows with faults, and the curve of delay against size."""
    return (*HUNTS, *((f"size {factor:g}", 1, of_size, (factor,)) for factor in size.sizes))


def jobs(size: Size, seed: int, folder: str) -> list[Job]:
    """Everything to run, in order of turns. Fleets of one row have seeds seed, seed + 1, …"""
    out: list[Job] = []
    full = size.turns > 1

    def add(name: str, work: Callable[..., dict[str, Any]], *arguments: Any, turn: int = 0, **options: Any) -> None:
        late = 1 if full and name.startswith(AFTER_FIRST) else 0
        out.append(Job(name=name, work=work, arguments=arguments, options=options, turn=turn + late))

    for turn in range(min(size.turns, HUNT_TURNS)):
        for name, most, work, arguments in hunts(size):
            count = max(1, round(size.hunts * most))
            for n in range(turn * count, (turn + 1) * count):
                options = {"beside": turn < BESIDE_TURNS} if work in {strong, slow, slow_in_tasks, drift_over_tasks, boiling} else {}
                if work is strong:
                    options["river"] = turn < BESIDE_TURNS and n == turn * count
                add(name, work, seed + n, *arguments, turn=turn, **options)
    for turn in range(size.turns):
        for shape in QUIET:
            agents, ticks = (size.agents // 2, 2 * size.ticks) if shape == "diurnal" else (size.agents, size.ticks)
            add(f"quiet {shape}", quiet, shape, seed + turn, agents, ticks, turn=turn, rivals=turn == 0)
        if folder:
            add("quiet recorded", recorded, folder, seed + turn, size.agents, size.ticks, turn=turn, rivals=turn == 0)
        for every in SPARSE:
            add(f"sparse {every:g}", quiet, "sparse", seed + turn, size.sparse_agents, round(size.calls * every), every, turn=turn, rivals=turn == 0)
    for n in range(4 if full else 1):
        for shape in UNTUNED:
            add(f"quiet {shape}", quiet, shape, seed + n, size.agents, size.ticks, turn=n + full, rivals=n == 0)
        if folder:
            add("quiet recorded mixed", recorded, folder, seed + n, size.agents, size.ticks, turn=n + full, mixed=True)
    for delta in (0.0, 0.25):
        add(f"ideal {delta:g}", ideal, seed, delta, 100.0, 3, size.ideal_runs)
    for shape in ("gaussian", "lognormal", "ar") if full else ("gaussian",):
        add(f"run length {shape}", run_length, seed + 50, shape, size.agents, size.ticks, THRESHOLDS)
    if full:
        for shape in ABLATED:
            for name in DEPARTURES:
                add("departure", departure, name, shape, seed + 70, 300, 3000)
        for n in range(3):
            for name in DEPARTURES:
                add("departure power", departure_power, name, seed + 70 + n, turn=n)
    for n, shape in enumerate(("tasks", "gamma", "deploys", "diurnal") if full else ("tasks",)):
        add("door", same_through_the_door, seed + n, shape, turn=n)
    add("speed 15", speed, 15, 400, "deploys")
    add("speed 1000", speed, 1000, 60, "deploys")
    add("speed tasks", speed, 1000, 60, "tasks")
    if full:
        add("speed 100000", speed, 100_000, 8, "deploys")
    return sorted(out, key=lambda job: job.turn)


def run(wanted: Iterable[Job], processes: int, minutes: float, keep: Path) -> None:
    """Run jobs until they are done or the minutes are over: nothing is begun that would not end in time; speed at the end, alone.

    With minutes given they are shared: every row gets its first part, then the row that has had least for its weight is next.
    Every result is appended to `keep` as a line of JSON as soon as it is there, with its CPU seconds and the code that it measured.
    """
    wanted = list(wanted)
    alone = [job for job in wanted if job.name.startswith("speed")]
    shares = Shares([job for job in wanted if job not in alone], shared=minutes > 0)
    began, done, total, code = time.monotonic(), 0, len(wanted) - len(alone), sentinel_code()
    until_s = 60 * minutes - sum(ALONE_S.get(job.name, 5.0) for job in alone) if minutes else math.inf
    keep.parent.mkdir(parents=True, exist_ok=True)
    with keep.open("w", encoding="utf-8") as file, ProcessPoolExecutor(max_workers=processes) as pool:

        def take(job: Job, timed: tuple[dict[str, Any], float, float]) -> None:
            result, cpu_s, _ = timed
            file.write(json.dumps({"name": job.name, "result": result, "cpu_s": round(cpu_s, 2), "code": code}, default=float) + "\n")
            file.flush()

        running: dict[Future[tuple[dict[str, Any], float, float]], Job] = {}
        while True:
            while len(running) < processes and (job := shares.next(until_s - (time.monotonic() - began))) is not None:
                running[pool.submit(timed, job)] = job
            if not running:
                break
            ready, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                job, outcome = running.pop(future), future.result()
                take(job, outcome)
                shares.took(job.name, outcome[2])
                done += 1
                print(f"\r{done} of {total}, {time.monotonic() - began:.0f} s: {job.name:<30}", end="", file=sys.stderr, flush=True)
        for job in alone:
            take(job, timed(job))
    left = shares.left()
    print(f"\nleft out, the minutes were over: {left}" if left else "", file=sys.stderr)


def timed(job: Job) -> tuple[dict[str, Any], float, float]:
    """(what the job found, CPU seconds with those of its children, seconds by the clock)."""
    cpu, clock = os.times(), time.monotonic()
    result = job.work(*job.arguments, **job.options)
    return result, sum(os.times()[:4]) - sum(cpu[:4]), time.monotonic() - clock


class Shares:
    """What to begin next, when rows share the time: none is forgotten, and none takes more than its part."""

    def __init__(self, jobs: Iterable[Job], *, shared: bool) -> None:
        self.shared = shared
        self.waiting: dict[str, deque[Job]] = {}
        self.in_turns = deque(jobs)
        for job in self.in_turns:
            self.waiting.setdefault(job.name, deque()).append(job)
        self.spent_s = dict.fromkeys(self.waiting, 0.0)
        self.longest_s: dict[str, float] = {}

    def next(self, remaining_s: float) -> Job | None:
        """The next job that ends within the remaining seconds, as far as is known; None when there is none."""
        if remaining_s <= 0:
            return None
        if not self.shared:
            return self._pop(self.in_turns.popleft().name) if self.in_turns else None
        able = [name for name, jobs in self.waiting.items() if jobs and self.longest_s.get(name, UNKNOWN_S) < remaining_s]
        return self._pop(min(able, key=lambda name: self.spent_s[name] / _weight(name))) if able else None

    def took(self, name: str, seconds: float) -> None:
        """A part of this row took so long."""
        self.spent_s[name] += seconds - BEGUN_S
        self.longest_s[name] = max(seconds, self.longest_s.get(name, 0.0))

    def left(self) -> dict[str, int]:
        """Parts not begun, by row."""
        return {name: len(jobs) for name, jobs in self.waiting.items() if jobs}

    def _pop(self, name: str) -> Job:
        self.spent_s[name] += BEGUN_S
        return self.waiting[name].popleft()


def _weight(name: str) -> float:
    return next((weight for start, weight in WEIGHTS if name.startswith(start)), 1.0)


def sentinel_code() -> str:
    """A short digest of the code that is measured: the same digest, the same sentinel."""
    digest = sha256()
    for path in sorted(Path(sentinel.__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What runs kept: results by row, the codes that were measured, CPU seconds by row."""

    found: Parts
    codes: tuple[str, ...]
    cpu_s: dict[str, float]


def kept(paths: Iterable[Path]) -> Kept:
    """What earlier runs kept; later files add to earlier ones."""
    found: Parts = {}
    codes: dict[str, None] = {}
    cpu_s: dict[str, float] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.setdefault(row["name"], []).append(row["result"])
            codes[row.get("code", "unknown")] = None
            cpu_s[row["name"]] = cpu_s.get(row["name"], 0.0) + row.get("cpu_s", 0.0)
    return Kept(found=found, codes=tuple(codes), cpu_s=cpu_s)
