"""Which parts are run, how large and how often, and the running of them: two processes, results kept as they come."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """How much of everything: turns, and per turn the agents and ticks of a quiet fleet and the calls of each sparse agent."""

    turns: int
    agents: int
    ticks: int
    sparse_agents: int
    calls: int
    ideal_runs: int


QUICK = Size(turns=1, agents=60, ticks=2400, sparse_agents=200, calls=60, ideal_runs=60)
FULL = Size(turns=24, agents=300, ticks=7200, sparse_agents=1000, calls=300, ideal_runs=300)
"""24 turns of 25 agent-days are 600 for each healthy scenario with a limit, and 7.2 million calls for each sparse one."""
HUNTS: tuple[tuple[str, int, Callable[..., dict[str, Any]], tuple[Any, ...]], ...] = (
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
    *((f"size {factor:g}", 1, of_size, (factor,)) for factor in SIZES),
)
"""Rows with faults: how many fleets of each there are in a turn."""
HUNT_TURNS = 12
BESIDE_TURNS = 2
"""The simple rules watch the fleets with faults of so many turns; river's one fleet of each strong row a turn in as many."""
AFTER_FIRST = ("size", "ideal", "run length", "departure")
"""Rows that wait for the second turn where there is one: what they say does not hang on many repetitions."""
ABLATED = ("ar", "gaussian", "tasks_unsaid")


def jobs(size: Size, seed: int, folder: str) -> list[Job]:
    """Everything to run, in order of turns. Fleets of one row have seeds seed, seed + 1, …"""
    out: list[Job] = []
    full = size.turns > 1

    def add(name: str, work: Callable[..., dict[str, Any]], *arguments: Any, turn: int = 0, **options: Any) -> None:
        late = 1 if full and name.startswith(AFTER_FIRST) else 0
        out.append(Job(name=name, work=work, arguments=arguments, options=options, turn=turn + late))

    for turn in range(min(size.turns, HUNT_TURNS)):
        for name, count, work, arguments in HUNTS:
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


def run(wanted: Iterable[Job], processes: int, minutes: float, keep: Path) -> Parts:
    """Run jobs until they are done or the minutes are over (nothing new is begun then); speed is measured at the end, alone.

    Every result is appended to `keep` as a line of JSON as soon as it is there.
    """
    wanted = list(wanted)
    alone = [job for job in wanted if job.name.startswith("speed")]
    queue = [job for job in wanted if job not in alone]
    began, done, total = time.monotonic(), 0, len(queue)
    keep.parent.mkdir(parents=True, exist_ok=True)
    found: Parts = {}
    with keep.open("w", encoding="utf-8") as file, ProcessPoolExecutor(max_workers=processes) as pool:

        def take(job: Job, result: dict[str, Any]) -> None:
            found.setdefault(job.name, []).append(result)
            file.write(json.dumps({"name": job.name, "result": result}, default=float) + "\n")
            file.flush()

        running: dict[Future[dict[str, Any]], Job] = {}
        while queue or running:
            while queue and len(running) < processes:
                if minutes and time.monotonic() - began > 60 * minutes:
                    print(f"\n{len(queue)} parts left out: the minutes are over", file=sys.stderr)
                    queue.clear()
                    break
                job = queue.pop(0)
                running[pool.submit(job.work, *job.arguments, **job.options)] = job
            ready, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                job = running.pop(future)
                take(job, future.result())
                done += 1
                print(f"\r{done} of {total}, {time.monotonic() - began:.0f} s: {job.name:<30}", end="", file=sys.stderr, flush=True)
        for job in alone:
            take(job, job.work(*job.arguments))
    print(file=sys.stderr)
    return found


def kept(path: Path) -> Parts:
    """What an earlier run kept."""
    found: Parts = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["name"], []).append(row["result"])
    return found
