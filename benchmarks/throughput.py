"""What the loop costs: CPU per agent-tick, growth with history, journal, replay, and how fast virtual time runs.

    python benchmarks/throughput.py [--quick] [--json]

CPU time of this process (not wall time) per agent and tick of the whole loop: collect, screen, store, score, learn,
decide, fold. The fleet is synthetic and healthy; making its samples is timed apart and taken off. Figures of one run
belong together: they were measured side by side, and on a shared machine only their ratios travel.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from immune.bootstrap import Stores, build_engine, open_stores
from immune.clock import US, VirtualClock, elapsed_s, run_virtual
from immune.core.events import Draft, HealthChanged
from immune.core.policy import Policy
from immune.core.vitals import AgentIdentity, SampleBatch, Status
from immune.ports import Desk
from immune.runtime.engine import Engine
from simulation.fleet import SimulatedFleet

START_US = 1_767_225_600 * US


class SyntheticSource:
    """n healthy agents, one sample each a tick: lognormal sizes, rare counts. `cpu_s` is what making them cost."""

    name = "synthetic"

    def __init__(self, agents: int, seed: int) -> None:
        self.agents = agents
        self.rng = np.random.default_rng(seed)
        self.cpu_s = 0.0

    def open(self, desk: Desk) -> None:
        """Enrol everybody."""
        for n in range(self.agents):
            desk.roster.enroll(AgentIdentity(agent_id=f"agent-{n:05d}", type=f"type-{n % 8}", service=f"service-{n % 16}"))
        self.level = self.rng.normal(6.0, 0.5, size=(self.agents, 4))

    async def collect(self, now_us: int) -> SampleBatch:
        """One sample of everybody."""
        began = time.process_time()
        n, batch = self.agents, SampleBatch.blank(self.agents)
        sizes = np.exp(self.level + 0.3 * self.rng.standard_normal((n, 4)))
        batch.agent[:] = np.arange(n)
        batch.at_us[:] = now_us
        batch.values[:, 0] = sizes[:, 0]
        batch.values[:, 1] = np.floor(sizes[:, 1])
        batch.values[:, 2] = np.floor(sizes[:, 2])
        batch.values[:, 3] = batch.values[:, 1] * 3e-6 + batch.values[:, 2] * 15e-6
        batch.values[:, 4] = self.rng.poisson(1.5, n)
        batch.values[:, 5] = self.rng.poisson(0.05, n)
        batch.values[:, 6] = self.rng.poisson(0.02, n)
        batch.values[:, 7] = np.floor(sizes[:, 3])
        batch.values[:, 8] = np.clip(self.rng.normal(0.85, 0.04, n), 0, 1)
        batch.status[:] = Status.WORKING
        self.cpu_s += time.process_time() - began
        return batch

    async def close(self) -> None:
        """Nothing to let go of."""


def engine_over(source: SyntheticSource | SimulatedFleet, stores: Stores) -> Engine:
    """An engine over one source."""
    return build_engine(run_id="benchmark", sources=[source], stores=stores, policy=Policy(), source="benchmark")


def cpu_us_per_agent_tick(engine: Engine, source: SyntheticSource, first: int, ticks: int) -> float:
    """CPU microseconds of the loop alone, per agent and tick, over some ticks."""

    async def drive() -> None:
        for tick in range(first, first + ticks):
            await engine.tick(START_US + tick * US)

    made_before, began = source.cpu_s, time.process_time()
    asyncio.run(drive())
    spent = time.process_time() - began - (source.cpu_s - made_before)
    return spent / (ticks * source.agents) * 1e6


def loop_cost(agents: int, ticks: int, warmup: int) -> float:
    """CPU microseconds per agent-tick with the embedded store on disk."""
    with tempfile.TemporaryDirectory() as folder:
        stores = open_stores(Path(folder))
        source = SyntheticSource(agents, seed=1)
        engine = engine_over(source, stores)
        engine.start(START_US)
        cpu_us_per_agent_tick(engine, source, 0, warmup)
        cost = cpu_us_per_agent_tick(engine, source, warmup, ticks)
        stores.close()
    return cost


def growth(agents: int, hours: int, hour_ticks: int) -> float:
    """Cost in the last hour over cost in the first: 1 when it does not grow with history."""
    with tempfile.TemporaryDirectory() as folder:
        stores = open_stores(Path(folder))
        source = SyntheticSource(agents, seed=2)
        engine = engine_over(source, stores)
        engine.start(START_US)
        cpu_us_per_agent_tick(engine, source, 0, 120)
        costs = [cpu_us_per_agent_tick(engine, source, 120 + hour * hour_ticks, hour_ticks) for hour in range(hours)]
        stores.close()
    return costs[-1] / costs[0]


def journal_rates(events: int) -> dict[str, float]:
    """Appends of ten per second (each batch fsynced), and verified events per second."""
    with tempfile.TemporaryDirectory() as folder:
        journal = open_stores(Path(folder)).journal
        epoch = journal.acquire("benchmark", "benchmark", START_US)
        event = HealthChanged(before="healthy", after="suspected", nats=12.0, samples=100, basis="own")
        drafts = [Draft(at_us=START_US, subject="agent-00001", event=event)] * 10
        watch = elapsed_s()
        for batch in range(events // 10):
            journal.append("benchmark", drafts, expected_seq=batch * 10, epoch=epoch)
        appended = events / watch()
        watch = elapsed_s()
        journal.verify("benchmark")
        return {"append_events_per_s": appended, "verify_events_per_s": events / watch()}


def replay_rate(agents: int, rows: int) -> float:
    """Samples per second of `immune replay` over a CSV of this many agents, parsing included."""
    from immune.runtime.replaying import replay
    from immune.sources.replay import ReplaySource

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.csv"
        _write_csv(path, agents, rows)
        watch = elapsed_s()
        source = ReplaySource([path], mapping={}, vitals=(), period_us=US)
        engine = build_engine(run_id="replay", sources=[source], stores=open_stores(None), policy=Policy(), source="replay")
        asyncio.run(replay(engine, source))
        return engine.counters.samples / watch()


def _write_csv(path: Path, agents: int, rows: int) -> None:
    rng = np.random.default_rng(3)
    with path.open("w", encoding="utf-8") as file:
        file.write("at,agent,type,latency_ms,input_tokens,output_tokens,cost_usd,errors\n")
        for second in range(rows // agents):
            latency = np.exp(6 + 0.4 * rng.standard_normal(agents))
            tokens = np.exp(6 + 0.4 * rng.standard_normal((agents, 2))).astype(int)
            for n in range(agents):
                cost = tokens[n, 0] * 3e-6 + tokens[n, 1] * 15e-6
                at = START_US // US + second
                file.write(f"{at},agent-{n},type-{n % 4},{latency[n]:.1f},{tokens[n, 0]},{tokens[n, 1]},{cost:.6f},0\n")


def simulated_seconds_per_second(seconds: int) -> float:
    """How fast the demo's fleet of 15 runs through the whole loop on the virtual clock."""
    fleet = SimulatedFleet(agents=15, seed=7, start_us=START_US, duration_s=seconds)
    engine = engine_over(fleet, open_stores(None))

    async def drive() -> None:
        engine.start(START_US)
        await engine.run(VirtualClock(START_US), first_us=START_US, until_us=START_US + seconds * US)

    watch = elapsed_s()
    run_virtual(drive())
    return seconds / watch()


