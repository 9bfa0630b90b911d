"""From evidence to a ranked differential: which infection would look like this, what speaks for it and against it.

A signature says how often each stream stands out, and in which direction, when the infection is there. The differential
is naive Bayes over these signatures against one alternative, `unknown`, under which any stream may move either way:

    score(K) = ln prior(K)
             + sum over streams s of  weight * [ a_s ln P(d_s | K) / P(d_s | unknown) + (1 - a_s) ln P(quiet | K) / P(quiet | unknown) ]
             + size, shape, lead and fact terms (each bounded, in nats, 0 where nothing is known)

d_s is the direction of the strongest evidence of the stream and a_s, its loudness, is how far it stands out, from 0 to 1:
``nats^3 / (nats^3 + 6^3) * (nats / largest nats)^0.2``. Symptoms of one infection are not independent, so scores are
divided by `TEMPERATURE` before the softmax that makes confidences; they sum to 1 with `unknown`. Where no signature beats
`unknown`, unknown is the answer, rather than a wrong guess. The constants were set by hand, on drawn pictures and on how vitals
depend on each other; none was fitted to simulated fleets, but for `TEMPERATURE`, which a reliability table set (docs/sentinel.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from immune.core.evidence import SILENCE, CohortFinding, Direction, Finding, VitalEvidence
from immune.core.signature import ANY_STREAM, REPEATED_CALL, UNKNOWN, Differential, FactHint, Hypothesis, Infection, Symptom

__all__ = ["ANY_STREAM", "REPEATED_CALL", "UNKNOWN", "Differential", "FactHint", "Hypothesis", "Infection", "Symptom", "differential", "loudness"]

LOUD_NATS = 6.0
OF_TASKS = "task_"
"""Figures of whole tasks repeat what the samples say, later: they name a kind only where no sample does."""
NATS_MAX = 1e6
SIDE_EFFECT_POWER = 0.2
LOUD_ENOUGH = 0.2
SILENT_LOUDNESS = 0.95
UNKNOWN_STANDS_OUT = 0.12
UNKNOWN_STOPS = 0.04
QUIET_AT_LEAST = 0.15
UNKNOWN_PRIOR = math.log(1.5)
UNKNOWN_SIZE = (math.log(2.5), 0.9)
TEMPERATURE = 0.7
SHOWN_CONFIDENCE = 0.02
MOST_CONFIDENT = 0.99
"""Of some hundred findings nobody can learn that a kind is right oftener than this."""
TEXT_MAX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    direction: Direction
    loudness: float
    item: VitalEvidence


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What the differential knows, prepared once for all kinds."""

    seen: dict[str, _Seen]
    streams: tuple[str, ...]
    loudest_nats: float
    changed: tuple[tuple[str, str, str, int], ...]
    shared: bool
    shared_by: str
    watched: Collection[str] | None
    now_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    kind: str
    score: float
    evidence_for: tuple[str, ...] = ()
    evidence_against: tuple[str, ...] = ()
    ruled_out: str = ""


def differential(
    finding: Finding | CohortFinding,
    catalogue: Sequence[Infection],
    *,
    fleet: bool = False,
    now_us: int | None = None,
    watched: Collection[str] | None = None,
    threshold_nats: float = 0.0,
) -> Differential:
    """Rank the kinds of a catalogue by how well each explains a finding. Deterministic; see the module's docstring.

    fleet    many agents moved together (always so for a cohort finding): only then a shared cause is considered
    now_us   when the finding was made; without it the shape (step or ramp) does not count
    watched  the streams that this agent has at all; without it every stream is taken to be watched
    threshold_nats  a gap with less evidence than this is a long gap, not yet silence, and does not count
    """
    usable = [item for item in finding.evidence if item.nats > 0.0 and (item.direction != "silent" or item.nats >= threshold_nats)]
    if any(item.nats >= LOUD_NATS and not item.vital.startswith(OF_TASKS) for item in usable):
        usable = [item for item in usable if not item.vital.startswith(OF_TASKS)]
    case = _case(finding, usable, catalogue, fleet=fleet, now_us=now_us, watched=watched)
    verdicts = [_judge(infection, case) for infection in catalogue]
    ruled_out = [(verdict.kind, verdict.ruled_out) for verdict in verdicts if verdict.ruled_out]
    standing = [verdict for verdict in verdicts if not verdict.ruled_out]
    standing.append(_unknown(case, nothing_else=not standing))
    shares = _softmax([verdict.score / TEMPERATURE for verdict in standing])
    kept = [(share, verdict) for share, verdict in zip(shares, standing, strict=True) if share >= SHOWN_CONFIDENCE or verdict.kind == UNKNOWN]
    total = sum(share for share, _ in kept)
    ranked = sorted(kept, key=lambda pair: (-pair[0], pair[1].kind))
    ruled_out += [(verdict.kind, _improbable(verdict)) for share, verdict in zip(shares, standing, strict=True) if (share, verdict) not in kept]
    return Differential(
        hypotheses=tuple(_hypothesis(share, verdict) for share, verdict in _never_sure([(share / total, verdict) for share, verdict in ranked])),
        ruled_out=tuple(sorted(ruled_out)),
    )


