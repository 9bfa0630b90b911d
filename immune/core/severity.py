"""How much harm symptoms do, on a scale from 0 to 10. Harm, not certainty: evidence that piles up changes nothing here.

What counts: the strongest symptom, and every other with at least `BELIEVED_NATS` of its own. The ratio of a symptom that has hardly begun
rests on a sample or two and says anything (measured on real traffic: an incident of input ×1.4 was isolated for one short answer, output ×0.12
at 3 nats).

Formula, with every constant in `SeverityPolicy`:

    x_v  = log2 of how many times worse than normal vital v is (ratio for up, 1 / ratio for down), 0 to 10 doublings
    x_v *= 1 + min(0.25, growth_v * 5 min / ln 2 / x_v)         what still gets worse counts up to a quarter more
    u_v  = weight of v in that direction * x_v                  silence and repetition have a fixed u_v instead
    u_g  = max of u_v over the vitals of one group (money, time, tools, failures, quality, liveness, other)
    U    = u_(1) + u_(2) / 2 + u_(3) / 4 + …                    groups sorted by u_g, the worst first
    U   *= 1 + 0.1 log2(agents) + 0.5 agents / fleet            only when more than one agent is concerned
    U   += 0.05 log2(1 + extra USD an hour)                     only when the sample rate is known
    severity = 10 (1 - exp(-0.4 U))

Why groups: tokens, context and cost are one harm seen three times, so the worst of them counts and the others do not
add; errors beside cost are another harm and do. Why halves: a second harm makes things worse, but an agent is not twice
as sick because its latency follows its tokens. Why logarithms: the scale must tell x1.3 from x3 and still not end at x8.
Severity rises with every ratio that counts, never with more nats or effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from immune.core.evidence import VitalEvidence
from immune.core.policy import SeverityPolicy

MAX_DOUBLINGS = 10.0
GROWTH_HORIZON_MIN = 5.0
GROWTH_SHARE_MAX = 0.25
STEEPNESS = 0.4
BELIEVED_NATS = 6.0
"""By chance a symptom of a healthy agent has so many once in some four hundred samples."""
DEFAULT = SeverityPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Severity:
    """``value`` from 0 (no harm) to 10; ``why`` says what it rests on, the worst first."""

    value: float
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Harm:
    group: str
    units: float
    why: str


def severity(
    evidence: Sequence[VitalEvidence],
    *,
    agents: int = 1,
    fleet: int = 1,
    samples_per_h: float | None = None,
    threshold_nats: float = 0.0,
    weights: SeverityPolicy = DEFAULT,
) -> Severity:
    """Harm of these symptoms; formula in the module's docstring.

    agents, fleet  how many agents are concerned, of how many enrolled
    samples_per_h  samples an hour of the agents concerned together, when known: turns cost per sample into USD an hour
    threshold_nats a gap with less evidence than this is a long gap, not yet silence, and does no harm
    """
    worst = _worst_of_each_group([_harm(item, weights) for item in _believed(evidence, threshold_nats)])
    units = sum(harm.units / 2**rank for rank, harm in enumerate(worst))
    why = [harm.why for harm in worst if harm.units > 0.0]
    if agents > 1 and units > 0.0:
        share = min(1.0, agents / max(fleet, 1))
        units *= 1.0 + 0.1 * math.log2(agents) + 0.5 * share
        why.append(f"{agents} of {max(fleet, agents)} agents")
    extra_usd_per_h = _extra_usd_per_h(evidence, samples_per_h)
    if extra_usd_per_h > 0.0:
        units += 0.05 * math.log2(1.0 + extra_usd_per_h)
        why.append(f"{extra_usd_per_h:.3g} USD an hour more than normal")
    return Severity(value=round(_scale(units), 2), why=tuple(why))


def _believed(evidence: Sequence[VitalEvidence], threshold_nats: float) -> list[VitalEvidence]:
    least = min(BELIEVED_NATS, max((item.nats for item in evidence), default=0.0))
    return [item for item in evidence if item.nats >= (threshold_nats if item.direction == "silent" else least)]


def _scale(units: float) -> float:
    return 10.0 * (1.0 - math.exp(-STEEPNESS * units))


def _units(value: float) -> float:
    """Units that alone make this severity: the inverse of `_scale`."""
    return -math.log(1.0 - min(value, 9.9) / 10.0) / STEEPNESS


def _harm(item: VitalEvidence, weights: SeverityPolicy) -> _Harm:
    if item.direction == "silent":
        return _Harm(group="liveness", units=_units(weights.silent), why=f"no samples: {weights.silent:g}")
    if item.direction == "stuck":
        what = "tool call" if item.vital == "tool_calls" else "vitals"
        return _Harm(group="liveness", units=_units(weights.stuck), why=f"the same {what} again and again: {weights.stuck:g}")
    group, weight = _weight(item, weights)
    units = weight * _doublings(item)
    return _Harm(group=group, units=units, why=f"{item.vital} ×{_times(item.ratio)}: {_scale(units):.1f}")


def _doublings(item: VitalEvidence) -> float:
    """How many times worse than normal, as a power of two, with what is still growing."""
    ratio = item.ratio if item.direction == "up" else _inverse(item.ratio)
    if math.isnan(ratio) or ratio <= 1.0 or not (item.observed or item.expected):  # nothing where nothing was: no ratio says anything
        return 0.0
    now = min(math.log2(ratio), MAX_DOUBLINGS)
    growth = item.growth if math.isfinite(item.growth) else 0.0
    worsening = growth if item.direction == "up" else -growth
    ahead = max(0.0, worsening) * GROWTH_HORIZON_MIN / math.log(2.0)
    return now + min(GROWTH_SHARE_MAX * now, ahead)


def _inverse(ratio: float) -> float:
    return 1.0 / ratio if ratio > 0.0 else math.inf


def _weight(item: VitalEvidence, weights: SeverityPolicy) -> tuple[str, float]:
    """(group, weight) of a vital in a direction; what falls mostly does little harm, confidence excepted."""
    rising: dict[str, tuple[str, float]] = {
        "cost_usd": ("money", weights.money),
        "cost_per_token": ("money", weights.money),
        "output_tokens": ("money", weights.money),
        "input_tokens": ("money", 0.9 * weights.money),
        "context_tokens": ("money", 0.9 * weights.money),
        "context_growth": ("money", 0.3 * weights.money),
        "latency_ms": ("time", weights.time),
        "latency_per_output_token": ("time", 0.75 * weights.time),
        "tool_calls": ("tools", weights.tools),
        "task_tokens": ("money", 0.8 * weights.money),
        "task_cost_usd": ("money", 0.8 * weights.money),
        "task_tool_calls": ("tools", 0.8 * weights.tools),
        "task_steps": ("time", 0.5 * weights.time),
        "task_duration_s": ("time", 0.5 * weights.time),
        "task_pause_s": ("time", 0.3 * weights.time),
        "retries": ("failures", 0.85 * weights.failures),
        "errors": ("failures", weights.failures),
        "confidence": ("quality", 0.1 * weights.quality),
    }
    falling: dict[str, tuple[str, float]] = {
        "confidence": ("quality", weights.quality),
        "output_tokens": ("quality", 0.4 * weights.quality),
        "tool_calls": ("quality", 0.3 * weights.quality),
    }
    if item.direction == "up":
        return rising.get(item.vital, ("other", weights.other))
    if item.vital in falling:
        return falling[item.vital]
    return ("harmless", 0.1) if item.vital in rising else ("other", weights.other)


def _worst_of_each_group(harms: Sequence[_Harm]) -> list[_Harm]:
    worst: dict[str, _Harm] = {}
    for harm in harms:
        if harm.group not in worst or harm.units > worst[harm.group].units:
            worst[harm.group] = harm
    return sorted(worst.values(), key=lambda harm: (-harm.units, harm.group))


def _extra_usd_per_h(evidence: Sequence[VitalEvidence], samples_per_h: float | None) -> float:
    if not samples_per_h:
        return 0.0
    extra = [item.observed - item.expected for item in evidence if item.vital == "cost_usd" and item.direction == "up"]
    return samples_per_h * max((usd for usd in extra if math.isfinite(usd)), default=0.0)


def _times(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"
