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
    """How much of everything: agents and ticks of a quiet fleet, how many such fleets, fleets with faults per row."""

    agents: int
    ticks: int
    fleets: int
    calls: int
    hunts: int
    sparse_agents: int
    ideal_runs: int
    departure_ticks: int


QUICK = Size(agents=60, ticks=2400, fleets=1, calls=60, hunts=1, sparse_agents=200, ideal_runs=60, departure_ticks=0)
FULL = Size(agents=1000, ticks=8_640, fleets=6, calls=750, hunts=6, sparse_agents=2000, ideal_runs=400, departure_ticks=7200)
BESIDE, RIVER = 10, 5
"""Fleets of a row with faults that the simple rules watch too, and river's."""


def jobs(size: Size, seed: int, folder: str) -> list[Job]:
    """Everything to run, in order of turns. Fleets of one row have seeds seed, seed + 1, …"""
    out: list[Job] = []

    def add(name: str, work: Callable[..., dict[str, Any]], *arguments: Any, turn: int = 0, **options: Any) -> None:
        out.append(Job(name=name, work=work, arguments=arguments, options=options, turn=turn))

    many = size.hunts
    for name in DEPARTURES if size.departure_ticks else ():
        for shape in ("gaussian", "ar", "tasks"):
            add("departure", departure, name, shape, seed + 70, 200, size.departure_ticks, turn=1)
        for n in range(3):
            add("departure power", departure_power, name, seed + 70 + n, turn=1 + n)
    for n in range(size.fleets):
        for shape in (*QUIET, *UNTUNED):
            if n == 0 or shape in QUIET:
                agents, ticks = (size.agents // 2, 2 * size.ticks) if shape == "diurnal" else (size.agents, size.ticks)
                add(f"quiet {shape}", quiet, shape, seed + n, agents, ticks, turn=n if shape in QUIET else 1, rivals=n == 0)
        if folder:
            add("quiet recorded", recorded, folder, seed + n, size.agents, size.ticks, turn=n, rivals=n == 0)
            if n == 0:
                add("quiet recorded mixed", recorded, folder, seed + n, size.agents, size.ticks, turn=1, mixed=True)
        for every in SPARSE:
            add(f"sparse {every:g}", quiet, "sparse", seed + n, size.sparse_agents, round(size.calls * every), every, turn=n, rivals=n == 0)
    for name, count, work, arguments in (
        ("strong 900", 14, strong, (900,)),
        ("strong 60", 20, strong, (60,)),
        ("strong tasks", 8, strong, (900, "tasks")),
        ("other kinds", 6, other_kinds, ()),
        ("from birth", 3, from_birth, ()),
        ("slow", 6, slow, ()),
        ("slow tasks", 6, slow_in_tasks, ()),
        ("drift 1.3", 8, drift_over_tasks, ()),
        ("boiling 0.5", 3, boiling, (1.005,)),
        ("boiling 1", 3, boiling, (1.01,)),
        ("bad values", 2, bad_values, ()),
        ("sustained", 1, sustained, ()),
    ):
        for n in range(count * many if many > 1 else max(1, count // 2)):
            rivals = {}
            if work in {strong, slow, slow_in_tasks, drift_over_tasks, boiling}:
                rivals = {"beside": n < BESIDE}
            if work is strong:
                rivals["river"] = n < (RIVER if many > 1 else 1)
            add(name, work, seed + n, *arguments, turn=n // count, **rivals)
    for n in range(2 * many):
        add("outage at once", outage, seed + n, 200, 0.3, 1, turn=n // 2)
        add("outage staggered", outage, seed + n, 200, 0.3, 300, turn=n // 2)
        add("outage small", outage, seed + n, 15, 0.2, 60, turn=n // 2)
    for factor in SIZES:
        for n in range(max(1, many)):
            add(f"size {factor:g}", of_size, seed + n, factor, turn=n)
    for delta in (0.0, 0.25):
        add(f"ideal {delta:g}", ideal, seed, delta, 100.0, 3, size.ideal_runs)
    for shape in ("gaussian", "lognormal", "ar") if many > 1 else ("gaussian",):
        add(f"run length {shape}", run_length, seed + 50, shape, min(size.agents, 500), min(size.ticks, 12_000), THRESHOLDS)
    for n, shape in enumerate(("diurnal", "tasks", "deploys", "gamma") if many > 1 else ("diurnal",)):
        add("door", same_through_the_door, seed + n, shape)
    add("speed 15", speed, 15, 400, "deploys")
    add("speed 1000", speed, 1000, 60, "deploys")
    add("speed tasks", speed, 1000, 60, "tasks")
    if many > 1:
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
