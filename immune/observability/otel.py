"""The only module that knows the OpenTelemetry SDK: moments become spans, snapshots become metrics, both go out by OTLP.

Imported on the courier's thread and only with OTEL settings: it takes a third of a second, which a tick does not have.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from immune import __version__
from immune.observability.distributions import Example, Series
from immune.observability.instruments import HistogramSpec, Instrument, Readings
from immune.observability.otel_settings import OtelSettings, OtlpProtocol
from immune.observability.snapshot import Snapshot
from immune.observability.spans import Moment

NS_PER_US = 1000
CUMULATIVE = AggregationTemporality.CUMULATIVE
SCOPE = InstrumentationScope(name="immune", version=__version__)
LIBRARY = "opentelemetry"
EXPORTERS: dict[OtlpProtocol, str] = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http",
}
"""Imported by name: gRPC alone costs a tenth of a second and is not always there."""
_REFUSED = re.compile(r"code: (?:StatusCode\.)?(?:400|413|422|INVALID_ARGUMENT|RESOURCE_EXHAUSTED)\b")
"""What the exporters write when a collector will never take a batch as it is; they tell it to nobody in another way."""
SINGLES_MAX = 16
"""Spans refused one by one while none is taken: then it is the collector, and not a span, that is at fault."""


class Notices(logging.Handler):
    """Keeps the newest complaint of the library instead of letting it write a line for every retry."""

    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.newest = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember this one."""
        self.newest = record.getMessage()[:200]

    def attach(self) -> None:
        """Take the library's log over for good: even while it is shut down it complains."""
        logger = logging.getLogger(LIBRARY)
        logger.addHandler(self)
        logger.propagate = False


