"""The table of what must be shown: must and goal beside what was measured, with intervals, and the rivals on the same samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trials.plan import SPARSE, Parts
from trials.rivals import RIVER, SIMPLE
from trials.tally import calibration_error, calibration_interval, poisson, wilson

RIVALS = (*SIMPLE, *RIVER)
DEPARTED_AT = 1
"""Which of the thresholds of the departures is shown: enough alarms to count, far enough from the start."""
HEALTHY = {
    "gaussian": (0.01, 0.001, "gaussian", "gaussian"),
    "lognormal": (0.01, 0.001, "lognormal(.8)", "lognormal(.8)"),
    "gamma": (0.01, 0.001, "gamma", "gamma"),
    "diurnal": (0.01, 0.001, "diurnal", "diurnal"),
    "deploys": (0.01, 0.001, "deploys to a fifth of the fleet, every second one unannounced", "deploys"),
    "recorded": (0.01, 0.001, "real token traffic, in its order", "real traffic"),
    "recorded mixed": (None, None, "real token traffic, order drawn anew", "real sizes, mixed"),
    "ar": (0.1, 0.01, "AR(.8)", "AR(.8)"),
    "tasks": (0.1, 0.01, "tasks, kind and step known", "tasks, known"),
    "tasks_unsaid": (1.0, 0.1, "tasks, context unknown", "tasks, unsaid"),
    "heavy": (None, None, "heavy tails (log Student t, 3 degrees)", "heavy tails"),
    "mixture": (None, None, "two kinds of requests mixed, unsaid", "mixed requests"),
    "tasks_paused": (None, None, "tasks with pauses between them", "tasks, pauses"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. value and bounds are numbers for charts; `must_met` and `goal_met` are None where nothing is asked.

    A limit counts as met when the point estimate meets it; `must_sure` and `sure` say whether the whole interval meets must and goal.
    """

    measure: str
    must: str = ""
    goal: str = ""
    measured: str
    must_met: bool | None = None
    goal_met: bool | None = None
    must_sure: bool | None = None
    sure: bool | None = None
    rivals: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


def table(found: Parts) -> list[Row]:
    """All rows for which something was measured."""
    makers = (_healthy, _sparse, _strong, _slow, _lasting, _outages, _bound, _diagnosis, _costs, _door)
    return [row for make in makers for row in make(found)]


# --- false alarms


def _healthy(found: Parts) -> Iterator[Row]:
    for shape, (must, goal, words, _) in HEALTHY.items():
        if parts := found.get(f"quiet {shape}"):
            days, count = sum(p["days"] for p in parts), sum(p["false"] for p in parts)
            low, high = poisson(count, days)
            yield _rate_row(
                f"false alarms per agent-day, {words}",
                must,
                goal,
                (count / days, low, high),
                f"{_rate(count / days)} [{_rate(low)}, {_rate(high)}] ({count} by {sum(p['by'] for p in parts)} agents in {days:,.0f} days)",
                {name: f"{seen['samples'] / max(seen['days'], 1e-9):,.0f}" for name, seen in _rivals(parts)},
                {"days": days, "count": count, "on": _merged(p["on"] for p in parts)},
            )


def _sparse(found: Parts) -> Iterator[Row]:
    for every in SPARSE:
        if parts := found.get(f"sparse {every:g}"):
            calls, count = sum(p["samples"] for p in parts), sum(p["false"] for p in parts)
            low, high = (1000 * bound for bound in poisson(count, calls))
            rate = 1000 * count / calls
            yield _rate_row(
                f"false episodes per 1,000 calls, one call per {every:g} s",
                0.005,
                0.0005,
                (rate, low, high),
                f"{_rate(rate)} [{_rate(low)}, {_rate(high)}] ({count} in {calls:,} calls)",
                {name: f"{1000 * seen['samples'] / max(seen['calls'], 1):.2g}" for name, seen in _rivals(parts)},
                {"calls": calls, "count": count},
            )


def _rate_row(
    measure: str,
    must: float | None,
    goal: float | None,
    value: tuple[float, float, float],
    text: str,
    rivals: dict[str, str],
    numbers: dict[str, Any],
) -> Row:
    rate, low, high = value
    return Row(
        measure=measure,
        must="" if must is None else f"{must:g}",
        goal="" if goal is None else f"{goal:g}",
        measured=text,
        must_met=None if must is None else rate <= must,
        goal_met=None if goal is None else rate <= goal,
        must_sure=None if must is None else high <= must,
        sure=None if goal is None else high <= goal,
        rivals=rivals,
        numbers={"value": rate, "low": low, "high": high, **numbers},
    )


