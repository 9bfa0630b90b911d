"""Four kinds of agents, and the cast of a fleet: who they are and how each one differs from its peers.

A kind says what its work looks like on average; the cast draws, once and by seed, where each agent stands. All of it
is arrays over agents, because ten thousand of them must advance in a few milliseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from immune.errors import InputError
from simulation.draws import stream

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CONTEXT_WINDOW_TOKENS = 190_000.0
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKind:
    """A kind of task: how it scales the usual number of steps, output and starting context of its agent's kind."""

    name: str
    steps: float
    output: float
    context: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKind:
    """What one kind of agent does, step by step.

    steps        median number of steps of a task; `steps_range` bounds it
    output       median output tokens of a step, lognormal with sd `output_sd`
    context      tokens in the context at step 0; each step adds about `growth` and part of the output
    tool_rate    mean tool calls of a step
    pause_ticks      longest pause between two tasks
    """

    name: str
    steps: float
    steps_range: tuple[int, int]
    output: float
    output_sd: float
    context: float
    growth: float
    tool_rate: float
    pause_ticks: int
    tools: tuple[str, str, str, str]
    tasks: tuple[TaskKind, TaskKind, TaskKind]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model: who serves it, how fast it answers, what it costs (USD per million tokens)."""

    name: str
    provider: str
    first_token_ms: float
    ms_per_output_token: float
    usd_per_m_input: float
    usd_per_m_output: float


KINDS: tuple[AgentKind, ...] = (
    AgentKind(
        name="coder",
        steps=22.0,
        steps_range=(8, 60),
        output=420.0,
        output_sd=0.45,
        context=7000.0,
        growth=750.0,
        tool_rate=1.6,
        pause_ticks=5,
        tools=("edit_file", "run_tests", "search_code", "git"),
        tasks=(
            TaskKind(name="fix_bug", steps=1.0, output=1.0, context=1.0),
            TaskKind(name="add_feature", steps=1.4, output=1.25, context=1.2),
            TaskKind(name="review_change", steps=0.6, output=0.8, context=1.4),
        ),
        version="3.2.0",
    ),
    AgentKind(
        name="researcher",
        steps=16.0,
        steps_range=(6, 45),
        output=560.0,
        output_sd=0.5,
        context=5000.0,
        growth=1500.0,
        tool_rate=2.0,
        pause_ticks=6,
        tools=("web_search", "fetch_page", "read_pdf", "take_note"),
        tasks=(
            TaskKind(name="survey", steps=1.3, output=1.2, context=1.0),
            TaskKind(name="fact_check", steps=0.7, output=0.7, context=0.8),
            TaskKind(name="compare", steps=1.0, output=1.0, context=1.2),
        ),
        version="2.0.4",
    ),
    AgentKind(
        name="support",
        steps=7.0,
        steps_range=(3, 18),
        output=170.0,
        output_sd=0.3,
        context=2600.0,
        growth=260.0,
        tool_rate=0.8,
        pause_ticks=4,
        tools=("find_customer", "search_help", "read_order", "open_ticket"),
        tasks=(
            TaskKind(name="refund", steps=1.1, output=0.9, context=1.1),
            TaskKind(name="how_to", steps=0.8, output=1.2, context=0.9),
            TaskKind(name="complaint", steps=1.2, output=1.1, context=1.0),
        ),
        version="5.1.1",
    ),
    AgentKind(
        name="planner",
        steps=10.0,
        steps_range=(4, 24),
        output=760.0,
        output_sd=0.35,
        context=4200.0,
        growth=480.0,
        tool_rate=0.6,
        pause_ticks=6,
        tools=("read_calendar", "assign_task", "read_board", "estimate"),
        tasks=(
            TaskKind(name="sprint", steps=1.3, output=1.2, context=1.3),
            TaskKind(name="triage", steps=0.7, output=0.7, context=1.0),
            TaskKind(name="roadmap", steps=1.1, output=1.1, context=1.0),
        ),
        version="1.7.2",
    ),
)
MODELS: tuple[Model, ...] = (
    Model(name="north-large", provider="north", first_token_ms=620.0, ms_per_output_token=14.0, usd_per_m_input=3.0, usd_per_m_output=15.0),
    Model(name="north-small", provider="north", first_token_ms=310.0, ms_per_output_token=6.5, usd_per_m_input=0.5, usd_per_m_output=2.5),
    Model(name="harbor-2", provider="harbor", first_token_ms=480.0, ms_per_output_token=10.0, usd_per_m_input=1.6, usd_per_m_output=8.0),
)
MODELS_OF_KIND: Mapping[str, tuple[int, ...]] = {"coder": (0, 2), "researcher": (0, 2), "support": (1, 2), "planner": (0, 1)}
SHARES: Mapping[str, float] = {"coder": 0.34, "researcher": 0.26, "support": 0.26, "planner": 0.14}
SERVICES: tuple[str, ...] = ("storefront", "platform", "insights")
TOOL_COUNT_TERMS, RETRY_TERMS, ERROR_TERMS = 9, 4, 3


def counts_of_kinds(agents: int, shares: Mapping[str, float] = SHARES) -> dict[str, int]:
    """How many agents of each kind: by largest remainder, so that they add up. Raises InputError for a bad number or kind."""
    if not 1 <= agents <= 1_000_000:
        raise InputError("a fleet has between 1 and 1,000,000 agents", field="agents", value=agents, way_out="give for instance 15")
    known = [kind.name for kind in KINDS]
    for name, share in shares.items():
        if name not in known:
            raise InputError("unknown kind of agent", field="fleet", value=name, way_out="one of " + " ".join(known))
        if not 0 <= share < float("inf"):
            raise InputError("a share is a number of at least 0", field=f"fleet.{name}", value=share)
    total = sum(shares.values())
    if total <= 0:
        raise InputError("no kind of agent has a share", field="fleet", value=dict(shares), way_out="give one kind a share above 0")
    exact = {name: agents * shares.get(name, 0.0) / total for name in known}
    counts = {name: int(exact[name]) for name in known}
    by_remainder = sorted(known, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: agents - sum(counts.values())]:
        counts[name] += 1
    return counts


def prompt_hash(kind: str, version: str) -> str:
    """The hash of the prompt that a kind of agent runs in a version: 12 hex digits."""
    return hashlib.blake2b(f"{kind} {version}".encode(), digest_size=6).hexdigest()


def poisson_cdf(rate: Floats, terms: int) -> Floats:
    """P(N <= k) for k < terms of Poisson counts with these rates; (n, terms). A uniform above column k means a count above k."""
    k = np.arange(1, terms)
    weights = np.concatenate([np.ones((len(rate), 1)), np.cumprod(rate[:, None] / k, axis=1)], axis=1)
    cdf: Floats = np.cumsum(np.exp(-rate)[:, None] * weights, axis=1)
    return cdf


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The agents of a fleet, (n,) each in the order of their ids; nothing here changes during a run.

    log_output, output_sd      natural log of median output tokens and its sd
    context, growth            tokens at step 0, and added by each step
    log_latency                log of how much slower (or faster) than its model this agent is
    tool_cdf, retry_cdf, error_cdf   see `poisson_cdf`
    drift, phase               size of the slow daily swing (log), and its phase in days
    lag                        how long before the tick this agent reports, share of a period
    """

    ids: tuple[str, ...]
    services: tuple[str, ...]
    kind: Ints
    model: Ints
    log_output: Floats
    output_sd: Floats
    context: Floats
    growth: Floats
    steps: Floats
    steps_low: Floats
    steps_high: Floats
    pause_ticks: Floats
    log_latency: Floats
    first_token_ms: Floats
    ms_per_token: Floats
    usd_per_input: Floats
    usd_per_output: Floats
    tool_rate: Floats
    tool_cdf: Floats
    retry_cdf: Floats
    error_cdf: Floats
    confidence: Floats
    drift: Floats
    phase: Floats
    lag: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def provider(self, index: int) -> str:
        """Provider of an agent's model."""
        return MODELS[int(self.model[index])].provider

    def members(self, field: str, value: str) -> tuple[int, ...]:
        """Indices of the agents whose ``provider``, ``model``, ``service`` or ``type`` is this. Raises InputError for another field."""
        words = {
            "provider": [MODELS[m].provider for m in self.model],
            "model": [MODELS[m].name for m in self.model],
            "service": list(self.services),
            "type": [KINDS[k].name for k in self.kind],
        }
        if field not in words:
            raise InputError("agents have no such thing in common", field="field", value=field, way_out="one of " + " ".join(words))
        return tuple(index for index, word in enumerate(words[field]) if word == value)