def loudness(nats: float, loudest_nats: float) -> float:
    """How far evidence stands out, 0 to 1: ``nats^3 / (nats^3 + 6^3) * (nats / loudest)^0.2``.

    The first factor says that a few nats are what healthy streams reach now and then; the second that beside a stream
    of 200 nats one of 6 is a side effect.
    """
    if not nats > 0.0 or not loudest_nats > 0.0:
        return 0.0
    nats, loudest_nats = min(nats, NATS_MAX), min(loudest_nats, NATS_MAX)
    certain = nats**3 / (nats**3 + LOUD_NATS**3)
    return certain * math.pow(min(1.0, nats / loudest_nats), SIDE_EFFECT_POWER)


# --- preparing


def _case(
    finding: Finding | CohortFinding,
    usable: Sequence[VitalEvidence],
    catalogue: Sequence[Infection],
    *,
    fleet: bool,
    now_us: int | None,
    watched: Collection[str] | None,
) -> _Case:
    loudest = max((item.nats for item in usable), default=0.0)
    seen: dict[str, _Seen] = {}
    for item in sorted(usable, key=lambda one: -one.nats):
        seen.setdefault(_stream(item), _Seen(direction=item.direction, loudness=_loudness_of(item, loudest), item=item))
    named = {symptom.vital for infection in catalogue for symptom in infection.symptoms if not symptom.vital.startswith(OF_TASKS)}
    always = {SILENCE, ANY_STREAM, REPEATED_CALL}
    streams = tuple(sorted(name for name in named | set(seen) if watched is None or name in watched or name in always or name in seen))
    is_cohort = isinstance(finding, CohortFinding)
    return _Case(
        seen=seen,
        streams=streams,
        loudest_nats=loudest,
        changed=() if isinstance(finding, CohortFinding) else finding.changed,
        shared=fleet or is_cohort or bool(getattr(finding, "explained_by", "")),
        shared_by=_shared_by(finding),
        watched=watched,
        now_us=now_us,
    )


def _stream(item: VitalEvidence) -> str:
    if item.direction == "silent":
        return SILENCE
    if item.direction == "stuck":
        return REPEATED_CALL if item.vital == "tool_calls" else ANY_STREAM
    return item.vital


def _loudness_of(item: VitalEvidence, loudest_nats: float) -> float:
    """Silence is loud by itself: it has already been tested against the learned interval."""
    heard = loudness(item.nats, loudest_nats)
    return max(heard, SILENT_LOUDNESS) if item.direction == "silent" else heard


def _shared_by(finding: Finding | CohortFinding) -> str:
    if not isinstance(finding, CohortFinding):
        return "many agents moved together"
    common = f" with {finding.field} {_short(finding.value)}" if finding.field else ""
    return f"{len(finding.agents)} of {finding.members} agents{common} moved together"


# --- judging one kind


def _judge(infection: Infection, case: _Case) -> _Verdict:
    impossible = _impossible(infection, case)
    if impossible:
        return _Verdict(kind=infection.kind, score=-math.inf, ruled_out=impossible)
    score = _prior(infection, case) + _lead_term(infection, case) + _shape_term(infection, case) + _fact_term(infection, case)
    score += sum(_stream_term(infection, stream, case) for stream in case.streams)
    score += sum(_size_term(symptom, case) for symptom in infection.symptoms)
    return _Verdict(
        kind=infection.kind,
        score=score,
        evidence_for=_speaks_for(infection, case),
        evidence_against=_speaks_against(infection, case),
    )


def _impossible(infection: Infection, case: _Case) -> str:
    """Why this kind is ruled out, or nothing."""
    if infection.shared and not case.shared:
        return "one agent alone is concerned"
    required = [symptom for symptom in infection.symptoms if symptom.required]
    if required and not any(_shows(symptom, case) for symptom in required):
        missing = " or ".join(_expected(symptom) for symptom in required)
        return f"needs {missing}: {'not measured' if _unwatched(required, case) else 'not seen'}"
    showing = [symptom for symptom in infection.symptoms if _shows(symptom, case)]
    count = len(showing) + len(_changed_facts(infection, case))
    if count < infection.at_least:
        return f"needs {infection.at_least} of its symptoms at once, {count} seen"
    return ""


