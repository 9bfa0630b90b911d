"""How fast the embedded stores are: journal append, replay and verify; telemetry write, transpose and read.

    python benchmarks/storage.py [--json] [--quick] [--dir DIR]

Goals: replay 150,000 events/s, verify at least 60,000 events/s. Ratios stand beside the rates, because a rate is of
this disk and a ratio is of this code. Every figure is the best of what was repeated, but for the latencies.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from immune.clock import elapsed_s
from immune.core.events import Draft, EvidenceNote, IncidentUpdated
from immune.core.vitals import SampleBatch, VitalSchema
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.memory import MemoryJournal
from immune.stores.telemetry_sqlite import SqliteTelemetry

S = 1_000_000
T0 = 29_454_000 * 60 * S
SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table; ``ratio`` compares with what ``against`` names."""

    name: str
    value: float
    unit: str
    goal: str = ""
    ratio: float | None = None
    against: str = ""


def timed(work: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    elapsed = elapsed_s()
    work()
    return elapsed()


def drafts(count: int) -> list[Draft]:
    """Updates of incidents, about 800 bytes each: the most frequent large event."""
    note = EvidenceNote(
        vital="latency_ms",
        direction="up",
        nats=21.25,
        ratio=3.125,
        observed=2510.5,
        expected=803.25,
        effect=2.5,
        growth=0.01,
        onset_us=T0,
        calibration=1.05,
        basis="own",
    )
    event = IncidentUpdated(
        incident_id="i1",
        agents=("agent-1",),
        nats=21.25,
        severity=6.5,
        severity_why=("latency ×3.1", "one agent"),
        evidence=(note, note),
        diagnosis=(),
        ruled_out=("token_explosion: tokens are normal",),
        reason="severity",
    )
    return [Draft(at_us=T0 + n, subject=f"agent-{n % 50}", event=event, correlation_id="i1", causation_id="e7") for n in range(count)]


def journal_figures(directory: Path, events: int) -> list[Figure]:
    figures = []
    with SqliteJournal(directory) as journal:
        rates = {size: append_rate(journal, f"batch {size}", size, min(events, size * 300)) for size in (1, 10, 1000)}
        in_memory = append_rate(MemoryJournal(), "memory", 1000, min(events, 20_000))
        for size, rate in rates.items():
            figures.append(
                Figure(name=f"journal append, {size} a transaction", value=rate, unit="events/s", ratio=rate / rates[1], against="1 a transaction")
            )
        figures.append(
            Figure(name="journal append in memory (seal alone)", value=in_memory, unit="events/s", ratio=in_memory / rates[1000], against="1000")
        )
        append_rate(journal, "long", 1000, events)
        read_s = min(timed(lambda: sum(1 for _ in journal.read("long"))) for _ in range(3))
        verify_s = min(timed(lambda: journal.verify("long")) for _ in range(3))
        figures += [
            Figure(name="journal replay (read into envelopes)", value=events / read_s, unit="events/s", goal="150,000"),
            Figure(
                name="journal verify (chain check)",
                value=events / verify_s,
                unit="events/s",
                goal="60,000",
                ratio=read_s / verify_s,
                against="replay",
            ),
            Figure(name="journal size", value=journal.path.stat().st_size / sum(info.events for info in journal.runs()), unit="bytes/event"),
        ]
    return figures


def append_rate(journal: SqliteJournal | MemoryJournal, run_id: str, size: int, count: int) -> float:
    """Events per second, appended `size` at a time."""
    epoch = journal.acquire(run_id, "benchmark", T0)
    batches = [drafts(size)] * (count // size)
    elapsed = elapsed_s()
    for number, batch in enumerate(batches):
        journal.append(run_id, batch, expected_seq=number * size, epoch=epoch)
    return size * len(batches) / elapsed()


def fleet_batch(rng: np.random.Generator, agents: int) -> SampleBatch:
    """One sample an agent, with everything said and nothing equal; times relative to the tick."""
    batch = SampleBatch.blank(agents)
    batch.agent[:] = np.arange(agents)
    batch.at_us[:] = -rng.integers(0, S, agents)
    batch.values[:, 0] = np.round(rng.lognormal(6, 0.6, agents), 3)
    for column in (1, 2, 7):
        batch.values[:, column] = rng.poisson(2000, agents)
    batch.values[:, 3] = np.round(rng.lognormal(-6, 0.6, agents), 6)
    for column in (4, 5, 6):
        batch.values[:, column] = rng.poisson(0.5, agents)
    batch.values[:, 8] = np.round(rng.random(agents), 3)
    batch.step[:] = rng.integers(0, 20, agents)
    batch.status[:] = 1
    batch.task_id[:] = rng.integers(1, 2**62, agents)
    return batch


def telemetry_figures(directory: Path, agents: int, minutes: int) -> list[Figure]:
    rng = np.random.default_rng(SEED)
    batches = [fleet_batch(rng, agents) for _ in range(10)]
    samples = agents * minutes * 60
    with SqliteTelemetry(directory) as store:
        store.begin("r", VitalSchema())
        store.name_agents("r", 0, [f"agent-{index}" for index in range(agents)])
        seconds: list[float] = []
        for tick in range(minutes * 60):
            now_us = T0 + tick * S
            batch = batches[tick % 10]
            batch = dataclasses.replace(batch, at_us=batch.at_us + now_us)
            elapsed = elapsed_s()
            store.write("r", tick, now_us, batch)
            seconds.append(elapsed())
        before_s = read_agent(store, agents // 2, minutes)
        steps = compact_steps(store, T0 + minutes * 60 * S)
        after_s = min(read_agent(store, agents // 2, minutes) for _ in range(3))
        latest_s = min(timed(lambda: store.latest("r")) for _ in range(3))
        stored = store._connection.execute("SELECT sum(length(keys) + length(rest)) FROM minutes").fetchone()[0]  # noqa: SLF001
        assert store.counts("r") == samples
    quarter = len(seconds) // 4
    per_hour = 60 / minutes * 1000
    who = f"{agents:,} agents: "
    write_s, compact_s = sum(seconds), sum(steps)
    return [
        Figure(name=who + "write", value=samples / write_s, unit="samples/s"),
        Figure(
            name=who + "write and transpose",
            value=samples / (write_s + compact_s),
            unit="samples/s",
            ratio=write_s / (write_s + compact_s),
            against="write",
        ),
        Figure(name=who + "write a tick, p50", value=1000 * float(np.median(seconds)), unit="ms"),
        Figure(name=who + "write a tick, p99", value=1000 * float(np.quantile(seconds, 0.99)), unit="ms"),
        Figure(
            name=who + "last quarter of writes",
            value=1000 * float(np.median(seconds[-quarter:])),
            unit="ms p50",
            goal="no growth",
            ratio=float(np.median(seconds[-quarter:]) / np.median(seconds[:quarter])),
            against="first quarter",
        ),
        Figure(name=who + "one step of transposing, worst", value=1000 * max(steps), unit="ms"),
        Figure(name=who + "one agent's hour, before transposing", value=before_s * per_hour, unit=f"ms (from {minutes} min)"),
        Figure(
            name=who + "one agent's hour, after",
            value=after_s * per_hour,
            unit=f"ms (from {minutes} min)",
            ratio=after_s / before_s,
            against="before",
        ),
        Figure(name=who + "newest sample of every agent", value=1000 * latest_s, unit="ms"),
        Figure(name=who + "size", value=stored / samples, unit="bytes/sample", ratio=stored / samples / 93, against="93 bytes unpacked"),
    ]


def read_agent(store: SqliteTelemetry, agent: int, minutes: int) -> float:
    """Seconds to read the latency of one agent."""
    elapsed = elapsed_s()
    series = store.series("r", f"agent-{agent}", "latency_ms")
    seconds = elapsed()
    assert len(series.at_us) == minutes * 60
    return seconds


def compact_steps(store: SqliteTelemetry, now_us: int) -> list[float]:
    """Seconds of each step until every minute is transposed."""
    steps: list[float] = []
    while True:
        elapsed = elapsed_s()
        if not store.compact("r", now_us, parts=1):
            return steps
        steps.append(elapsed())


def table(figures: Sequence[Figure]) -> str:
    """The figures for people."""
    width = max(len(figure.name) for figure in figures)
    lines = []
    for figure in figures:
        ratio = "" if figure.ratio is None else f"× {figure.ratio:.3g} of {figure.against}"
        goal = f"goal {figure.goal}" if figure.goal else ""
        lines.append(f"{figure.name:<{width}}  {figure.value:>14,.4g} {figure.unit:<18} {goal:<14} {ratio}".rstrip())
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--dir", type=Path, default=None, help="where to put the files (default: the system's place for temporary files)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        directory = Path(name)
        figures = journal_figures(directory / "journal", 5_000 if options.quick else 50_000)
        for agents, minutes in ((15, 60), (1_000, 10), (10_000, 3)):
            figures += telemetry_figures(directory / f"t{agents}", agents, max(1, minutes // 10) if options.quick else minutes)
    print(json.dumps({"figures": [dataclasses.asdict(figure) for figure in figures]}) if options.json else table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
