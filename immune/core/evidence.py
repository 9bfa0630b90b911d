"""What the sentinel says, each tick, to whoever decides. Plain facts about symptoms; no judgement about causes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Direction = Literal["up", "down", "stuck", "silent"]
Basis = Literal["type", "mixed", "own"]
"""Where the calibration of a judgement came from: the agent's peers, both, or its own past."""

SILENCE = "samples"
"""The name under which absent samples appear as evidence (direction ``silent``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VitalEvidence:
    """The evidence of one vital (or derived stream) of one agent.

    nats      natural log of the e-detector of this vital and direction
    ratio     observed / expected since onset (1 = normal); for counts (observed + .5) / (expected + .5)
    observed  geometric mean since onset, in the vital's unit
    expected  what the baseline expected over the same samples, in the vital's unit
    effect    mean surprise since onset, in standard deviations, always >= 0
    growth    change of the log ratio per minute since onset, 1/min: about 0 for a step, positive for a ramp
    onset_us  when this evidence began to accumulate
    calibration  block variance of the surprise stream; about 1 when honest, above 1.5 not to be relied on
    """

    vital: str
    direction: Direction
    nats: float
    ratio: float
    observed: float
    expected: float
    effect: float
    growth: float
    onset_us: int
    calibration: float
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is known of one agent whose evidence stands out.

    nats      natural log of the agent's statistic (mean over all its e-detectors)
    alarm     the statistic is at or above the threshold that follows from the false-alarm budget
    present   the symptoms are there in the freshest samples too, not only in accumulated evidence
    evidence  strongest first; only what contributes
    explained_by  `Cohort.key` of a shared cause that accounts for this evidence, or ""
    changed   exact facts that changed shortly before the onset, as (field, before, after, at_us)
    """

    agent: int
    nats: float
    alarm: bool
    present: bool
    onset_us: int
    samples: int
    basis: Basis
    evidence: tuple[VitalEvidence, ...]
    explained_by: str = ""
    changed: tuple[tuple[str, str, str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortFinding:
    """Many agents moved together: a shared cause, to be handled as one incident.

    scope   ``fleet`` or ``service`` (any cohort smaller than the fleet: a type, service, model, version, provider)
    field   what the cohort has in common (``type``, ``model`` …), empty for the fleet
    value   the shared value, e.g. ``v2``
    agents  indices of the members that moved, not merely the members
    changed  exact facts that most of them changed shortly before the onset, as (field, before, after, first at_us)
    """

    key: str
    scope: Literal["fleet", "service"]
    field: str
    value: str
    nats: float
    alarm: bool
    present: bool
    onset_us: int
    members: int
    agents: tuple[int, ...]
    evidence: tuple[VitalEvidence, ...]
    changed: tuple[tuple[str, str, str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """One tick of the sentinel. Arrays are over agents in roster order and must not be written to.

    threshold_nats  alarm level, from the false-alarm budget alone
    nats      (agents,) float, each agent's statistic
    samples   (agents,) int, samples scored so far
    ready     (agents,) bool, enough samples for a first judgement
    silent    (agents,) bool, no sample for longer than this agent's learned interval allows
    idle      (agents,) bool, the agent said it is idle or done and has said nothing else since
    findings  agents that stand out, worst first; includes every agent with an alarm
    cohorts   shared causes, worst first
    taken_over  baselines that took a shared change over: (agents, key of the cause, ``announced`` or ``lasting``)
    facts     exact facts that became others with this tick's samples: (agent, field, before, after, at_us)
    """

    now_us: int
    threshold_nats: float
    nats: NDArray[np.float32]
    samples: NDArray[np.int64]
    ready: NDArray[np.bool_]
    silent: NDArray[np.bool_]
    idle: NDArray[np.bool_]
    findings: tuple[Finding, ...]
    cohorts: tuple[CohortFinding, ...] = ()
    facts: tuple[tuple[int, str, str, str, int], ...] = ()
    taken_over: tuple[tuple[tuple[int, ...], str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """What the baselines expect of every agent now: each (agents, vitals) float32, in the vital's unit, NaN before it is learned.

    ``low`` and ``high`` hold about 99 % of healthy samples.
    """

    expected: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
