"""Charts as geometry: a `ChartSpec` becomes a `Plot` of paths and positions, which a template turns into inline SVG.

Paths live in a box of 1000 by 1000 that the page stretches to any size; words are placed beside it in percent, so that
they stay readable on a narrow screen. Long lines are thinned to the lowest and highest sample of each bucket: no peak
is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from immune.core.events import iso
from immune.reports.model import Band, ChartSpec, Mark, MarkKind, SpanKind

BOX = 1000.0
POINTS_MAX = 600
OUTSIDE_MAX = 200
GAP_FACTOR = 6.0
DRAWN_MAX, DRAWN_MIN = 1e18, 1e-12
ROUGH_SHARE, ROUGH_SAMPLES = 0.1, 20
LOG_FROM_RATIO = 30.0
TICKS = 4
PERCENT_PER_LETTER = 2.9
"""Room that a letter of a mark takes on a screen of 390 px; on wider ones there is more."""

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000, 7_776_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A value beside an axis, at this percentage from the left or from the top."""

    percent: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedMark:
    """A moment, at this percentage from the left; `flip` asks for its words on the left of it."""

    percent: float
    text: str
    kind: MarkKind
    row: int
    flip: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSpan:
    """A stretch, in percent from the left."""

    left: float
    width: float
    text: str
    kind: SpanKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A chart ready to be drawn; paths are SVG path texts in a box of 1000 by 1000, empty when there is nothing to draw.

    rough  healthy samples often leave the band: it does not know the step in the task, which the judgement does; nothing
           is marked as outside then
    """

    title: str
    unit: str
    summary: str
    line: str
    outside: str
    band: str
    expected: str
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    marks: tuple[PlacedMark, ...]
    spans: tuple[PlacedSpan, ...]
    log: bool
    points: int
    mark_rows: int
    rough: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """How times and values become places."""

    from_us: int
    to_us: int
    low: float
    high: float
    log: bool

    def x(self, at_us: Times) -> Floats:
        return (at_us - self.from_us) / max(1, self.to_us - self.from_us) * BOX

    def y(self, value: Floats) -> Floats:
        low, high, seen = self.low, self.high, value
        if self.log:
            low, high = math.log(low), math.log(high)
            seen = np.log(np.maximum(value, self.low))
        return BOX - (np.clip(seen, low, high) - low) / (high - low) * BOX

    def percent(self, at_us: int) -> float:
        return round(min(100.0, max(0.0, float(self.x(np.array([at_us]))[0]) / BOX * 100)), 2)


def plot(spec: ChartSpec) -> Plot:
    """The geometry of a chart. Equal specs give equal plots; empty, one-point and all-missing lines are fine."""
    from_us, to_us = _window(spec)
    shown = (spec.at_us >= from_us) & (spec.at_us <= to_us) & _drawable(spec.value)
    at_us, value = spec.at_us[shown], _without_dust(spec.value[shown])
    band = _visible_band(spec.band, from_us, to_us)
    frame = _frame(from_us, to_us, value, band, log=spec.log)
    kept = thin(at_us, value)
    outside = _outside(at_us, value, band)
    rough = _rough(at_us, outside, spec.marks)
    shown_outside = outside[:0] if rough else outside[:: max(1, -(-len(outside) // OUTSIDE_MAX))]
    marks, rows = _place_marks(spec.marks, frame)
    return Plot(
        title=spec.title,
        unit=spec.unit,
        summary=_summary(spec, at_us, value, band),
        line=_line(frame, at_us[kept], value[kept], breaks=_breaks(at_us)[kept]),
        outside=_dots(frame, at_us[shown_outside], value[shown_outside]),
        band=_area(frame, band),
        expected="" if band is None else _line(frame, band.at_us, band.expected.astype(np.float64), breaks=_breaks(band.at_us)),
        y_ticks=_y_ticks(frame),
        x_ticks=x_ticks(from_us, to_us),
        marks=marks,
        spans=_place_spans(spec, frame),
        log=frame.log,
        points=len(value),
        mark_rows=rows,
        rough=rough,
    )


def thin(at_us: Times, value: Floats, points_max: int = POINTS_MAX) -> NDArray[np.intp]:
    """Indices of at most `points_max` samples: the lowest and the highest of each of equally long buckets, in order."""
    n = len(value)
    if n <= points_max:
        return np.arange(n)
    buckets = max(1, points_max // 2)
    span_us = max(1, int(at_us[-1] - at_us[0]))
    bucket = np.minimum((at_us - at_us[0]) * buckets // span_us, buckets - 1)
    order = np.lexsort((value, bucket))
    starts = np.flatnonzero(np.diff(bucket[order], prepend=-1))
    ends = np.append(starts[1:], n) - 1
    return np.unique(np.concatenate((order[starts], order[ends])))


def x_ticks(from_us: int, to_us: int, ticks: int = TICKS) -> tuple[Tick, ...]:
    """Round times within a window, with as much of the date and clock as they need."""
    span_s = (to_us - from_us) / 1e6
    if span_s <= 0:
        return (Tick(percent=0.0, text=clock_text(from_us)),)
    step_s = next((step for step in _STEPS_S if span_s / step <= ticks), _STEPS_S[-1] * math.ceil(span_s / _STEPS_S[-1] / ticks))
    first = -(-from_us // (step_s * 1_000_000))
    last = to_us // (step_s * 1_000_000)
    places = [number * step_s * 1_000_000 for number in range(first, last + 1)]
    return tuple(Tick(percent=round((at - from_us) / (to_us - from_us) * 100, 2), text=_tick_text(at, step_s)) for at in places)


def clock_text(at_us: int) -> str:
    """``14:03:05`` UTC."""
    return iso(at_us)[11:19]


def quantity(value: float) -> str:
    """A number for people: three significant digits, thousands apart; an en dash when there is none."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1e12 or abs(value) < 1e-4:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}×10" + str(int(exponent)).translate(_RAISED)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _tick_text(at_us: int, step_s: int) -> str:
    text = iso(at_us)
    if step_s >= 86_400:
        return text[5:10]
    if step_s >= 43_200:
        return f"{text[5:10]} {text[11:16]}"
    return text[11:16] if step_s % 60 == 0 else text[11:19]


