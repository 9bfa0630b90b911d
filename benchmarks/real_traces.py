"""Real recordings: are the incidents defensible, does evidence tell failed runs from good ones, how near does it come to the decisive step?

    python benchmarks/real_traces.py --data DIR [--json] [--out DIR]

DIR holds azure_llm_2023_code.csv and azure_llm_2023_conv.csv (production requests), tau_airline_gpt4o_steps.csv (runs with an outcome)
and who_and_when_steps.csv (failed runs with the step that people marked as decisive). They are no part of this repository; without them
this says so and ends. Azure goes through the public door, ``immune replay``; for the other two the same samples go to the same sentinel
and its evidence is read after every step. Outcomes and marks are read here only, to score; the sentinel never sees them.
Plots for people to judge by: benchmarks/out/real_traces.html.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from trials.real_page import write
from trials.tally import auc, bootstrap, wilson
from trials.watching import SCHEMA, US, sentinel_over
from workloads import read_azure

from immune.core.vitals import Lexicon, Roster
from immune.ports import Desk
from immune.sources.replay import ReplaySource

AZURE = ("azure_llm_2023_code.csv", "azure_llm_2023_conv.csv")
TAU, WHO = "tau_airline_gpt4o_steps.csv", "who_and_when_steps.csv"
CUT = 20
LOOSE = 1000.0
"""A budget of false alarms per agent-day at which runs of two dozen steps have incidents at all (4.5 nats)."""
DRAWS = 2000

Floats = NDArray[np.float64]


# --- production traffic


def azure(path: Path, agents: int) -> dict[str, Any]:
    """One file through the public door, as one agent or dealt out by turns: its incidents, and whether the change is in the data."""
    at_us, sizes = read_azure(path)
    with tempfile.TemporaryDirectory() as folder:
        given = path if agents == 1 else dealt_out(path, agents, Path(folder) / path.name)
        report = replayed(given)
    found = [_looked_at(incident, at_us, sizes, agents) for incident in report["incidents"]]
    return {
        "file": path.name,
        "agents": report["agents"],
        "samples": report["samples"],
        "agent_days": report["agents"] * report["span_s"] / 86_400,
        "quarantines": report["quarantines"],
        "incidents": found,
    }


def dealt_out(path: Path, agents: int, target: Path) -> Path:
    """The same requests with an agent column: request i belongs to agent i modulo `agents`."""
    with path.open(encoding="utf-8", newline="") as source, target.open("w", encoding="utf-8", newline="") as out:
        rows, writer = csv.DictReader(source), csv.writer(out)
        writer.writerow(["at", "agent", "type", "input_tokens", "output_tokens"])
        for number, row in enumerate(rows):
            writer.writerow(
                [row["TIMESTAMP"][:26] + "Z", f"agent-{number % agents:02d}", "llm-endpoint", row["ContextTokens"], row["GeneratedTokens"]]
            )
    return target


def replayed(path: Path) -> dict[str, Any]:
    """The report of ``immune replay FILE --json``."""
    command = [sys.executable, "-m", "immune", "replay", str(path), "--json"]
    report: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return report


def _looked_at(incident: dict[str, Any], at_us: NDArray[np.int64], sizes: Floats, agents: int) -> dict[str, Any]:
    """An incident beside what a plain test says of its vital: samples from onset to opening and ten minutes on, against all before."""
    first = incident["evidence"][0] if incident["evidence"] else {"vital": "", "direction": "", "ratio": 1.0}
    onset, opened = seconds(incident["onset_at"]), seconds(incident["opened_at"])
    row: dict[str, Any] = {
        "scope": incident["scope"],
        "agents": incident["agents"],
        "onset_s": onset - at_us[0] / US,
        "opened_s": opened - at_us[0] / US,
        "closed_s": None if incident["closed_at"] is None else seconds(incident["closed_at"]) - at_us[0] / US,
        "severity": incident["severity"],
        "nats": incident["nats"],
        "vital": first["vital"],
        "direction": first["direction"],
        "ratio": first["ratio"],
        "told": incident["diagnosis"][0]["kind"] if incident["diagnosis"] else "",
        "levels": [step["level"] for step in incident["containment"]],
    }
    mine = _requests_of(incident["agents"], len(at_us), agents)
    times = at_us[mine] / US
    if row["vital"] == "samples":
        gaps = np.diff(times)
        where = int(np.searchsorted(times, opened)) - 1
        row["plain"] = {"gap_s": float(gaps[min(where, len(gaps) - 1)]), "longest_other_gap_s": float(np.sort(gaps)[-2])}
        return row
    column = {"input_tokens": 0, "output_tokens": 1}.get(row["vital"], 0)
    values = sizes[mine, column]
    before, after = values[times < onset], values[(times >= onset) & (times < opened + 600)]
    if len(before) >= 20 and len(after) >= 10:
        ratio = float(np.exp(np.log1p(after).mean() - np.log1p(before).mean()))
        row["plain"] = {"ratio": ratio, "p": float(mannwhitneyu(before, after).pvalue), "before": len(before), "after": len(after)}
    return row


def _requests_of(names: list[str], n: int, agents: int) -> NDArray[np.intp]:
    if agents == 1:
        return np.arange(n)
    chosen = {int(name.rpartition("-")[2]) for name in names}
    return np.flatnonzero(np.isin(np.arange(n) % agents, sorted(chosen)))


def seconds(text: str) -> float:
    """Seconds since 1970 of an ISO time."""
    return float((np.datetime64(text.rstrip("Z")) - np.datetime64(0, "s")) / np.timedelta64(1, "us")) / US


# --- evidence step by step


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The evidence of one run, nats after each of its rows."""

    run: str
    nats: Floats


