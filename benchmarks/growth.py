"""Memory over days: a small fleet under storm on the virtual clock, the daemon's own keeping, what grew afterwards and where.

`python benchmarks/growth.py --days 10` measures after a settled first part (a tenth of the time) and at the end, by tracemalloc, only
what `immune/` allocated: the simulated world beside it keeps its own records. Prints a table, and JSON with ``--json``.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
import tracemalloc
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
WARMUP_S = 600
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

    @property
    def grown_mib(self) -> float:
        """Growth from the settled moment to the end, in MiB."""
        return (self.end_bytes - self.settled_bytes) / MIB


def measure(*, days: float, agents: int, seed: int, keep: int = ENDED_KEPT, period_s: int = 1, frames: int = 1) -> Growth:
    """Run and measure. The first tenth of the time is the settling."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        stores = open_stores(Path(folder))
        fleet = SimulatedFleet(agents=agents, seed=seed, start_us=START_US, period_us=period_s * US, scenario="storm")
        engine = build_engine(
            run_id="growth", sources=[fleet], stores=stores, policy=Policy(mode="act"), connectors=[SimulatedConnector(fleet)],
            period_us=period_s * US, keep=keep,
        )  # fmt: skip
        settle_us, end_us = START_US + round(days * DAY_S / 10) * US, START_US + round(days * DAY_S) * US
        held: list[tracemalloc.Snapshot] = []

        async def live() -> None:
            clock = VirtualClock(START_US)
            engine.start(START_US)
            tracemalloc.start(frames)
            await engine.run(clock, first_us=START_US, until_us=settle_us)
            held.append(_ours())
            await engine.run(clock, first_us=settle_us, until_us=end_us)
            held.append(_ours())
            tracemalloc.stop()

        run_virtual(live())
        before, after = held
        grown = sorted(after.compare_to(before, "lineno"), key=lambda one: -one.size_diff)[:12]
        state = engine.state
        stores.close()
    return Growth(
        settled_bytes=sum(one.size for one in before.statistics("filename")),
        end_bytes=sum(one.size for one in after.statistics("filename")),
        samples=engine.counters.samples,
        incidents=state.ever("incidents"),
        events=state.seq,
        forgotten=dict(state.forgotten),
        elapsed_s=time.perf_counter() - began,
        where=[(f"{Path(one.traceback[0].filename).name}:{one.traceback[0].lineno}", one.size_diff) for one in grown],
    )


def _ours() -> tracemalloc.Snapshot:
    gc.collect()
    return tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/immune/*")])


def main() -> int:
    """Measure as asked and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--period", type=int, default=1, help="seconds from tick to tick")
    parser.add_argument("--keep", type=int, default=ENDED_KEPT)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measure(days=asked.days, agents=asked.agents, seed=asked.seed, keep=asked.keep, period_s=asked.period)
    if asked.json:
        print(json.dumps({"days": asked.days, "agents": asked.agents, "seed": asked.seed, "period_s": asked.period, "keep": asked.keep,
                          "grown_mib": round(found.grown_mib, 3), "settled_mib": round(found.settled_bytes / MIB, 2), "samples": found.samples,
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
