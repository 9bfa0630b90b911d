"""What can befall an agent, how strong it can be, and what it does to the agent's work.

Sizes and shapes are those that the design asks to be found. Nothing here knows how anything is detected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from immune.errors import InputError
from simulation.agents import Bools, Cast, Floats

InfectionKind = Literal[
    "token_explosion",
    "tool_loop",
    "latency_spike",
    "retry_storm",
    "error_burst",
    "silent_stall",
    "frozen",
    "context_leak",
    "prompt_drift",
    "prompt_injection",
    "cost_creep",
    "confidence_collapse",
    "shared_outage",
]
INFECTION_KINDS: tuple[InfectionKind, ...] = get_args(InfectionKind)
STRONG: tuple[InfectionKind, ...] = ("token_explosion", "tool_loop", "latency_spike", "retry_storm", "error_burst", "silent_stall")
SUBTLE: tuple[InfectionKind, ...] = ("frozen", "context_leak", "prompt_drift", "prompt_injection", "cost_creep", "confidence_collapse")
CREEPING: tuple[InfectionKind, ...] = ("context_leak", "cost_creep")
"""These grow over ten minutes and are given the time to."""

STRENGTHS: Mapping[InfectionKind, tuple[float, float]] = {
    "token_explosion": (3.0, 8.0),
    "tool_loop": (3.0, 6.0),
    "latency_spike": (2.5, 6.0),
    "retry_storm": (1.5, 3.5),
    "error_burst": (0.8, 1.8),
    "silent_stall": (1.0, 1.0),
    "frozen": (1.0, 1.0),
    "context_leak": (1.9, 2.4),
    "prompt_drift": (1.5, 1.8),
    "prompt_injection": (1.6, 2.6),
    "cost_creep": (1.9, 2.4),
    "confidence_collapse": (0.3, 0.5),
    "shared_outage": (2.5, 5.0),
}
"""Weakest and strongest: a ratio to normal (creeping kinds: reached in ten minutes), a Poisson rate per step for
retries and errors, the confidence that is left, or 1 where there is no size."""

RAMP_S = 600.0
LOOP_EXTRA_CALLS = 2.0
FOREIGN_TOOLS: tuple[str, ...] = ("http_post", "shell", "read_secrets")
"""Tools that no kind of agent uses in its own work."""

_LOOP_GROWTH = 0.15
_LOST_CONFIDENCE = 0.2
_ALTERED_PROMPT_SHARE = 0.5


def check_strength(kind: InfectionKind, strength: float, *, field: str = "strength") -> float:
    """The strength. Raises InputError unless it lies within half the weakest and twice the strongest of its kind."""
    low, high = STRENGTHS[kind][0] / 2, STRENGTHS[kind][1] * 2
    if not low <= strength <= high:
        raise InputError(f"not a strength of {kind}", field=field, value=strength, way_out=f"give a number between {low:g} and {high:g}")
    return strength


class Effects:
    """How the agents' work departs from their normal right now; arrays over agents, neutral where an agent is well.

    Agents without an entry in the dictionaries keep their own rate of tool calls, retries and errors.
    """

    def __init__(self, cast: Cast) -> None:
        n = len(cast)
        self._cast = cast
        self.output: Floats = np.ones(n)
        self.latency: Floats = np.ones(n)
        self.price: Floats = np.ones(n)
        self.leaked: Floats = np.zeros(n)
        self.growth: Floats = np.ones(n)
        self.outage_latency: Floats = np.ones(n)
        self.confidence: Floats = cast.confidence.copy()
        self.held: Bools = np.zeros(n, dtype=np.bool_)
        self.silent: Bools = np.zeros(n, dtype=np.bool_)
        self.tool_rate: dict[int, float] = {}
        self.retry_rate: dict[int, float] = {}
        self.error_rate: dict[int, float] = {}
        self.outage_error_rate: dict[int, float] = {}
        self.tool: dict[int, str] = {}
        self.frozen: dict[int, None] = {}
        self.altered_prompt: dict[int, None] = {}

    def calm(self, index: int) -> None:
        """Make one agent's own work normal again; a shared outage is not its own."""
        self.output[index] = self.latency[index] = self.price[index] = self.growth[index] = 1.0
        self.leaked[index] = 0.0
        self.confidence[index] = self._cast.confidence[index]
        self.held[index] = self.silent[index] = False
        for entries in (self.tool_rate, self.retry_rate, self.error_rate):
            entries.pop(index, None)
        self.tool.pop(index, None)
        self.frozen.pop(index, None)
        self.altered_prompt.pop(index, None)

    def normal_tool_rate(self, index: int) -> float:
        """Tool calls per step of this agent when it is well."""
        return float(self._cast.tool_rate[index])

    def normal_confidence(self, index: int) -> float:
        """Confidence of this agent when it is well."""
        return float(self._cast.confidence[index])

    def normal_context(self, index: int) -> float:
        """Tokens in this agent's context in the middle of a usual task."""
        return float(self._cast.context[index] + self._cast.growth[index] * self._cast.steps[index] / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Illness:
    """What an agent has at one moment.

    strength   as drawn, see `STRENGTHS`
    intensity  1 at full strength, half of it after half a cure
    age_s      time since onset
    variant    two uniform numbers drawn once, for what a kind leaves open (which tool, whether the prompt changes)
    own_tool   the tool this agent uses most
    """

    kind: InfectionKind
    strength: float
    intensity: float
    age_s: float
    variant: tuple[float, float]
    own_tool: str

    @property
    def ratio(self) -> float:
        """Strength as a ratio to normal, weakened by a half cure."""
        return 1.0 + (self.strength - 1.0) * self.intensity

    @property
    def ramp(self) -> float:
        """Ratio to normal of a kind that reaches its strength in ten minutes, growing by a constant factor."""
        return float(self.ratio ** (self.age_s / RAMP_S))

    @property
    def skips_this_tick(self) -> bool:
        """Half a stall lets every other step through."""
        return self.intensity < 1.0 and round(self.age_s) % 2 == 1


def _token_explosion(effects: Effects, index: int, ill: Illness) -> None:
    effects.output[index] = ill.ratio


def _tool_loop(effects: Effects, index: int, ill: Illness) -> None:
    effects.tool_rate[index] = effects.normal_tool_rate(index) * ill.ratio + LOOP_EXTRA_CALLS * ill.intensity
    effects.tool[index] = ill.own_tool
    effects.held[index] = True
    effects.growth[index] = _LOOP_GROWTH


def _latency_spike(effects: Effects, index: int, ill: Illness) -> None:
    effects.latency[index] = ill.ratio


def _retry_storm(effects: Effects, index: int, ill: Illness) -> None:
    effects.retry_rate[index] = ill.strength * ill.intensity


def _error_burst(effects: Effects, index: int, ill: Illness) -> None:
    effects.error_rate[index] = ill.strength * ill.intensity


def _silent_stall(effects: Effects, index: int, ill: Illness) -> None:
    effects.silent[index] = not ill.skips_this_tick


def _frozen(effects: Effects, index: int, ill: Illness) -> None:
    if ill.skips_this_tick:
        effects.frozen.pop(index, None)
    else:
        effects.frozen[index] = None
    effects.held[index] = True


def _context_leak(effects: Effects, index: int, ill: Illness) -> None:
    effects.leaked[index] = effects.normal_context(index) * (ill.ramp - 1.0)


def _prompt_drift(effects: Effects, index: int, ill: Illness) -> None:
    effects.output[index] = ill.ratio


def _prompt_injection(effects: Effects, index: int, ill: Illness) -> None:
    effects.output[index] = ill.ratio
    effects.tool_rate[index] = effects.normal_tool_rate(index) * ill.ratio + ill.intensity
    effects.tool[index] = FOREIGN_TOOLS[int(ill.variant[0] * len(FOREIGN_TOOLS))]
    effects.confidence[index] = effects.normal_confidence(index) - _LOST_CONFIDENCE * ill.intensity
    if ill.variant[1] < _ALTERED_PROMPT_SHARE:
        effects.altered_prompt[index] = None


def _cost_creep(effects: Effects, index: int, ill: Illness) -> None:
    effects.price[index] = ill.ramp


def _confidence_collapse(effects: Effects, index: int, ill: Illness) -> None:
    normal = effects.normal_confidence(index)
    effects.confidence[index] = normal - (normal - ill.strength) * ill.intensity


SYMPTOMS: Mapping[InfectionKind, Callable[[Effects, int, Illness], None]] = {
    "token_explosion": _token_explosion,
    "tool_loop": _tool_loop,
    "latency_spike": _latency_spike,
    "retry_storm": _retry_storm,
    "error_burst": _error_burst,
    "silent_stall": _silent_stall,
    "frozen": _frozen,
    "context_leak": _context_leak,
    "prompt_drift": _prompt_drift,
    "prompt_injection": _prompt_injection,
    "cost_creep": _cost_creep,
    "confidence_collapse": _confidence_collapse,
}
"""How each infection of a single agent changes its work; a shared outage has its own module."""


def check_kind(word: str, *, field: str = "kind") -> InfectionKind:
    """An infection of a single agent. Raises InputError for another word."""
    for kind in SYMPTOMS:
        if kind == word:
            return kind
    raise InputError("not an infection of a single agent", field=field, value=word, way_out="one of " + " ".join(SYMPTOMS))