def courses(path: Path) -> dict[str, Floats]:
    """Nats of every run after each of its steps, as the product computes them: all runs of the file side by side, one row a second."""
    desk = Desk(roster=Roster(), lexicon=Lexicon(), schema=SCHEMA)
    source = ReplaySource([path])
    source.open(desk)
    sentinel = sentinel_over(desk.roster, desk.lexicon, seed=0)
    rows: dict[str, list[float]] = {}

    async def run() -> None:
        while source.next_us is not None:
            now_us = source.next_us
            batch = await source.collect(now_us)
            nats = sentinel.observe(batch, now_us).nats
            for agent in batch.agent.tolist():
                rows.setdefault(desk.roster.agent_id(agent), []).append(float(nats[agent]))

    asyncio.run(run())
    return {name: np.array(nats) for name, nats in rows.items()}


# --- outcomes


def tau(path: Path) -> dict[str, Any]:
    """Does the largest evidence of a run tell that it will fail? Against plain sums and the run's length, clusters are tasks."""
    runs: dict[str, list[dict[str, str]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            runs.setdefault(row["run"], []).append(row)
    evidence = courses(path)
    names = sorted(runs)
    failed = np.array([float(runs[name][-1]["reward"]) < 1 for name in names])
    task = np.array([int(runs[name][0]["task_id"]) for name in names])
    scores = {
        "run length": np.array([float(len(runs[name])) for name in names]),
        "largest evidence": np.array([float(evidence[name].max()) for name in names]),
        "evidence at the end": np.array([float(evidence[name][-1]) for name in names]),
        **{words: _sums(runs, names, column) for words, column in _SUMS},
    }
    return {
        "runs": len(names),
        "failed": int(failed.sum()),
        "alarms": int(sum(evidence[name].max() >= _threshold() for name in names)),
        "scores": {words: _told(score, scores["run length"], failed, task) for words, score in scores.items()},
    }


_SUMS = (
    ("sum of tool calls", "tool_calls"),
    ("sum of tool errors", "error"),
    ("sum of output tokens", "output_tokens_est"),
    ("last context", "input_tokens_est"),
)


def _sums(runs: dict[str, list[dict[str, str]]], names: list[str], column: str) -> Floats:
    if column == "input_tokens_est":
        return np.array([max(float(row[column]) for row in runs[name]) for name in names])
    return np.array([sum(float(row[column]) for row in runs[name]) for name in names])


def _threshold() -> float:
    return sentinel_over(Roster(), Lexicon()).threshold_nats


def _told(score: Floats, length: Floats, failed: NDArray[np.bool_], task: NDArray[np.int64]) -> dict[str, Any]:
    """AUC, its interval, its lead over run length (paired), and AUC among runs of similar length; intervals by drawing tasks."""
    members = [np.flatnonzero(task == one) for one in np.unique(task)]

    def interval(statistic: Callable[[NDArray[np.intp]], float]) -> tuple[float, float]:
        return bootstrap(
            np.arange(len(members), dtype=np.float64), lambda drawn: statistic(np.concatenate([members[int(one)] for one in drawn])), draws=DRAWS
        )

    def plain(rows: NDArray[np.intp]) -> float:
        return auc(score[rows], failed[rows])

    def lead(rows: NDArray[np.intp]) -> float:
        return auc(score[rows], failed[rows]) - auc(length[rows], failed[rows])

    def alike(rows: NDArray[np.intp]) -> float:
        return _within(score[rows], length[rows], failed[rows])

    everything = np.arange(len(score))
    return {
        "auc": plain(everything),
        "auc_interval": interval(plain),
        "lead": lead(everything),
        "lead_interval": interval(lead),
        "within_length": alike(everything),
        "within_length_interval": interval(alike),
    }


def _within(score: Floats, length: Floats, failed: NDArray[np.bool_]) -> float:
    """AUC over pairs of runs from the same fifth of lengths: what is told beyond length."""
    edges = np.quantile(length, [0.2, 0.4, 0.6, 0.8])
    fifth = np.searchsorted(edges, length)
    won = pairs = 0.0
    for one in range(5):
        inside = fifth == one
        count = float(failed[inside].sum() * (~failed[inside]).sum())
        if count:
            won, pairs = won + count * auc(score[inside], failed[inside]), pairs + count
    return won / pairs if pairs else float("nan")


# --- the decisive step


def who(path: Path) -> dict[str, Any]:
    """Steps between the sharpest rise of evidence and the marked step, against a step drawn at random, and against a drawn log's mark."""
    marks: dict[str, list[int]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            marks.setdefault(row["log"], []).append(int(row["mistake_here"]))
    evidence = courses(path)
    judged = [name for name in sorted(marks) if sum(marks[name]) == 1]
    length = np.array([len(marks[name]) for name in judged])
    mark = np.array([marks[name].index(1) for name in judged])
    place = mark / np.maximum(length - 1, 1)
    rise = np.array([int(np.argmax(np.diff(evidence[name], prepend=evidence[name][0]))) for name in judged])
    spoken = np.array([float(np.ptp(evidence[name])) > 0 for name in judged])
    loose = np.log(86_400 / LOOSE)
    alarm = np.array([int(np.argmax(evidence[name] >= loose)) if (evidence[name] >= loose).any() else -1 for name in judged])
    return {
        "logs": len(judged),
        "judged_at_all": int(spoken.sum()),
        "alarms": int(sum(evidence[name].max() >= _threshold() for name in judged)),
        "median_steps": float(np.median(length)),
        "sharpest rise": _near(rise, mark, length, place, spoken),
        f"first crossing at a budget of {LOOSE:g} a day": _near(alarm, mark, length, place, alarm >= 0),
    }


def _near(step: NDArray[np.int64], mark: NDArray[np.int64], length: NDArray[np.int64], place: Floats, some: NDArray[np.bool_]) -> dict[str, Any]:
    """Over the logs in `some`: mean distance, share exact and within 3, each less what chance gives in the same logs."""
    if some.sum() < 5:
        return {"logs": int(some.sum())}
    step, mark, length = step[some], mark[some], length[some]
    at_random = [np.abs(np.arange(n) - m) for n, m in zip(length, mark, strict=True)]
    elsewhere = [np.abs(np.rint(place * (n - 1)) - m) for n, m in zip(length, mark, strict=True)]
    distance = np.abs(step - mark).astype(float)
    out: dict[str, Any] = {"logs": int(some.sum()), "mean_distance": float(distance.mean()), "median_distance": float(np.median(distance))}
    for words, chance in (("a random step", at_random), ("another log's mark", elsewhere)):
        expected = np.array([one.mean() for one in chance])
        nearer = distance - expected
        out[f"against {words}"] = {
            "mean_distance": float(expected.mean()),
            "difference": float(nearer.mean()),
            "difference_interval": bootstrap(nearer, np.mean, draws=DRAWS),
        }
    for reach, words in ((0, "exact"), (3, "within 3")):
        hits = distance <= reach
        share = np.array([(one <= reach).mean() for one in at_random])
        out[words] = {
            "share": float(hits.mean()),
            "interval": wilson(int(hits.sum()), len(hits)),
            "chance": float(share.mean()),
            "lead_interval": bootstrap(hits - share, np.mean, draws=DRAWS),
        }
    return out


def main() -> None:
    """Run what is there and print."""
    parser = argparse.ArgumentParser(description="Real recordings, judged.")
    parser.add_argument("--data", type=Path, default=None, metavar="DIR", help="folder with the recordings")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", metavar="DIR")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    missing = [name for name in (*AZURE, TAU, WHO) if options.data is None or not (options.data / name).is_file()]
    if len(missing) == len((*AZURE, TAU, WHO)):
        print("nothing measured: the recordings are no part of this repository; give --data DIR with " + ", ".join(missing), file=sys.stderr)
        return
    if missing:
        print("left out, not there: " + ", ".join(missing), file=sys.stderr)
    found: dict[str, Any] = {
        "azure": [azure(options.data / name, agents) for name in AZURE if name not in missing for agents in (1, CUT)],
        "tau": None if TAU in missing else tau(options.data / TAU),
        "who": None if WHO in missing else who(options.data / WHO),
    }
    write(options.out / "real_traces.html", found, options.data)
    if options.json:
        print(json.dumps({"benchmark": "real_traces", **found}, indent=1, default=float))
        return
    show(found)
    print(f"page: {options.out / 'real_traces.html'}")


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    for case in found["azure"]:
        counts = f"{len(case['incidents'])} incidents, {case['quarantines']} quarantines"
        print(f"{case['file']}, {case['agents']} agents, {case['agent_days']:.2f} agent-days: {counts}")
        for one in case["incidents"]:
            closed = "open" if one["closed_s"] is None else f"{one['closed_s']:.0f}"
            who_is = one["agents"][0] if len(one["agents"]) == 1 else f"{len(one['agents'])} agents"
            print(
                f"  {one['scope']:<6} {who_is:<20} {one['onset_s']:>5.0f} to {closed:>5} s, {one['vital']} {one['direction']} ×{one['ratio']:.2f}, "
                f"severity {one['severity']:.1f} {'/'.join(one['levels'])}, {one['told']}; plain test: {one.get('plain')}"
            )
    if found["tau"]:
        print(f"tau: {found['tau']['failed']} of {found['tau']['runs']} runs failed, {found['tau']['alarms']} alarms")
        for words, told in found["tau"]["scores"].items():
            print(
                f"  {words:<22} AUC {told['auc']:.2f} {_pair(told['auc_interval'])}  over length {told['lead']:+.2f} {_pair(told['lead_interval'])}  "
                f"among runs of like length {told['within_length']:.2f} {_pair(told['within_length_interval'])}"
            )
    if found["who"]:
        print(json.dumps(found["who"], indent=1, default=float))


def _pair(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:.2f}, {interval[1]:.2f}]"


if __name__ == "__main__":
    main()
