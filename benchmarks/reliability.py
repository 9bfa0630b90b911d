"""How reliable: histories of faults, real kills, approvals under fire, fuzzed calls, restart, replay, memory. Publishes `reliability.json`.

    python benchmarks/reliability.py [--preset ci|full] [--seeds N] [--minutes M] [--kills N] [--races N] [--abuses N] [--fuzz N] [--days D]
                                     [--only PART ...] [--json] [--out FILE]

Each part is written into FILE as it ends, with its commit and what it was asked for; the others in the file stay as they are, so parts can be
run one by one (`--only`), or several at once. A part that fails says so and takes no other along. What did not run is told as not measured.
`--minutes` bounds histories and kills: the count is then what was reached. Every figure comes with what it must be and what is aimed at.
Replay and verify are per CPU second of this process, restarts are wall time, the best of five. The exit code is 1 when a must is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
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
from proving.script import write, write_for_the_sentinel  # noqa: E402

RECORDED = ROOT / "tests" / "golden" / "journal-0.1.jsonl.gz"
SECONDS_A_YEAR = 365.25 * 86_400
CHUNK = 25
SENTINEL_EVERY = 10
"""Every tenth history is seen by the real sentinel, the others by one that alarms within seconds, which makes more happen."""
KILLS_PER_DIRECTORY = 20
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
    with_the_sentinel: int = 0
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
        for name in ("histories", "with_the_sentinel", "crashes", "restarts", "take_overs", "events", "answers", "agent_seconds", "escaped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.breaches += other.breaches
        self.kinds |= other.kinds


def play(first: int, count: int) -> Played:
    """Histories of these seeds."""
    played = Played()
    for seed in range(first, first + count):
        try:
            real = seed % SENTINEL_EVERY == 0
            played.with_the_sentinel += real
            played.add(History(write_for_the_sentinel(seed) if real else write(seed)).play())
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


def grown(days: float) -> dict[str, Any]:
    """Memory after so many simulated days."""
    from growth import measure

    growth = measure(days=days, agents=15, seed=1, period_s=30)
    return {
        "days": days,
        "period_s": 30,
        "grown_mib": growth.grown_mib,
        "process_grown_mib": (growth.end_bytes - growth.settled_bytes) / 2**20,
        "course_mib": growth.course_mib,
        "events": growth.events,
        "samples": growth.samples,
    }


# -- putting it together -------------------------------------------------------------------------------------------------


def told(line: str) -> None:
    """Progress."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def chunks(total: int, size: int) -> Iterator[tuple[int, int]]:
    """(first, count) of pieces."""
    for first in range(0, total, size):
        yield first, min(size, total - first)


def all_histories(sizes: Sizes) -> dict[str, Any]:
    """As many as asked for, as long as there is time."""
    played, ends = Played(), time.monotonic() + sizes.minutes * 60
    waiting: list[Future[Played]] = []
    said = time.monotonic()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
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
    seeds = f"0 to {played.histories - 1}"
    years = played.agent_seconds / SECONDS_A_YEAR
    return {"seeds": seeds, "agent_years": years, **asdict(played), "kinds": sorted(played.kinds)}


def all_kills(sizes: Sizes) -> dict[str, Any]:
    """Real kills on many data directories, two at a time, as long as there is time."""
    ends, tallies, left = time.monotonic() + sizes.minutes * 60, [], list(chunks(sizes.kills, KILLS_PER_DIRECTORY))
    under_way: set[Future[Tally]] = set()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        while left or under_way:
            while left and len(under_way) < 2 and time.monotonic() < ends:
                first, some = left.pop(0)
                under_way.add(pool.submit(kill, some, 1 + first))
            if not under_way:
                break
            done, under_way = wait(under_way, return_when="FIRST_COMPLETED")
            tallies += [one.result() for one in done]
            told(f"{sum(tally.kills for tally in tallies)} of {sizes.kills} kills, {sum(len(tally.troubles) for tally in tallies)} troubles")
    return {"seeds": [1 + first for first, _ in chunks(sizes.kills, KILLS_PER_DIRECTORY)][: len(tallies)], **_summed(tallies)}


