"""The measured tables as Markdown, as they stand in docs/sentinel.md."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from trials.page import power_text, rate_text, verdict
from trials.plan import SIZES, Parts
from trials.table import RIVALS, Row, departures, named
from trials.tally import reliability

SHAPES = {"gaussian": "exchangeable", "ar": "AR(.8)", "tasks_unsaid": "tasks, nothing said"}


def tables(rows: list[Row], found: Parts) -> str:
    """The tables that have something in them, one under the other."""
    return "\n\n".join(_all(rows, found).values())


def into(path: Path, rows: list[Row], found: Parts, run: str) -> list[str]:
    """Put each table between its marks, `<!-- detection: NAME -->` and `<!-- /detection -->`; which were put. Raises ValueError without marks."""
    text, put = path.read_text(encoding="utf-8"), []
    for name, table in {"run": run, **_all(rows, found)}.items():
        pattern = re.compile(rf"(<!-- detection: {name} -->\n).*?(<!-- /detection -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{path} has no mark <!-- detection: {name} --> … <!-- /detection -->")
        text = pattern.sub(lambda marks, table=table: f"{marks[1]}{table}\n{marks[2]}", text, count=1)
        put.append(name)
    path.write_text(text, encoding="utf-8")
    return put


def _all(rows: list[Row], found: Parts) -> dict[str, str]:
    made = {
        "measured": _measured(rows),
        "rivals": _rivals(rows),
        "confidence": _reliability(found),
        "sizes": _sizes(found),
        "departures": _departures(found),
    }
    return {name: text for name, text in made.items() if text}


def _sizes(found: Parts) -> str:
    lines = []
    for factor in SIZES:
        parts = found.get(f"size {factor:g}", [])
        delays = [delay for part in parts for _, delay in part["delays"]]
        caught = [delay for delay in delays if delay]
        if delays:
            lines.append([f"×{factor:g}", f"{len(caught)} of {len(delays)}", f"{np.median(caught):.0f}" if caught else "–"])
    return _table(["latency", "known within 600 samples", "median delay in samples"], lines) if lines else ""


def _table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in row) + " |" for row in rows)


def _measured(rows: list[Row]) -> str:
    lines = [[row.measure.strip(), row.must, row.goal, row.measured, verdict(row)[0]] for row in rows]
    return _table(["measure", "must", "goal", "measured", ""], lines)


def _rivals(rows: list[Row]) -> str:
    beside = [row for row in rows if row.rivals]
    names = [name for name in RIVALS if any(name in row.rivals for row in beside)]
    ours = [row.measured.split(" [")[0].split(" (")[0] for row in beside]
    lines = [[row.measure.strip(), mine, *(row.rivals.get(name, "") for name in names)] for row, mine in zip(beside, ours, strict=True)]
    return _table(["measure", "ours", *names], lines) if beside else ""


def _reliability(found: Parts) -> str:
    told = [(one["confidence"], one["right"]) for one in named(found)]
    lines = [
        [
            f"{row['low']:.1f} to {row['high']:.1f}",
            f"{row['n']:.0f}",
            f"{row['confidence']:.2f}",
            f"{row['right']:.2f} [{row['right_low']:.2f}, {row['right_high']:.2f}]",
        ]
        for row in reliability(told)
    ]
    return _table(["confidence said", "alarms", "mean", "right"], lines) if lines else ""


def _departures(found: Parts) -> str:
    rows = departures(found)
    if not rows:
        return ""
    lines = []
    for row in rows:
        lengths = [rate_text(row[shape]) if shape in row else "" for shape in SHAPES]
        power = [power_text(row[key]) if key in row else "" for key in ("young", "old", "slow")]
        lines.append([row["departure"], *lengths, *power, f"{row['held']} of {row['lasting']}" if "held" in row else ""])
    head = ["the product with", *(f"run length over set, {words}" for words in SHAPES.values())]
    return _table([*head, "strong, 60 samples", "strong, 900", "slow harm", "held an hour"], lines)
