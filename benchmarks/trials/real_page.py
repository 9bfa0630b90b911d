"""Plots of real traffic with its incidents, so that a person can judge them; and the tables beside."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from workloads import US, read_azure

from trials.charts import Axis, Chart, decades
from trials.page import CSS

WINDOW = 61
DOTS = 1500
INCIDENT_CSS = ".span { fill: var(--bad); opacity: .14; } .speck { fill: var(--c5); opacity: .35; stroke: none; } .tick { font-size: 11px; }"
VITALS = (("input_tokens", 0, "ours"), ("output_tokens", 1, "c1"))


def write(path: Path, found: dict[str, Any], folder: Path) -> None:
    """Write the page."""
    body = [
        "<h1>Real recordings</h1>",
        "<p>Lines: running median of 61 requests; specks: single requests; shaded: from onset to the end of an incident.</p>",
    ]
    for case in found["azure"]:
        body.append(f"<h2>{escape(case['file'])}, {case['agents']} agent{'s' if case['agents'] > 1 else ''}</h2>")
        body.append(f"<p>{len(case['incidents'])} incidents, {case['quarantines']} quarantines in {case['agent_days']:.2f} agent-days.</p>")
        body.append(f'<div class="figures">{"".join(_figures(case, folder))}</div>')
    told = [name for name in ("tau", "who") if found[name]]
    body += [f"<h2>{name}</h2><pre>{escape(json.dumps(found[name], indent=1, default=float))}</pre>" for name in told]
    path.parent.mkdir(parents=True, exist_ok=True)
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Recordings</title>'
    path.write_text(f"{head}<style>{CSS}{INCIDENT_CSS}</style></head><body>{''.join(body)}</body></html>\n", encoding="utf-8")


def _figures(case: dict[str, Any], folder: Path) -> list[str]:
    at_us, sizes = read_azure(folder / case["file"])
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for incident in case["incidents"]:
        groups.setdefault(tuple(incident["agents"]) if len(incident["agents"]) == 1 else ("all",), []).append(incident)
    figures = []
    for names, incidents in groups.items() or {("all",): []}.items():
        mine = np.arange(len(at_us))
        if case["agents"] > 1 and names != ("all",):
            mine = mine[mine % case["agents"] == int(names[0].rpartition("-")[2])]
        chart = _traffic((at_us[mine] - at_us[0]) / (60 * US), sizes[mine], incidents)
        said = (
            "; ".join(f"{one['vital']} {one['direction']} ×{one['ratio']:.2f}, severity {one['severity']:.1f}" for one in incidents) or "no incident"
        )
        figures.append(f"<figure>{chart.svg()}<figcaption>{escape(', '.join(names))}: {escape(said)}</figcaption></figure>")
    return figures


def _traffic(minutes: NDArray[np.float64], sizes: NDArray[np.float64], incidents: list[dict[str, Any]]) -> Chart:
    end = float(minutes[-1])
    chart = Chart(
        Axis(0, end, [(float(m), f"{m}") for m in range(0, int(end) + 1, 10)], "minutes"),
        Axis(3, 20_000, decades(10, 10_000), "tokens", log=True),
        "Tokens of requests over time",
    )
    for one in incidents:
        begin, stop = chart.px(one["onset_s"] / 60), chart.px(end if one["closed_s"] is None else one["closed_s"] / 60)
        chart.parts.append(f'<rect class="span" x="{begin:.1f}" y="14" width="{max(2.0, stop - begin):.1f}" height="260"/>')
    some = np.unique(np.linspace(0, len(minutes) - 1, min(DOTS, len(minutes))).astype(int))
    for _, column, _ in VITALS:
        specks = "".join(f"M{chart.px(float(minutes[i])):.0f} {chart.py(max(3.0, float(sizes[i, column]))):.0f}h1" for i in some)
        chart.parts.append(f'<path class="line c5" style="opacity:.3" d="{specks}"/>')
    window = min(WINDOW, len(minutes) // 4 * 2 + 1)
    for name, column, css in VITALS:
        smooth = np.median(np.lib.stride_tricks.sliding_window_view(sizes[:, column], window), axis=1)
        at = minutes[window // 2 : window // 2 + len(smooth)]
        kept = np.unique(np.linspace(0, len(at) - 1, min(600, len(at))).astype(int))
        chart.line([(float(at[i]), max(3.0, float(smooth[i]))) for i in kept], css, f"{name}, running median of {window}")
    return chart
