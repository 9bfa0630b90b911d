"""The demo over many seeds: what was found, missed, wrongly accused, how fast, how named, and how healing ended.

    python benchmarks/seeds.py [--seeds 20] [--first 1] [--duration 1800] [--decide approve] [--scenario default] [--json]

Every run is the public demo at full speed; each seed draws another fleet, other infections, other sizes and times.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

del sys.path[0]  # this folder: its dashboard.py would stand before the package dashboard

from showcase.choices import Choices, Decide, Speed  # noqa: E402
from showcase.demo import DEMO_POLICY, VIRTUAL_START_US, run_demo  # noqa: E402

STRONG = ("token_explosion", "tool_loop", "latency_spike", "retry_storm", "error_burst", "silent_stall")


def one(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The report of one seed."""
    with tempfile.TemporaryDirectory() as folder:
        return run_demo(
            Choices(
                duration_s=options.duration,
                agents=options.agents,
                seed=seed,
                out=Path(folder),
                speed=Speed.MAX,
                decide=Decide(options.decide),
                run_id=f"seed-{seed}",
                start_us=VIRTUAL_START_US,
                scenario=options.scenario,
                policy=DEMO_POLICY,
                show=False,
            )
        )


def row_of(report: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    strong = [i for i in report["injected"] if i["kind"] in STRONG]
    missed_strong = [m for m in report["missed"] if m["kind"] in STRONG]
    return {
        "seed": report["seed"],
        "injected": len(report["injected"]),
        "found": len(report["detected"]),
        "strong": len(strong),
        "strong_found": len(strong) - len(missed_strong),
        "missed": sorted(m["kind"] for m in report["missed"]),
        "false_quarantines": len(report["false_quarantines"]),
        "false_incidents": len(report["false_incidents"]),
        "median_delay_s": report["delay_s"]["median"],
        "p95_delay_s": report["delay_s"]["p95"],
        "top1": report["diagnosis_top1"],
        "escaped": report["containment"]["escaped"],
        "share_max": report["containment"]["share_max"],
        "heals": report["heals"],
        "approvals": report["approvals"],
        "delays": [(d["kind"], d["delay_s"], d["diagnosed"]) for d in report["detected"]],
        "events": report["journal"]["events"],
        "verified": report["journal"]["verified"],
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All seeds together. A heal of 0 false quarantines comes with its 95 % upper bound per agent-hour elsewhere; here are counts."""
    delays = sorted(delay for row in rows for kind, delay, _ in row["delays"] if kind in STRONG)
    named = [diagnosed == kind for row in rows for kind, _, diagnosed in row["delays"]]
    heals: Counter[str] = Counter()
    for row in rows:
        heals.update(row["heals"])
    return {
        "seeds": len(rows),
        "injected": sum(row["injected"] for row in rows),
        "found": sum(row["found"] for row in rows),
        "strong": sum(row["strong"] for row in rows),
        "strong_found": sum(row["strong_found"] for row in rows),
        "missed": dict(Counter(kind for row in rows for kind in row["missed"])),
        "false_quarantines": sum(row["false_quarantines"] for row in rows),
        "false_incidents": sum(row["false_incidents"] for row in rows),
        "strong_delay_median_s": delays[len(delays) // 2] if delays else None,
        "strong_delay_p95_s": delays[min(len(delays) - 1, int(0.95 * len(delays)))] if delays else None,
        "top1": round(sum(named) / len(named), 4) if named else None,
        "escaped": sum(row["escaped"] for row in rows),
        "share_max": max(row["share_max"] for row in rows),
        "heals": dict(heals),
    }


def main() -> None:
    """Run the seeds and print."""
    parser = argparse.ArgumentParser(description="The demo over many seeds.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--duration", type=int, default=1800)
    parser.add_argument("--agents", type=int, default=15)
    parser.add_argument("--decide", choices=("approve", "reject"), default="approve")
    parser.add_argument("--scenario", default="default")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for seed in range(options.first, options.first + options.seeds):
        rows.append(row_of(one(seed, options)))
        print(f"seed {seed} done", file=sys.stderr)
    total = summary(rows)
    if options.json:
        print(json.dumps({"benchmark": "seeds", "options": vars(options), "rows": rows, "total": total}, indent=2))
        return
    print("seed    found  strong falseQ falseI  median    p95  top1 verified undone person  missed")
    for row in rows:
        heals = row["heals"]
        print(
            f"{row['seed']:>4} {row['found']:>3}/{row['injected']:<4} {row['strong_found']:>3}/{row['strong']:<3} {row['false_quarantines']:>6} "
            f"{row['false_incidents']:>6} {row['median_delay_s'] or 0:>7.1f} {row['p95_delay_s'] or 0:>6.0f} {row['top1'] or 0:>5.2f} "
            f"{heals['verified']:>8} {heals['undone']:>6} {heals['exhausted']:>6}  {', '.join(row['missed'])}"
        )
    print(json.dumps(total, indent=2))


if __name__ == "__main__":
    main()
