"""How reliable: histories of faults, real kills, approvals under fire, fuzzed calls, restart, replay, memory. Publishes `reliability.json`.

    python benchmarks/reliability.py [--preset ci|full] [--seeds N] [--minutes M] [--kills N] [--races N] [--abuses N] [--fuzz N] [--days D]
                                     [--json] [--out FILE]

A count of 0 asks for nothing of that kind, and the figure is then left out: what was not measured is not told. Every figure comes with
what it must be and with what is aimed at. Replay and verify are per CPU second of this process, restarts are wall time, the best of five.
The exit code is 1 when a must is missed. Progress on standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from proving.auditor import BreachError  # noqa: E402 - the tree itself, however this file is started
from proving.deciding import abuses, races  # noqa: E402
from proving.history import History, Outcome  # noqa: E402
from proving.kills import Tally, kill_again_and_again  # noqa: E402
from proving.replaying import HELD, long_journal, replay_rates, time_to_containment  # noqa: E402
from proving.script import write  # noqa: E402

RECORDED = ROOT / "tests" / "golden" / "journal-0.1.jsonl.gz"
SECONDS_A_YEAR = 365.25 * 86_400
CHUNK = 25
KILLS_PER_DIRECTORY = 50
EVENTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each."""

    seeds: int
    minutes: float
    kills: int
    races: int
    abuses: int
    fuzz: int
    days: float


PRESETS = {
    "ci": Sizes(seeds=500, minutes=3.0, kills=100, races=500, abuses=520, fuzz=0, days=0.0),
    "full": Sizes(seeds=200_000, minutes=60.0, kills=1000, races=50_000, abuses=100_000, fuzz=50_000, days=10.0),
}


@dataclass(slots=True, kw_only=True)
class Figure:
    """One line of the table. `reached` is None where nothing was asked for."""

    measure: str
    reached: float | None
    of: float | None = None
    must: str = ""
    goal: str = ""
    unit: str = ""
    holds: bool | None = None