def _window(spec: ChartSpec) -> tuple[int, int]:
    inside = spec.at_us if len(spec.at_us) else np.array([mark.at_us for mark in spec.marks] or [0], dtype=np.int64)
    from_us = spec.from_us or int(inside[0])
    to_us = spec.to_us or int(inside[-1])
    return (from_us, to_us) if to_us > from_us else (from_us - 500_000, from_us + 500_000)


def _drawable(value: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Finite and not absurd: no axis can be written for 1e300."""
    drawable: NDArray[np.bool_] = np.isfinite(value) & (np.abs(value) <= DRAWN_MAX)
    return drawable


def _without_dust(value: NDArray[np.floating]) -> Floats:
    """Numbers too small to mean anything become 0, for they would stretch a logarithmic axis."""
    seen = value.astype(np.float64)
    return np.where(np.abs(seen) < DRAWN_MIN, 0.0, seen)


def _visible_band(band: Band | None, from_us: int, to_us: int) -> Band | None:
    """The part of a band in the window; its first and last known values reach to the edges, for it is drawn about once a minute."""
    if band is None:
        return None
    known = _drawable(band.low) & _drawable(band.high) & _drawable(band.expected)
    at_us = band.at_us[known]
    if not len(at_us):
        return None
    first = max(0, int(np.searchsorted(at_us, from_us, side="right")) - 1)
    last = int(np.searchsorted(at_us, to_us, side="left")) + 1
    at_us = np.clip(at_us[first:last], from_us, to_us)
    if not len(at_us):
        return None
    columns = [_without_dust(column[known][first:last]) for column in (band.expected, band.low, band.high)]
    if at_us[-1] < to_us:
        at_us = np.append(at_us, to_us)
        columns = [np.append(column, column[-1]) for column in columns]
    return Band(at_us=at_us, expected=columns[0], low=columns[1], high=columns[2])


def _frame(from_us: int, to_us: int, value: Floats, band: Band | None, *, log: bool | None) -> _Frame:
    parts = [value] if band is None else [value, band.low, band.high]
    seen = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])
    if not len(seen):
        return _Frame(from_us=from_us, to_us=to_us, low=0.0, high=1.0, log=False)
    low, high = float(seen.min()), float(seen.max())
    floor = float(seen[seen > 0].min()) if (seen > 0).any() else 0.0
    use_log = floor > 0 and (high / floor >= LOG_FROM_RATIO and low > 0 if log is None else log)
    if use_log:
        return _Frame(from_us=from_us, to_us=to_us, low=floor / 1.2, high=max(high * 1.2, floor * 1.5), log=True)
    low, high = min(0.0, low), max(0.0, high)
    room = (high - low) * 0.08 or max(abs(high), 1.0)
    return _Frame(from_us=from_us, to_us=to_us, low=low, high=high + room, log=False)


def _breaks(at_us: Times) -> NDArray[np.int64]:
    """A number that rises at every silence, so that lines do not cross it; (n,)."""
    if len(at_us) < 3:
        return np.zeros(len(at_us), dtype=np.int64)
    gaps = np.diff(at_us)
    usual = max(float(np.median(gaps)), 1.0)
    return np.concatenate(([0], np.cumsum(gaps > GAP_FACTOR * usual)))


def _line(frame: _Frame, at_us: Times, value: Floats, *, breaks: NDArray[np.int64]) -> str:
    """An SVG path; a lone point becomes a dot."""
    parts = []
    xs, ys = frame.x(at_us), frame.y(value)
    for piece in np.split(np.arange(len(xs)), np.flatnonzero(np.diff(breaks)) + 1):
        if len(piece):
            places = [f"{xs[i]:.1f} {ys[i]:.1f}" for i in piece]
            parts.append(f"M{places[0]}" + ("".join(f"L{place}" for place in places[1:]) or "h.01"))
    return "".join(parts)


def _dots(frame: _Frame, at_us: Times, value: Floats) -> str:
    return "".join(f"M{x:.1f} {y:.1f}h.01" for x, y in zip(frame.x(at_us), frame.y(value), strict=True))


def _area(frame: _Frame, band: Band | None) -> str:
    if band is None or len(band.at_us) < 2:
        return ""
    xs, lows, highs = frame.x(band.at_us), frame.y(np.asarray(band.low)), frame.y(np.asarray(band.high))
    there = [f"{x:.1f} {y:.1f}" for x, y in zip(xs, highs, strict=True)]
    back = [f"{x:.1f} {y:.1f}" for x, y in zip(xs[::-1], lows[::-1], strict=True)]
    return "M" + "L".join(there + back) + "Z"


def _outside(at_us: Times, value: Floats, band: Band | None) -> NDArray[np.intp]:
    """Indices of the samples beyond the band."""
    if band is None or not len(value):
        return np.empty(0, dtype=np.intp)
    low, high = (np.interp(at_us, band.at_us, np.asarray(edge, dtype=np.float64)) for edge in (band.low, band.high))
    return np.flatnonzero(((value > high) | (value < low)) & (at_us >= band.at_us[0]))


def _rough(at_us: Times, outside: NDArray[np.intp], marks: tuple[Mark, ...]) -> bool:
    """Whether more than `ROUGH_SHARE` of the samples before the first symptom lie outside."""
    onset_us = min((mark.at_us for mark in marks if mark.kind == "onset"), default=0)
    before = int(np.searchsorted(at_us, onset_us))
    return before >= ROUGH_SAMPLES and int(np.searchsorted(outside, before)) > ROUGH_SHARE * before


def _y_ticks(frame: _Frame) -> tuple[Tick, ...]:
    if frame.log:
        first, last = math.floor(math.log10(frame.low)), math.ceil(math.log10(frame.high))
        values = [base * 10.0**power for power in range(first, last + 1) for base in ((1, 3) if last - first <= 3 else (1,))]
    else:
        step = _nice_step((frame.high - frame.low) / TICKS)
        values = [step * number for number in range(math.ceil(frame.low / step), math.floor(frame.high / step) + 1)]
    inside = [value for value in values if frame.low <= value <= frame.high]
    return tuple(Tick(percent=round(float(frame.y(np.array([value]))[0]) / BOX * 100, 2), text=quantity(value)) for value in inside)


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * base for base in (1.0, 2.0, 2.5, 5.0, 10.0) if power * base >= rough * 0.999)


def _place_marks(marks: tuple[Mark, ...], frame: _Frame) -> tuple[tuple[PlacedMark, ...], int]:
    """Marks in the window; words that would collide go one row down."""
    inside = sorted((mark for mark in marks if frame.from_us <= mark.at_us <= frame.to_us), key=lambda mark: mark.at_us)
    free_from: list[float] = []
    placed = []
    for mark in inside:
        percent = frame.percent(mark.at_us)
        room = PERCENT_PER_LETTER * len(mark.text)
        flip = percent > 100 - room
        left = percent - room if flip else percent
        row = next((number for number, free in enumerate(free_from) if free <= left), len(free_from))
        free_from[row : row + 1] = [left + room]
        placed.append(PlacedMark(percent=percent, text=mark.text, kind=mark.kind, row=row, flip=flip))
    return tuple(placed), len(free_from)


def _place_spans(spec: ChartSpec, frame: _Frame) -> tuple[PlacedSpan, ...]:
    placed = []
    for span in spec.spans:
        left, right = frame.percent(span.from_us), frame.percent(span.to_us or frame.to_us)
        if right > left:
            placed.append(PlacedSpan(left=left, width=round(right - left, 2), text=span.text, kind=span.kind))
    return tuple(placed)


def _summary(spec: ChartSpec, at_us: Times, value: Floats, band: Band | None) -> str:
    """The chart in one sentence, for those who hear it."""
    if not len(value):
        return f"{spec.title}: no samples in this window."
    unit = f" {spec.unit}" if spec.unit else ""
    low, middle, high = (quantity(float(pick(value))) for pick in (np.min, np.median, np.max))
    words = f"{spec.title} from {clock_text(int(at_us[0]))} to {clock_text(int(at_us[-1]))} UTC, {len(value)} samples"
    words += f", lowest {low}{unit}, median {middle}{unit}, highest {high}{unit}"
    if band is not None:
        words += f"; expected about {quantity(float(np.median(band.expected)))}{unit}, up to {quantity(float(np.median(band.high)))}{unit}"
    return words + "."
