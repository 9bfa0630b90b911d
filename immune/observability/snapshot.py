"""A copy of every instrument at one moment: what `/metrics` shows and what OTLP carries are made from the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from immune.observability.distributions import Series
from immune.observability.instruments import HistogramSpec, Instrument, Readings


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Every instrument at one moment. `since_us` is when the process began to count, `run_since_us` when the run did."""

    at_us: int
    since_us: int
    run_since_us: int
    numbers: tuple[tuple[Instrument, Readings], ...]
    histograms: tuple[tuple[HistogramSpec, Mapping[tuple[str, ...], Series]], ...]
