"""The catalogue of faults, which tests claim to survive them, and what came of those tests when they last ran.

A test claims a fault with ``@pytest.mark.fault("F25")`` (several are fine; so are marks of single parameters). The page
`docs/reliability.md` is made from these claims and from the results of a real run (`make faults`), by nothing else.
"""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
RESULTS = ROOT / "docs" / "faults.json"

FAULTS = {
    "F1": "kill -9 of the daemon",
    "F2": "kill -9 of the telemetry writer",
    "F3": "kill -9 of the dashboard",
    "F4": "torn last record of the journal's log",
    "F5": "flipped byte in the journal",
    "F6": "disk full",
    "F7": "read-only data directory",
    "F8": "fsync error, never retried as a success",
    "F9": "out of memory in a child",
    "F10": "out of file handles",
    "F11": "out of threads",
    "F12": "InfluxDB down for an hour",
    "F13": "InfluxDB slow",
    "F14": "InfluxDB half-open connection",
    "F15": "InfluxDB 400",
    "F16": "InfluxDB 401",
    "F17": "InfluxDB 404",
    "F18": "InfluxDB 413",
    "F19": "InfluxDB 429 or 503 with Retry-After",
    "F20": "InfluxDB partial write",
    "F21": "OpenTelemetry collector absent",
    "F22": "OpenTelemetry collector hangs",
    "F23": "clock back an hour",
    "F24": "suspend and resume",
    "F25": "duplicated vitals",
    "F26": "late and out-of-order vitals",
    "F27": "NaN, infinite, negative, huge vitals",
    "F28": "absent or wrongly typed vitals",
    "F29": "silent agent",
    "F30": "100,000 invented agent ids",
    "F31": "injection through ids into line protocol",
    "F32": "injection through ids into Flux",
    "F33": "injection through ids into HTML",
    "F34": "injection through ids into logs",
    "F35": "cross-site request",
    "F36": "missing or wrong role on every route",
    "F37": "two approvals at once",
    "F38": "approval after expiry",
    "F39": "approval replayed or altered",
    "F40": "approver is the requesting person",
    "F41": "role lost between request and start",
    "F42": "secrets in output",
    "F43": "server-side request to loopback or link-local",
    "F44": "model output that obeys an injected instruction",
    "F45": "boiling frog: a fault that creeps in",
    "F46": "poisoned warm-up: sick from the first sample",
    "F47": "shared outage at once",
    "F48": "shared outage staggered",
    "F49": "healer flapping",
    "F50": "action that hangs",
    "F51": "action that fails half way",
    "F52": "action that answers late or never",
    "F53": "stalled loop, noticed within 5 s",
    "F54": "dead background task",
    "F55": "growth over days",
    "F56": "busy dashboard",
    "F57": "two daemons on one run",
    "F58": "old event schema",
    "F59": "unknown event schema",
    "F60": "backup under load",
    "F61": "restore of an older copy",
}

NOT_YET = {
    "F3": "the dashboard is a process of its own that the daemon starts again; no test claims it yet",
    "F44": "no language model takes part in any decision: there is no reasoning part yet",
    "F56": "the dashboard has its own process and limits; no test claims it yet",
}
"""Faults that cannot happen yet, or that nothing survives yet: why. Ignored for a fault that a test claims."""

IN_PART = {"F46": "it is found against its type where three settled others of it are known; in small or widely differing types often not"}
"""Faults whose tests pass and still do not show all that the fault asks for: what is missing."""

Claims = dict[str, list[str]]
"""Fault -> ``tests/…/test_x.py::test_name``, sorted."""


@cache
def claims() -> Claims:
    """What the tests in the tree claim, read from their source."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "fault(" in text:
            for fault, test in _claims_of(ast.parse(text)):
                found[fault].add(f"{path.relative_to(ROOT).as_posix()}::{test}")
    return {fault: sorted(found[fault]) for fault in sorted(found, key=_number)}


def _claims_of(module: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            for decorator in node.decorator_list:
                for call in ast.walk(decorator):
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "fault":
                        yield from ((str(ast.literal_eval(one)), node.name) for one in call.args)


def _number(fault: str) -> int:
    return int(fault.removeprefix("F")) if fault.removeprefix("F").isdigit() else 0


def results() -> dict:
    """The results of the last run: ``{"run": {…}, "faults": {fault: {test: {passed, failed, skipped, why}}}}``."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"run": {}, "faults": {}}


PAGE_HEAD = """# Reliability

What Immune is expected to survive, which tests prove it, and what came of them. "Survived" means: every test named here passed in the
run below. This page is made from the tests and from the results of that run (`make faults`); nothing in it is written by hand, and a
test fails when it does not say what the tests say. Counts and speeds: [reliability.json](reliability.json); the harnesses: [proving.md](proving.md).

"""


def page() -> str:
    """docs/reliability.md."""
    known, claimed = results(), claims()
    rows = [(fault, what, *_told(fault, claimed.get(fault, []), known["faults"].get(fault, {}))) for fault, what in FAULTS.items()]
    survived = sum(row[2] == "survived" for row in rows)
    lines = [PAGE_HEAD + f"**{survived} of {len(FAULTS)} faults survived.** {_of_run(known['run'])}", ""]
    lines += ["| fault | what | result | tests (cases) |", "|---|---|---|---|"]
    lines += [f"| {fault} | {what} | {result} | {tests} |" for fault, what, result, tests in rows]
    return "\n".join(lines) + "\n"


def _of_run(run: dict) -> str:
    return "Run: " + ", ".join(f"{name} {run[name]}" for name in sorted(run)) + "." if run else "Not run yet."


def _told(fault: str, claimed: list[str], known: dict) -> tuple[str, str]:
    if not claimed:
        return "not yet", NOT_YET.get(fault, "no test")
    counts = [known.get(test, {}) for test in claimed]
    told = "<br>".join(f"`{test.removeprefix('tests/')}`{_cases(count)}" for test, count in zip(claimed, counts, strict=True))
    if any(count.get("failed") for count in counts):
        return "**failed**", told
    if not any(count.get("passed") for count in counts):
        return "not run", told
    whole = all(count.get("passed") and not count.get("skipped") for count in counts)
    if fault in IN_PART:
        return "in part", f"{IN_PART[fault]}<br>{told}"
    return "survived" if whole else "in part", told


def _cases(count: dict) -> str:
    if not count:
        return " (not run)"
    parts = [str(count["passed"])]
    parts += [f"{count[name]} {name}" for name in ("failed", "skipped") if count.get(name)]
    return f" ({', '.join(parts)}{': ' + count['why'] if count.get('why') else ''})"
