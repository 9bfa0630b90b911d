"""Notes what came of the tests that claim to survive a fault: ``pytest -m fault --fault-results docs/faults.json``.

A partial run renews what it ran and leaves the rest; what no test claims any more is left out.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from tests import faults

PROPERTY = "fault"


class Recorder:
    """A plugin of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))

    def pytest_runtest_logreport(self, report) -> None:
        named = [value for name, value in report.user_properties if name == PROPERTY]
        test = report.nodeid.split("[")[0]
        for fault in named:
            cases = self.outcomes[fault][test]
            if report.failed:
                cases[report.nodeid] = "failed"
            elif report.skipped:
                cases.setdefault(report.nodeid, f"skipped: {_reason(report)}")
            elif report.when == "call":
                cases.setdefault(report.nodeid, "passed")

    def pytest_sessionfinish(self) -> None:
        if not self.outcomes:
            return
        known = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {"faults": {}}
        told: dict[str, dict[str, dict]] = {}
        for fault, tests in faults.claims().items():
            before = known["faults"].get(fault, {})
            told[fault] = {test: _counted(self.outcomes[fault][test]) if test in self.outcomes[fault] else before[test]
                           for test in tests if test in self.outcomes[fault] or test in before}  # fmt: skip
        run = {"at": datetime.now(UTC).strftime("%Y-%m-%d"), "commit": _commit(), "python": platform.python_version()}
        self.path.write_text(json.dumps({"run": run, "faults": told}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _counted(cases: dict[str, str]) -> dict:
    counted: dict = {name: sum(one.startswith(name) for one in cases.values()) for name in ("passed", "failed", "skipped")}
    reasons = sorted({one.removeprefix("skipped: ") for one in cases.values() if one.startswith("skipped: ")})
    return {**counted, "why": "; ".join(reasons)} if reasons else counted


def _reason(report) -> str:
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return told.removeprefix("Skipped: ").replace("|", "/").replace("\n", " ")[:120]


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=faults.ROOT, capture_output=True, text=True, check=False)
    changed = subprocess.run(["git", "status", "--porcelain", "immune"], cwd=faults.ROOT, capture_output=True, text=True, check=False)
    return (asked.stdout.strip() or "unknown") + (" and what was changed since" if changed.stdout.strip() else "")
