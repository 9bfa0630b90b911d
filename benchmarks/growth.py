"""Memory over days: a small fleet under storm on the virtual clock, the daemon's own keeping, what grew afterwards and where.

`python benchmarks/growth.py --days 10 --period 30` measures after a settled first part (a tenth of the time) and at the end: the resident
memory of the whole process once what is free was given back to the system, less the sealed records that the simulated world writes
beside the daemon (`sys.getsizeof` over all that is reachable from them; with them it is `process_grown_mib`). `--trace` measures by
tracemalloc instead, and only what `immune/` allocated: it names the lines that grew, and takes four times as long. Prints a table,
and JSON with ``--json``.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import resource
import sys
import tempfile
import time
import tracemalloc
import types
from dataclasses import dataclass
from pathlib import Path

from immune.bootstrap import build_engine, open_stores
from immune.clock import US, VirtualClock, run_virtual
from immune.core.policy import Policy
from immune.core.state import ENDED_KEPT
from simulation.connector import SimulatedConnector
from simulation.fleet import SimulatedFleet

START_US = 1_767_225_600 * US
DAY_S = 86_400
PARTS = 10
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Bytes that `immune/` held at the settled moment and at the end, and what the run was."""

    settled_bytes: int
    end_bytes: int
    samples: int
    incidents: int
    events: int
    forgotten: dict[str, int]
    elapsed_s: float
    where: list[tuple[str, int]]
    course_mib: list[float]
    """Resident memory at the end of every tenth of the time, records included; empty when traced."""
    records_bytes: int
    """By how much the sealed records of the simulated world grew; 0 when traced, for they are not in what is traced."""

    @property
    def grown_mib(self) -> float:
        """Growth from the settled moment to the end without the simulated world's records, in MiB."""
        return (self.end_bytes - self.settled_bytes - self.records_bytes) / MIB


def measure(*, days: float, agents: int, seed: int, keep: int = ENDED_KEPT, period_s: int = 1, trace: bool = False) -> Growth:
    """Run and measure. The first tenth of the time is the settling."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=_in_memory()) as folder:
        stores = open_stores(Path(folder))
        fleet = SimulatedFleet(agents=agents, seed=seed, start_us=START_US, period_us=period_s * US, scenario="storm")
        engine = build_engine(
            run_id="growth", sources=[fleet], stores=stores, policy=Policy(mode="act"), connectors=[SimulatedConnector(fleet)],
            period_us=period_s * US, keep=keep,
        )  # fmt: skip
        gauge: Resident | Traced = Traced() if trace else Resident()
        records: list[int] = []

        async def live() -> None:
            clock, from_us = VirtualClock(START_US), START_US
            engine.start(START_US)
            gauge.start()
            for part in range(1, PARTS + 1):
                until_us = START_US + round(days * DAY_S * part / PARTS) * US
                await engine.run(clock, first_us=from_us, until_us=until_us)
                from_us = until_us
                gauge.read(last=part in (1, PARTS))
                records.append(0 if trace else held_by(fleet.truth))
                sys.stderr.write(f"growth: {part} of {PARTS} parts, {engine.counters.samples} samples, {time.perf_counter() - began:.0f} s\n")
            gauge.stop()

        run_virtual(live())
        state = engine.state
        stores.close()
    return Growth(
        settled_bytes=gauge.bytes[0],
        end_bytes=gauge.bytes[-1],
        samples=engine.counters.samples,
        incidents=state.ever("incidents"),
        events=state.seq,
        forgotten=dict(state.forgotten),
        elapsed_s=time.perf_counter() - began,
        where=gauge.where(),
        records_bytes=records[-1] - records[0],
        course_mib=[] if trace else [round(one / MIB, 2) for one in gauge.bytes],
    )


class Resident:
    """Resident memory of the process, free memory given back first."""

    def __init__(self) -> None:
        self.bytes: list[int] = []

    def start(self) -> None:
        """Nothing to prepare."""

    def read(self, *, last: bool) -> None:
        """Note what is held now."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.bytes.append(int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize())

    def stop(self) -> None:
        """Nothing to put away."""

    def where(self) -> list[tuple[str, int]]:
        """It does not know."""
        return []


class Traced:
    """What lines in `immune/` allocated and still hold."""

    def __init__(self) -> None:
        self.bytes: list[int] = []
        self._held: list[tracemalloc.Snapshot] = []

    def start(self) -> None:
        """From now on every allocation is followed."""
        tracemalloc.start(1)

    def read(self, *, last: bool) -> None:
        """Note what is held now; costly, so only at the settled moment and at the end."""
        if last:
            gc.collect()
            held = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/immune/*")])
            self._held.append(held)
            self.bytes.append(sum(one.size for one in held.statistics("filename")))

    def stop(self) -> None:
        """Follow nothing any more."""
        tracemalloc.stop()

    def where(self) -> list[tuple[str, int]]:
        """The lines that grew most, and by how much."""
        grown = sorted(self._held[-1].compare_to(self._held[0], "lineno"), key=lambda one: -one.size_diff)[:12]
        return [(f"{Path(one.traceback[0].filename).name}:{one.traceback[0].lineno}", one.size_diff) for one in grown]


def held_by(root: object) -> int:
    """Bytes of everything that is reachable from an object, classes, modules and functions apart."""
    seen: set[int] = set()
    waiting, total = [root], 0
    while waiting:
        one = waiting.pop()
        if id(one) not in seen and not isinstance(one, (type, types.ModuleType, types.FunctionType, types.MethodType)):
            seen.add(id(one))
            total += sys.getsizeof(one)
            waiting.extend(gc.get_referents(one))
    return total


def _in_memory() -> str | None:
    """A directory that needs no disk where there is one: waiting for a disk is not what is measured."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a directory of our own is made in it


def main() -> int:
    """Measure as asked and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--period", type=int, default=1, help="seconds from tick to tick")
    parser.add_argument("--keep", type=int, default=ENDED_KEPT)
    parser.add_argument("--trace", action="store_true", help="by tracemalloc, only what immune/ allocated")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measure(days=asked.days, agents=asked.agents, seed=asked.seed, keep=asked.keep, period_s=asked.period, trace=asked.trace)
    if asked.json:
        print(json.dumps({"days": asked.days, "agents": asked.agents, "seed": asked.seed, "period_s": asked.period, "keep": asked.keep,
                          "grown_mib": round(found.grown_mib, 3), "settled_mib": round(found.settled_bytes / MIB, 2), "samples": found.samples,
                          "process_grown_mib": round((found.end_bytes - found.settled_bytes) / MIB, 3), "course_mib": found.course_mib,
                          "incidents": found.incidents, "events": found.events, "forgotten": found.forgotten,
                          "elapsed_s": round(found.elapsed_s, 1)}, indent=1))  # fmt: skip
        return 0
    print(f"{asked.days:g} days of {asked.agents} agents, {found.samples} samples, {found.incidents} incidents, {found.events} events")
    print(f"grew {found.grown_mib:+.2f} MiB after settling at {found.settled_bytes / MIB:.2f} MiB ({found.elapsed_s:.0f} s)")
    for place, size in found.where:
        print(f"  {place:34} {size / 1024:+9.1f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