@dataclass(slots=True, kw_only=True)
class Played:
    """What became of many histories."""

    histories: int = 0
    crashes: int = 0
    restarts: int = 0
    take_overs: int = 0
    events: int = 0
    answers: int = 0
    agent_seconds: int = 0
    escaped: int = 0
    breaches: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    def add(self, outcome: Outcome) -> None:
        """One more that held."""
        self.histories += 1
        self.crashes += outcome.crashes
        self.restarts += outcome.restarts
        self.take_overs += outcome.take_overs
        self.events += outcome.events
        self.answers += outcome.answers
        self.agent_seconds += outcome.agent_seconds
        self.escaped += outcome.escaped
        self.kinds |= outcome.kinds

    def merge(self, other: Played) -> None:
        """Those of another process."""
        for name in ("histories", "crashes", "restarts", "take_overs", "events", "answers", "agent_seconds", "escaped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.breaches += other.breaches
        self.kinds |= other.kinds


def play(first: int, count: int) -> Played:
    """Histories of these seeds."""
    played = Played()
    for seed in range(first, first + count):
        try:
            played.add(History(write(seed)).play())
        except BreachError as breach:
            played.histories += 1
            played.breaches.append(f"seed {seed}: {breach}")
    return played


def kill(count: int, number: int) -> Tally:
    """So many real kills on one data directory."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(kill_again_and_again(Path(folder), kills=count, seed=number))


def decide(what: str, count: int) -> Any:
    """Races or abuses over HTTP."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run({"races": races, "abuses": abuses}[what](Path(folder), count))


def fuzzed(count: int) -> dict[str, int]:
    """Calls made up from the OpenAPI document."""
    from tests.integration.api_fuzzing import fuzz, running

    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as run:
        found = fuzz(run, calls=count)
    return {"calls": found.calls, "server_errors": found.server_errors, "wrong": len(found.wrong)}


def replay_and_restart(times: int) -> dict[str, float]:
    """Replay of a long journal, and how soon a daemon over it holds its agents."""
    from immune.core.state import ENDED_KEPT
    from immune.stores.tokens import TokenStore

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        long_journal(folder, RECORDED, EVENTS).close()
        TokenStore(folder).ensure_admin()
        found = replay_rates(folder, keep=ENDED_KEPT)
        found["restart_whole_fold_s"] = min(time_to_containment(folder, HELD) for _ in range(times))
        command = [sys.executable, "-m", "immune", "run", "--port", "0", "--data-dir", name, "--run", "live-long", "--duration", "4"]
        subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
        found["restart_s"] = min(time_to_containment(folder, HELD) for _ in range(times))
    command = [sys.executable, "-c", "import immune.daemon"]
    found["imports_s"] = min(_seconds(command) for _ in range(times))
    return found


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def grown(days: float) -> dict[str, float]:
    """Memory after so many simulated days."""
    from growth import measure

    growth = measure(days=days, agents=15, seed=1, period_s=10)
    return {"days": days, "grown_mib": growth.grown_mib, "events": growth.events, "samples": growth.samples}


# -- putting it together -------------------------------------------------------------------------------------------------


def told(line: str) -> None:
    """Progress."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def chunks(total: int, size: int) -> Iterator[tuple[int, int]]:
    """(first, count) of pieces."""
    for first in range(0, total, size):
        yield first, min(size, total - first)


def all_histories(pool: ProcessPoolExecutor, sizes: Sizes) -> Played:
    """As many as asked for, as long as there is time."""
    played, ends = Played(), time.monotonic() + sizes.minutes * 60
    waiting: list[Future[Played]] = []
    said = time.monotonic()
    for first, count in chunks(sizes.seeds, CHUNK):
        waiting.append(pool.submit(play, first, count))
        while len(waiting) >= 4:
            played.merge(waiting.pop(0).result())
        if time.monotonic() - said > 20:
            said = time.monotonic()
            told(f"{played.histories} histories, {played.crashes} crashes, {len(played.breaches)} breaches")
        if time.monotonic() > ends:
            break
    for one in waiting:
        played.merge(one.result())
    return played


def all_kills(count: int) -> list[Tally]:
    """Real kills, on several data directories one after the other."""
    tallies = []
    for first, some in chunks(count, KILLS_PER_DIRECTORY):
        tallies.append(kill(some, 1 + first))
        told(f"{first + some} of {count} kills, {sum(len(tally.troubles) for tally in tallies)} troubles")
    return tallies


def zero(measure: str, reached: int | None, of: float | None, must: int, goal: int, what: str = "") -> Figure:
    """A count that has to be 0, of at least so many."""
    if reached is None or not of:
        return Figure(measure=measure, reached=None, must=f"0 of {must:,}", goal=f"0 of {goal:,}")
    return Figure(measure=measure, reached=reached, of=of, must=f"0 of {must:,}", goal=f"0 of {goal:,}", unit=what, holds=reached == 0 and of >= must)


def within(measure: str, reached: float | None, must: float, goal: float, unit: str, *, more: bool = False) -> Figure:
    """A figure with a bound."""
    sign = ">=" if more else "<="
    holds = None if reached is None else reached >= must if more else reached <= must
    return Figure(measure=measure, reached=reached, must=f"{sign} {must:g}", goal=f"{sign} {goal:g}", unit=unit, holds=holds)


def table(figures: list[Figure]) -> str:
    """For people."""
    rows = [("measure", "reached", "must", "goal", "")]
    for one in figures:
        of = f" of {one.of:,.0f}" if one.of else ""
        reached = "not measured" if one.reached is None else f"{one.reached:,.4g}{of} {one.unit}".rstrip()
        rows.append((one.measure, reached, one.must, one.goal, {None: "", True: "holds", False: "MISSED"}[one.holds]))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def commit() -> str:
    """Which tree was measured."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607 - git is git

    return (git("rev-parse", "HEAD") or "unknown") + (" and what was changed since" if git("status", "--porcelain") else "")


def measure(sizes: Sizes) -> dict[str, Any]:
    """Everything that was asked for."""
    began = time.time()
    fresh = get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=fresh) as pool, ProcessPoolExecutor(2, mp_context=fresh) as beside:
        kills = beside.submit(all_kills, sizes.kills)
        memory = beside.submit(grown, sizes.days) if sizes.days else None
        calls = beside.submit(fuzzed, sizes.fuzz) if sizes.fuzz else None
        raced = pool.submit(decide, "races", sizes.races) if sizes.races else None
        abused = pool.submit(decide, "abuses", sizes.abuses) if sizes.abuses else None
        played = all_histories(pool, sizes) if sizes.seeds else Played()
        told(f"histories done: {played.histories}")
        verdicts = {"races": raced.result() if raced else None, "abuses": abused.result() if abused else None}
        told("approvals done")
        remembered = memory.result() if memory else None
        told("memory done")
        fuzzing = calls.result() if calls else None
        told("calls done")
        tallies = kills.result()
        told("kills done")
    speeds = replay_and_restart(5)
    told("restart and replay done")
    figures = _figures(played, tallies, verdicts, fuzzing, speeds, remembered)
    return {
        "commit": commit(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "elapsed_s": round(time.time() - began),
        "python": platform.python_version(),
        "asked": asdict(sizes),
        "seeds": {"histories": f"0 to {played.histories - 1}", "kills": f"1, {1 + KILLS_PER_DIRECTORY} …", "fuzz": 1},
        "figures": [asdict(one) for one in figures],
        "histories": {**asdict(played), "kinds": sorted(played.kinds), "agent_years": played.agent_seconds / SECONDS_A_YEAR},
        "kills": _summed(tallies),
        "approvals": {name: {**vars(one), "abuses": dict(one.abuses)} for name, one in verdicts.items() if one is not None},
        "fuzz": fuzzing,
        "speed": speeds,
        "memory": remembered,
    }


def _summed(tallies: list[Tally]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for tally in tallies:
        ends += tally.plans_ended
        counts.update({name: value for name, value in asdict(tally).items() if isinstance(value, int)})
    starts = sorted(second for tally in tallies for second in tally.starts_s)
    median = starts[len(starts) // 2] if starts else None
    return {**counts, "plans_ended": dict(ends), "median_start_s": median, "troubles": [trouble for tally in tallies for trouble in tally.troubles]}


def _figures(played: Played, tallies: list[Tally], verdicts: Any, calls: Any, speeds: Any, memory: Any) -> list[Figure]:
    total: Callable[[str], int] = lambda name: sum(len(getattr(tally, name)) for tally in tallies)  # noqa: E731
    kills = sum(tally.kills for tally in tallies)
    lost_in_histories = sum("I2:" in one or "I3:" in one for one in played.breaches)
    raced, abused = verdicts["races"], verdicts["abuses"]
    return [
        zero("acknowledged events lost, process kills under load", total("lost") if kills else None, kills, 400, 1000, "kills"),
        zero("acknowledged events lost, simulated crashes", lost_in_histories, played.crashes, 5000, 100_000, "crashes"),
        zero("invariants broken, histories", len(played.breaches), played.histories, 1, 100_000, "histories"),
        zero("approval races with other than one winner", raced.not_one_winner if raced else None, raced and raced.races, 5000, 50_000, "races"),
        zero("losers not told who and when", raced.losers_without_a_name if raced else None, raced and raced.decisions, 5000, 50_000, "decisions"),
        zero("approval abuses executed", len(abused.executed) if abused else None, abused and sum(abused.abuses.values()), 10_000, 100_000, "abuses"),
        zero("approval abuses not on record", abused.not_on_record if abused else None, abused and sum(abused.abuses.values()), 10_000, 100_000),
        zero("work done while isolated, histories", played.escaped, played.histories, 1, 100_000, "histories"),
        zero("agents let through after a kill", total("escaped") if kills else None, kills, 400, 1000, "kills"),
        zero("requests forgotten, effects doubled, plans left, kills", total("forgotten") + total("doubled") + total("left_open"), kills, 400, 1000),
        zero("5xx answers in fuzzed calls", calls and calls["server_errors"], calls and calls["calls"], 5000, 50_000, "calls"),
        within("restart to containment in force, 100,000 events", speeds["restart_s"], 2.0, 0.5, "s"),
        within("the same without a snapshot", speeds["restart_whole_fold_s"], 2.0, 0.5, "s"),
        within("replay with chain check", speeds["replay_events_per_s"], 60_000, 150_000, "events per CPU s", more=True),
        within("memory growth over simulated days", memory and memory["grown_mib"], 5.0, 1.0, "MiB"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="ci")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--races", type=int)
    parser.add_argument("--abuses", type=int)
    parser.add_argument("--fuzz", type=int)
    parser.add_argument("--days", type=float)
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of the table")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out" / "reliability.json")
    asked = parser.parse_args()
    chosen = {name: getattr(asked, name) for name in asdict(PRESETS["ci"]) if getattr(asked, name) is not None}
    measured = measure(Sizes(**{**asdict(PRESETS[asked.preset]), **chosen}))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    figures = [Figure(**one) for one in measured["figures"]]
    print(json.dumps(measured, ensure_ascii=False) if asked.json else table(figures))
    for trouble in [*measured["histories"]["breaches"], *measured["kills"]["troubles"]][:20]:
        told(trouble)
    return 1 if any(one.holds is False for one in figures) else 0


if __name__ == "__main__":
    raise SystemExit(main())
