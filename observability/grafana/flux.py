"""Pieces of Flux over the measurements of docs/influxdb.md, each scoped by the run. Variables are written as JSON text or as an escaped
regular expression, never bare: names come from outside.
"""

from __future__ import annotations

RUN = "r.run_id == ${run:json}"
OF_TYPE = "(not exists r.type or r.type =~ /^${type:regex}$/)"
AGENT = "r.agent =~ /^${agent:regex}$/"
"""Not as text: what agents call themselves may hold `${…}`, which Flux would work out inside a string."""


def points(measurement: str, *conditions: str, ever: bool = False, run: str = RUN) -> str:
    """The points of a measurement in the window, or since the run began (`ever`: what is open may have begun long ago)."""
    start = "0" if ever else "v.timeRangeStart"
    where = " and ".join([f'r._measurement == "{measurement}"', *([run] if run else []), *conditions])
    return f"from(bucket: v.defaultBucket)\n  |> range(start: {start}, stop: v.timeRangeStop)\n  |> filter(fn: (r) => {where})"


def field(name: str) -> str:
    """One field."""
    return f'r._field == "{name}"'


def either(column: str, *values: str) -> str:
    """One of these values of a column."""
    return "(" + " or ".join(f'r.{column} == "{value}"' for value in values) + ")"


def steps(*parts: str) -> str:
    """A pipeline."""
    return "\n  |> ".join(parts)


def or_zero(query: str) -> str:
    """The sum of a query's `_value`, 0 where it has no rows: nothing open is a number, not an absence."""
    return (
        'import "array"\nfound = '
        + query
        + '\n  |> keep(columns: ["_value"])\nnone = array.from(rows: [{_value: 0}])\nunion(tables: [found, none])\n  |> group()\n  |> sum()'
    )


def wide(*columns: str) -> str:
    """Fields beside each other, the newest first, only these columns; grouped after the pivot, because fields differ in type."""
    names = ", ".join(f'"{name}"' for name in columns)
    return steps(
        'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
        "group()",
        f"keep(columns: [{names}])",
        'sort(columns: ["_time"], desc: true)',
        "limit(n: 200)",
    )


def per_minute(fn: str = "sum") -> str:
    """By minute."""
    return f"aggregateWindow(every: 1m, fn: {fn}, createEmpty: false)"


def counted(*columns: str) -> str:
    """How many, by these columns."""
    names = ", ".join(f'"{name}"' for name in columns)
    return f'group(columns: [{names}])\n  |> count()\n  |> group()\n  |> rename(columns: {{_value: "count"}})'
