"""Was it found, how fast, rightly named, and who was accused for nothing: the figures of a report, from opened labels.

Pure functions. An infection is found when an incident of its agent opens between its onset and its end + 60 s; the
first such incident counts. A shared cause is found by an incident of a service or the whole fleet that names at least one
of its members, within the same time. A quarantine is false when its agent had no infection from onset to
end + 600 s, and was not reached by a shared cause either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from immune.core.events import Scope, iso
from simulation.truth import Label

US = 1_000_000
FOUND_WITHIN_S = 60
EXCUSED_FOR_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenIncident:
    """An incident as the control plane saw it; `kind` is the top of its differential, empty when it had none."""

    incident_id: str
    scope: Scope
    agents: tuple[str, ...]
    opened_at_us: int
    onset_us: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenQuarantine:
    """An agent that was, or would have been, isolated automatically; before cap and mode."""

    agent: str
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """An infection that was found: `delay_s` from onset to the opening of the incident."""

    label: Label
    incident_id: str
    at_us: int
    delay_s: float
    diagnosed: str

    @property
    def right(self) -> bool:
        """Was it called by its name?"""
        return self.diagnosed == self.label.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The figures of a report. `delay_median_s`, `delay_p95_s` and `top1` are None when nothing was found.

    false_incidents   incidents about agents to whom nothing had happened; not all of them ask for a quarantine
    """

    injected: tuple[Label, ...]
    detected: tuple[Detection, ...]
    missed: tuple[Label, ...]
    false_quarantines: tuple[SeenQuarantine, ...]
    false_incidents: tuple[SeenIncident, ...]
    delay_median_s: float | None
    delay_p95_s: float | None
    top1: float | None

    def as_json(self) -> dict[str, object]:
        """The fields ``injected detected missed false_quarantines delay_s diagnosis_top1`` of ``report.json``."""
        return {
            "injected": [label.as_json() for label in self.injected],
            "detected": [_detection_json(detection) for detection in self.detected],
            "missed": [{"agent": _name(label), "kind": label.kind, "at": iso(label.onset_us)} for label in self.missed],
            "false_quarantines": [{"agent": seen.agent, "at": iso(seen.at_us)} for seen in self.false_quarantines],
            "false_incidents": [{"id": seen.incident_id, "agents": list(seen.agents), "at": iso(seen.opened_at_us)} for seen in self.false_incidents],
            "delay_s": {"median": self.delay_median_s, "p95": self.delay_p95_s},
            "diagnosis_top1": self.top1,
        }


def score(labels: Sequence[Label], incidents: Sequence[SeenIncident], quarantines: Sequence[SeenQuarantine]) -> Score:
    """Compare what happened with what was seen. Relapses excuse a quarantine, but are no infections of their own."""
    injected = tuple(sorted((label for label in labels if not label.relapse), key=lambda label: label.onset_us))
    found = {id(label): _find(label, incidents) for label in injected}
    detected = tuple(detection for label in injected if (detection := found[id(label)]) is not None)
    delays_s = sorted(detection.delay_s for detection in detected)
    return Score(
        injected=injected,
        detected=detected,
        missed=tuple(label for label in injected if found[id(label)] is None),
        false_quarantines=tuple(seen for seen in quarantines if not _excused(seen.agent, seen.at_us, labels)),
        false_incidents=tuple(seen for seen in incidents if not any(_excused(agent, seen.opened_at_us, labels) for agent in seen.agents)),
        delay_median_s=round(median(delays_s), 3) if delays_s else None,
        delay_p95_s=nearest_rank(delays_s, 0.95) if delays_s else None,
        top1=round(sum(detection.right for detection in detected) / len(detected), 4) if detected else None,
    )


def nearest_rank(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed: rank ceil(share n). Not for an empty sequence."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def _find(label: Label, incidents: Sequence[SeenIncident]) -> Detection | None:
    """The first incident that tells of this label in time."""
    last_us = math.inf if label.ended_us is None else label.ended_us + FOUND_WITHIN_S * US
    fitting = [seen for seen in incidents if _tells_of(seen, label) and label.onset_us <= seen.opened_at_us <= last_us]
    if not fitting:
        return None
    first = min(fitting, key=lambda seen: seen.opened_at_us)
    return Detection(
        label=label,
        incident_id=first.incident_id,
        at_us=first.opened_at_us,
        delay_s=round((first.opened_at_us - label.onset_us) / US, 3),
        diagnosed=first.kind,
    )


def _tells_of(seen: SeenIncident, label: Label) -> bool:
    return (seen.scope != "agent") == label.shared and not set(seen.agents).isdisjoint(label.agents)


def _excused(agent: str, at_us: int, labels: Sequence[Label]) -> bool:
    """Had something reached this agent by then, that was not over for more than ten minutes?"""
    for label in labels:
        if agent in label.agents:
            reached_us = label.reached_us[label.agents.index(agent)]
            if reached_us <= at_us and (label.ended_us is None or at_us <= label.ended_us + EXCUSED_FOR_S * US):
                return True
    return False


def _detection_json(detection: Detection) -> dict[str, object]:
    return {
        "agent": _name(detection.label),
        "kind": detection.label.kind,
        "at": iso(detection.at_us),
        "delay_s": detection.delay_s,
        "diagnosed": detection.diagnosed,
        "incident": detection.incident_id,
    }


def _name(label: Label) -> str:
    return label.cause or label.agents[0]
