"""Histograms of fixed bounds, the same for Prometheus and OpenTelemetry, with the newest example of every bucket.

They are kept here and not in an SDK because they exist without one, because a tick of 10,000 samples is added as one
array, and because both sides then serve equal numbers by construction.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SERIES_MAX = 64
OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One measurement and the span that it was of: the way from a number in a chart to the trace behind it."""

    value: float
    at_us: int
    trace_id: int
    span_id: int


@dataclass(slots=True, kw_only=True)
class Series:
    """One series of a histogram. `counts` has one more entry than there are bounds; the last one is open upwards."""

    counts: NDArray[np.int64]
    total: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    examples: dict[int, Example] = field(default_factory=dict)
    """Newest example by bucket."""

    @property
    def count(self) -> int:
        """Measurements so far."""
        return int(self.counts.sum())


class Distribution:
    """A histogram: bucket i holds ``bounds[i-1] < value <= bounds[i]``.

    At most `SERIES_MAX` combinations of attributes are kept; what comes beyond is counted under `other`, so that no one
    outside can make up series.
    """

    def __init__(self, bounds: Sequence[float], keys: tuple[str, ...] = ()) -> None:
        self.bounds = tuple(bounds)
        self.keys = keys
        self._series: dict[tuple[str, ...], Series] = {}

    @property
    def series(self) -> Mapping[tuple[str, ...], Series]:
        """Series by the words of their attributes."""
        return self._series

    def add(self, words: tuple[str, ...], value: float, example: Example | None = None) -> None:
        """One measurement."""
        found = self._find(words)
        bucket = bisect_left(self.bounds, value)
        found.counts[bucket] += 1
        found.total += value
        found.low, found.high = min(found.low, value), max(found.high, value)
        if example is not None:
            found.examples[bucket] = example

    def add_many(self, words: tuple[str, ...], values: NDArray[np.float64]) -> None:
        """Many at once; NaN is no measurement."""
        known = values[np.isfinite(values)]
        if not known.size:
            return
        found = self._find(words)
        found.counts += np.bincount(np.searchsorted(self.bounds, known, side="left"), minlength=len(self.bounds) + 1)
        found.total += float(known.sum())
        found.low, found.high = min(found.low, float(known.min())), max(found.high, float(known.max()))

    def _find(self, words: tuple[str, ...]) -> Series:
        found = self._series.get(words)
        if found is None:
            if len(self._series) >= SERIES_MAX:
                words = (OTHER,) * len(self.keys)
            found = self._series.setdefault(words, Series(counts=np.zeros(len(self.bounds) + 1, dtype=np.int64)))
        return found