def _unwatched(symptoms: Sequence[Symptom], case: _Case) -> bool:
    return case.watched is not None and not any(symptom.vital in case.streams for symptom in symptoms)


def _shows(symptom: Symptom, case: _Case) -> bool:
    seen = case.seen.get(symptom.vital)
    return seen is not None and seen.direction == symptom.direction and seen.loudness >= LOUD_ENOUGH


def _prior(infection: Infection, case: _Case) -> float:
    """Alike for all kinds; among many agents that move together a shared cause is far likelier than many infections."""
    if not case.shared:
        return 0.0
    return 4.0 if infection.shared else -3.0


def _stream_term(infection: Infection, stream: str, case: _Case) -> float:
    """One term of the sum in the module's docstring. One required symptom is enough, so the others are not missed."""
    symptoms = [symptom for symptom in infection.symptoms if symptom.vital == stream]
    weight = symptoms[0].weight if symptoms else 1.0
    chances = _chances(infection, stream)
    quiet = max(QUIET_AT_LEAST, 1.0 - sum(chances.values()))
    unknown = UNKNOWN_STOPS if _one_way(stream) else UNKNOWN_STANDS_OUT
    quiet_term = math.log(quiet / (1.0 - unknown * (1 if _one_way(stream) else 2)))
    if any(symptom.required for symptom in symptoms):
        quiet_term = max(0.0, quiet_term)
    seen = case.seen.get(stream)
    if seen is None:
        return weight * quiet_term
    stands_out = math.log(chances.get(seen.direction, infection.stray) / unknown)
    return weight * (seen.loudness * stands_out + (1.0 - seen.loudness) * quiet_term)


def _chances(infection: Infection, stream: str) -> dict[Direction, float]:
    """How often a stream stands out in each direction when this infection is there."""
    ways: tuple[Direction, ...] = ("silent",) if stream == SILENCE else ("stuck",) if stream in (ANY_STREAM, REPEATED_CALL) else ("up", "down")
    chances: dict[Direction, float] = dict.fromkeys(ways, 0.01 if _one_way(stream) else infection.stray)
    chances.update({symptom.direction: 0.01 for symptom in infection.against if symptom.vital == stream})
    chances.update({symptom.direction: symptom.often for symptom in infection.symptoms if symptom.vital == stream})
    return chances


def _one_way(stream: str) -> bool:
    return stream in (SILENCE, ANY_STREAM, REPEATED_CALL)


def _size_term(symptom: Symptom, case: _Case) -> float:
    """How well the size fits, as a bounded log ratio of two lognormal densities."""
    seen = case.seen.get(symptom.vital)
    if symptom.ratio is None or seen is None or seen.direction != symptom.direction:
        return 0.0
    size = _size(seen.item)
    fit = _log_normal(size, abs(math.log(symptom.ratio)), symptom.spread) - _log_normal(size, *UNKNOWN_SIZE)
    return seen.loudness * max(-2.5, min(1.0, fit))


def _size(item: VitalEvidence) -> float:
    """The distance from normal as |ln ratio|, bounded."""
    return abs(math.log(item.ratio)) if 1e-6 < item.ratio < 1e6 else math.log(1e6)


def _log_normal(x: float, mean: float, sd: float) -> float:
    return -0.5 * ((x - mean) / sd) ** 2 - math.log(sd)


def _lead_term(infection: Infection, case: _Case) -> float:
    """A kind whose own symptom is faint beside the loudest evidence explains a side effect only."""
    own = [case.seen[s.vital].item.nats for s in infection.symptoms if s.required and _shows(s, case) and s.direction != "silent"]
    return max(-2.5, math.log(max(own) / case.loudest_nats)) if own else 0.0


def _shape_term(infection: Infection, case: _Case) -> float:
    """How well the growth fits a step (0) or a ramp (1), bounded to one nat.

    A ramp from the onset on has ``growth * age / 2 = ln ratio``; the quotient's standard error is about
    ``sqrt(3 / (2 nats))``, since nats are about ``n effect^2 / 2`` and a slope over n samples has variance ``12 / n`` (times sd).
    """
    own = [case.seen[s.vital].item for s in infection.symptoms if s.required and _shows(s, case)]
    if infection.shape == "any" or case.now_us is None or not own:
        return 0.0
    item = max(own, key=lambda one: one.nats)
    size = math.log(item.ratio) if item.ratio > 0.0 else 0.0
    if abs(size) < 0.05 or not math.isfinite(item.growth):
        return 0.0
    age_min = max(0.0, (case.now_us - item.onset_us) / 60e6)
    slant = max(-1.0, min(2.0, item.growth * age_min / (2.0 * size)))
    error = 0.2 + math.sqrt(1.5 / max(item.nats, 1.5))
    fit = _log_normal(slant, 1.0 if infection.shape == "ramp" else 0.0, error) - _log_normal(slant, 0.5, math.hypot(error, 0.6))
    return max(-1.0, min(1.0, fit))


