"""The panel as Prometheus reads it: text format 0.0.4, or OpenMetrics 1.0 with exemplars for who asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from immune.observability.distributions import Example, Series
from immune.observability.instruments import HistogramSpec, Instrument, Readings, prometheus_name
from immune.observability.snapshot import Snapshot

US = 1_000_000
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def expose(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """(body, content type) for an Accept header."""
    is_open = "application/openmetrics-text" in accept
    lines = [line for instrument, readings in snapshot.numbers for line in _numbers(instrument, readings, is_open)]
    lines += [line for spec, series in snapshot.histograms for line in _histogram(spec, series, is_open)]
    if is_open:
        lines.append("# EOF")
    return ("\n".join([*lines, ""])).encode(), OPEN_METRICS if is_open else TEXT


def _numbers(instrument: Instrument, readings: Readings, is_open: bool) -> Iterator[str]:
    name = prometheus_name(instrument.name, instrument.unit, instrument.kind)
    family = name.removesuffix("_total") if is_open else name
    yield f"# HELP {family} {instrument.says}"
    yield f"# TYPE {family} {'counter' if instrument.kind == 'counter' else 'gauge'}"
    for values, number in sorted(readings.items()):
        yield f"{name}{_words(instrument.keys, values)} {_number(number)}"


def _histogram(spec: HistogramSpec, series: Mapping[tuple[str, ...], Series], is_open: bool) -> Iterator[str]:
    name = prometheus_name(spec.name, spec.unit, "histogram")
    yield f"# HELP {name} {spec.says}"
    yield f"# TYPE {name} histogram"
    for values, one in sorted(series.items()):
        below = 0
        for bucket, edge in enumerate((*spec.bounds, float("inf"))):
            below += int(one.counts[bucket])
            example = _exemplar(one.examples.get(bucket)) if is_open else ""
            yield f"{name}_bucket{_words((*spec.keys, 'le'), (*values, _edge(edge, is_open)))} {below}{example}"
        yield f"{name}_sum{_words(spec.keys, values)} {_number(one.total)}"
        yield f"{name}_count{_words(spec.keys, values)} {one.count}"


def _exemplar(example: Example | None) -> str:
    if example is None:
        return ""
    return f' # {{trace_id="{example.trace_id:032x}",span_id="{example.span_id:016x}"}} {_number(example.value)} {example.at_us / US:.6f}'


def _words(keys: Iterable[str], values: Iterable[str]) -> str:
    pairs = ",".join(f'{key.replace(".", "_")}="{_escaped(value)}"' for key, value in zip(keys, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _edge(edge: float, is_open: bool) -> str:
    if edge == float("inf"):
        return "+Inf"
    return repr(edge) if is_open else f"{edge:g}"


def _number(value: float) -> str:
    # a count to its last digit, however large: OTLP tells the same
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.10g}"
