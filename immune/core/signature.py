"""What an infection looks like from outside (its signature), and what a differential says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from immune.core.evidence import Direction

UNKNOWN = "unknown"
ANY_STREAM = "*"
"""In a symptom: whichever stream it is (all of them repeat at once)."""
REPEATED_CALL = "repeated_call"
"""In a symptom (direction ``stuck``): the same tool with the same size, while other vitals go on; told as ``tool_calls``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One line of a signature: a vital (or derived stream) that moves in a direction when the infection is there.

    weight   how characteristic it is, 1 usual; higher counts more
    required the infection is ruled out when none of its required symptoms shows
    often    how often it shows when the infection is there, 0 to 1
    ratio    typical ratio to normal, and
    spread   standard deviation of its logarithm; None where the size says nothing
    """

    vital: str
    direction: Direction
    weight: float = 1.0
    required: bool = False
    often: float = 0.8
    ratio: float | None = None
    spread: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FactHint:
    """An exact fact whose change shortly before the onset speaks for an infection; ``nats`` is how much."""

    field: str
    nats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Infection:
    """One kind of infection, known by its symptoms alone. One file in `immune/infections/` each.

    against  symptoms that speak against it, as a signature of what it is not
    shape    ``step``, ``ramp`` or ``any``: whether it comes at once or creeps
    summary  one sentence for people
    facts    exact facts whose change speaks for it
    at_least how many of its symptoms (facts included) must show at all
    stray    how often a stream that it does not name stands out all the same, each way
    shared   it strikes many agents at once, and only then
    ladder   rungs of healing actions, gentlest first; each rung is tried, verified, and undone if it did not help
    """

    kind: str
    summary: str
    symptoms: tuple[Symptom, ...]
    against: tuple[Symptom, ...] = ()
    shape: Literal["step", "ramp", "any"] = "any"
    facts: tuple[FactHint, ...] = ()
    at_least: int = 1
    stray: float = 0.04
    shared: bool = False
    ladder: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """One line of a differential; the fields are those of `HypothesisNote`."""

    kind: str
    confidence: float
    evidence_for: tuple[str, ...]
    evidence_against: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Differential:
    """What it may be, most likely first (never empty, confidences of all kinds sum to 1), and what it is not, with the reason."""

    hypotheses: tuple[Hypothesis, ...]
    ruled_out: tuple[tuple[str, str], ...]

    @property
    def top(self) -> Hypothesis:
        """The most likely kind; `unknown` when nothing fits."""
        return self.hypotheses[0]
