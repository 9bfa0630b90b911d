"""Agents' own telemetry under the GenAI names of OpenTelemetry, as samples.

    span `chat`, `generate_content`, `text_completion`   one sample when it ends: latency, tokens, model, errors
    span `execute_tool`                                  counted in the agent's next sample of the same trace
    span `invoke_agent`                                  the task is done; of an agent whose calls are not spans, the sample itself
    histograms `gen_ai.client.…`                         means of what came since the point before, for agents without spans

The rows go to the queue of `POST /v1/vitals`, with its limits and its account. What is remembered between two requests is
bounded: what of a task has happened so far, where a cumulative series stood, and who sends spans.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from immune.ports import Bound
from immune.sources.otlp_wire import Attributes, Export, Point, Signal, Span, answer, read_export

NS, NS_PER_MS, NS_PER_US = 1_000_000_000, 1_000_000, 1000
MODEL_CALLS = frozenset({"chat", "text_completion", "generate_content"})
TOOL_CALL, INVOCATION = "execute_tool", "invoke_agent"
DURATION, TOKENS = "gen_ai.client.operation.duration", "gen_ai.client.token.usage"
TURNS_MAX, SERIES_MAX, SPEAKERS_MAX = 20_000, 20_000, 20_000
FRESH_NS = 300 * NS
"""A cumulative series that began longer ago when it is first seen says what was before this process: it is only noted."""

Row = dict[str, object]
K = TypeVar("K")
V = TypeVar("V")


class Newest(OrderedDict[K, V], Generic[K, V]):
    """A map that forgets what was longest not touched, and counts it."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.forgotten = 0

    def touch(self, key: K, value: V) -> None:
        """Put a value at the end."""
        self[key] = value
        self.move_to_end(key)
        while len(self) > self.limit:
            self.popitem(last=False)
            self.forgotten += 1


@dataclass(slots=True, kw_only=True)
class Turn:
    """What an agent has done in a trace: model calls so far, and tools since the last of them."""

    calls: int = 0
    tools: int = 0
    errors: int = 0
    tool: str = ""


@dataclass(slots=True, kw_only=True)
class _Means:
    """What an agent's histograms say of one interval."""

    at_ns: int = 0
    calls: int = 0
    errors: int = 0
    seconds: float = 0.0
    tokens: dict[str, tuple[int, float]] = field(default_factory=dict)
    most: int = 0
    who: Attributes = field(default_factory=dict)
    resource: Attributes = field(default_factory=dict)


class OtlpTranslator:
    """OTLP export requests as rows of `IngestSource.offer`. One for a daemon: it remembers what a trace began with."""

    def __init__(self) -> None:
        self.ignored = 0
        """Spans and points that say nothing of an agent's work."""
        self._turns: Newest[tuple[str, str], Turn] = Newest(TURNS_MAX)
        self._series: Newest[tuple[str, str, bytes], tuple[int, int, float]] = Newest(SERIES_MAX)
        self._with_spans: Newest[str, None] = Newest(SPEAKERS_MAX)

    def bounds(self) -> Sequence[Bound]:
        """How full its three memories are."""
        kept: tuple[tuple[str, Newest[tuple[str, str], Turn] | Newest[tuple[str, str, bytes], tuple[int, int, float]] | Newest[str, None]], ...] = (
            ("turns", self._turns),
            ("series", self._series),
            ("senders", self._with_spans),
        )
        return tuple(Bound(name=f"otlp.{name}", size=len(one), limit=one.limit, lost=one.forgotten) for name, one in kept)

    def read(self, signal: Signal, raw: bytes, media_type: str) -> Request:
        """An export request. Raises InputError for what is none."""
        return Request(self, read_export(signal, raw, media_type))

    def answer(self, signal: Signal, media_type: str, refused: int, why: str) -> bytes:
        """What its sender is told, in its own encoding."""
        return answer(signal, media_type, refused, why)

    def rows(self, export: Export, speaker: str = "") -> list[Row]:
        """Samples in order of time; `speaker` is who is meant where nothing names an agent, before its service is."""
        told = [self._row_of(span, speaker) for span in sorted(export.spans, key=lambda span: span.end_ns)]
        return [row for row in told if row is not None] + self._rows_of(export.points, speaker)

    # -- spans ---------------------------------------------------------------------------------------------------------

    def _row_of(self, span: Span, speaker: str) -> Row | None:
        operation = _operation(span.attributes)
        if operation not in MODEL_CALLS and operation not in {TOOL_CALL, INVOCATION}:
            self.ignored += 1
            return None
        identity = _identity(span.attributes, span.resource, speaker)
        agent = str(identity["agent"])
        self._with_spans.touch(agent, None)
        self._with_spans.touch(str(identity["service"]), None)
        key = (agent, span.trace_id)
        turn = self._turns.get(key) or Turn()
        failed = int(span.failed or "error.type" in span.attributes)
        if operation == TOOL_CALL:
            turn.tools += 1
            turn.errors += failed
            turn.tool = _text(span.attributes, "gen_ai.tool.name") or turn.tool
            self._turns.touch(key, turn)
            return None
        whole = operation in MODEL_CALLS or not turn.calls
        row = identity | {"at": _seconds(span.end_ns), "task_id": span.trace_id, "tool_calls": turn.tools}
        row |= {"tool": turn.tool, "step": turn.calls, "errors": turn.errors + (failed if whole else 0)}
        if whole:
            row |= _usage(span)
        if operation == INVOCATION:
            self._turns.pop(key, None)
            return row | {"status": "done"} if whole or turn.tools or failed else _heartbeat(row)
        self._turns.touch(key, Turn(calls=turn.calls + 1))
        return row | {"status": "working"}

    # -- histograms ----------------------------------------------------------------------------------------------------

    def _rows_of(self, points: Sequence[Point], speaker: str) -> list[Row]:
        found: dict[str, _Means] = {}
        for point in points:
            agent = str(_identity(point.attributes, point.resource, speaker)["agent"])
            # counted already, call by call
            if point.metric not in {DURATION, TOKENS} or _operation(point.attributes) not in MODEL_CALLS or agent in self._with_spans:
                self.ignored += 1
                continue
            count, total = self._since_before(agent, point)
            if count > 0:
                _add(found.setdefault(agent, _Means()), point, count, max(0.0, total))
        return [_mean_row(means, speaker) for means in found.values() if means.calls]

    def _since_before(self, agent: str, point: Point) -> tuple[int, float]:
        """How many, and their sum, since the point before of this series."""
        if point.delta:
            return point.count, point.total
        key = (agent, point.metric, point.series)
        before = self._series.get(key)
        self._series.touch(key, (point.start_ns, point.count, point.total))
        if before is not None and before[0] == point.start_ns and point.count >= before[1]:
            return point.count - before[1], point.total - before[2]
        return (point.count, point.total) if point.at_ns - point.start_ns <= FRESH_NS else (0, 0.0)


