"""What a person expects of the dashboard, line by line, and which tests in a real browser show it.

A test of `tests/browser` shows a line by its name: ``test_b1_…`` shows B1. `docs/dashboard-lines.md` is made from this file
and from those names; `tests/docs/test_dashboard_lines.py` fails when it is not, or when a line has no test.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

BROWSER = Path(__file__).resolve().parent / "browser"
_CLAIM = re.compile(r"test_([a-d]\d+)_(.+)")

LINES: dict[str, str] = {
    "A1": "15 agents: a tile each with name, type, state as text, icon and colour, severity, tier, last seen; first data within 1.5 s",
    "A2": "10,000 agents: a map drawn within 500 ms of the data, under 3,000 nodes, a live frame under 50 ms",
    "A3": "pointing at a cell or focusing it tells id, state, severity; a click or Enter opens; arrows move; the table says the same, worst first",
    "A4": "groups by type, service, tier, state, and a filter box; both live in the address",
    "A5": "the counts sum to the fleet and filter when pressed",
    "A6": "what changed in the last 5 minutes, the newest first, with deep links",
    "A7": "a run is selected; another run's data never show",
    "B1": "a chart per vital: line, learned band, marks, shades of containment and healing; shared cursor, zoom, the range in the address",
    "B2": "why: ranked evidence, observed against expected, onset, calibration; how far a baseline is while it is learned",
    "B3": "timeline from detection to release, each event with its permalink and raw JSON",
    "B4": "contain, release, heal now, reset baseline, mute: disabled with the reason where not allowed",
    "C1": "severity, agent, diagnosis with confidence, sparkline, plan step by step, reach, the rule that asked, age and countdown",
    "C2": "approve, reject with a reason, snooze; what cannot be undone asks to type the agent's id",
    "C3": "who decides second sees who decided, and when",
    "C4": "an undo window before anything starts; rolling back afterwards",
    "C5": "together only what is alike, never what is irreversible",
    "C6": 'who, when and why stay; what was rejected keeps "Heal now"',
    "C7": "the count in the navigation and the title",
    "C8": "a viewer sees disabled buttons and why; the server answers 403",
    "D1": "live by server-sent events that resume; a chip says live, reconnecting, stale; a restart is caught up with, nothing twice",
    "D2": "updates never take focus, scroll, selection or half-typed words; pause freezes the view",
    "D3": "loading, empty, error with request id and retry, a banner when the store is away",
    "D4": "everything by keyboard: g f, g a, /, j k, Enter, a, r, ?, Esc, Tab; native dialogs; a decision in at most 6 keystrokes",
    "D5": "dark and light",
    "D6": "axe-core, WCAG 2.2 AA: no violation on any page, in both themes and widths; never colour alone",
    "D7": "390 px wide: no sideways scroll, requests can be decided",
    "D8": "no error on the console, no other origin, strict CSP without inline, an icon",
    "D9": "every list as filtered CSV, guarded against formulas, and JSON; an incident as a post-mortem",
    "D10": "local times with UTC on hover, units, ids that can be copied",
    "D11": "links to Grafana for agent and window; health, readiness, metrics, OpenAPI",
    "D12": "back and forward work; first load under 200 kB packed",
    "D13": "a hostile name is text everywhere",
    "D14": "login with roles; loopback by default; every change checks role and origin",
    "D15": "time travel: the fleet as it was at any moment, folded from the journal",
}

HEAD = """# The dashboard, line by line

What a person expects of it, and the tests that show each line in a real headless Chromium (`tests/browser`). Every tab in them
watches itself: an error on the console, a request to another origin or an unexpected answer fails the test that opened it.

This page is made from the names of the tests by `python docs/make.py`.

| line | what | shown by |
|---|---|---|
"""


def claims() -> dict[str, list[str]]:
    """Line -> ``file::test`` of every test that shows it."""
    found: dict[str, list[str]] = {}
    for path in sorted(BROWSER.glob("test_*.py")):
        for line, name in claims_of(path.read_text(encoding="utf-8")):
            found.setdefault(line, []).append(f"{path.name}::{name}")
    return found


def claims_of(source: str) -> Iterator[tuple[str, str]]:
    """(line, test) for every test of a file that is run: one that is marked to be skipped or to fail shows nothing."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (named := _CLAIM.fullmatch(node.name)):
            marks = " ".join(ast.unparse(one) for one in node.decorator_list)
            if "skip" not in marks and "xfail" not in marks:
                yield named[1].upper(), node.name


def page() -> str:
    """docs/dashboard-lines.md."""
    shown = claims()
    rows = [f"| {line} | {what} | {'<br>'.join(f'`{test}`' for test in shown.get(line, ())) or 'nothing yet'} |" for line, what in LINES.items()]
    return HEAD + "\n".join(rows) + "\n"