def _fact_term(infection: Infection, case: _Case) -> float:
    return sum(hint.nats for hint in infection.facts if any(fact[0] == hint.field for fact in case.changed))


def _unknown(case: _Case, *, nothing_else: bool) -> _Verdict:
    prior = UNKNOWN_PRIOR - (1.0 if case.shared else 0.0)
    what = tuple(_told(seen.item) for seen in case.seen.values() if seen.loudness >= LOUD_ENOUGH)
    against = () if nothing_else else ("a known kind may explain it",)
    return _Verdict(kind=UNKNOWN, score=prior, evidence_for=what, evidence_against=against)


def _never_sure(ranked: list[tuple[float, _Verdict]]) -> list[tuple[float, _Verdict]]:
    """At most `MOST_CONFIDENT` for the first; what is taken off goes to unknown, and where unknown leads to the kinds (or to those not listed)."""
    first, verdict = ranked[0]
    rest = first - MOST_CONFIDENT
    if rest <= 0:
        return ranked
    heir = next((index for index, (_, other) in enumerate(ranked) if index and UNKNOWN in (other.kind, verdict.kind)), 0)
    return [(MOST_CONFIDENT if index == 0 else share + rest * (index == heir), other) for index, (share, other) in enumerate(ranked)]


def _softmax(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    return [weight / sum(weights) for weight in weights]


# --- saying why


def _hypothesis(confidence: float, verdict: _Verdict) -> Hypothesis:
    return Hypothesis(
        kind=verdict.kind,
        confidence=round(confidence, 4),
        evidence_for=verdict.evidence_for,
        evidence_against=verdict.evidence_against,
    )


def _improbable(verdict: _Verdict) -> str:
    return f"improbable: {verdict.evidence_against[0]}" if verdict.evidence_against else "improbable: others explain more"


def _speaks_for(infection: Infection, case: _Case) -> tuple[str, ...]:
    lines = [
        f"{field} changed from {_short(before)} to {_short(after)} shortly before" for field, before, after, _ in _changed_facts(infection, case)
    ]
    if infection.shared:
        lines.append(case.shared_by)
    showing = [case.seen[symptom.vital] for symptom in infection.symptoms if _shows(symptom, case)]
    lines += [_told(seen.item) for seen in sorted(showing, key=lambda one: -one.item.nats)]
    return tuple(lines)


def _changed_facts(infection: Infection, case: _Case) -> list[tuple[str, str, str, int]]:
    hinted = {hint.field for hint in infection.facts}
    return [fact for fact in case.changed if fact[0] in hinted]


def _speaks_against(infection: Infection, case: _Case) -> tuple[str, ...]:
    """Strong evidence that the kind does not explain, then expected symptoms that are missing, then sizes that do not fit."""
    lines = [] if infection.shared or not case.shared else [case.shared_by]
    own = {(symptom.vital, symptom.direction) for symptom in infection.symptoms}
    strange = [seen for stream, seen in case.seen.items() if (stream, seen.direction) not in own and seen.loudness >= LOUD_ENOUGH]
    lines += [f"does not explain {_told(seen.item)}" for seen in strange]
    usual = [s for s in infection.symptoms if s.often >= 0.6 and s.vital in case.streams and not _shows(s, case)]
    lines += [f"no {_expected(symptom)}" for symptom in usual]
    lines += [f"{_times(case.seen[s.vital].item)} is unusual for it (about ×{s.ratio:g})" for s in infection.symptoms if _size_term(s, case) < -0.5]
    return tuple(lines)


def _expected(symptom: Symptom) -> str:
    if symptom.direction == "silent":
        return "silence"
    if symptom.direction == "stuck":
        return "the same tool call repeated" if symptom.vital == REPEATED_CALL else "repeated vitals"
    return f"{symptom.vital} {symptom.direction}"


def _told(item: VitalEvidence) -> str:
    return f"{_times(item)} ({item.nats:.0f} nats)"


def _times(item: VitalEvidence) -> str:
    if item.direction == "silent":
        return "no samples"
    if item.direction == "stuck":
        return "the same tool with the same size again and again" if item.vital == "tool_calls" else "the same vitals again and again"
    return f"{item.vital} ×{item.ratio:.2g}" if item.ratio < 100 else f"{item.vital} ×{item.ratio:.0f}"


def _short(text: str) -> str:
    """Text of agents is only text, and has an end."""
    return (text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…") or "nothing"