def _summed(tallies: list[Tally]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for tally in tallies:
        ends += tally.plans_ended
        counts.update({name: value for name, value in asdict(tally).items() if isinstance(value, int)})
    starts = sorted(second for tally in tallies for second in tally.starts_s)
    wrong = {name: sum(len(getattr(tally, name)) for tally in tallies) for name in ("lost", "escaped", "forgotten", "doubled", "left_open")}
    return {
        **counts,
        **wrong,
        "plans_ended": dict(ends),
        "median_start_s": starts[len(starts) // 2] if starts else None,
        "troubles": [trouble for tally in tallies for trouble in tally.troubles],
    }


def decided(what: str, count: int) -> dict[str, Any]:
    """Races or abuses, as plain figures."""
    verdict = decide(what, count)
    return {**vars(verdict), "abuses": dict(verdict.abuses)}


PARTS: dict[str, tuple[Callable[[Sizes], float], Callable[[Sizes], dict[str, Any]]]] = {
    "histories": (lambda sizes: sizes.seeds, all_histories),
    "kills": (lambda sizes: sizes.kills, all_kills),
    "races": (lambda sizes: sizes.races, lambda sizes: decided("races", sizes.races)),
    "abuses": (lambda sizes: sizes.abuses, lambda sizes: decided("abuses", sizes.abuses)),
    "fuzz": (lambda sizes: sizes.fuzz, lambda sizes: {"seed": 1, **fuzzed(sizes.fuzz)}),
    "speed": (lambda sizes: 1, lambda sizes: replay_and_restart(5)),
    "memory": (lambda sizes: sizes.days, lambda sizes: grown(sizes.days)),
}
"""Per part: how much is asked for (0: it does not run), and what does it."""


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


def run_part(name: str, sizes: Sizes) -> dict[str, Any]:
    """What a part found, or why it failed."""
    began, head = time.time(), {"commit": commit(), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "asked": asdict(sizes)}
    try:
        found = {"found": PARTS[name][1](sizes)}
    except Exception as error:  # noqa: BLE001 - whatever it was, the other parts are still to be measured and written
        traceback.print_exc()
        found = {"failed": f"{type(error).__name__}: {error}"}
    return {**head, "elapsed_s": round(time.time() - began), **found}


def write_part(out: Path, name: str, part: dict[str, Any]) -> dict[str, Any]:
    """Put a part into the file beside the others, whoever else is writing; the whole document."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        parts = {**(json.loads(text)["parts"] if text else {}), name: part}
        document = assembled({known: parts[known] for known in PARTS if known in parts})
        file.seek(0)
        file.truncate()
        file.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return document


def assembled(parts: dict[str, Any]) -> dict[str, Any]:
    """The document: figures first, then what they were taken from."""
    found = {name: part["found"] for name, part in parts.items() if "found" in part}
    commits = {part["commit"] for part in parts.values()}
    return {
        "commit": commits.pop() if len(commits) == 1 else "each part names its own",
        "at": max((part["at"] for part in parts.values()), default=""),
        "python": platform.python_version(),
        "figures": [asdict(one) for one in _figures(found)],
        "not_run": [name for name in PARTS if name not in found],
        "parts": parts,
    }


def _figures(found: dict[str, Any]) -> list[Figure]:
    played, kills, raced, abused, calls, speeds, memory = (found.get(name, {}) for name in PARTS)
    killed, abuses_tried = kills.get("kills"), sum(abused.get("abuses", {}).values())
    lost_in_histories = sum("I2:" in one or "I3:" in one for one in played.get("breaches", ()))
    undone = sum(kills.get(name, 0) for name in ("forgotten", "doubled", "left_open"))
    histories = played.get("histories")
    return [
        zero("acknowledged events lost, process kills under load", kills.get("lost"), killed, 400, 1000, "kills"),
        zero("acknowledged events lost, simulated crashes", lost_in_histories, played.get("crashes"), 5000, 100_000, "crashes"),
        zero("invariants broken, histories", len(played.get("breaches", ())), histories, 1, 100_000, "histories"),
        zero("approval races with other than one winner", raced.get("not_one_winner"), raced.get("races"), 5000, 50_000, "races"),
        zero("losers not told who and when", raced.get("losers_without_a_name"), raced.get("decisions"), 5000, 50_000, "decisions"),
        zero("approval abuses executed", len(abused.get("executed", ())), abuses_tried, 10_000, 100_000, "abuses"),
        zero("approval abuses not on record", abused.get("not_on_record"), abuses_tried, 10_000, 100_000, "abuses"),
        zero("work done while isolated, histories", played.get("escaped"), histories, 1, 100_000, "histories"),
        zero("agents let through after a kill", kills.get("escaped"), killed, 400, 1000, "kills"),
        zero("requests forgotten, effects doubled, plans left, kills", undone, killed, 400, 1000, "kills"),
        zero("5xx answers in fuzzed calls", calls.get("server_errors"), calls.get("calls"), 5000, 50_000, "calls"),
        within("restart to containment in force, 100,000 events", speeds.get("restart_s"), 2.0, 0.5, "s"),
        within("the same without a snapshot", speeds.get("restart_whole_fold_s"), 2.0, 0.5, "s"),
        within("replay with chain check", speeds.get("replay_events_per_s"), 60_000, 150_000, "events per CPU s", more=True),
        within("memory growth, an hour of work", memory.get("grown_mib"), 5.0, 1.0, "MiB"),
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
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of the table")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out" / "reliability.json")
    asked = parser.parse_args()
    chosen = {name: getattr(asked, name) for name in asdict(PRESETS["ci"]) if getattr(asked, name) is not None}
    sizes = Sizes(**{**asdict(PRESETS[asked.preset]), **chosen})
    document = assembled({})
    for name in asked.only:
        if PARTS[name][0](sizes):
            document = write_part(asked.out, name, run_part(name, sizes))
            told(f"{name} done")
    print(json.dumps(document, ensure_ascii=False) if asked.json else table([Figure(**one) for one in document["figures"]]))
    for name, part in document["parts"].items():
        for trouble in [part.get("failed"), *part.get("found", {}).get("breaches", ()), *part.get("found", {}).get("troubles", ())][:20]:
            if trouble:
                told(f"{name}: {trouble}")
    failed = any("failed" in part for part in document["parts"].values())
    return 1 if failed or any(one["holds"] is False for one in document["figures"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
