"""The measured table and its plots as one HTML file that needs nothing from outside; readable by day and by night."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from trials.charts import BOTTOM, TOP, Axis, Chart, decades
from trials.plan import SIZES, Parts
from trials.rivals import RIVER, SIMPLE
from trials.table import HEALTHY, RIVALS, Row, departures, named
from trials.tally import calibration_error, reliability

CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
INTRODUCTION = """Every figure is measured in one run, on fleets and faults drawn from seeds. Brackets hold 95 % intervals; a rate of 0 has its
upper bound, 3 / exposure. A false alarm is a crossing by a healthy agent that no shared cause explains."""
COLOURS = dict(zip(RIVALS, ("c1", "c7", "c2", "c3", "c4", "c5", "c6"), strict=True))


def write(path: Path, rows: list[Row], found: Parts, *, seed: int, full: bool, note: str = "") -> None:
    """Write the page."""
    figures = [figure for make in (_false_alarms, _run_length, _sizes, _delays, _reliability) for figure in make(found)]
    size = "full" if full else "quick: intervals are wide, and a rate of 0 over few agent-days shows little"
    body = [
        "<h1>What the sentinel shows</h1>",
        f'<p class="dim">Measured by benchmarks/detection.py, seeds from {seed} on, {size}. {escape(note)}</p>',
        f"<p>{INTRODUCTION}</p>",
        f'<div class="figures">{"".join(figures)}</div>',
        "<h2>The table</h2>",
        _table(rows),
        *_departures(found),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Detection</title>'
    path.write_text(f"{head}<style>{CSS}</style></head><body>{''.join(body)}</body></html>\n", encoding="utf-8")


def _figure(title: str, chart: Chart, caption: str) -> str:
    return f"<figure><h2>{escape(title)}</h2>{chart.svg()}<figcaption>{escape(caption)}</figcaption></figure>"


def _false_alarms(found: Parts) -> Iterator[str]:
    shapes = [shape for shape in HEALTHY if f"quiet {shape}" in found]
    if not shapes:
        return
    row_height = 26.0
    height = TOP + BOTTOM + row_height * len(shapes)
    chart = Chart(
        Axis(1e-4, 1e5, decades(1e-4, 1e5, _power), "alarms per agent-day", log=True),
        Axis(0, 1, (), ""),
        "False alarms per agent-day by scenario, with must, goal and rivals",
        height=height,
        left=190.0,
    )
    chart.legend += [("ours", "ours, 95 % interval"), ("must", "must"), ("goal", "goal"), *((COLOURS[name], name) for name in RIVALS)]
    for number, shape in enumerate(shapes):
        parts, y = found[f"quiet {shape}"], TOP + row_height * (number + 0.5)
        must, goal, _, short = HEALTHY[shape]
        chart.say(182, y + 4, short, "say", "end")
        for limit, css in ((must, "must"), (goal, "goal")):
            if limit is not None:
                chart.mark(limit, y - 9, y + 9, css)
        _one_rate(chart, y, sum(p["false"] for p in parts), sum(p["days"] for p in parts))
        for name, seen in parts[0]["rivals"].items():
            if seen["days"]:
                rate = seen["samples"] / seen["days"]
                chart.parts.append(_dot(chart.px(max(rate, 1e-4)), y, COLOURS[name], f"{name}: {rate:.3g} a day in {seen['days']:.2g} days"))
    yield _figure(
        "False alarms",
        chart,
        "Ours counts crossings, the rivals alarmed samples (they alarm again and again). A dot at the left edge is none seen; ours then ends at "
        "its upper bound. The rivals watched less, see the table.",
    )


def _one_rate(chart: Chart, y: float, count: int, days: float) -> None:
    from trials.tally import poisson

    low, high = poisson(count, days)
    chart.flat(y, max(low, 1e-4), high, "ours")
    chart.parts.append(_dot(chart.px(max(count / days, 1e-4)), y, "ours", f"{count} in {days:,.0f} agent-days, at most {high:.2g}"))
    chart.mark(high, y - 4, y + 4, "ours")


def _dot(x: float, y: float, css: str, words: str) -> str:
    return f'<circle class="dot {css}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{escape(words)}</title></circle>'


def _power(value: float) -> str:
    return f"{value:g}" if 1e-3 < value < 1e4 else f"1e{round(np.log10(value))}"


def _run_length(found: Parts) -> Iterator[str]:
    products = [(shape, part) for shape in ("gaussian", "lognormal", "ar") for part in found.get(f"run length {shape}", ())]
    if not products:
        return
    chart = Chart(
        Axis(100, 1e6, decades(100, 1e6, _power), "set: expected samples to a false alarm", log=True),
        Axis(100, 1e8, decades(100, 1e8, _power), "measured samples to an alarm", log=True),
        "Run length to a false alarm against the set one",
    )
    chart.line([(100, 100), (1e6, 1e6)], "diagonal", "as set")
    for css, (shape, part) in zip(("ours", "c1", "c3"), products, strict=False):
        rows = list(zip(part["set"], part["exposure"], part["alarms"], strict=True))
        sure = [(c, exposure / n, f"{n} alarms in {exposure:,.0f} samples") for c, exposure, n in rows if n >= 3]
        chart.line([(c, value) for c, value, _ in sure], css, f"{shape}, the whole product")
        chart.dots(sure, css)
        chart.at_least([(c, exposure / 3, f"{n} alarms in {exposure:,.0f} samples") for c, exposure, n in rows if n < 3], css)
    for delta, css in ((0.0, "c2"), (0.25, "c4")):
        ideal = [
            (part["c"], part["sum"] / max(3, part["runs"] - part["censored"]), f"{part['runs'] - part['censored']} alarms")
            for part in found.get(f"ideal {delta:g}", ())
        ]
        chart.dots(ideal, css, f"exact ranks, margin {delta:g}")
    yield _figure(
        "Run length", chart, "Above the dashed line is safer than set. Triangles: fewer than three alarms were seen, the value is at least this."
    )


def _sizes(found: Parts) -> Iterator[str]:
    sizes = [factor for factor in SIZES if f"size {factor:g}" in found]
    if not sizes:
        return
    ticks = [(factor, f"×{factor:g}") for factor in sizes]
    share = Chart(
        Axis(1.2, 6.5, ticks, "size of a latency fault", log=True),
        Axis(0, 1, [(v / 4, f"{v / 4:g}") for v in range(5)], "found"),
        "Share found against size",
    )
    delay = Chart(
        Axis(1.2, 6.5, ticks, "size of a latency fault", log=True),
        Axis(1, 600, [(1, "1"), (10, "10"), (100, "100"), (600, "600")], "samples to know", log=True),
        "Delay against size",
    )
    names = {"ours": None} | {COLOURS[name]: name for name in SIMPLE}
    for css, name in names.items():
        points, middle = [], []
        for factor in sizes:
            delays = _all_delays(found[f"size {factor:g}"], name)
            caught = [d for d in delays if d is not None]
            points.append((factor, len(caught) / len(delays)))
            if len(caught) >= len(delays) / 4:
                middle.append((factor, float(np.median(caught))))
                if name is None:
                    delay.upright(factor, float(np.quantile(caught, 0.1)), float(np.quantile(caught, 0.9)), css)
        share.line(points, css, name or "ours")
        share.dots([(x, y, f"{y:.2f}") for x, y in points], css)
        delay.line(middle, css, name or "ours")
        delay.dots([(x, y, f"{y:.0f} samples") for x, y in middle], css)
    yield _figure(
        "Delay against size",
        delay,
        "Median samples from the fault to the alarm, of those found (bars: 10 to 90 %); noise of sizes .25 to .6, history of 900 samples and more.",
    )
    yield _figure(
        "Found against size", share, "Within 600 samples. A rule that alarms all day finds everything at once: read together with the false alarms."
    )


def _all_delays(parts: list[dict[str, Any]], rival: str | None) -> list[int | None]:
    if rival is None:
        return [delay for part in parts for _, delay in part["delays"]]
    return [delay for part in parts for delay in part["rivals"][rival]]


def _delays(found: Parts) -> Iterator[str]:
    wanted = [
        (name, words)
        for name, words in (("strong 900", "900 samples of history"), ("strong tasks", "900, with tasks"), ("strong 60", "60 samples"))
        if name in found
    ]
    if not wanted:
        return
    chart = Chart(
        Axis(1, 180, [(v, str(v)) for v in (1, 3, 10, 30, 100, 180)], "samples since the fault", log=True),
        Axis(0, 1, [(v / 4, f"{v / 4:g}") for v in range(5)], "share known"),
        "Share of strong faults known against samples",
    )
    for css, (name, words) in zip(("ours", "c3", "c1"), wanted, strict=False):
        delays = [delay for part in found[name] for _, delay in part["delays"]]
        caught = sorted(delay for delay in delays if delay)
        chart.line(
            [(1.0, 0.0), *((float(d), (i + 1) / len(delays)) for i, d in enumerate(caught)), (180.0, len(caught) / len(delays))],
            css,
            words,
            steps=True,
        )
    yield _figure(
        "Strong kinds: how soon",
        chart,
        "Token explosion, tool loop, latency spike, retry storm, error burst, silent stall, at drawn sizes and times.",
    )


def _reliability(found: Parts) -> Iterator[str]:
    told = [(one["confidence"], one["right"]) for one in named(found)]
    if not told:
        return
    ticks = [(v / 5, f"{v / 5:g}") for v in range(6)]
    chart = Chart(Axis(0, 1, ticks, "confidence said"), Axis(0, 1, ticks, "share right"), "Reliability of the diagnosis")
    chart.line([(0, 0), (1, 1)], "diagonal", "as said")
    rows = reliability(told)
    for row in rows:
        chart.upright(row["confidence"], row["right_low"], row["right_high"], "ours")
    chart.dots([(row["confidence"], row["right"], f"{row['right']:.2f} of {row['n']}") for row in rows], "ours", "measured", radius=5)
    caption = f"{len(told)} alarms; calibration error {calibration_error(told):.3f}. Counts: " + ", ".join(
        f"{r['low']:.1f} to {r['high']:.1f}: {r['n']}" for r in rows
    )
    yield _figure("Is its confidence a probability?", chart, caption)


def _table(rows: list[Row]) -> str:
    lines = ["<tr><th>measure</th><th>must</th><th>goal</th><th>measured</th><th></th><th>others on the same data</th></tr>"]
    for row in rows:
        mark, css = verdict(row)
        beside = " · ".join(f"{name} {text}" for name, text in row.rivals.items())
        cells = (row.measure, row.must, row.goal, row.measured)
        lines.append(
            "<tr>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + f'<td class="{css}">{escape(mark)}</td><td class="dim">{escape(beside)}</td></tr>'
        )
    note = f"""Beside false alarms: alarmed samples per agent-day (per 1,000 calls in the sparse rows), {", ".join(SIMPLE)} over the first
    hours, {", ".join(RIVER)} on the first eight agents and twenty minutes. Beside recall and delay: what they reach while alarming that often."""
    return f'<div class="wide"><table>{"".join(lines)}</table></div><p class="dim">{escape(note)}</p>'


def verdict(row: Row) -> tuple[str, str]:
    """(word, CSS class) for a row: whether must and goal are met by the figure, and whether the interval shows it."""
    if row.must_met is None:
        return "", ""
    if not row.must_met:
        return "missed", "missed"
    if row.must_sure is False:
        return "met by the figure, not by its interval", "dim"
    if not row.goal_met:
        return "must met", "met"
    return ("goal met" if row.sure is not False else "must met; goal by the figure, not by its interval"), "met"


def _departures(found: Parts) -> Iterator[str]:
    rows = departures(found)
    if not rows:
        return
    shapes = list(dict.fromkeys(key for row in rows for key in row if isinstance(row[key], dict)))
    yield "<h2>Departures from the proof, one at a time</h2>"
    yield "<p>Run length to a false alarm over the set one (300 samples; more is safer), and what the same switch does to finding.</p>"
    head = "".join(f"<th>{escape(shape)}</th>" for shape in shapes)
    lines = [f"<tr><th>the product with</th>{head}<th>strong, 60 samples</th><th>strong, 900</th><th>slow harm</th><th>held an hour</th></tr>"]
    for row in rows:
        cells = "".join(f'<td class="number">{rate_text(row[shape])}</td>' if shape in row else "<td></td>" for shape in shapes)
        power = "".join(f'<td class="number">{power_text(row.get(key, []))}</td>' for key in ("young", "old", "slow"))
        lines.append(
            f"<tr><td>{escape(row['departure'])}</td>{cells}{power}<td class='number'>{row.get('held', '')} of {row.get('lasting', '')}</td></tr>"
        )
    yield f'<div class="wide"><table>{"".join(lines)}</table></div>'


def rate_text(rate: dict[str, Any]) -> str:
    """A run length over the set one, with its interval and the alarms counted."""
    if rate["ratio"] is None:
        return f"> {rate['low']:.1f} (0)"
    return f"{rate['ratio']:.1f} [{rate['low']:.1f}, {rate['high']:.1f}] ({rate['alarms']:.0f})"


def power_text(delays: list[int | None]) -> str:
    """How many were found, and the median delay."""
    caught = [delay for delay in delays if delay]
    return f"{len(caught)} of {len(delays)}, median {np.median(caught):.0f}" if caught else f"0 of {len(delays)}"