@dataclass(frozen=True, slots=True)
class Request:
    """One export request, and who makes samples of it."""

    translator: OtlpTranslator
    export: Export

    @property
    def bad(self) -> int:
        """Spans or points that could not be read."""
        return self.export.bad

    def agents(self, speaker: str = "") -> set[str]:
        """Whom it speaks of, tools and all."""
        told: list[Span | Point] = [*self.export.spans, *self.export.points]
        return {str(_identity(one.attributes, one.resource, speaker)["agent"]) for one in told if _operation(one.attributes)}

    def rows(self, speaker: str = "") -> list[Row]:
        """Its samples; to be asked once, because the translator goes on from there."""
        return self.translator.rows(self.export, speaker)

    def __len__(self) -> int:
        return len(self.export)


def _add(means: _Means, point: Point, count: int, total: float) -> None:
    means.at_ns = max(means.at_ns, point.at_ns)
    if point.metric == TOKENS:
        sort = _text(point.attributes, "gen_ai.token.type")
        had = means.tokens.get(sort, (0, 0.0))
        means.tokens[sort] = (had[0] + count, had[1] + total)
        return
    means.calls += count
    means.seconds += total
    means.errors += count if "error.type" in point.attributes else 0
    if count > means.most:
        means.most, means.who, means.resource = count, point.attributes, point.resource


def _mean_row(means: _Means, speaker: str) -> Row:
    row: Row = _identity(means.who, means.resource, speaker) | {"at": _seconds(means.at_ns), "errors": means.errors}
    row |= {"latency_ms": round(means.seconds / means.calls * 1000, 3), "status": "working"}
    for sort, vital in (("input", "input_tokens"), ("output", "output_tokens")):
        count, total = means.tokens.get(sort, (0, 0.0))
        if count:
            row[vital] = round(total / count, 1)
    return row


# -- attributes --------------------------------------------------------------------------------------------------------


def _operation(attributes: Attributes) -> str:
    """What was done; older instrumentations name a model and nothing else."""
    named = _text(attributes, "gen_ai.operation.name")
    return named or ("chat" if "gen_ai.request.model" in attributes else "")


def _identity(attributes: Attributes, resource: Attributes, speaker: str) -> Row:
    """Who it was: by id, else by name, of the span or its process, else whose token it is, else the service."""
    agent_id = _first(attributes, resource, "gen_ai.agent.id")
    name = _first(attributes, resource, "gen_ai.agent.name")
    service = _text(resource, "service.name")
    return {
        "agent": agent_id or name or speaker or service,
        "type": name if agent_id else "",
        "service": service,
        "provider": _text(attributes, "gen_ai.provider.name") or _text(attributes, "gen_ai.system"),
        "model": _text(attributes, "gen_ai.request.model") or _text(attributes, "gen_ai.response.model"),
        "version": _first(attributes, resource, "gen_ai.agent.version") or _text(resource, "service.version"),
    }


def _usage(span: Span) -> Row:
    attributes = span.attributes
    used = {
        "input_tokens": attributes.get("gen_ai.usage.input_tokens", attributes.get("gen_ai.usage.prompt_tokens")),
        "output_tokens": attributes.get("gen_ai.usage.output_tokens", attributes.get("gen_ai.usage.completion_tokens")),
        "latency_ms": (span.end_ns - span.start_ns) / NS_PER_MS,
    }
    return {name: value for name, value in used.items() if value is not None}


def _heartbeat(row: Row) -> Row:
    """The end of a task whose calls were told one by one: a status, and no vitals."""
    return {name: value for name, value in row.items() if name not in {"tool_calls", "errors", "step"}} | {"status": "done"}


def _first(attributes: Attributes, resource: Attributes, name: str) -> str:
    return _text(attributes, name) or _text(resource, name)


def _text(attributes: Attributes, name: str) -> str:
    value = attributes.get(name, "")
    return value if isinstance(value, str) else str(value)


def _seconds(at_ns: int) -> float:
    return at_ns // NS_PER_US / 1_000_000
