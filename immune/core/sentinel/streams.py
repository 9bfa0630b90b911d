"""The streams that are judged: each vital on a scale where a change is a shift, and the ratios derived from them.

Sizes go to ``log(1 + scale * value)``, shares to the logit, counts stay as they are. Whole numbers, and ratios that are
nearly exact, get a dither of less than one unit, so that equal values do not all sit on one edge of a bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from immune.core.vitals import VitalSchema

COST_PER_TOKEN = "cost_per_token"
LATENCY_PER_OUTPUT_TOKEN = "latency_per_output_token"
CONTEXT_GROWTH = "context_growth"
CONTEXT_START = "context_start"
"""Context at the first step of a task: within a task a leak hides behind the growth, from task to task it does not."""
RATIOS = (COST_PER_TOKEN, LATENCY_PER_OUTPUT_TOKEN, CONTEXT_GROWTH, CONTEXT_START)
SHOWN_AS = {CONTEXT_START: "context_tokens"}
"""Streams that speak of a vital under its own name."""
HARMLESS_DOWN = (COST_PER_TOKEN, LATENCY_PER_OUTPUT_TOKEN, "retries", "errors")
"""A fall of these harms nobody: shown as evidence, not counted towards an alarm."""
SHARE_EDGE = 0.02
"""Shares are kept this far from 0 and 1 before the logit."""

_LOWEST, _HIGHEST = np.float32(SHARE_EDGE), np.float32(1 - SHARE_EDGE)

Floats = NDArray[np.float32]
Scale = Literal["log", "logit", "count"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One judged stream.

    unit     for ``log``: the value is multiplied by this first (cost counts in micro-dollars)
    dither   width of the uniform dither, in scaled units for vitals, in log units for ratios
    floor    the smallest spread assumed, in log units: nothing is known more exactly than this
    column   the vital's column, -1 for a ratio
    """

    name: str
    scale: Scale
    unit: float
    dither: float
    floor: float
    column: int