def draw_cast(seed: int, counts: Mapping[str, int], services: tuple[str, ...] = SERVICES) -> Cast:
    """Who is in the fleet and how each agent differs from its kind, by seed alone."""
    kind = np.repeat(np.arange(len(KINDS)), [counts.get(k.name, 0) for k in KINDS])
    n = len(kind)
    rng = stream(seed, "cast")
    of_kind = {
        name: np.array([float(getattr(k, name)) for k in KINDS])[kind]
        for name in ("steps", "output", "output_sd", "context", "growth", "tool_rate", "pause_ticks")
    }
    ids = tuple(f"{k.name}-{i + 1:0{max(2, len(str(counts.get(k.name, 0))))}d}" for k in KINDS for i in range(counts.get(k.name, 0)))
    choice = rng.random(n)
    model = np.array(
        [MODELS_OF_KIND[KINDS[k].name][int(c * len(MODELS_OF_KIND[KINDS[k].name]))] for k, c in zip(kind, choice, strict=True)], dtype=np.int64
    )
    service = rng.integers(0, len(services), n)
    of_model = {
        name: np.array([float(getattr(m, name)) for m in MODELS])[model]
        for name in ("first_token_ms", "ms_per_output_token", "usd_per_m_input", "usd_per_m_output")
    }
    tool_rate = of_kind["tool_rate"] * np.exp(rng.normal(0.0, 0.15, n))
    return Cast(
        ids=ids,
        services=tuple(services[s] for s in service),
        kind=kind.astype(np.int64),
        model=model,
        log_output=np.log(of_kind["output"]) + rng.normal(0.0, 0.2, n),
        output_sd=np.clip(of_kind["output_sd"] * np.exp(rng.normal(0.0, 0.1, n)), 0.25, 0.6),
        context=of_kind["context"] * np.exp(rng.normal(0.0, 0.15, n)),
        growth=of_kind["growth"] * np.exp(rng.normal(0.0, 0.15, n)),
        steps=of_kind["steps"],
        steps_low=np.array([float(k.steps_range[0]) for k in KINDS])[kind],
        steps_high=np.array([float(k.steps_range[1]) for k in KINDS])[kind],
        pause_ticks=of_kind["pause_ticks"],
        log_latency=rng.normal(0.0, 0.15, n),
        first_token_ms=of_model["first_token_ms"],
        ms_per_token=of_model["ms_per_output_token"],
        usd_per_input=of_model["usd_per_m_input"] * 1e-6,
        usd_per_output=of_model["usd_per_m_output"] * 1e-6,
        tool_rate=tool_rate,
        tool_cdf=poisson_cdf(tool_rate, TOOL_COUNT_TERMS),
        retry_cdf=poisson_cdf(rng.uniform(0.02, 0.15, n), RETRY_TERMS),
        error_cdf=poisson_cdf(rng.uniform(0.005, 0.04, n), ERROR_TERMS),
        confidence=rng.uniform(0.8, 0.9, n),
        drift=rng.uniform(0.03, 0.1, n),
        phase=rng.random(n),
        lag=rng.uniform(0.0, 0.2, n),
    )