class Ids(IdGenerator):
    """Gives out the ids that the story has worked out."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        """The trace of the span that is being made."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """The span that is being made."""
        return self.span_id


class Kept(SpanProcessor):
    """Keeps what has ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span unless the sampler did not want it."""
        context = span.context
        if context is not None and context.trace_flags.sampled:
            self.spans.append(span)


class SpanMaker:
    """Moments as spans of the SDK, with their own ids and times. Sampler and limits are those of the OTEL settings."""

    def __init__(self, resource: Resource) -> None:
        self._ids, self._kept = Ids(), Kept()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(self._kept)
        self._tracer = self._provider.get_tracer(SCOPE.name, SCOPE.version)

    def spans(self, moments: Iterable[Moment]) -> Sequence[ReadableSpan]:
        """The sampled ones."""
        self._kept.spans = []
        for moment in moments:
            self._ids.trace_id, self._ids.span_id = moment.trace_id, moment.span_id
            span = self._tracer.start_span(
                moment.name,
                context=self._parent(moment),
                attributes=dict(moment.attributes),
                start_time=moment.start_us * NS_PER_US,
            )
            if moment.wrong:
                span.set_status(Status(StatusCode.ERROR, moment.wrong))
            span.end(moment.end_us * NS_PER_US)
        return self._kept.spans

    def _parent(self, moment: Moment) -> Context:
        if not moment.parent:
            return Context()
        # all spans of a trace share the fate of its root, though the root is made last
        sampled = self._provider.sampler.should_sample(Context(), moment.trace_id, "immune.incident").decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        parent = SpanContext(moment.trace_id, moment.parent, is_remote=False, trace_flags=flags)
        return set_span_in_context(NonRecordingSpan(parent), Context())


def resource_of(run_id: str) -> Resource:
    """Who speaks. What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say wins over what we say of ourselves."""
    ours = {"service.name": "immune", "service.version": __version__, "service.instance.id": run_id, "immune.run_id": run_id}
    said = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in ours.items() if name not in said})


def metrics_of(snapshot: Snapshot, resource: Resource) -> MetricsData:
    """Every instrument as OTLP metrics, cumulative."""
    metrics = [_number(instrument, readings, snapshot) for instrument, readings in snapshot.numbers if readings]
    metrics += [_histogram(spec, series, snapshot) for spec, series in snapshot.histograms if series]
    scope = ScopeMetrics(scope=SCOPE, metrics=metrics, schema_url="")
    return MetricsData(resource_metrics=[ResourceMetrics(resource=resource, scope_metrics=[scope], schema_url=resource.schema_url)])


def _number(instrument: Instrument, readings: Readings, snapshot: Snapshot) -> Metric:
    since_us = snapshot.run_since_us if instrument.of_run else snapshot.since_us
    points = [
        NumberDataPoint(
            attributes=dict(zip(instrument.keys, values, strict=True)),
            start_time_unix_nano=since_us * NS_PER_US,
            time_unix_nano=snapshot.at_us * NS_PER_US,
            value=int(number) if float(number).is_integer() else number,
        )
        for values, number in readings.items()
    ]
    if instrument.kind == "gauge":
        return Metric(name=instrument.name, description=instrument.says, unit=instrument.unit, data=Gauge(data_points=points))
    total = Sum(data_points=points, aggregation_temporality=CUMULATIVE, is_monotonic=instrument.kind == "counter")
    return Metric(name=instrument.name, description=instrument.says, unit=instrument.unit, data=total)


def _histogram(spec: HistogramSpec, series: Mapping[tuple[str, ...], Series], snapshot: Snapshot) -> Metric:
    points = [
        HistogramDataPoint(
            attributes=dict(zip(spec.keys, words, strict=True)),
            start_time_unix_nano=snapshot.since_us * NS_PER_US,
            time_unix_nano=snapshot.at_us * NS_PER_US,
            count=one.count,
            sum=one.total,
            bucket_counts=one.counts.tolist(),
            explicit_bounds=list(spec.bounds),
            min=one.low,
            max=one.high,
            exemplars=list(_exemplars(one.examples.values())),
        )
        for words, one in series.items()
    ]
    data = Histogram(data_points=points, aggregation_temporality=CUMULATIVE)
    return Metric(name=spec.name, description=spec.says, unit=spec.unit, data=data)


def _exemplars(examples: Iterable[Example]) -> Iterator[Exemplar]:
    for one in examples:
        yield Exemplar(filtered_attributes={}, value=one.value, time_unix_nano=one.at_us * NS_PER_US, span_id=one.span_id, trace_id=one.trace_id)


class Batches:
    """Spans for an exporter; a batch that is refused is halved until what is bad stands alone and is left behind, counted."""

    def __init__(self, exporter: SpanExporter, notices: Notices) -> None:
        self.refused = 0
        self._exporter = exporter
        self._notices = notices

    def send(self, spans: Sequence[ReadableSpan]) -> bool:
        """Whether nothing of these need be sent again: all were taken, but for those that never will be."""
        waiting, taken, bad = [spans], 0, 0
        while waiting:
            batch = waiting.pop()
            self._notices.newest = ""
            if self._exporter.export(batch) is SpanExportResult.SUCCESS:
                taken += len(batch)
            elif not _REFUSED.search(self._notices.newest):
                return False  # it is away; what was taken is sent once more, with the same ids
            elif len(batch) > 1:
                middle = len(batch) // 2
                waiting += [batch[middle:], batch[:middle]]
            else:
                bad += 1
            if bad >= SINGLES_MAX and not taken:
                break
        if bad and not taken:
            return False  # with nothing taken, nobody knows whether it is the spans; later ones come along the next time
        self.refused += bad
        return True


class Outlet:
    """Both exporters of the OTEL settings. Every call may block for as long as the settings allow; to be used on the courier's thread."""

    def __init__(self, settings: OtelSettings, run_id: str) -> None:
        self.notices = Notices()
        self.notices.attach()
        self._resource = resource_of(run_id)
        self._maker = SpanMaker(self._resource)
        self._traces = span_exporter(settings.traces) if settings.traces else None
        self._batches = Batches(self._traces, self.notices) if self._traces is not None else None
        self._metrics = metric_exporter(settings.metrics) if settings.metrics else None

    def send_moments(self, moments: Sequence[Moment]) -> bool:
        """Whether the collector took the spans of these moments."""
        spans = self._maker.spans(moments)
        return self._batches is None or not spans or self._batches.send(spans)

    def send_snapshot(self, snapshot: Snapshot) -> bool:
        """Whether the collector took these metrics."""
        return self._metrics is None or self._metrics.export(metrics_of(snapshot, self._resource)) is MetricExportResult.SUCCESS

    def refused(self) -> int:
        """Spans that the collector refused for good."""
        return self._batches.refused if self._batches is not None else 0

    def complaint(self) -> str:
        """The newest complaint of the library."""
        return self.notices.newest

    def shut_down(self) -> None:
        """Make whatever hangs in a retry give up."""
        for exporter in (self._traces, self._metrics):
            if exporter is not None:
                exporter.shutdown()


def span_exporter(protocol: OtlpProtocol) -> SpanExporter:
    """The exporter of a protocol; endpoint, headers, certificates and time limits come from the OTEL settings."""
    exporter: SpanExporter = importlib.import_module(f"{EXPORTERS[protocol]}.trace_exporter").OTLPSpanExporter()
    return exporter


def metric_exporter(protocol: OtlpProtocol) -> MetricExporter:
    """As `span_exporter`, for metrics."""
    exporter: MetricExporter = importlib.import_module(f"{EXPORTERS[protocol]}.metric_exporter").OTLPMetricExporter()
    return exporter