class StreamTable:
    """All streams of a schema: continuous ones first (`continuous` of them), then counts."""

    def __init__(self, schema: VitalSchema) -> None:
        continuous: list[Stream] = []
        counts: list[Stream] = []
        for column, spec in enumerate(schema.specs):
            if spec.kind == "count":
                counts.append(Stream(name=spec.name, scale="count", unit=1.0, dither=0.0, floor=0.0, column=column))
            elif spec.kind == "share":
                continuous.append(Stream(name=spec.name, scale="logit", unit=1.0, dither=0.01, floor=0.05, column=column))
            else:
                unit, dither = _size_scale(spec.name, spec.integer)
                continuous.append(Stream(name=spec.name, scale="log", unit=unit, dither=dither, floor=0.03, column=column))
        ratio_units = (1e9, 10.0, 1.0, 1.0)
        for name, unit, floor in zip(RATIOS, ratio_units, (0.12, 0.06, 0.06, 0.05), strict=True):
            continuous.append(Stream(name=name, scale="log", unit=unit, dither=0.04, floor=floor, column=-1))
        self.streams = (*continuous, *counts)
        self.continuous = len(continuous)
        self.columns = np.array([stream.column for stream in self.streams if stream.column >= 0], dtype=np.intp)
        self.rows = np.array([row for row, stream in enumerate(self.streams) if stream.column >= 0], dtype=np.intp)
        self.shares = np.array([row for row, s in enumerate(continuous) if s.scale == "logit"], dtype=np.intp)
        self._unit_of = np.array([stream.unit for stream in self.streams])
        self._is_share = np.array([stream.scale == "logit" for stream in self.streams])
        self.counted = np.ones((2, len(self.streams), 1), dtype=np.float32)
        self.counted[1, [s.name in HARMLESS_DOWN for s in self.streams]] = 0
        self.first_ratio = self.continuous - len(RATIOS)
        self.units = np.array([s.unit for s in continuous], dtype=np.float32)[:, None]
        self.dithers = np.array([s.dither for s in continuous], dtype=np.float32)[:, None]
        self._whole = np.array([s.scale == "log" for s in continuous[: self.first_ratio]], dtype=np.float32)[:, None]
        self.floors = np.array([s.floor for s in continuous], dtype=np.float32)[:, None]
        by_name = {spec.name: column for column, spec in enumerate(schema.specs)}
        self._latency, self._input, self._output = by_name["latency_ms"], by_name["input_tokens"], by_name["output_tokens"]
        self._cost, self._context, self._tools = by_name["cost_usd"], by_name["context_tokens"], by_name["tool_calls"]

    def __len__(self) -> int:
        return len(self.streams)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in stream order."""
        return tuple(stream.name for stream in self.streams)

    def scaled(self, values: NDArray[np.float64], growth: Floats, begins: NDArray[np.bool_], uniform: Floats) -> Floats:
        """Streams of n samples: (streams, n) float32, NaN where missing.

        values (vitals, n) · growth (n,) context growth per step, NaN where unknown · begins (n,) a task begins · uniform (continuous, n) in (0, 1).
        """
        x = np.empty((len(self.streams), values.shape[1]), dtype=np.float32)
        x[self.rows] = values[self.columns]
        ratios = x[self.first_ratio : self.continuous]
        output = values[self._output]
        tokens = values[self._input] + output
        ratios[0] = values[self._cost] / np.where(tokens >= 1, tokens, np.nan)
        ratios[1] = values[self._latency] / np.where(output >= 1, output, np.nan)
        ratios[2] = growth
        ratios[3] = np.where(begins, values[self._context], np.nan)
        smooth = x[: self.continuous]
        dither = (uniform - np.float32(0.5)) * self.dithers
        for row in self.shares:
            share = np.minimum(np.maximum(smooth[row] + dither[row], _LOWEST), _HIGHEST)
            smooth[row] = share / (1 - share) - 1
        smooth *= self.units
        smooth[: self.first_ratio] += dither[: self.first_ratio] * self._whole
        smooth += np.float32(1)
        np.maximum(smooth, np.float32(1e-6), out=smooth)
        np.log(smooth, out=smooth)
        smooth[self.first_ratio :] += dither[self.first_ratio :]
        return x

    def context_growth(self, context: NDArray[np.float64], before: Floats, steps: NDArray[np.int32]) -> Floats:
        """Tokens of context per step since the agent's last sample, (n,); `steps` is 0 where the two are not of one task."""
        if not np.count_nonzero(steps > 0):
            return np.full(len(steps), np.nan, dtype=np.float32)
        grown = np.maximum(context - before, 0.0) / np.maximum(steps, 1)
        return np.where(steps > 0, grown, np.nan).astype(np.float32)

    def value(self, row: int, scaled: float) -> float:
        """A scaled value in the vital's unit."""
        return float(self.values(np.array([row]), np.array([scaled]))[0])

    def values(self, rows: NDArray[np.intp], scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scaled values of these streams in their vitals' units, (k,)."""
        value = np.expm1(np.minimum(scaled, 80.0)) / self._unit_of[rows]
        value = np.maximum(np.where(rows < self.continuous, value, scaled), 0.0)
        share = np.flatnonzero(self._is_share[rows])
        if len(share):
            value[share] = 1 / (1 + np.exp(-scaled[share]))
        return value

    def value_array(self, row: int, scaled: Floats) -> Floats:
        """Scaled values of one stream in the vital's unit."""
        stream = self.streams[row]
        if stream.scale == "count":
            return np.maximum(scaled, np.float32(0))
        if stream.scale == "logit":
            return (1 / (1 + np.exp(-scaled))).astype(np.float32)
        return np.maximum(np.expm1(np.minimum(scaled, np.float32(60))) / np.float32(stream.unit), np.float32(0))

    def scaled_array(self, row: int, values: Floats) -> Floats:
        """Values of one stream in the vital's unit, scaled without dither: what `value_array` undoes. NaN stays NaN."""
        stream = self.streams[row]
        if stream.scale == "count":
            return values
        if stream.scale == "logit":
            share = np.clip(values, _LOWEST, _HIGHEST)
            return np.log(share) - np.log(1 - share)
        return np.log1p(np.maximum(values, np.float32(0)) * np.float32(stream.unit))

    @property
    def task_columns(self) -> NDArray[np.intp]:
        """Columns of input tokens, output tokens, cost and tool calls."""
        return np.array([self._input, self._output, self._cost, self._tools], dtype=np.intp)

    @property
    def tool_column(self) -> int:
        """Column of ``tool_calls``."""
        return self._tools

    @property
    def output_column(self) -> int:
        """Column of ``output_tokens``."""
        return self._output

    @property
    def context_column(self) -> int:
        """Column of ``context_tokens``."""
        return self._context


def _size_scale(name: str, integer: bool) -> tuple[float, float]:
    if name == "cost_usd":
        return 1e6, 0.5
    if integer or name == "latency_ms":
        return 1.0, 1.0
    return 1e3, 0.0
