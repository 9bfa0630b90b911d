"""The table of what the sentinel must show: false alarms, recall, delay, outages, run length, names, speed, each with its interval.

    python benchmarks/detection.py [--quick | --full] [--minutes 55] [--seed 1000] [--only NAME ...] [--data DIR] [--processes 2] [--json]

Fleets and faults come from benchmarks/workloads.py, which knows nothing of how they are judged. On the same samples stand three rules
that people write first (3 sigma, an EWMA z that learns before it checks, a baseline frozen after 15 samples) and river's ADWIN,
PageHinkley and HalfSpaceTrees. A rate of 0 comes with its 95 % bound, 3 / agent-days. A false alarm is a crossing by a healthy agent
that no shared cause explains, also of one that crossed before (after a quiet minute). Tables and plots go to benchmarks/out/detection.html;
single results to benchmarks/out/detection-parts.jsonl as they come, from which ``--from FILE`` makes the tables again
and ``--into docs/sentinel.md`` writes them between that document's marks. ``--minutes`` is shared over the rows: every row gets its first part.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from trials import markdown, page, plan
from trials.page import verdict
from trials.table import Row, departures, named, table
from trials.tally import reliability

OUT = Path(__file__).parent / "out"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="The sentinel's table: must, goal, measured.")
    parser.add_argument("--quick", action="store_true", help="the default: under two minutes on two quiet cores")
    parser.add_argument("--full", action="store_true", help="600 agent-days a quiet scenario, in turns: some two hours on two cores")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="rows whose names begin so, e.g. 'quiet ar' strong outage")
    parser.add_argument("--skip", nargs="*", default=[], metavar="NAME", help="leave these out")
    parser.add_argument("--data", default="", metavar="DIR", help="folder with azure*.csv, for the row of real token traffic")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=0, help="share this time over the rows, by the clock; 0: run everything")
    parser.add_argument("--from", dest="kept", nargs="+", type=Path, default=[], metavar="FILE", help="make the tables from what runs kept")
    parser.add_argument("--note", default="", help="said on the page, e.g. which commit was measured")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--into", type=Path, default=None, metavar="FILE", help="put the tables between the marks of this document, docs/sentinel.md")
    parser.add_argument("--markdown", action="store_true", help="print the tables as they stand in docs/sentinel.md")
    options = parser.parse_args()

    parts = options.out / "detection-parts.jsonl"
    if not options.kept:
        wanted = plan.jobs(plan.FULL if options.full else plan.QUICK, options.seed, options.data)
        chosen = [
            job
            for job in wanted
            if (not options.only or job.name.startswith(tuple(options.only))) and not (options.skip and job.name.startswith(tuple(options.skip)))
        ]
        if not chosen:
            names = " · ".join(dict.fromkeys(job.name for job in wanted))
            sys.exit(f"no row begins with {options.only}: {names}")
        if not options.data:
            print("without --data DIR the row of real token traffic is left out", file=sys.stderr)
        plan.run(chosen, options.processes, options.minutes, parts)
    kept = plan.kept(options.kept or [parts])
    found, rows = kept.found, table(kept.found)
    told = [(one["confidence"], one["right"]) for one in named(found)]
    asked = [job.name for job in plan.jobs(plan.FULL if options.full else plan.QUICK, options.seed, options.data)]
    missing = [name for name in dict.fromkeys(asked) if name not in found]
    run = run_line(kept, options.seed, options.note, missing)
    page.write(options.out / "detection.html", rows, found, seed=options.seed, full=options.full, note=run)
    if options.into:
        changed = markdown.into(options.into, rows, found, run)
        print(f"{options.into}: {', '.join(changed)}", file=sys.stderr)
    if options.json:
        document = {
            "benchmark": "detection",
            "seed": options.seed,
            "full": options.full,
            "codes": kept.codes,
            "cpu_s": kept.cpu_s,
            "rows": [asdict(row) for row in rows],
            "reliability": reliability(told),
            "departures": departures(found),
            "parts": found,
        }
        print(json.dumps(document, indent=1, default=float, ensure_ascii=False))
        return
    if options.markdown:
        print(markdown.tables(rows, found))
        return
    show(rows)
    for line in reliability(told):
        print(f"  said {line['low']:.1f} to {line['high']:.1f}: {line['confidence']:.2f}, right {line['right']:.2f} of {line['n']}")
    for departure in departures(found):
        print(json.dumps(departure, default=float))
    print(run)
    print(f"page: {options.out / 'detection.html'}")


def run_line(kept: plan.Kept, seed: int, note: str, missing: list[str]) -> str:
    """What was run, in one line: seeds, agent-days, CPU, the digest of the code that was measured, rows that were not."""
    quiet = [p for name, parts in kept.found.items() if name.startswith("quiet") for p in parts]
    codes = " and ".join(kept.codes)
    days, spent = sum(p["days"] for p in quiet), sum(kept.cpu_s.values())
    text = f"Seeds from {seed} on, {days:,.0f} quiet agent-days, {spent:,.0f} CPU seconds, sentinel {codes}"
    left_out = f" Not measured: {', '.join(missing)}." if missing else ""
    return f"{text}.{left_out} {note}".strip()


def show(rows: list[Row]) -> None:
    """Print the table."""
    print(f"{'measure':<86} {'must':>20} {'goal':>28}   measured")
    for row in rows:
        print(f"{row.measure:<86} {row.must:>20} {row.goal:>28}   {row.measured}   {verdict(row)[0]}")
        if row.rivals:
            print(" " * 90 + "beside: " + ", ".join(f"{name} {text}" for name, text in row.rivals.items()))


if __name__ == "__main__":
    main()