def measure(quick: bool) -> list[dict[str, Any]]:
    """Every figure, beside its goal."""
    rows: list[dict[str, Any]] = []

    def add(name: str, value: float, unit: str, goal: float, better: str) -> None:
        rows.append({"measure": name, "value": round(value, 3), "unit": unit, "goal": goal, "better": better})
        print(f"  {name}: {value:,.2f} {unit}", file=sys.stderr)

    for agents, ticks, goal in ((15, 600, 20.0), (1000, 120, 4.0), (10_000, 30 if quick else 90, 3.0)):
        add(f"CPU per agent-tick, {agents} agents", loop_cost(agents, ticks, 60), "µs", goal, "lower")
    hour = 600 if quick else 3600
    add("cost of hour 5 over hour 1, 200 agents" + (" (hours of 600 ticks)" if quick else ""), growth(200, 5, hour), "×", 1.05, "lower")
    for name, rate in journal_rates(2_000 if quick else 20_000).items():
        add(name.replace("_per_s", "").replace("_", " "), rate, "1/s", 60_000 if "verify" in name else 1_000, "higher")
    add("replay, 1,000 agents", replay_rate(1000, 100_000 if quick else 500_000), "samples/s", 200_000, "higher")
    add("virtual time, 15 simulated agents", simulated_seconds_per_second(600 if quick else 2400), "s/s", 300, "higher")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What the loop costs.")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under a minute")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args()
    rows = measure(options.quick)
    if options.json:
        print(json.dumps({"benchmark": "throughput", "quick": options.quick, "rows": rows}, indent=2))
        return
    print(f"\n{'measure':<55} {'measured':>14} {'goal':>12}")
    for row in rows:
        met = row["value"] <= row["goal"] if row["better"] == "lower" else row["value"] >= row["goal"]
        print(f"{row['measure']:<55} {row['value']:>10,.2f} {row['unit']:<9} {row['goal']:>8,g}  {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