def _rivals(parts: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, float]]]:
    for part in parts:
        if part["rivals"]:
            yield from part["rivals"].items()
            return


def _merged(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for key, value in count.items():
            total[key] = total.get(key, 0) + value
    return total


def _rate(rate: float) -> str:
    return "0" if rate == 0 else f"{rate:.2g}"


# --- faults


def _strong(found: Parts) -> Iterator[Row]:
    for name, words, must, goal, limits, aims in (
        ("strong 900", "strong kinds after 15 minutes of history", 0.99, 1.0, (15, 60), (8, 40)),
        ("strong tasks", "the same in agents with tasks", 0.99, 1.0, (15, 60), (8, 40)),
        ("strong 60", "strong kinds after 60 samples of history", 0.95, 0.99, (25, 120), (15, 60)),
    ):
        if not (parts := found.get(name)):
            continue
        delays = [tuple(pair) for part in parts for pair in part["delays"]]
        caught = [delay for _, delay in delays if delay]
        missed = _merged({kind: 1} for kind, delay in delays if not delay)
        rivals = {rule: _share_of(parts, rule) for rule in RIVALS if any(rule in part["rivals"] for part in parts)}
        yield _share_row(f"recall, {words}", must, goal, len(caught), len(delays), f"; missed {missed}" if missed else "", rivals)
        if caught:
            median, p95 = float(np.median(caught)), float(np.quantile(caught, 0.95))
            yield Row(
                measure=f"delay in samples, median / p95, {words}",
                must=f"{limits[0]} / {limits[1]}",
                goal=f"{aims[0]} / {aims[1]}",
                measured=f"{median:.0f} / {p95:.0f}",
                must_met=median <= limits[0] and p95 <= limits[1],
                goal_met=median <= aims[0] and p95 <= aims[1],
                rivals={rule: _delays_of(parts, rule) for rule in rivals},
                numbers={"median": median, "p95": p95, "delays": [[kind, delay] for kind, delay in delays]},
            )


def _share_of(parts: list[dict[str, Any]], rule: str) -> str:
    delays = [delay for part in parts for delay in part["rivals"].get(rule, ())]
    return f"{sum(delay is not None for delay in delays) / max(1, len(delays)):.2f}"


def _delays_of(parts: list[dict[str, Any]], rule: str) -> str:
    caught = [delay for part in parts for delay in part["rivals"].get(rule, ()) if delay is not None]
    return f"{np.median(caught):.0f} / {np.quantile(caught, 0.95):.0f}" if caught else "–"


def _share_row(measure: str, must: float, goal: float, hits: int, n: int, extra: str = "", rivals: dict[str, str] | None = None) -> Row:
    low, high = wilson(hits, n)
    return Row(
        measure=measure,
        must=f"{must:g}",
        goal=f"{goal:g}",
        measured=f"{hits / n:.3f} [{low:.3f}, {high:.3f}] ({hits} of {n}){extra}",
        must_met=hits / n >= must,
        goal_met=hits / n >= goal,
        must_sure=low >= must if must < 1 else None,
        sure=low >= goal if goal < 1 else None,
        rivals=rivals or {},
        numbers={"value": hits / n, "low": low, "high": high, "n": n},
    )


def _slow(found: Parts) -> Iterator[Row]:
    for name, kind, words, must, goal in (
        ("slow", "context_leak", "leak ×2 in 10 minutes, caught within 10 more", 0.8, 0.95),
        ("slow", "cost_creep", "cost creep ×2 in 10 minutes, caught within 10 more", 0.8, 0.95),
        ("slow", "prompt_drift", "prompt drift ×1.6 (lognormal .6), caught within 10 minutes of full size", 0.8, 0.95),
        ("slow tasks", "context_leak", "the leak in agents whose context grows within tasks", 0.8, 0.95),
        ("slow tasks", "prompt_drift", "the drift in agents with tasks", 0.8, 0.95),
        ("drift 1.3", "prompt_drift", "drift ×1.3 at lognormal .8, within 30 tasks, after 85", 0.5, 0.9),
        ("drift 1.3 known", "prompt_drift", "drift ×1.3 at lognormal .8, within 30 tasks, after 255", 0.5, 0.9),
        ("boiling 0.5", "boiling_latency", "boiling frog .5 % per 10 samples, latency, before ×2", 0.95, 0.99),
        ("boiling 0.5", "boiling_output", "boiling frog .5 % per 10 samples, output, before ×2", 0.95, 0.99),
        ("boiling 1", "boiling_latency", "boiling frog 1 % per 10 samples, latency, before ×2", 0.95, 0.99),
        ("boiling 1", "boiling_output", "boiling frog 1 % per 10 samples, output, before ×2", 0.95, 0.99),
    ):
        delays = [delay for part in found.get(name, ()) for k, delay in part["delays"] if k == kind]
        if not delays:
            continue
        caught = [delay for delay in delays if delay]
        middle = f"; median {np.median(caught):.0f} samples" if caught else ""
        if name.startswith("boiling") and caught:
            step = 1.005 if name.endswith("0.5") else 1.01
            middle += f", at ×{step ** (np.median(caught) / 10):.2f}"
        theirs: dict[str, list[bool]] = {}
        for part in found[name]:
            for rule, rule_delays in part["rivals"].items():
                theirs.setdefault(rule, []).extend(delay is not None for (k, _), delay in zip(part["delays"], rule_delays, strict=True) if k == kind)
        rivals = {rule: f"{sum(hits) / len(hits):.2f}" for rule, hits in theirs.items()}
        yield _share_row(words, must, goal, len(caught), len(delays), middle, rivals)


def _lasting(found: Parts) -> Iterator[Row]:
    if parts := found.get("sustained"):
        yield _share_row("fault still an alarm after an hour", 1.0, 1.0, sum(p["held"] for p in parts), sum(p["faults"] for p in parts))
    for name, words in (("from birth", "in a fleet that starts with it"), ("born later", "joining a fleet known for 15 minutes")):
        if not (parts := found.get(name)):
            continue
        delays = [delay for part in parts for _, delay in part["delays"]]
        caught = [delay for delay in delays if delay]
        yield Row(
            measure=f"sick from the first sample on, {words}: found within 600 samples",
            measured=f"{len(caught)} of {len(delays)}" + (f"; median {np.median(caught):.0f} samples" if caught else ""),
            numbers={"value": len(caught) / len(delays)},
        )
    if parts := found.get("bad values"):
        changes = [change for part in parts for change in part["changes"]]
        beyond = [change for part in parts for change in part["beyond_missing"]]
        yield Row(
            measure="one NaN, inf and 1e30 change a later delay by",
            must="0",
            goal="0",
            measured=f"{max(changes)} samples, largest of {len(changes)} faults; {max(beyond)} beyond what these samples missing changes",
            must_met=max(changes) == 0,
            goal_met=max(changes) == 0,
        )
    if hunts := [part for name in ("strong 900", "strong 60", "strong tasks", "slow", "slow tasks") for part in found.get(name, ())]:
        days, count = sum(p["healthy_days"] for p in hunts), sum(p["wrongly"] for p in hunts)
        yield Row(
            measure="healthy agents blamed in all these hunts",
            measured=f"{count} in {days:.1f} agent-days [{', '.join(map(_rate, poisson(count, days)))} a day]",
        )


def _outages(found: Parts) -> Iterator[Row]:
    if parts := found.get("outage at once"):
        incidents, known = [p["incidents"] for p in parts], [p["known"] or 999 for p in parts]
        others = sum(p["bystanders"] for p in parts) / sum(p["agents"] - p["hit"] for p in parts)
        members = sum(p["blamed_before"] + p["blamed_after"] for p in parts)
        yield Row(
            measure="outage of 30 % of 200 at once: incidents, bystanders, ticks to know",
            must="1, ≤ 1 %, 10",
            goal="1, 0, 3",
            measured=f"{max(incidents)}, {100 * others:.2g} %, {max(known)} (most of {len(parts)}); members blamed {members} of {_hit(parts)}",
            must_met=max(incidents) == 1 and others <= 0.01 and max(known) <= 10,
            goal_met=max(incidents) == 1 and others == 0 and max(known) <= 3,
        )
        yield from _sick_inside(parts, "at once")
    for name, words, asked in (
        ("outage staggered", "outage of 30 % of 200 over 5 minutes", True),
        ("outage small", "outage of a service of 3 among 15, over a minute", False),
    ):
        if parts := found.get(name):
            before, still = sum(p["blamed_before"] for p in parts), sum(p["still_blamed"] for p in parts)
            agents, unknown = sum(p["agents"] for p in parts), sum(p["known"] is None for p in parts)
            known = [p["known"] for p in parts if p["known"] is not None]
            share = before / agents
            when = f"known after {min(known)} to {max(known)} s" if known else "never known"
            yield Row(
                measure=f"{words}: quarantined before it is known; still 10 s after",
                must="≤ 5 % of the fleet; 0" if asked else "",
                goal="≤ 1 %; 0" if asked else "",
                measured=f"{100 * share:.2g} % of the fleet ({before} of {_hit(parts)} members); {still}; {when}; {unknown} of {len(parts)} unknown; "
                f"{sum(p['blamed_after'] for p in parts)} blamed later, {sum(p['bystanders'] for p in parts)} bystanders",
                must_met=(share <= 0.05 and not still and not unknown) if asked else None,
                goal_met=(share <= 0.01 and not still and not unknown) if asked else None,
                numbers={"value": share},
            )
            yield from _sick_inside(parts, "staggered" if asked else "small")


def _hit(parts: list[dict[str, Any]]) -> int:
    return sum(p["hit"] for p in parts)


def _sick_inside(parts: list[dict[str, Any]], words: str) -> Iterator[Row]:
    delays = [p["sick_known"] for p in parts]
    caught = [delay for delay in delays if delay is not None]
    yield Row(
        measure=f"a token explosion ×5 inside the outage ({words}) is still found",
        measured=f"{len(caught)} of {len(delays)}" + (f"; median {np.median(caught):.0f} samples" if caught else ""),
        numbers={"value": len(caught) / len(delays)},
    )


# --- the bound


def _bound(found: Parts) -> Iterator[Row]:
    for delta in (0.0, 0.25):
        for part in found.get(f"ideal {delta:g}", ()):
            alarms = part["runs"] - part["censored"]
            ratio = part["sum"] / max(alarms, 3) / part["c"]
            low = part["sum"] / max(1e-9, poisson(alarms, 1.0)[1]) / part["c"]
            delays = ", ".join(f"{delay:.0f} at {shift} sd" for shift, delay in part["delays"].items())
            yield Row(
                measure=f"run length over the set one, exchangeable data, exact ranks, margin {delta:g}",
                must="≥ 1",
                goal="≥ 1" if delta == 0 else "≥ 1; the price of the margin",
                measured=(
                    f"{'> ' if alarms < 3 else ''}{ratio:.2f}, at least {low:.2f} ({alarms} alarms in {part['sum']:,.0f} samples); "
                    f"delay of a shift: {delays}"
                ),
                must_met=ratio >= 1,
                goal_met=ratio >= 1,
                must_sure=low >= 1,
                sure=low >= 1,
                numbers={"value": ratio, "delays": part["delays"]},
            )
    for shape in ("gaussian", "lognormal", "ar"):
        for part in found.get(f"run length {shape}", ()):
            pairs = zip(part["set"], part["exposure"], part["alarms"], strict=True)
            texts = [f"{'> ' if n < 3 else ''}{exposure / max(n, 3) / c:.1f} at {c:,.0f} ({n})" for c, exposure, n in pairs]
            enough = [exposure / n / c for c, exposure, n in zip(part["set"], part["exposure"], part["alarms"], strict=True) if n >= 3]
            asked = shape == "gaussian"
            yield Row(
                measure=f"run length over the set one, the whole product, {shape}",
                must="≥ 1" if asked else "",
                goal="≥ 1" if asked else "",
                measured=", ".join(texts),
                must_met=min(enough, default=9.0) >= 1 if asked else None,
                goal_met=min(enough, default=9.0) >= 1 if asked else None,
                numbers=part,
            )


def departures(found: Parts) -> list[dict[str, Any]]:
    """Each departure from the proof: run length over the set one by shape (at `DEPARTED_AT`), and what is found; one dict a departure."""
    rows: dict[str, dict[str, Any]] = {}
    for part in found.get("departure", ()):
        row = rows.setdefault(part["departure"], {"departure": part["departure"]})
        exposure, alarms, c = part["exposure"][DEPARTED_AT], part["alarms"][DEPARTED_AT], part["set"][DEPARTED_AT]
        low, high = poisson(alarms, exposure)
        row[part["shape"]] = {
            "ratio": exposure / alarms / c if alarms else None,
            "low": 1 / high / c,
            "high": 1 / low / c if alarms else None,
            "alarms": alarms,
            "set": c,
        }
    for part in found.get("departure power", ()):
        row = rows.setdefault(part["departure"], {"departure": part["departure"]})
        for key in ("young", "old", "slow"):
            row.setdefault(key, []).extend(part[key])
        row["held"], row["lasting"] = row.get("held", 0) + part["held"], row.get("lasting", 0) + part["lasting"]
    return list(rows.values())


# --- names, costs, door


def named(found: Parts) -> list[dict[str, Any]]:
    """What every found fault was called at its alarm, frogs left out (they are no kind)."""
    names = ("strong 900", "strong tasks", "slow", "slow tasks", "other kinds")
    return [one for name in names for part in found.get(name, ()) for one in part["named"]]


def _diagnosis(found: Parts) -> Iterator[Row]:
    told = named(found)
    if not told:
        return
    yield _share_row("diagnosis top-1 at the alarm, all kinds", 0.85, 0.95, sum(one["right"] for one in told), len(told))
    top3 = sum(0 < one["rank"] <= 3 for one in told)
    yield Row(
        measure="  the true kind among the first three", measured=f"{top3 / len(told):.3f} [{', '.join(f'{b:.3f}' for b in wilson(top3, len(told)))}]"
    )
    pairs = [(one["confidence"], one["right"]) for one in told]
    error, (low, high) = calibration_error(pairs), calibration_interval(pairs)
    yield Row(
        measure="calibration error of its confidence",
        must="0.1",
        goal="0.05",
        measured=f"{error:.3f} [{low:.3f}, {high:.3f}] of {len(pairs)}",
        must_met=error <= 0.1,
        goal_met=error <= 0.05,
        must_sure=high <= 0.1,
        sure=high <= 0.05,
        numbers={"value": error, "low": low, "high": high},
    )
    kinds = sorted({one["kind"] for one in told})
    by_kind = {kind: [one for one in told if one["kind"] == kind] for kind in kinds}
    text = ", ".join(f"{kind} {sum(o['right'] for o in ones)}/{len(ones)}" for kind, ones in by_kind.items())
    yield Row(measure="  top-1 by kind", measured=text)


def _costs(found: Parts) -> Iterator[Row]:
    for name, words in (("speed 1000", "1,000 agents"), ("speed tasks", "1,000 agents with tasks"), ("speed 100000", "100,000 agents")):
        for part in found.get(name, ()):
            yield Row(
                measure=f"CPU ns per vital sample, {words}",
                must="400",
                goal="200",
                measured=f"{part['ns']:.0f} (median tick {part['ns_median']:.0f})",
                must_met=part["ns"] <= 400,
                goal_met=part["ns"] <= 200,
                numbers={"value": part["ns"]},
            )
    for part in found.get("speed 15", ()):
        yield Row(measure="CPU µs per call, 15 agents", measured=f"{part['us_per_call']:.0f}", numbers={"value": part["us_per_call"]})
        yield Row(
            measure="bytes of state per agent, 9 vitals and ratios, no cells",
            must="8,192",
            goal="5,120",
            measured=f"{part['bytes']:,.0f}",
            must_met=part["bytes"] <= 8192,
            goal_met=part["bytes"] <= 5120,
            numbers={"value": part["bytes"]},
        )


def _door(found: Parts) -> Iterator[Row]:
    if parts := found.get("door"):
        same, differ = sum(p["same"] for p in parts), sum(len(p["differ"]) for p in parts)
        yield Row(
            measure="incidents by `immune replay FILE` that differ from those by arrays",
            must="0",
            goal="0",
            measured=f"{differ} of {same + differ} (same agent, same second ± 1)",
            must_met=differ == 0,
            goal_met=differ == 0,
            numbers={"same": same, "differ": differ},
        )
